"""Batches of (original, replica) for training: tf.data that decodes nothing and remembers nothing.

Batch k is a pure function of (seed, k, host): a run that starts at step k sees exactly the
batches that an uninterrupted run would have seen from there on. Which tracks and where is drawn
in numpy, windows are gathered from memory-mapped banks in one call per batch, and the chain of
`fingerprint.augmentation` runs on the whole batch.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import fingerprint_data
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from fingerprint.augmentation import Degradation, Ramp, degrade
from fingerprint.errors import ConfigError
from fingerprint.segments import SegmentGrid
from fingerprint.waveform_bank import WaveformBank, split_validation

# An original softer than this teaches nothing: its log-mel is that of its dither.
SILENCE_DB = -60.0
# Starts drawn for a track before a near-silent original is put up with.
_N_DRAWS = 3
# Samples degraded at once for a mini-search, history included.
_CHUNK_SAMPLES = 2_000_000
# Streams of random numbers that never meet.
_EPOCH_STREAM, _BATCH_STREAM, _QUERY_STREAM = range(3)


@dataclasses.dataclass(frozen=True)
class Banks:
    """Where batches come from; a bank that is None leaves its step of the chain out."""

    music: WaveformBank
    backgrounds: WaveformBank | None = None
    rooms: WaveformBank | None = None
    devices: WaveformBank | None = None


def load_banks(config: Mapping, workdir: str | Path) -> tuple[Banks, WaveformBank]:
    """Prepare every source of ``config.data`` once and open it.

    Args:
        config: A whole configuration; a section of ``data`` that is None gives no bank.
        workdir: Folder of the run; datasets are kept in its ``data`` unless ``data.cache_dir``
            names another folder.

    Returns:
        The banks for training, and the music held out for validation.

    Raises:
        ConfigError: a section is wrong, or so many validation tracks leave none to train on.
    """
    cache_dir = config.data.cache_dir or str(Path(workdir) / "data")
    open_bank = functools.partial(
        _open_bank,
        root=config.data.root,
        cache_dir=cache_dir,
        sample_rate_hz=config.sample_rate_hz,
    )
    music = open_bank(config.data.music)
    train_ids, validation_ids = split_validation(music.names, config.data.n_validation_tracks)
    banks = Banks(
        music.subset(train_ids),
        *(open_bank(config.data[name]) for name in ("backgrounds", "rooms", "devices")),
    )
    return banks, music.subset(validation_ids)


def make_pairs(
    banks: Banks,
    config: Mapping,
    *,
    start_step: int,
    host_index: int = 0,
    n_hosts: int = 1,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Endless batches of pairs; element j is batch ``start_step + j``.

    Host h of n draws from the tracks h, h + n, h + 2n, ... alone. While it has at least as many
    tracks as pairs, a batch has one segment per track and an epoch visits every track at most
    once; with fewer tracks, segments of one track keep apart as far as its length allows.
    Originals start anywhere on the track. Where an original is near silence its track is drawn
    again, twice at most.

    Returns:
        Elements ``{"original": (p, n), "replica": (p, n)}``, float32, p = n_pairs / n_hosts.

    Raises:
        ConfigError: the pairs do not divide by the hosts, or a host would have no track.
    """
    sampler = PairSampler(banks, config, host_index, n_hosts)
    windows_samples = sampler.n_history + sampler.n_segment
    chain = Degradation(
        windows_samples,
        _all_responses(banks.rooms),
        _all_responses(banks.devices),
        sample_rate_hz=config.sample_rate_hz,
        **config.augmentation,
    )

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        originals, windows, noise, severity = tf.numpy_function(
            sampler.read, [step], [tf.float32] * 4, stateful=False
        )
        originals.set_shape((sampler.n_pairs, sampler.n_segment))
        windows.set_shape((sampler.n_pairs, windows_samples))
        noise.set_shape(windows.shape)
        severity.set_shape(())
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([tf.cast(config.seed, tf.int64), step]), host_index
        )
        replicas = chain(
            windows, noise if banks.backgrounds else None, seed=seed, severity=severity
        )
        return {"original": originals, "replica": replicas}

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    return steps.map(batch, num_parallel_calls, deterministic=True).prefetch(2)


