"""How many segments a second the input pipeline makes, step by step.

    python benchmarks/input_pipeline.py [--seconds 10]

Batches of 128 pairs (256 segments of 1 s at 8 kHz) from synthetic banks, and of 64 originals with
4 replicas each, without log-mel, which runs on the accelerator. CPU time is that of all threads of
the process, so that the figures per CPU-second hold on a busy machine too.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from fingerprint_configs import nafp_small

from fingerprint.pairs import Banks, make_pairs
from fingerprint.waveform_bank import WaveformBank

STEPS = (
    *("speed", "white_noise", "background", "gain", "room", "device", "filters"),
    *("equalizer", "compressor", "clipping", "level"),
)
# White noise costs as much as half of all the rest, and adds little to noise that was recorded.
HEAVIEST = tuple(step for step in STEPS if step != "white_noise")
PUBLISHED = ("background", "gain", "room", "device", "filters", "level")
FULL_SEVERITY_STEP = 1_000_000


def synthetic_banks(folder: Path, sample_rate_hz: int) -> Banks:
    """Noise for everything, decaying for impulse responses: contents do not change the cost."""
    rng = np.random.default_rng(0)

    def noise(n_tracks, duration_s):
        for _ in range(n_tracks):
            samples = 3000 * rng.normal(size=round(duration_s * sample_rate_hz))
            yield samples.astype(np.int16)

    def responses(n_tracks, duration_s):
        n_samples = round(duration_s * sample_rate_hz)
        for _ in range(n_tracks):
            response = 0.2 * rng.normal(size=n_samples) * np.exp(-np.linspace(0, 7, n_samples))
            response[20] = 1
            yield response.astype(np.float32)

    waveforms = {
        "music": noise(200, 30),
        "backgrounds": noise(50, 5),
        "rooms": responses(100, 0.8),
        "devices": responses(20, 0.05),
    }
    return Banks(
        **{
            name: WaveformBank.create(
                folder / name, ((str(i), track) for i, track in enumerate(tracks)), sample_rate_hz
            )
            for name, tracks in waveforms.items()
        }
    )


def configurations():
    """Yield (label, configuration, parallel calls): nothing, each step alone, whole chains.

    Steps that are off in the small NAFP have probability 1 alone and 0.5 with the others.
    """
    for label, kept, n_pairs, n_positives in (
        ("windows only", (), 128, 1),
        *((f"+ {step}", (step,), 128, 1) for step in STEPS),
        ("small NAFP", PUBLISHED, 128, 1),
        ("its 4 replicas", PUBLISHED, 64, 4),
        ("all but white", HEAVIEST, 128, 1),
    ):
        config = nafp_small.get_config()
        config.pairs.n_pairs, config.pairs.n_positives = n_pairs, n_positives
        for step in set(kept) - set(PUBLISHED):
            config.augmentation[step].probability = 1.0 if len(kept) == 1 else 0.5
        if kept == HEAVIEST:
            config.augmentation.background.extra_probability = 0.5
        for step in set(STEPS) - set(kept):
            config.augmentation[step] = None
        for n_parallel_calls in (1, 2) if len(kept) > 1 else (1,):
            yield label, config, n_parallel_calls


def measure(banks: Banks, config, n_parallel_calls: int, seconds: float) -> tuple[float, float]:
    """Segments per CPU-second and per second of the clock."""
    dataset = make_pairs(
        banks, config, start_step=FULL_SEVERITY_STEP, num_parallel_calls=n_parallel_calls
    )
    batches = iter(dataset)
    for _ in range(4):  # tracing, first reads and the prefetch buffer
        next(batches)
    cpu_start_s, start_s = time.process_time(), time.perf_counter()
    n_segments = 0
    while time.perf_counter() - start_s < seconds:
        batch = next(batches)
        n_segments += batch["original"].shape[0] + batch["replica"].shape[0]
    cpu_s, wall_s = time.process_time() - cpu_start_s, time.perf_counter() - start_s
    return n_segments / cpu_s, n_segments / wall_s


def main() -> None:
    """Print one line per configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="for all rows together")
    seconds = parser.parse_args().seconds
    rows = list(configurations())
    print(f"{'':18}{'parallel calls':>16}{'segments/CPU-s':>16}{'segments/s':>12}")
    with tempfile.TemporaryDirectory() as folder:
        banks = synthetic_banks(Path(folder), nafp_small.get_config().sample_rate_hz)
        for label, config, n_parallel_calls in rows:
            per_cpu_s, per_s = measure(banks, config, n_parallel_calls, seconds / len(rows))
            print(f"{label:18}{n_parallel_calls:16}{per_cpu_s:16,.0f}{per_s:12,.0f}", flush=True)


if __name__ == "__main__":
    main()
