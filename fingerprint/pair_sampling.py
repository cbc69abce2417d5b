"""Which tracks a batch is made of, and which windows are cut from them; numpy only.

Batch k on host h is a pure function of (seed, k, h).
"""

import functools

import numpy as np

from fingerprint.errors import ConfigError
from fingerprint.playback_speed import PlaybackSpeed, played_windows
from fingerprint.waveform_bank import WaveformBank

# An original softer than this teaches nothing: its log-mel is that of its dither.
SILENCE_DB = -60.0
# Starts drawn for a track before a near-silent original is put up with.
_N_DRAWS = 3
# Streams of random numbers that never meet.
_EPOCH_STREAM, _BATCH_STREAM, _SPEED_STREAM = range(3)


class PairSampler:
    """Chooses and cuts the audio of batch k on one host.

    Host h of n draws from the tracks h, h + n, h + 2n, ... alone. While it has enough of them, a
    batch has ``segments_per_track`` segments of each of its tracks, an epoch shows every track in
    at most one batch and no batch straddles two epochs. With fewer tracks they come in turns.
    Segments of one track keep ``spacing`` samples apart as far as its length allows.

    Raises:
        ConfigError: the pairs do not divide by the hosts, or those of a host by the segments per
            track, or a host would have no track.
    """

    def __init__(
        self,
        music: WaveformBank,
        backgrounds: WaveformBank | None,
        *,
        n_pairs: int,
        n_segment: int,
        n_history: int,
        spacing: int,
        seed: int,
        n_positives: int = 1,
        segments_per_track: int = 1,
        speed: PlaybackSpeed | None = None,
        host_index: int = 0,
        n_hosts: int = 1,
    ):
        if n_pairs % n_hosts:
            raise ConfigError(
                f"pairs.n_pairs is {n_pairs}, which does not divide by {n_hosts} hosts; choose a "
                "multiple of their number."
            )
        if segments_per_track < 1 or (n_pairs // n_hosts) % segments_per_track:
            raise ConfigError(
                f"A host has {n_pairs // n_hosts} pairs, which pairs.segments_per_track, "
                f"{segments_per_track}, does not divide; choose a multiple of it for pairs.n_pairs."
            )
        if len(music) < n_hosts:
            raise ConfigError(
                f"There are {len(music)} training tracks for {n_hosts} hosts; give each host a "
                "track of its own."
            )
        self.n_pairs = n_pairs // n_hosts
        self.n_positives = n_positives
        self.n_segment = n_segment
        self.n_history = n_history
        self._music = music
        self._backgrounds = backgrounds
        self._track_ids = np.arange(host_index, len(music), n_hosts)
        self._segments_per_track = segments_per_track
        self._spacing = spacing
        self._speed = speed
        self._seed = seed
        self._host_index = host_index
        self._epoch_order = functools.lru_cache(maxsize=2)(self._draw_epoch_order)

    def tracks(self, step: int) -> np.ndarray:
        """Tracks ``(n_pairs,)`` of batch ``step``."""
        n_tracks = self.n_pairs // self._segments_per_track
        n_batches = max(1, len(self._track_ids) // n_tracks)
        epoch, position = divmod(step, n_batches)
        order = self._epoch_order(epoch)
        tracks = np.resize(order[position * n_tracks :][:n_tracks], n_tracks)
        return np.repeat(tracks, self._segments_per_track)

    def cut(
        self, step: int, largest_offset: int, severity: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut batch ``step``, replicas within ``largest_offset`` samples of their originals.

        A replica starts within its track, as its original does. The severity scales how probable
        another speed is, whose offset is that of the middle. The replicas of original i are the
        rows from ``i * n_positives`` on, each with an offset and noise of its own.

        Returns:
            Originals ``(n_pairs, n_segment)``, the windows of the replicas
            ``(n_pairs * n_positives, n_history + n_segment)`` and noise of the same shape
            (``(0, 0)`` where there are no backgrounds), all float32.
        """
        rng = self._rng(_BATCH_STREAM, step)
        track_ids = self.tracks(step)
        starts, originals = draw_segments(
            self._music, track_ids, self.n_segment, self._spacing, rng
        )
        track_ids, starts = (np.repeat(rows, self.n_positives) for rows in (track_ids, starts))
        offsets = rng.integers(-largest_offset, largest_offset, len(starts), endpoint=True)
        last_starts = np.maximum(self._music.lengths[track_ids] - self.n_segment, 0)
        replica_starts = np.clip(starts + offsets, 0, last_starts)
        n_window = self.n_history + self.n_segment
        fractions = np.zeros(len(starts))
        if self._speed:
            speed_rng = self._rng(_SPEED_STREAM, step)
            fractions = self._speed.draw(len(starts), severity, speed_rng)
        windows = played_windows(
            self._music,
            track_ids,
            replica_starts,
            fractions,
            n_history=self.n_history,
            n_segment=self.n_segment,
        )
        return originals, windows, draw_noise(self._backgrounds, len(windows), n_window, rng)

    def _draw_epoch_order(self, epoch: int) -> np.ndarray:
        return self._rng(_EPOCH_STREAM, epoch).permutation(self._track_ids)

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        key = (stream, self._host_index, number)
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def draw_segments(
    music: WaveformBank,
    track_ids: np.ndarray,
    n_samples: int,
    spacing: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one segment for each entry of ``track_ids`` (p,), in which a track may recur.

    Starts are uniform over the track; on one track they keep ``spacing`` samples apart, or as
    far as its length allows. A track with segments softer than `SILENCE_DB` is drawn again, twice
    at most, and the draw with the fewest of them is kept.

    Returns:
        Starts ``(p,)`` and segments ``(p, n_samples)`` float32; a shorter track is padded with
        zeros.
    """
    last_starts = np.maximum(music.lengths[track_ids] - n_samples, 0)
    _, groups = np.unique(track_ids, return_inverse=True)
    starts = _draw_starts(last_starts, groups, spacing, rng)
    segments = music.windows(track_ids, starts, n_samples)
    n_silent = np.bincount(groups, _is_silent(segments))
    for _ in range(_N_DRAWS - 1):
        rows = np.flatnonzero(n_silent[groups])
        if len(rows) == 0:
            break
        new_starts = _draw_starts(last_starts, groups, spacing, rng)[rows]
        new_segments = music.windows(track_ids[rows], new_starts, n_samples)
        n_new_silent = np.bincount(groups[rows], _is_silent(new_segments), len(n_silent))
        better = (n_new_silent < n_silent)[groups[rows]]
        starts[rows[better]] = new_starts[better]
        segments[rows[better]] = new_segments[better]
        n_silent = np.minimum(n_silent, n_new_silent, where=n_silent > 0, out=n_silent)
    return starts, segments


def draw_noise(
    backgrounds: WaveformBank | None, n_rows: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Cut noise ``(n_rows, n_samples)`` at points uniform over all the samples of the bank.

    A recording that ends within the window starts again. Without a bank the shape is ``(0, 0)``.
    """
    if backgrounds is None:
        return np.zeros((0, 0), np.float32)
    ends = np.cumsum(backgrounds.lengths)
    points = rng.integers(ends[-1], size=n_rows)
    track_ids = np.searchsorted(ends, points, side="right")
    starts = points - (ends - backgrounds.lengths)[track_ids]
    return backgrounds.windows(track_ids, starts, n_samples, wrap=True)


def _draw_starts(last_starts, groups, spacing, rng):
    """Starts (p,) uniform in [0, last_starts], kept apart where ``groups`` are equal."""
    values = rng.random(len(groups))
    order = np.lexsort((values, groups))
    ranks = np.empty_like(groups)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(groups[order], groups[order])
    counts = np.bincount(groups)[groups]
    # Ascending draws from what the spacings leave of the track, then pushed apart by them.
    spacings = np.minimum(spacing, last_starts // counts)
    slack = last_starts - (counts - 1) * spacings
    return (values * (slack + 1)).astype(np.int64) + ranks * spacings


def _is_silent(segments):
    power = np.einsum("ij,ij->i", segments, segments) / segments.shape[1]
    return power < 10 ** (SILENCE_DB / 10)