class PairSampler:
    """Chooses and cuts the windows of batch k on one host; numpy only.

    Attributes:
        n_pairs: Pairs per batch on this host.
        n_segment: Samples in a segment.
        n_history: Samples of a replica's window before its segment.
    """

    def __init__(self, banks: Banks, config: Mapping, host_index: int = 0, n_hosts: int = 1):
        rate_hz = config.sample_rate_hz
        n_pairs = config.pairs.n_pairs
        if n_pairs % n_hosts:
            raise ConfigError(
                f"pairs.n_pairs is {n_pairs}, which does not divide by {n_hosts} hosts; choose a "
                "multiple of their number."
            )
        self._track_ids = np.arange(len(banks.music))[host_index::n_hosts]
        if len(self._track_ids) == 0:
            raise ConfigError(
                f"There are {len(banks.music)} training tracks for {n_hosts} hosts; each host "
                "needs a track of its own."
            )
        self.n_pairs = n_pairs // n_hosts
        self.n_segment = SegmentGrid(rate_hz, **config.segment).n_samples
        self.n_history = round(config.augmentation.history_s * rate_hz)
        self._banks = banks
        self._seed = config.seed
        self._host_index = host_index
        self._rate_hz = rate_hz
        self._offset_s = config.pairs.replica_offset_s
        ramp = config.augmentation.ramp
        self._ramp = None if ramp is None else Ramp(**ramp)
        self._epoch_order = functools.lru_cache(maxsize=2)(self._draw_epoch_order)

    def read(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float32]:
        """Cut batch ``step``.

        Returns:
            Originals ``(p, n)``, the replicas' windows ``(p, history + n)``, noise of the same
            shape (``(0, 0)`` without backgrounds) and the severity of the step, all float32.
        """
        rng = self._rng(_BATCH_STREAM, step)
        severity = 1.0 if self._ramp is None else self._ramp.severity(step)
        track_ids = self.choose_tracks(step)
        spacing = self.n_segment + 2 * self._offset_samples(1.0)
        music = self._banks.music
        starts, originals = draw_segments(music, track_ids, self.n_segment, spacing, rng)
        replica_starts = self._replica_starts(track_ids, starts, severity, rng)
        n_samples = self.n_history + self.n_segment
        windows = music.windows(track_ids, replica_starts - self.n_history, n_samples)
        noise = draw_noise(self._banks.backgrounds, self.n_pairs, n_samples, rng)
        return originals, windows, noise, np.float32(severity)

    def choose_tracks(self, step: int) -> np.ndarray:
        """Tracks ``(n_pairs,)`` of batch ``step``: the host's tracks in turn, in epoch order."""
        n_tracks = len(self._track_ids)
        per_epoch = max(1, n_tracks // self.n_pairs)
        epoch, position = divmod(int(step), per_epoch)
        order = self._epoch_order(epoch)
        return np.resize(order[position * self.n_pairs :][: self.n_pairs], self.n_pairs)

    def _replica_starts(self, track_ids, starts, severity, rng):
        largest = self._offset_samples(severity)
        offsets = rng.integers(-largest, largest, len(starts), endpoint=True)
        last_starts = np.maximum(self._banks.music.lengths[track_ids] - self.n_segment, 0)
        return np.clip(starts + offsets, 0, last_starts)

    def _offset_samples(self, severity: float) -> int:
        offset_s = self._offset_s
        if self._ramp is not None:
            offset_s = self._ramp.offset_s + severity * (offset_s - self._ramp.offset_s)
        return round(offset_s * self._rate_hz)

    def _draw_epoch_order(self, epoch: int) -> np.ndarray:
        return self._rng(_EPOCH_STREAM, epoch).permutation(self._track_ids)

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return _rng(self._seed, stream, self._host_index, int(number))


def draw_segments(
    music: WaveformBank,
    track_ids: np.ndarray,
    n_samples: int,
    spacing: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one segment for each entry of ``track_ids`` (p,), which names its tracks in turns.

    A start is uniform over its track. Starts on one track keep ``spacing`` samples apart, or as
    much as fits. Where a segment is softer than `SILENCE_DB` the track is drawn again; of three
    draws the one with the fewest such segments is kept.

    Returns:
        Starts ``(p,)`` and segments ``(p, n_samples)``; a shorter track is padded with zeros.
    """
    _, track = np.unique(track_ids, return_inverse=True)
    starts = _draw_starts(music.lengths[track_ids] - n_samples, track, spacing, rng)
    segments = music.windows(track_ids, starts, n_samples)
    silent = _is_silent(segments)
    for _ in range(_N_DRAWS - 1):
        n_silent = np.bincount(track, silent)
        if not n_silent.any():
            break
        again = np.flatnonzero(n_silent[track])
        new_starts = _draw_starts(music.lengths[track_ids] - n_samples, track, spacing, rng)[again]
        new_segments = music.windows(track_ids[again], new_starts, n_samples)
        new_silent = _is_silent(new_segments)
        better = np.bincount(track[again], new_silent, len(n_silent)) < n_silent
        kept = better[track[again]]
        starts[again[kept]] = new_starts[kept]
        segments[again[kept]] = new_segments[kept]
        silent[again[kept]] = new_silent[kept]
    return starts, segments


def _draw_starts(last_starts, track, spacing, rng):
    """Uniform starts (p,) in [0, last_starts], apart from each other where ``track`` is equal."""
    last_starts = np.maximum(last_starts, 0)
    values = rng.random(len(track))
    order = np.lexsort((values, track))
    counts = np.bincount(track)[track]
    first_of_track = np.searchsorted(track[order], track[order])
    rank = np.empty_like(track)
    rank[order] = np.arange(len(track)) - first_of_track
    # Sorted uniform draws on what is left of the track, pushed apart by the spacing.
    spacing = np.minimum(spacing, last_starts // counts)
    left = last_starts - (counts - 1) * spacing
    return np.floor(values * (left + 1)).astype(np.int64) + rank * spacing


def draw_noise(
    backgrounds: WaveformBank | None, n_rows: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Cut noise ``(n_rows, n_samples)`` at points uniform over all the samples of the bank.

    A recording shorter than the window is repeated. Without a bank the shape is ``(0, 0)``.
    """
    if backgrounds is None:
        return np.zeros((0, 0), np.float32)
    ends = np.cumsum(backgrounds.lengths)
    points = rng.integers(ends[-1], size=n_rows)
    track_ids = np.searchsorted(ends, points, side="right")
    starts = points - (ends - backgrounds.lengths)[track_ids]
    return backgrounds.windows(track_ids, starts, n_samples, wrap=True)


def degraded_queries(
    music: WaveformBank,
    banks: Banks,
    config: Mapping,
    *,
    n_queries: int,
    duration_s: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Degrade clips of ``music`` at full severity, with the sounds of ``banks``.

    Tracks come in turns and clips of one track keep apart where they can, as in `make_pairs`.

    Returns:
        Queries ``(n_queries, n)`` float32, their tracks ``(n_queries,)`` in ``music`` and their
        first samples ``(n_queries,)``.
    """
    rng = _rng(seed, _QUERY_STREAM)
    rate_hz = config.sample_rate_hz
    n_samples = round(duration_s * rate_hz)
    n_history = round(config.augmentation.history_s * rate_hz)
    track_ids = np.resize(rng.permutation(len(music)), n_queries)
    starts, queries = draw_segments(music, track_ids, n_samples, n_samples, rng)
    n_rows = max(1, _CHUNK_SAMPLES // (n_history + n_samples))
    for first in range(0, n_queries, n_rows):
        chunk = slice(first, min(first + n_rows, n_queries))
        windows = music.windows(track_ids[chunk], starts[chunk] - n_history, n_history + n_samples)
        noise = draw_noise(banks.backgrounds, len(windows), windows.shape[1], rng)
        queries[chunk] = degrade(
            windows,
            noise if banks.backgrounds else None,
            _draw_responses(banks.rooms, len(windows), rng),
            _draw_responses(banks.devices, len(windows), rng),
            seed=tf.constant([seed, first], tf.int64),
            severity=1.0,
            sample_rate_hz=rate_hz,
            config=config.augmentation,
        ).numpy()
    return queries, track_ids, starts


def _open_bank(
    section: Mapping | None, *, root: str | None, cache_dir: str, sample_rate_hz: int
) -> WaveformBank | None:
    if section is None:
        return None
    builder = fingerprint_data.prepare(
        section, root=root, cache_dir=cache_dir, sample_rate_hz=sample_rate_hz
    )
    # Inside the dataset, so that one never outlives the other.
    folder = Path(builder.data_dir) / "waveforms"
    if not folder.exists():
        examples = tfds.as_numpy(builder.as_dataset(split="all", shuffle_files=False))
        tracks = ((example["track"].decode("utf-8"), example["audio"]) for example in examples)
        WaveformBank.create(folder, tracks, sample_rate_hz)
    bank = WaveformBank.open(folder)
    # TFDS orders by hash; numbers that follow the names are easier to reason about.
    return bank.subset(np.argsort(np.array(bank.names)))


def _all_responses(bank: WaveformBank | None) -> np.ndarray | None:
    return None if bank is None else _responses(bank, np.arange(len(bank)))


def _draw_responses(bank, n_rows, rng):
    return None if bank is None else _responses(bank, rng.integers(len(bank), size=n_rows))


def _responses(bank, ids):
    """Impulse responses (n, r), zero-padded to the longest of the bank."""
    return bank.windows(ids, np.zeros(len(ids), np.int64), int(bank.lengths.max()))


def _is_silent(segments):
    power = np.einsum("ij,ij->i", segments, segments) / segments.shape[1]
    return power < 10 ** (SILENCE_DB / 10)


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))
