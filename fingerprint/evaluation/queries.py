"""Queries from recordings: an excerpt, noise at a signal-to-noise ratio, a room and a device.

Every query is degraded once, as one recording with one phone in one place would be, and then put
to every system alike. The order is the published one (Chang et al., arXiv 2010.11910): noise,
then the impulse responses over both, with a second of history so that the room already rings.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import signal

from fingerprint.audio import AudioError, find_audio, read_audio
from fingerprint.file_lists import read_manifest

HISTORY_S = 1.0
# An excerpt this far below the level of its track has nothing in it that could be identified.
SILENCE_DB = -50.0
MAX_DRAWS = 50


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Where queries are recorded: audio files, and the share of queries that each is used for.

    Noise is in every query when there is any; rooms and devices are drawn independently.
    """

    noises: Sequence[str] = ()
    rooms: Sequence[str] = ()
    devices: Sequence[str] = ()
    room_share: float = 2 / 3
    device_share: float = 1 / 3


@dataclasses.dataclass(frozen=True)
class Query:
    """One degraded excerpt ``samples (n,)`` of the file ``path``, from second ``start_s`` on."""

    path: str
    start_s: float
    snr_db: float | None
    samples: np.ndarray
    sample_rate_hz: int

    def first(self, duration_s: float) -> np.ndarray:
        """The shorter query that this one starts with, ``(duration_s * sample_rate_hz,)``."""
        return self.samples[: round(duration_s * self.sample_rate_hz)]


def audio_of_kind(folder: str | Path, kind: str, split: str) -> list[str]:
    """The audio files of a folder, or those of its manifest with this kind and split.

    A manifest is a file ``manifest.csv`` in the folder with the columns ``path`` (relative to the
    folder), ``kind`` and ``split``; a folder without one is taken whole.

    Raises:
        AudioError: the folder does not exist or holds no audio.
        ManifestError: the manifest lacks a column, or no row of it is of this kind and split.
    """
    manifest = Path(folder) / "manifest.csv"
    if manifest.exists():
        return read_manifest(manifest, kind=kind, split=split)
    return find_audio([folder])


def make_queries(
    paths: Sequence[str],
    surroundings: Surroundings,
    *,
    n_queries: int,
    durations_s: Sequence[float],
    snrs_db: Sequence[float],
    seed: int,
    sample_rate_hz: int = 16_000,
) -> Iterator[Query]:
    """Synthesise ``n_queries`` queries of the longest duration at each signal-to-noise ratio.

    The tracks take turns in a random order and the start is uniform within the track. The same
    excerpt, noise, room and device serve every ratio, and query ``i`` depends on ``seed`` and
    ``i`` alone. Without noise there is one query per excerpt, with ``snr_db`` None.

    Yields:
        Queries ordered by their track, so that each file is read once.

    Raises:
        AudioError: a file cannot be read, or is too short for the longest query.
    """
    order = np.random.default_rng(seed).permutation(len(paths))
    turns = sorted(range(n_queries), key=lambda i: (order[i % len(order)], i))
    path, track = "", np.zeros(0, np.float32)
    for i in turns:
        if paths[order[i % len(order)]] != path:
            path = paths[order[i % len(order)]]
            track = read_audio(path, sample_rate_hz)
        rng = np.random.default_rng([seed, i])
        n_shortest, n_longest = (round(pick(durations_s) * sample_rate_hz) for pick in (min, max))
        start = draw_start(track, n_shortest, n_longest, rng, path)
        n_history = round(HISTORY_S * sample_rate_hz)
        music = with_history(track, start, n_longest, n_history)
        noise = _draw_noise(surroundings.noises, len(music), sample_rate_hz, rng)
        room = _draw_response(surroundings.rooms, surroundings.room_share, sample_rate_hz, rng)
        device = _draw_response(
            surroundings.devices, surroundings.device_share, sample_rate_hz, rng
        )
        for snr_db in [None] if noise is None else snrs_db:
            samples = degrade(music, noise, snr_db, [room, device], n_history)
            yield Query(path, start / sample_rate_hz, snr_db, samples, sample_rate_hz)


def degrade(
    music: np.ndarray,
    noise: np.ndarray | None,
    snr_db: float | None,
    responses: Sequence[np.ndarray | None],
    n_history: int,
) -> np.ndarray:
    """Music ``(n_history + n,)`` as a recording ``(n,)`` with a peak of 1.

    The ratio of music to noise is that of their mean powers over the ``n`` samples after the
    history, before the impulse responses; None among the responses stands for none.
    """
    mixed = music
    if noise is not None:
        powers = [np.mean(np.square(x[n_history:], dtype=np.float64)) for x in (music, noise)]
        mixed = music + noise * np.sqrt(powers[0] / (powers[1] * 10 ** (snr_db / 10)))
    for response in responses:
        if response is not None:
            mixed = convolve_aligned(mixed, response)
    recording = mixed[n_history:]
    return (recording / np.max(np.abs(recording))).astype(np.float32)


def convolve_aligned(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Full linear convolution, cut so that the strongest (direct) path causes no delay, ``(n,)``.

    Without the alignment a response with a pause before its direct path would move the truth.
    """
    direct = int(np.argmax(np.abs(response)))
    return signal.fftconvolve(samples, response)[direct : direct + len(samples)]


def draw_start(
    track: np.ndarray, n_shortest: int, n_longest: int, rng: np.random.Generator, path: str
) -> int:
    """A uniformly random start at which even the shortest query holds some sound.

    Raises:
        AudioError: the track is shorter than ``n_longest``, or nearly all of it is silent.
    """
    if len(track) < n_longest:
        raise AudioError(f"{path} is shorter than the longest query; ask for shorter queries.")
    threshold = np.mean(np.square(track)) * 10 ** (SILENCE_DB / 10)
    for _ in range(MAX_DRAWS):
        start = int(rng.integers(len(track) - n_longest + 1))
        if np.mean(np.square(track[start : start + n_shortest])) > threshold:
            return start
    raise AudioError(f"{path} is silent nearly everywhere; leave it out of the queries.")


def with_history(track: np.ndarray, start: int, n: int, n_history: int) -> np.ndarray:
    """Samples ``[start - n_history, start + n)`` of a track, zeros before its beginning."""
    before = track[max(0, start - n_history) : start]
    return np.concatenate(
        [np.zeros(n_history - len(before), track.dtype), before, track[start : start + n]]
    )


def _draw_noise(
    paths: Sequence[str], n: int, sample_rate_hz: int, rng: np.random.Generator
) -> np.ndarray | None:
    """A random stretch ``(n,)`` of a random file, repeated where the file is shorter."""
    if not paths:
        return None
    path = paths[rng.integers(len(paths))]
    noise = read_audio(path, sample_rate_hz)
    looped = np.resize(noise, max(len(noise), n))
    start = draw_start(looped, n, n, rng, path)
    return looped[start : start + n]


def _draw_response(
    paths: Sequence[str], share: float, sample_rate_hz: int, rng: np.random.Generator
) -> np.ndarray | None:
    """A random impulse response, or None for the queries that get none."""
    used, choice = rng.random() < share, rng.random()
    if not (paths and used):
        return None
    return read_audio(paths[int(choice * len(paths))], sample_rate_hz)
