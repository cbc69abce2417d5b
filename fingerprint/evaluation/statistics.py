"""Uncertainty of shares and of differences between systems that answered the same queries."""

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np

from fingerprint.errors import FingerprintError

# Two-sided 95 % of the normal distribution.
Z_95 = 1.959963984540054
# Tracks drawn at once by the bootstrap, which bounds its memory.
MAX_DRAWN = 1 << 20


def wilson_interval(n_hits: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a share (Wilson, 1927), sound also near 0 and 1.

    Returns:
        Lower and upper bound; (0, 1) where nothing was counted.
    """
    if n == 0:
        return 0.0, 1.0
    share, weight = n_hits / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    # At the ends the bounds are exactly 0 and 1; the formula misses them by a rounding.
    low = 0.0 if n_hits == 0 else centre - half
    return low, 1.0 if n_hits == n else centre + half


def bootstrap_interval(
    hits: Sequence[bool],
    tracks: Sequence[Hashable],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """As `bootstrap_intervals`, of one share."""
    ((low, high),) = bootstrap_intervals(
        np.asarray(hits)[:, None], tracks, n_resamples=n_resamples, seed=seed, level=level
    )
    return float(low), float(high)


def bootstrap_intervals(
    hits: np.ndarray,
    tracks: Sequence[Hashable],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> np.ndarray:
    """Percentile intervals of shares when whole tracks are drawn again, with all their queries.

    Queries of one track succeed and fail together, which an interval over single queries does not
    see (cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 3.8).

    Args:
        hits: ``(n, n_shares)`` whether each query was answered rightly, by each count.
        tracks: ``(n,)`` the track of each query.

    Returns:
        Lower and upper bounds ``(n_shares, 2)``; 0 and 1 where nothing was counted.

    Raises:
        FingerprintError: the two have different lengths.
    """
    if len(hits) != len(tracks):
        raise FingerprintError(
            f"There are {len(hits)} hits and {len(tracks)} tracks, but each query has one of both."
        )
    if not len(hits):
        return np.tile([0.0, 1.0], (hits.shape[1], 1))
    numbers = {track: number for number, track in enumerate(dict.fromkeys(tracks))}
    groups = np.array([numbers[track] for track in tracks])
    # Queries, then hits by each count, of every track.
    totals = np.zeros((len(numbers), 1 + hits.shape[1]))
    np.add.at(totals, groups, np.column_stack([np.ones(len(hits)), hits]))
    rng = np.random.default_rng(seed)
    blocks = []
    for first in range(0, n_resamples, step := max(1, MAX_DRAWN // len(totals))):
        shape = min(step, n_resamples - first), len(totals)
        drawn = rng.integers(len(totals), size=shape)
        # How often each track was drawn, resample by resample.
        places = (drawn + len(totals) * np.arange(shape[0])[:, None]).ravel()
        sums = np.bincount(places, minlength=math.prod(shape)).reshape(shape) @ totals
        blocks.append(sums[:, 1:] / sums[:, :1])
    return np.quantile(np.concatenate(blocks), [(1 - level) / 2, (1 + level) / 2], axis=0).T


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same queries.

    Attributes:
        n: queries that both answered.
        only_first: queries that the first alone answered rightly.
        only_second: queries that the second alone answered rightly.
        p_value: probability of so uneven a split, or a more uneven one, if both were as good.
    """

    n: int
    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedComparison:
    """The exact test on the queries that only one of two systems answered (McNemar, 1947).

    Args:
        first, second: ``(n,)`` hits of either system, in the same order of queries.

    Raises:
        FingerprintError: the systems answered different numbers of queries.
    """
    if len(first) != len(second):
        raise FingerprintError(
            f"One system answered {len(first)} queries and the other {len(second)}, but a paired "
            "test needs both answers to every query."
        )
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return PairedComparison(
        len(first), only_first, only_second, _sign_test(only_first, only_second)
    )


def _sign_test(n_first: int, n_second: int) -> float:
    """Two-sided binomial probability with both sides equally likely; integers, hence exact."""
    n = n_first + n_second
    # Binomial coefficients one from another: thousands of them from factorials take seconds.
    coefficient = tail = 1
    for k in range(min(n_first, n_second)):
        coefficient = coefficient * (n - k) // (k + 1)
        tail += coefficient
    return min(1.0, 2 * tail / 2**n)
