"""How well wrong tracks score: what a score is worth as evidence.

A query from a recording that the index does not hold has a best candidate too. How good that is
depends on the query's length and on the size of the index, but most of all on the query itself:
noise and sparse sounds resemble many tracks a little. So it is not the score that is judged but
its lead over the rivals, the next five tracks of the same search, of which the median counts;
copies of the recording are no rivals of it, see `rivals`.

The scores of the wrong tracks of one query scatter like normal variables whose mean is the query's
own and whose deviation depends on its length alone. So the lead in an index of any number of
tracks follows from that in the tracks of the fit: it is longer in proportion to the distance of the
largest of so many normal variables from the fourth largest (Blom 1958). Around its mean it is taken
to be a Gumbel variable, whose tail is heavier than what normal scores would give, as that of real
music is.

With too few rivals the score is judged by itself: a Gumbel variable whose mean grows with the
logarithm of the number of comparisons. This is the weaker evidence, and fewer matches reach it.
Which of several forms raises least false alarms was measured on queries that training had not
seen, and on noise without music; see `benchmarks/verdict.py`.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

_Value = TypeVar("_Value", float, np.ndarray)
N_RIVALS = 5
_COLUMNS = ("score_mean", "score_std", "score_growth", "lead_mean", "lead_std")
# Calibrations of older models tell the growth, but not the lead: what it was, as a multiple of the
# growth, with a network whose 30 validation tracks both were measured on (1.85 to 1.95 and 0.96 to
# 1.05 at five lengths).
_OLD_LEAD_MEAN, _OLD_LEAD_STD, _OLD_N_TRACKS = 1.95, 1.05, 29
# With the mean of the lead its deviation changes by this power, for the best of 8 to 3000 normal
# variables by simulation.
_STD_EXPONENT = 0.7


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The best wrong score of a query, by its length; fitted in one index of one size.

    Attributes:
        n_segments: ``(n,)`` lengths of queries, ascending.
        score_mean: ``(n,)`` mean of the best wrong score.
        score_std: ``(n,)`` its standard deviation.
        score_growth: ``(n,)`` how much the mean grows in an index e times as large.
        lead_mean: ``(n,)`` mean of its lead over the median of the next five tracks.
        lead_std: ``(n,)`` standard deviation of the lead.
        n_reference_segments: size of the index, every row compared with a query once.
        n_tracks: wrong tracks that the index held for each query; 0 where leads are not known.
    """

    n_segments: tuple[int, ...]
    score_mean: tuple[float, ...]
    score_std: tuple[float, ...]
    score_growth: tuple[float, ...]
    lead_mean: tuple[float, ...]
    lead_std: tuple[float, ...]
    n_reference_segments: int
    n_tracks: int

    @classmethod
    def fit(
        cls, wrong_scores: np.ndarray, n_segments: Sequence[int], n_reference_segments: int
    ) -> "Calibration":
        """A calibration from how well queries score in tracks that do not hold them.

        Args:
            wrong_scores: ``(n_lengths, n_queries, n_tracks)`` best score in each track; -inf in the
                right one.
            n_segments: ``(n_lengths,)``.
            n_reference_segments: rows of all tracks together.
        """
        best_first = -np.sort(-wrong_scores.astype(np.float64), axis=2)
        best = best_first[:, :, 0]
        n_tracks = best_first.shape[2] - 1
        leads = np.zeros_like(best)
        if n_tracks > N_RIVALS:
            leads = best - best_first[:, :, 1 + N_RIVALS // 2]
        return cls(
            n_segments=tuple(int(n) for n in n_segments),
            score_mean=tuple(best.mean(axis=1).tolist()),
            score_std=tuple(best.std(axis=1).tolist()),
            score_growth=tuple(growth_of_best(scores) for scores in wrong_scores),
            lead_mean=tuple(leads.mean(axis=1).tolist()),
            lead_std=tuple(leads.std(axis=1).tolist()),
            n_reference_segments=n_reference_segments,
            n_tracks=n_tracks if n_tracks > N_RIVALS else 0,
        )

    @classmethod
    def from_dict(cls, stored: Mapping) -> "Calibration":
        """The calibration of a model folder, see `to_dict`, or of an older one without leads."""
        if "n_tracks" not in stored:
            growth = np.asarray(stored["score_growth"])
            leads = {"lead_mean": _OLD_LEAD_MEAN * growth, "lead_std": _OLD_LEAD_STD * growth}
            stored = dict(stored) | leads | {"n_tracks": _OLD_N_TRACKS}
        columns = {name: tuple(map(float, stored[name])) for name in _COLUMNS}
        return cls(
            n_segments=tuple(stored["n_segments"]),
            n_reference_segments=stored["n_reference_segments"],
            n_tracks=stored["n_tracks"],
            **columns,
        )

    def to_dict(self) -> dict[str, list | int]:
        """The attributes, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    def p_value(
        self,
        score: float,
        n_segments: int,
        n_tries: int,
        n_shifts: int,
        rivals: Sequence[float] = (),
        n_tracks: int = 0,
    ) -> float:
        """The probability that the best wrong track of a query does as well, or better.

        Args:
            score: mean inner product along the best diagonal.
            n_segments: length of the query; values are interpolated over its logarithm.
            n_tries: places in the index that the query was compared with.
            n_shifts: at which it was fingerprinted; each was compared with every place.
            rivals: scores of the other tracks that the search found, best first, and none of
                copies; with fewer than five the score is judged by itself.
            n_tracks: tracks in the index, without this one and its copies.
        """
        return gumbel_tail(*self._judged(score, n_segments, n_tries, n_shifts, rivals, n_tracks))

    def evidence(
        self,
        scores: np.ndarray,
        n_segments: int,
        n_tries: int,
        n_shifts: int,
        rivals: Sequence[float] = (),
        n_tracks: int = 0,
    ) -> np.ndarray:
        """`gumbel_evidence` of several scores ``(n,)`` of one query; else as `p_value`."""
        return gumbel_evidence(
            *self._judged(scores, n_segments, n_tries, n_shifts, rivals, n_tracks)
        )

    def _judged(
        self,
        score: _Value,
        n_segments: int,
        n_tries: int,
        n_shifts: int,
        rivals: Sequence[float],
        n_tracks: int,
    ) -> tuple[_Value, float, float]:
        """What is judged, and the mean and the deviation of that of the best wrong track."""
        if self.n_tracks and len(rivals) >= N_RIVALS:
            spread = _normal_lead(max(n_tracks, len(rivals))) / _normal_lead(self.n_tracks)
            mean, std = (self._at(name, n_segments) for name in ("lead_mean", "lead_std"))
            return score - rivals[N_RIVALS // 2], mean * spread, std * spread**_STD_EXPONENT
        n_times = n_shifts * max(1, n_tries) / self.n_reference_segments
        mean, std, growth = (self._at(name, n_segments) for name in _COLUMNS[:3])
        return score, mean + growth * math.log(n_times), std

    def _at(self, name: str, n_segments: int) -> float:
        """A column at a length; beyond those of the fit that of the nearest."""
        lengths = np.log(np.asarray(self.n_segments, np.float64))
        return float(np.interp(math.log(n_segments), lengths, getattr(self, name)))


def gumbel_tail(value: float, mean: float, std: float) -> float:
    """The probability that a Gumbel variable of this mean and deviation is as large, or larger."""
    # Far below, where the probability is 1, exp would overflow.
    return -math.expm1(-math.exp(min(700.0, -gumbel_evidence(value, mean, std))))


def gumbel_evidence(value: _Value, mean: float, std: float) -> _Value:
    """How far a value is out in the tail of a Gumbel variable, in powers of e.

    It is minus the logarithm of `gumbel_tail` where that is small, and goes on below 0 where that
    is 1.
    """
    scale = std * math.sqrt(6.0) / math.pi
    location = mean - np.euler_gamma * scale
    return (value - location) / scale


def growth_of_best(by_track: np.ndarray) -> float:
    """How much the mean best score grows with the logarithm of the number of tracks.

    The best of many scores grows with the logarithm of their number; here the best of all tracks
    is compared with the best of either half of them.

    Args:
        by_track: ``(n, n_tracks)``, -inf where a track does not count.
    """
    best = by_track.max(axis=1)
    gains = [best - half.max(axis=1) for half in (by_track[:, ::2], by_track[:, 1::2])]
    gains = np.concatenate(gains)
    return float(gains[np.isfinite(gains)].mean() / np.log(2.0))


def _normal_lead(n: int) -> float:
    """Expected distance of the largest of ``n`` standard normal variables from the fourth largest.

    With the largest as the candidate, the fourth largest is the median of its five rivals.
    """
    quantile = statistics.NormalDist().inv_cdf
    n = max(n, N_RIVALS + 1)
    return quantile((n - 0.375) / (n + 0.25)) - quantile((n - 3.375) / (n + 0.25))


# For a model that carries none: a mean inner product of 0.75 is reached once in a thousand times.
# Unrelated fingerprints do so rarely even in single segments, but so do heavily disturbed ones of
# the same second.
UNCALIBRATED = Calibration((1,), (0.5,), (0.05065,), (0.0,), (0.0,), (0.0,), 1, 0)
