"""Seconds, samples and segment numbers: the only place where one is turned into another."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from fingerprint.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SegmentGrid:
    """Segments of ``duration_s`` that start every ``hop_s`` seconds.

    Segment ``i`` covers the samples ``[i * hop_samples, i * hop_samples + n_samples)``. The end
    of a recording that no whole segment covers gets one segment more, padded with zeros, when at
    least half a hop of it is left, and so does a recording shorter than one segment: 30 s of
    audio are 59 segments of 1 s at a hop of 0.5 s, as published for NAFP.

    Raises:
        ConfigError: a value is not positive, or the hop is longer than the segment.
    """

    sample_rate_hz: int
    duration_s: float
    hop_s: float

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(
                    f"{field.name} is {getattr(self, field.name)!r}, but it has to be positive."
                )
        if self.hop_s > self.duration_s:
            raise ConfigError(
                f"hop_s is {self.hop_s} and duration_s {self.duration_s}: audio between segments "
                "would be lost; choose a hop no longer than the segment."
            )

    @property
    def n_samples(self) -> int:
        """Samples in one segment."""
        return round(self.duration_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from the start of one segment to the start of the next."""
        return round(self.hop_s * self.sample_rate_hz)

    def n_segments(self, n_audio_samples: int) -> int:
        """Number of segments that ``n_audio_samples`` of audio are cut into."""
        if n_audio_samples <= 0:
            return 0
        if n_audio_samples < self.n_samples:
            return 1
        whole, left = divmod(n_audio_samples - self.n_samples, self.hop_samples)
        return 1 + whole + (2 * left >= self.hop_samples)

    def start_s(self, segment: int | np.ndarray) -> float | np.ndarray:
        """Second at which a segment starts."""
        return segment * self.hop_samples / self.sample_rate_hz

    def cut(self, samples: np.ndarray) -> np.ndarray:
        """Cut audio ``(n_audio_samples,)`` into segments ``(n_segments, n_samples)``."""
        n = self.n_segments(len(samples))
        if n == 0:
            return np.zeros((0, self.n_samples), samples.dtype)
        needed = (n - 1) * self.hop_samples + self.n_samples
        padded = np.pad(samples, (0, max(0, needed - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.n_samples)
        return windows[:: self.hop_samples][:n]

    def cut_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Cut audio that comes in blocks, keeping no more than a block and a segment of it.

        Yields:
            Segments ``(n, n_samples)``, n varying with the blocks; one after the other they are
            the rows of ``cut`` on the whole audio.
        """
        kept = np.zeros(0, np.float32)
        n_cut = 0
        n_seen = 0
        for block in blocks:
            n_seen += len(block)
            kept = np.concatenate([kept, block])
            if len(kept) < self.n_samples:
                continue
            n = 1 + (len(kept) - self.n_samples) // self.hop_samples
            yield self.cut(kept[: (n - 1) * self.hop_samples + self.n_samples])
            kept = kept[n * self.hop_samples :]
            n_cut += n
        if self.n_segments(n_seen) > n_cut:
            yield np.pad(kept, (0, self.n_samples - len(kept)))[None]
