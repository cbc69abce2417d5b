"""What landmarks cost: indexing speed by file format, and the latency of a query.

    python benchmarks/landmarks.py                    # 10 hours of references, about a minute
    python benchmarks/landmarks.py --hours 100 --preset audfprint

The audio is synthesised. Speeds are times real time per CPU-second, best of three runs, decoding
and analysis apart; another program on the machine makes CPU-seconds longer, so compare within one
run. Only the first of the reference hours are analysed: the others are copies whose landmarks keep
their hashes, but at frames drawn anew, so that their hits are as many and agree on nothing.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import soundfile

from fingerprint.audio import iter_blocks, read_audio
from fingerprint.landmark_index import LandmarkIndex
from fingerprint.landmarks import (
    PRESETS,
    LandmarkSettings,
    extract_landmarks,
    extract_landmarks_from_blocks,
    extract_query_landmarks,
)
from fingerprint.music_synthesis import synthesize_noise, synthesize_track

FORMATS = {
    "wav": (44100, 2, "WAV", "PCM_16"),
    "flac": (44100, 2, "FLAC", "PCM_16"),
    "mp3": (44100, 2, "MP3", "MPEG_LAYER_III"),
    "ogg": (44100, 2, "OGG", "VORBIS"),
    "opus": (16000, 1, "OGG", "OPUS"),
}
TRACK_DURATION_S = 60.0
QUERY_DURATIONS_S = (1.0, 2.0, 3.0, 5.0, 10.0)
QUERY_SNR_DB = 5.0
N_RUNS = 3


def cpu_seconds(function, *arguments) -> float:
    """CPU-seconds of a call, all threads together, best of a few."""
    seconds = []
    for _ in range(N_RUNS):
        start = time.process_time()
        function(*arguments)
        seconds.append(time.process_time() - start)
    return min(seconds)


def write_formats(folder: pathlib.Path) -> list[pathlib.Path]:
    """One synthesised track in each format."""
    paths = []
    for suffix, (sample_rate_hz, n_channels, container, subtype) in FORMATS.items():
        track = synthesize_track(1, TRACK_DURATION_S, sample_rate_hz)
        path = folder / f"track.{suffix}"
        # In pieces: some versions of libsndfile overflow their stack on long Vorbis writes.
        with soundfile.SoundFile(
            path, "w", sample_rate_hz, n_channels, format=container, subtype=subtype
        ) as sound:
            for piece in np.array_split(np.tile(track[:, None], n_channels), 100):
                sound.write(piece)
        paths.append(path)
    return paths


def print_indexing_speed(settings: LandmarkSettings) -> None:
    """A line for each format: decoding alone, analysis alone, and both as in indexing."""
    rate_hz = settings.sample_rate_hz
    print(f"{'format':<22}{'decoding':>10}{'analysis':>10}{'indexing':>10}   x real time/CPU-s")
    with tempfile.TemporaryDirectory() as folder:
        for path in write_formats(pathlib.Path(folder)):
            samples = read_audio(path, rate_hz)
            seconds = (
                cpu_seconds(lambda path=path: [None for _ in iter_blocks(path, rate_hz)]),
                cpu_seconds(extract_landmarks, samples, settings),
                cpu_seconds(
                    lambda path=path: extract_landmarks_from_blocks(
                        iter_blocks(path, rate_hz), settings
                    )
                ),
            )
            file_rate_hz, n_channels, _, _ = FORMATS[path.suffix[1:]]
            name = f"{path.suffix[1:]} {file_rate_hz} Hz x{n_channels}"
            speeds = "".join(f"{TRACK_DURATION_S / s:>10.0f}" for s in seconds)
            print(f"{name:<22}{speeds}", flush=True)


def build_references(
    tracks: list[np.ndarray], hours: float, settings: LandmarkSettings
) -> LandmarkIndex:
    """Index of the tracks and of as many permuted copies as make up the hours."""
    rng = np.random.default_rng(0)
    landmarks = [extract_landmarks(track, settings) for track in tracks]
    n_tracks = max(len(tracks), round(hours * 3600 / TRACK_DURATION_S))
    columns = list(landmarks)
    for i in range(len(tracks), n_tracks):
        hashes, frames = landmarks[i % len(tracks)]
        columns.append((hashes, rng.permutation(frames)))
    hashes, frames = (np.concatenate(column) for column in zip(*columns, strict=True))
    n_rows = np.array([len(column[0]) for column in columns])
    first_rows = np.cumsum(n_rows) - n_rows
    start = time.process_time()
    index = LandmarkIndex.build(hashes, frames, first_rows, n_rows)
    built_s = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        index.save(folder)
        n_bytes = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
        start = time.perf_counter()
        LandmarkIndex.load(folder)
        opened_s = time.perf_counter() - start
    print(
        f"\n{n_tracks} tracks of {TRACK_DURATION_S:.0f} s ({len(tracks)} synthesised, the others "
        f"permuted copies): {len(hashes) / (n_tracks * TRACK_DURATION_S):.0f} landmarks a second, "
        f"{n_bytes / 2**20:.0f} MB; index built in {built_s:.2f} CPU-s, opened in "
        f"{1000 * opened_s:.1f} ms"
    )
    return index


def print_query_latency(
    tracks: list[np.ndarray], index: LandmarkIndex, n_queries: int, settings: LandmarkSettings
) -> None:
    """A line for each query length: medians of analysis and matching, and how many were right."""
    rng = np.random.default_rng(1)
    rate_hz = settings.sample_rate_hz
    print(f"{'query':<10}{'analysis':>10}{'matching':>10}{'in all':>10}   CPU-ms      top-1")
    for duration_s in QUERY_DURATIONS_S:
        n = round(duration_s * rate_hz)
        seconds, n_right = [], 0
        for query_number in range(n_queries):
            track = int(rng.integers(len(tracks)))
            start = int(rng.integers(len(tracks[track]) - n))
            clip = tracks[track][start : start + n]
            noise = synthesize_noise(query_number, duration_s, rate_hz)[:n]
            gain = np.sqrt(np.mean(clip**2) / np.mean(noise**2)) * 10 ** (-QUERY_SNR_DB / 20)
            query = clip + np.float32(gain) * noise
            times = [time.process_time()]
            landmarks = extract_query_landmarks(query, settings)
            times.append(time.process_time())
            matches = index.match(*landmarks, window_frames=settings.match_window_frames)
            times.append(time.process_time())
            seconds.append(np.diff(times))
            n_right += bool(matches) and matches[0].track_index == track
        analysis, matching = 1000 * np.median(seconds, axis=0)
        print(
            f"{duration_s:<4.0f}s     {analysis:>10.1f}{matching:>10.1f}"
            f"{analysis + matching:>10.1f}{n_right:>16} of {n_queries}",
            flush=True,
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--hours", type=float, default=10.0, help="hours of references")
    parser.add_argument("--synthesized_hours", type=float, default=0.5)
    parser.add_argument("--n_queries", type=int, default=30, help="queries of each length")
    arguments = parser.parse_args()
    settings = PRESETS[arguments.preset]
    print_indexing_speed(settings)
    n_tracks = max(1, round(arguments.synthesized_hours * 3600 / TRACK_DURATION_S))
    tracks = [
        synthesize_track(seed, TRACK_DURATION_S, settings.sample_rate_hz)
        for seed in range(n_tracks)
    ]
    index = build_references(tracks, arguments.hours, settings)
    print_query_latency(tracks, index, arguments.n_queries, settings)


if __name__ == "__main__":
    main()
