"""What a user waits for: a query in a large index, a query in a new process, indexing.

    python benchmarks/latency.py [--model DIR] [--hours 100] [--output latency.json]

Search is a 5-s query (its embedding apart) against fingerprints drawn at random, which cost what
real ones do. A cold query is the command line in a new process, with compiled programs, and the
bytecode of Python as an installation makes it, kept from the run before, or not. Indexing is
decoding FLAC, the front-end and the encoder, against the encoder and front-end of NAFP at full
width in the same run. Wall time depends on what else the machine does, CPU time (all threads, the
fastest of a few repetitions) far less.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import soundfile

from fingerprint.config import load_config
from fingerprint.encoders import build_encoder
from fingerprint.evaluation.record import provenance, write_json
from fingerprint.exhaustive_alignment import align_everywhere
from fingerprint.features import input_shape, spectrograms
from fingerprint.model import Fingerprinter
from fingerprint.music_synthesis import synthesize_track
from fingerprint.neural_recognizer import NeuralRecognizer
from fingerprint.segments import SegmentGrid
from fingerprint.store import Store

QUERY_S = 5.0
TRACK_S = 120.0
INDEXED_RATE_HZ = 44_100


def fastest(run: Callable, n_repetitions: int) -> dict[str, float]:
    """Seconds of the fastest repetition: ``{"wall_s", "cpu_s"}``, each its own minimum."""
    wall_s, cpu_s = [], []
    for _ in range(n_repetitions):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
    return {"wall_s": min(wall_s), "cpu_s": min(cpu_s)}


def measure_search(fingerprinter: Fingerprinter, hours: float, n_repetitions: int) -> dict:
    """A query's alignment in an index of so many hours, float32 and float16, and its embedding."""
    grid, n_shifts = fingerprinter.grid, fingerprinter.config.search.n_shifts
    n_segments = grid.n_segments(round(QUERY_S * grid.sample_rate_hz))
    rows_per_track = round(TRACK_S / grid.hop_s)
    n_rows = np.full(round(hours * 3600 / TRACK_S), rows_per_track)
    first_rows = np.cumsum(n_rows) - n_rows
    rng = np.random.default_rng(0)
    dim = fingerprinter.embedding_dim
    vectors = rng.standard_normal((int(n_rows.sum()), dim), np.float32) / np.float32(dim**0.5)
    queries = rng.standard_normal((n_shifts, n_segments, dim), np.float32)
    segments = rng.standard_normal((n_shifts * n_segments, grid.n_samples), np.float32)
    fingerprinter.embed_segments(segments)
    found = {"embed": fastest(lambda: fingerprinter.embed_segments(segments), n_repetitions)}
    for dtype in ("float32", "float16"):
        stored = vectors.astype(dtype, copy=False)
        found[f"search {dtype}"] = fastest(
            lambda stored=stored: align_everywhere(queries, stored, first_rows, n_rows, 5),
            n_repetitions,
        )
    return {"rows": len(vectors), **found}


