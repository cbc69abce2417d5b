"""What spectral hashing costs: extraction, the index, and the latency of a query.

    python benchmarks/spectral_hash.py                               # 200 synthesised references
    python benchmarks/spectral_hash.py --audio FOLDER                # the recordings of a folder
    python benchmarks/spectral_hash.py --reference_duration_s inf    # whole recordings

Every query is an excerpt of a random reference with white noise at 5 dB. CPU-seconds of all threads
together: another program on the machine makes them longer, so compare within one run.
"""

import argparse
import time

import numpy as np

from fingerprint.audio import find_audio, iter_blocks, read_audio
from fingerprint.music_synthesis import synthesize_track
from fingerprint.spectral_hash import SpectralHashSettings, extract_peaks, extract_reference_peaks
from fingerprint.spectral_hash_index import SpectralHashIndex

SETTINGS = SpectralHashSettings()
QUERY_DURATIONS_S = (1.0, 2.0, 3.0, 5.0, 10.0, 60.0)
QUERY_SNR_DB = 5.0
N_AUDIBLE = 10


def build_index(references: list, duration_s: float) -> SpectralHashIndex:
    """Index of samples, or of files; prints what it cost."""
    settings = SETTINGS
    if np.isfinite(duration_s):
        settings = SpectralHashSettings(reference_duration_s=duration_s)
    start = time.process_time()
    columns = []
    for reference in references:
        is_file = isinstance(reference, str)
        blocks = iter_blocks(reference, settings.sample_rate_hz) if is_file else [reference]
        columns.append(extract_reference_peaks(blocks, settings))
    extracted_s = time.process_time() - start
    n_rows = np.array([len(bins) for bins, _ in columns])
    bins, frames = (np.concatenate(column) for column in zip(*columns, strict=True))
    start = time.process_time()
    index = SpectralHashIndex.build(bins, frames, np.cumsum(n_rows) - n_rows, n_rows)
    built_s = time.process_time() - start
    hours = index.track_frames.sum() * SETTINGS.hop_s / 3600
    print(
        f"{len(references)} references, {hours:.2f} h: {len(bins) / hours / 3600:.0f} peaks a "
        f"second, extracted at {3600 * hours / extracted_s:.0f} x real time per CPU-second, "
        f"sorted in {built_s:.2f} CPU-s"
    )
    return index


def noisy_excerpt(track: np.ndarray, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """A random excerpt with white noise, at a peak of 1."""
    n = min(len(track), round(duration_s * SETTINGS.sample_rate_hz))
    start = int(rng.integers(len(track) - n + 1))
    excerpt = track[start : start + n]
    scale = np.sqrt(np.mean(excerpt**2) * 10 ** (-QUERY_SNR_DB / 10))
    noisy = excerpt + rng.normal(scale=scale, size=n)
    return (noisy / np.max(np.abs(noisy))).astype(np.float32)


def print_query_latency(references: list, index: SpectralHashIndex, n_queries: int) -> None:
    """A line for each query length: medians of extraction and matching, and how many were right."""
    rng = np.random.default_rng(1)
    print(f"{'query':<8}{'extraction':>12}{'matching':>10}{'wall':>8}   ms      top-1")
    chosen = rng.integers(len(references), size=N_AUDIBLE)
    audible = {int(i): references[i] for i in chosen}
    for i, reference in audible.items():
        if isinstance(reference, str):
            audible[i] = read_audio(reference, SETTINGS.sample_rate_hz, duration_s=90.0)
    for duration_s in QUERY_DURATIONS_S:
        seconds, walls, n_right = [], [], 0
        for _ in range(n_queries):
            track = int(rng.choice(list(audible)))
            query = noisy_excerpt(audible[track], duration_s, rng)
            wall, cpu = time.perf_counter(), [time.process_time()]
            peaks = extract_peaks(query, SETTINGS)
            cpu.append(time.process_time())
            matches = index.match(*peaks)
            cpu.append(time.process_time())
            walls.append(time.perf_counter() - wall)
            seconds.append(np.diff(cpu))
            n_right += bool(matches) and matches[0].track_index == track
        extraction, matching = 1000 * np.median(seconds, axis=0)
        print(
            f"{duration_s:<3.0f}s    {extraction:>12.1f}{matching:>10.1f}"
            f"{1000 * np.median(walls):>8.1f}{n_right:>12} of {n_queries}",
            flush=True,
        )


def main() -> None:
    """Print what the index costs, and the table of queries."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", help="folder of recordings; without it they are synthesised")
    parser.add_argument("--n_references", type=int, default=200, help="at most (200)")
    parser.add_argument("--reference_duration_s", type=float, default=30.0, help="(30); inf: whole")
    parser.add_argument("--n_queries", type=int, default=20, help="queries of each length (20)")
    arguments = parser.parse_args()
    if arguments.audio:
        references = find_audio([arguments.audio])[: arguments.n_references]
    else:
        references = [
            synthesize_track(seed, 30.0, SETTINGS.sample_rate_hz)
            for seed in range(arguments.n_references)
        ]
    index = build_index(references, arguments.reference_duration_s)
    print_query_latency(references, index, arguments.n_queries)


if __name__ == "__main__":
    main()
