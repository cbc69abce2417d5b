"""Fingerprints of music that does not exist, drawn from those of music that does.

A sampled track is the sum of two real ones, the second from a random place on, projected back to
the unit sphere: rows of it resemble rows of real tracks about as much as those of other real tracks
do, follow each other as real ones do, and none of them is a copy. Sums are a little too evenly
spread over the sphere, so that too few of them come near a query; directions of little variance are
therefore weakened by a power of it, the *sharpness*.

What else was tried keeps fewer of the local clusters of real fingerprints. With 23,000 rows of
`configs/nafp_small.py`, the best wrong score of a single segment is lower than among as many real
rows by 0.09 for rotations that preserve the covariance and for Gaussian sequences of the right
covariance and autocorrelation, by 0.02 for plain sums, and by 0.01 with the sharpness. Sums that
keep the common mean are worse by another 0.005. `benchmarks/distractors.py` measures what the
sampled rows of a model are worth.
"""

from collections.abc import Sequence

import numpy as np

from fingerprint.errors import FingerprintError

FEWEST_TRACKS = 10
SHARPNESS = 0.2
# Numbers of segments that scores are compared at.
LENGTHS = (1, 3, 5, 9, 19)
_MOMENT_ROWS = 200_000
_SMALLEST_NORM = 1e-6


class SamplerError(FingerprintError):
    """Fingerprints that others cannot be drawn from, in one sentence."""


class FingerprintSampler:
    """Draws sequences of fingerprints that resemble given ones.

    Args:
        sequences: ``(n_rows, d)`` unit vectors of each track, in the order of time; they may be
            memory-mapped, and are read when they are drawn from.
        sharpness: power of the relative variance that each principal direction is scaled by; 0
            leaves the sums of two tracks as they are.

    Raises:
        SamplerError: fewer than `FEWEST_TRACKS` tracks, or a sharpness that is negative.
    """

    def __init__(self, sequences: Sequence[np.ndarray], sharpness: float = SHARPNESS):
        if not 0 <= sharpness < np.inf:
            raise SamplerError(f"The sharpness is {sharpness:g}, but it is a number from 0 on.")
        self._sequences = [sequence for sequence in sequences if len(sequence)]
        if len(self._sequences) < FEWEST_TRACKS:
            raise SamplerError(
                f"There are {len(self._sequences)} tracks to draw others from, but that takes "
                f"{FEWEST_TRACKS} at least: fingerprint more audio."
            )
        variances, directions = _principal_directions(self._sequences)
        self._sharpen = (directions * variances**sharpness) @ directions.T

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one track ``(n_rows, d)``, float32 unit vectors, as long as one of the given."""
        first, second = rng.choice(len(self._sequences), 2, replace=False)
        base = np.asarray(self._sequences[first], np.float32)
        other = np.asarray(self._sequences[second], np.float32)
        places = (np.arange(len(base)) + rng.integers(len(other))) % len(other)
        drawn = (base + other[places]) @ self._sharpen
        norms = np.linalg.norm(drawn, axis=1, keepdims=True)
        # Two rows may cancel each other.
        drawn = np.where(norms < _SMALLEST_NORM, base, drawn / np.maximum(norms, _SMALLEST_NORM))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def best_scores(
    queries: np.ndarray, sequence: np.ndarray, lengths: Sequence[int] = LENGTHS
) -> np.ndarray:
    """The best mean inner product of the beginnings of queries along a track.

    Every place is tried, so that this is what a search that misses nothing finds.

    Args:
        queries: ``(m, n_longest, d)`` float32.
        sequence: the track, ``(n, d)``; segments beyond its end count 0.
        lengths: how many segments the beginnings have, none more than ``n_longest``.

    Returns:
        Scores ``(m, n_lengths)``.
    """
    m, _, dim = queries.shape
    n_longest, n = max(lengths), len(sequence)
    products = queries[:, :n_longest].reshape(-1, dim) @ np.asarray(sequence, np.float32).T
    products = products.reshape(m, n_longest, n)
    sums, best = np.zeros((m, n), np.float32), {}
    for j in range(n_longest):
        sums[:, : max(0, n - j)] += products[:, j, j:]
        if j + 1 in lengths:
            best[j + 1] = sums[:, : max(1, n - j)].max(axis=1) / (j + 1)
    return np.stack([best[length] for length in lengths], axis=1)


def _principal_directions(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Second moments ``(d,)`` relative to the largest, and their directions ``(d, d)``."""
    dim = sequences[0].shape[1]
    moments, n_rows = np.zeros((dim, dim)), 0
    # Every k-th track, so that all parts of a large collection count.
    step = 1 + sum(map(len, sequences)) // _MOMENT_ROWS
    for sequence in sequences[::step]:
        rows = np.asarray(sequence, np.float32)
        moments += rows.T @ rows
        n_rows += len(rows)
    variances, directions = np.linalg.eigh(moments / n_rows)
    variances = np.maximum(variances / variances[-1], _SMALLEST_NORM)
    return variances.astype(np.float32), directions.astype(np.float32)
