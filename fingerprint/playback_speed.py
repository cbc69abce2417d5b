"""Replicas that are played a little too fast or too slow; numpy only.

The audio around the window is at hand where windows are cut, so that the window keeps its length
and what stands in its middle stays there.
"""

import dataclasses
import math

import numpy as np

from fingerprint.errors import ConfigError
from fingerprint.waveform_bank import WaveformBank

# Speeds further from 1 are tracks of their own: see `fingerprint.track_speeds`.
_LARGEST_FRACTION = 0.1
# Within so few samples the sample next to a position moves by less than one.
_N_BLOCK = 8


@dataclasses.dataclass(frozen=True)
class PlaybackSpeed:
    """Speed ``1 + fraction``, uniform within ``max_fraction`` of 1, about the segment's middle.

    Raises:
        ConfigError: on construction, a fraction outside [0, 0.1].
    """

    probability: float
    max_fraction: float

    def __post_init__(self):
        """Refuse speeds that the interpolation is not made for."""
        if not 0 <= self.max_fraction <= _LARGEST_FRACTION:
            raise ConfigError(
                f"augmentation.speed.max_fraction is {self.max_fraction!r}; choose one from 0 to "
                f"{_LARGEST_FRACTION}, and data.track_speeds for what is further."
            )

    def draw(self, n_rows: int, severity: float, rng: np.random.Generator) -> np.ndarray:
        """Fractions ``(n_rows,)``, 0 where the speed stays as it is."""
        fractions = rng.uniform(-self.max_fraction, self.max_fraction, n_rows)
        return np.where(rng.random(n_rows) < severity * self.probability, fractions, 0.0)


def played_windows(
    music: WaveformBank,
    track_ids: np.ndarray,
    starts: np.ndarray,
    fractions: np.ndarray,
    *,
    n_history: int,
    n_segment: int,
) -> np.ndarray:
    """Cut windows of history and segment and play each at its own speed.

    Args:
        music: Zeros stand outside its tracks.
        track_ids, starts: ``(b,)`` tracks and the first samples of their segments.
        fractions: ``(b,)``; the speed is ``1 + fraction``.
        n_history, n_segment: Samples; the middle of the segment stays in its place.

    Returns:
        ``(b, n_history + n_segment)`` float32.
    """
    n_window = n_history + n_segment
    windows = music.windows(track_ids, starts - n_history, n_window)
    rows = np.flatnonzero(fractions)
    if len(rows) == 0:
        return windows
    middle = n_history + n_segment / 2
    n_margin = math.ceil(np.abs(fractions).max() * (middle + _N_BLOCK)) + _N_BLOCK
    surroundings = music.windows(
        track_ids[rows], starts[rows] - n_history - n_margin, n_window + 2 * n_margin
    )
    for row, samples in zip(rows, surroundings, strict=True):
        windows[row] = _played(samples, fractions[row], n_margin, middle, n_window)
    return windows


def _played(samples, fraction, n_margin, middle, n_samples):
    """Interpolate by the cubic through the four nearest samples.

    Each block is read from one stretch of samples, as if its speed were 1; what that is off by is
    left to the cubic. Blocks stand in columns, so that every operation runs over all of them.
    """
    in_block = np.arange(_N_BLOCK)[:, None] - (_N_BLOCK - 1) / 2
    from_middle = _N_BLOCK * np.arange(-(-n_samples // _N_BLOCK)) + (_N_BLOCK - 1) / 2 - middle
    positions = n_margin + middle + (1 + fraction) * from_middle - (_N_BLOCK - 1) / 2
    first = np.floor(positions).astype(np.int64)
    stretches = samples[first + np.arange(-1, _N_BLOCK + 2)[:, None]]
    before, here, after, later = (stretches[i : i + _N_BLOCK] for i in range(4))
    t = (positions - first).astype(np.float32) + (fraction * in_block).astype(np.float32)
    # Newton's form of the polynomial through the samples at -1, 0, 1 and 2.
    rise = here - before
    bend = (after - here) - rise
    twist = (later - after) - (after - here) - bend
    played = before + (t + 1) * (rise + t * (bend / 2 + (t - 1) * (twist / 6)))
    return played.T.reshape(-1)[:n_samples]
