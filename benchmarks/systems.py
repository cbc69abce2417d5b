"""What every system costs: the tables of SYSTEMS.md, counted and measured, never typed.

python benchmarks/systems.py                  networks, counted on shapes alone
python benchmarks/systems.py --music FOLDER   also methods without training, on this music
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fingerprint.config import load_config
from fingerprint.describe import describe
from fingerprint.landmark_settings import PRESETS
from fingerprint.recognizer import create_or_open, describe_index

CONFIGS = Path(__file__).parents[1] / "configs"
NETWORKS = (
    *("nafp", "now_playing", "nmfp_triplet", "rice", "woo", "attention", "balanced_hash"),
    *("nafp_small", "now_playing_small", "nmfp_triplet_small", "rice_small", "woo_small"),
    *("attention_small", "balanced_hash_small", "pretrained"),
)


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Rows in Markdown, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def network_rows() -> Iterator[Sequence[str]]:
    """One row per configuration, as ``fingerprint describe`` counts it."""
    for name in NETWORKS:
        facts = describe(load_config(CONFIGS / f"{name}.py"))
        head = facts["parameters"] - facts["encoder_parameters"]
        yield (
            f"[{name}](configs/{name}.py)",
            " x ".join(map(str, facts["input_shape"])),
            str(facts["embedding_dim"]),
            f"{facts['encoder_parameters']:,}" + (f" + {head:,}" if head else ""),
            f"{facts['macs_per_segment'] / 1e6:,.1f}",
            f"{facts['macs_per_second_of_audio'] / 1e6:,.1f}",
            f"{facts['bytes_per_hour_of_audio'] / 1e6:.2f}",
        )


def method_rows(music: str) -> Iterator[Sequence[str]]:
    """One row per method without training, indexed in a temporary folder."""
    methods = [("landmarks", preset) for preset in PRESETS] + [("spectral_hash", None)]
    for method, preset in methods:
        with tempfile.TemporaryDirectory() as folder:
            recognizer = create_or_open(Path(folder) / "index", method=method, preset=preset)
            began_s = time.process_time()
            recognizer.add_files([music])
            cpu_s = time.process_time() - began_s
            facts = describe_index(Path(folder) / "index")
        hours = facts["duration_s"] / 3600
        yield (
            f"{method}, {preset}" if preset else method,
            f"{facts['rows'] / hours / 1e6:.2f}",
            f"{facts['bytes'] / hours / 1e6:.2f}",
            f"{facts['duration_s'] / cpu_s:,.0f}",
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--music", help="folder of music that the other methods are measured on")
    options = parser.parse_args()
    header = ("configuration", "mels x frames", "d", "parameters", "M multiply-adds per segment")
    print(table((*header, "per s of audio", "MB per h"), network_rows()))
    if options.music:
        header = ("method", "M rows per h", "MB per h", "times real time per CPU-s")
        print("\n" + table(header, method_rows(options.music)))


if __name__ == "__main__":
    main()