def measure_cold_query(index: pathlib.Path, clip: pathlib.Path, folder: pathlib.Path) -> dict:
    """A process that compiles, then the fastest of two that find what it compiled."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [
        sys.executable,
        "-c",
        "import sys; from fingerprint.cli import main; sys.exit(main())",
    ]
    command += ["query", str(index), str(clip)]

    def ask() -> dict[str, float]:
        wall, before = time.perf_counter(), os.times()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        cpu_s = sum(after[2:4]) - sum(before[2:4])
        return {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s}

    first, *later = ask(), ask(), ask()
    return {
        "first": first,
        "later": {name: min(each[name] for each in later) for name in first},
    }


def measure_indexing(model: str, folder: pathlib.Path, n_tracks: int) -> tuple[dict, pathlib.Path]:
    """Seconds of audio per CPU-second of indexing FLAC; and the index."""
    music = folder / "music"
    music.mkdir()
    audio = synthesize_track(0, 30.0, INDEXED_RATE_HZ)
    audio = np.tile(audio, -(-round(TRACK_S * INDEXED_RATE_HZ) // len(audio)))
    for i in range(n_tracks + 1):
        soundfile.write(music / f"{i}.flac", np.roll(audio, i * 50_000), INDEXED_RATE_HZ)
    recognizer = NeuralRecognizer.create(folder / "index", model)
    recognizer.add_files([music / "0.flac"], progress=False)
    cpu, wall = time.process_time(), time.perf_counter()
    recognizer.add_files([music], progress=False)
    audio_s = n_tracks * len(audio) / INDEXED_RATE_HZ
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    Store.open(folder / "index").verify()
    return {
        "audio_s": audio_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "audio_s_per_cpu_s": audio_s / cpu_s,
    }, folder / "index"


def measure_encoder(config_path: str, batch: int, n_repetitions: int) -> dict:
    """Seconds of audio per CPU-second of front-end and encoder of a config, with any weights."""
    config = load_config(config_path)
    encoder = build_encoder(config.encoder, dtype="float32")
    grid = SegmentGrid(config.sample_rate_hz, **config.segment)
    rng = np.random.default_rng(0)
    mels = np.zeros((1, *input_shape(config)), np.float32)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), mels)
    variables = jax.tree.map(lambda x: 0.05 * rng.standard_normal(x.shape, np.float32), shapes)
    segments = rng.standard_normal((batch, grid.n_samples), np.float32)
    embed = jax.jit(lambda v, s: encoder.apply(v, spectrograms(s, config)))

    def run() -> None:
        jax.block_until_ready(embed(variables, segments))

    run()
    fast = fastest(run, n_repetitions)
    return fast | {"audio_s_per_cpu_s": batch * grid.hop_s / fast["cpu_s"]}


def table(result: dict) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | wall, s | CPU, s | audio-s per CPU-s |", "| :--- | ---: | ---: | ---: |"]
    for name, row in result["rows"].items():
        speed = f"{row['audio_s_per_cpu_s']:,.0f}" if "audio_s_per_cpu_s" in row else ""
        lines.append(f"| {name} | {row['wall_s']:.3f} | {row['cpu_s']:.3f} | {speed} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="results/nafp_small/model")
    parser.add_argument("--baseline", default="configs/nafp.py", help="config of full width")
    parser.add_argument("--hours", type=float, default=100.0)
    parser.add_argument("--tracks", type=int, default=5, help="two minutes each, to be indexed")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file")
    options = parser.parse_args(argv)

    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows["index, FLAC to store"], index = measure_indexing(
            options.model, folder, options.tracks
        )
        clip = folder / "clip.flac"
        soundfile.write(clip, synthesize_track(0, QUERY_S, INDEXED_RATE_HZ), INDEXED_RATE_HZ)
        cold = measure_cold_query(index, clip, folder)
        rows["query, new process that compiles"] = cold["first"]
        rows["query, new process"] = cold["later"]
    search = measure_search(Fingerprinter.load(options.model), options.hours, options.repetitions)
    n_rows = search.pop("rows")
    rows |= {f"{QUERY_S:g}-s query, {name}": row for name, row in search.items()}
    baseline = measure_encoder(options.baseline, 32, options.repetitions)
    rows[f"{options.baseline}: front-end and encoder"] = baseline
    speed = rows["index, FLAC to store"]["audio_s_per_cpu_s"] / baseline["audio_s_per_cpu_s"]
    result = {"hours": options.hours, "index_rows": n_rows, "times_baseline": speed, "rows": rows}
    print(table(result))
    print(f"\nSearch is in {n_rows:,} rows. Indexing is {speed:.1f} times as fast as the baseline.")
    if options.output:
        write_json(options.output, result | {"made_with": provenance()})


if __name__ == "__main__":
    main()
