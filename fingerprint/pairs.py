"""Batches of (original, replica) for training: tf.data that decodes nothing and remembers nothing.

Batch k is a pure function of (seed, k, host), so that a run that starts at step k sees exactly
the batches that an uninterrupted run would have seen from there on. One call per batch cuts the
windows from memory-mapped banks; the chain of `fingerprint.augmentation` runs on the whole batch.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import fingerprint_data
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fingerprint.augmentation import Degradation, degrade
from fingerprint.babble import open_babble
from fingerprint.errors import ConfigError
from fingerprint.pair_sampling import PairSampler, draw_noise, draw_segments
from fingerprint.playback_speed import PlaybackSpeed, played_windows
from fingerprint.segments import SegmentGrid
from fingerprint.track_speeds import check_speeds, open_at_speed
from fingerprint.until_exit import UntilExit
from fingerprint.waveform_bank import WaveformBank, split_validation

# Samples degraded at once for a mini-search: some 50 MB of spectra, whatever the queries' length.
_CHUNK_SAMPLES = 2_000_000
# The draws of queries' speeds, beside those of all else about them.
_SPEED_STREAM = 1


@dataclasses.dataclass(frozen=True)
class Banks:
    """Where batches come from; a bank that is None leaves its step of the chain out."""

    music: WaveformBank
    backgrounds: WaveformBank | None = None
    rooms: WaveformBank | None = None
    devices: WaveformBank | None = None


def load_banks(config: ConfigDict, workdir: str | Path) -> tuple[Banks, WaveformBank]:
    """Prepare every source of ``config.data`` once and open it.

    Args:
        config: A whole configuration; a section of ``data`` that is None gives no bank.
        workdir: Folder of the run; prepared datasets are kept in its ``data`` unless
            ``data.cache_dir`` names another folder.

    Returns:
        The banks for training, and the music held out for validation. Tracks are in the order of
        their names. Music for training comes at each of ``data.track_speeds``, one speed after
        the other, and each variant is a track; that for validation is as it was recorded, and no
        variant of it is trained on.

    Raises:
        ConfigError: a section is wrong, or the validation tracks leave none to train on.
    """
    check_speeds(config.data.track_speeds)
    cache_dir = Path(config.data.cache_dir or Path(workdir) / "data")
    open_banks = functools.partial(
        _open_banks,
        root=config.data.root,
        cache_dir=str(cache_dir),
        sample_rate_hz=config.sample_rate_hz,
    )
    if config.data.music is None:
        raise ConfigError("data.music is None; name the source of the music to train on.")
    music, *variants = open_banks(config.data.music, speeds=(1.0, *config.data.track_speeds))
    train_ids, validation_ids = split_validation(music.names, config.data.n_validation_tracks)
    backgrounds = open_banks(config.data.backgrounds)
    if config.data.babble_clips:
        folder = f"babble_{config.sample_rate_hz}_hz_{config.data.babble_clips}"
        voices = open_babble(cache_dir / folder, config.data.babble_clips, config.sample_rate_hz)
        backgrounds = [WaveformBank.joined([*filter(None, backgrounds), voices])]
    banks = Banks(
        WaveformBank.joined([variant.subset(train_ids) for variant in variants]),
        *backgrounds,
        *open_banks(config.data.rooms, of_filters=True),
        *open_banks(config.data.devices, of_filters=True),
    )
    return banks, music.subset(validation_ids)


def make_pairs(
    banks: Banks,
    config: ConfigDict,
    *,
    start_step: int,
    host_index: int = 0,
    n_hosts: int = 1,
    num_parallel_calls: int | None = None,
) -> tf.data.Dataset:
    """Endless batches of pairs; element j is batch ``start_step + j``.

    How tracks are shared out and where originals start is told at `PairSampler`: by default one
    segment per track per batch while there are enough tracks, and no track on two hosts. Every
    replica has an offset, noise, a room and a device of its own.
    ``num_parallel_calls`` batches are made at once, by default one per core and 16 at most.

    Returns:
        Elements ``{"original": (p, n), "replica": (p * n_positives, n)}`` float32, with
        p = n_pairs / n_hosts and n the samples of a segment; the replicas of original i are the
        rows from ``i * n_positives`` to ``(i + 1) * n_positives - 1``.

    Raises:
        ConfigError: the pairs do not divide by the hosts or tracks, a host would have no track,
            or the augmentation asks for what does not exist.
        TypeError: a section of the augmentation has an unknown key or lacks one.
    """
    sampler = _sampler(banks, config, host_index, n_hosts)
    n_replicas = sampler.n_pairs * sampler.n_positives
    window_shape = (n_replicas, sampler.n_history + sampler.n_segment)
    chain = Degradation(
        window_shape[1],
        _responses(banks.rooms),
        _responses(banks.devices),
        sample_rate_hz=config.sample_rate_hz,
        **config.augmentation,
    )

    def cut(step):
        severity = 1.0 if chain.ramp is None else chain.ramp.severity(int(step))
        offset_s = config.pairs.replica_offset_s
        if chain.ramp is not None:
            offset_s = chain.ramp.largest_offset_s(offset_s, severity)
        largest_offset = round(offset_s * config.sample_rate_hz)
        return *sampler.cut(int(step), largest_offset, severity), np.float32(severity)

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        originals, windows, noise, severity = tf.numpy_function(
            UntilExit(cut), [step], [tf.float32] * 4, stateful=False
        )
        # What comes back from numpy has no static shape.
        originals = tf.ensure_shape(originals, (sampler.n_pairs, sampler.n_segment))
        windows = tf.ensure_shape(windows, window_shape)
        noise = None if banks.backgrounds is None else tf.ensure_shape(noise, window_shape)
        severity = tf.ensure_shape(severity, ())
        seed = tf.stack([tf.constant(config.seed, tf.int64), step])
        replicas = chain(
            windows,
            noise,
            seed=tf.random.experimental.stateless_fold_in(seed, host_index),
            severity=severity,
        )
        return {"original": originals, "replica": replicas}

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    num_parallel_calls = num_parallel_calls or min(16, os.cpu_count())
    return steps.map(batch, num_parallel_calls, deterministic=True).prefetch(2)


def degraded_queries(
    music: WaveformBank,
    banks: Banks,
    config: ConfigDict,
    *,
    n_queries: int,
    duration_s: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Degrade clips of ``music`` at full severity, with the noise and responses of ``banks``.

    Tracks come in turns; clips of one track keep apart where its length allows.

    Returns:
        Queries ``(n_queries, n)`` float32, their tracks ``(n_queries,)`` in ``music`` and their
        first samples ``(n_queries,)``, those of clips at another speed being where they begin.
    """
    rng = np.random.default_rng(seed)
    n_samples = round(duration_s * config.sample_rate_hz)
    n_history = round(config.augmentation.history_s * config.sample_rate_hz)
    n_window = n_history + n_samples
    track_ids = np.resize(rng.permutation(len(music)), n_queries)
    starts, queries = draw_segments(music, track_ids, n_samples, n_samples, rng)
    speed = _playback_speed(config)
    fractions = np.zeros(n_queries)
    if speed:
        fractions = speed.draw(n_queries, 1.0, np.random.default_rng([seed, _SPEED_STREAM]))
    n_rows = max(1, _CHUNK_SAMPLES // n_window)
    for first in range(0, n_queries, n_rows):
        rows = slice(first, first + n_rows)
        windows = played_windows(
            music,
            track_ids[rows],
            starts[rows],
            fractions[rows],
            n_history=n_history,
            n_segment=n_samples,
        )
        noise = draw_noise(banks.backgrounds, len(windows), n_window, rng)
        queries[rows] = degrade(
            windows,
            None if banks.backgrounds is None else noise,
            _drawn_responses(banks.rooms, len(windows), rng),
            _drawn_responses(banks.devices, len(windows), rng),
            seed=tf.constant([seed, first], tf.int64),
            severity=1.0,
            sample_rate_hz=config.sample_rate_hz,
            config=config.augmentation,
        )
    # The middle of a clip stays where it is.
    first_samples = starts - np.round(fractions * n_samples / 2).astype(np.int64)
    return queries, track_ids, first_samples


def _sampler(banks: Banks, config: ConfigDict, host_index: int, n_hosts: int) -> PairSampler:
    rate_hz = config.sample_rate_hz
    n_segment = SegmentGrid(rate_hz, **config.segment).n_samples
    return PairSampler(
        banks.music,
        banks.backgrounds,
        n_pairs=config.pairs.n_pairs,
        n_segment=n_segment,
        n_history=round(config.augmentation.history_s * rate_hz),
        # Replicas of neighbours may come this much closer than their originals.
        spacing=n_segment + 2 * round(config.pairs.replica_offset_s * rate_hz),
        seed=config.seed,
        n_positives=config.pairs.n_positives,
        segments_per_track=config.pairs.segments_per_track,
        speed=_playback_speed(config),
        host_index=host_index,
        n_hosts=n_hosts,
    )


def _playback_speed(config: ConfigDict) -> PlaybackSpeed | None:
    section = config.augmentation.get("speed")
    speed = None if section is None else PlaybackSpeed(**section)
    return speed if speed and speed.probability > 0 else None


def _open_banks(
    section: ConfigDict | None,
    *,
    root: str | None,
    cache_dir: str,
    sample_rate_hz: int,
    of_filters: bool = False,
    speeds: Sequence[float] = (1.0,),
) -> list[WaveformBank | None]:
    """For each speed the bank of the same tracks in the order of their original names."""
    if section is None:
        return [None] * len(speeds)
    builder = fingerprint_data.prepare(
        section, root=root, cache_dir=cache_dir, sample_rate_hz=sample_rate_hz
    )
    corpus = builder.builder_config.corpus
    if corpus.holds_impulse_responses != of_filters:
        raise ConfigError(
            f"The source {section.builder!r} gives {corpus.kind}, but data.music and "
            "data.backgrounds take recordings, data.rooms and data.devices impulse responses."
        )
    # Inside the dataset's own folder, so that neither outlives the other.
    folder = Path(builder.data_dir) / "waveforms"
    if not folder.exists():
        examples = tfds.as_numpy(builder.as_dataset(split="all", shuffle_files=False))
        tracks = ((example["track"].decode("utf-8"), example["audio"]) for example in examples)
        WaveformBank.create(folder, tracks, sample_rate_hz)
    # TFDS orders tracks by a hash of its own.
    order = np.argsort(WaveformBank.open(folder).names)
    return [open_at_speed(folder, speed).subset(order) for speed in speeds]


def _responses(bank: WaveformBank | None, ids: np.ndarray | None = None) -> np.ndarray | None:
    """Impulse responses ``(n, r)``, all of them by default, zero-padded to the bank's longest."""
    if bank is None:
        return None
    ids = np.arange(len(bank)) if ids is None else ids
    return bank.windows(ids, np.zeros(len(ids), np.int64), int(bank.lengths.max()))


def _drawn_responses(bank, n_rows, rng):
    return None if bank is None else _responses(bank, rng.integers(len(bank), size=n_rows))
