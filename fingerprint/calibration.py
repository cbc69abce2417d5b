"""How well wrong tracks score: what a score is worth as evidence.

A query from a recording that the index does not hold has a best candidate too. How good that is
depends on the length of the query (the longer, the less chance there is in a mean score), and on
how many places it was compared with. A calibration says how it is distributed; the confidence of
a match is the probability that the best wrong track stays below it.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The best wrong score of a query, by its length; measured in one index of one size.

    Attributes:
        n_segments: ``(n,)`` lengths of queries, ascending.
        score_mean: ``(n,)`` mean of the best wrong score.
        score_std: ``(n,)`` its standard deviation.
        score_growth: ``(n,)`` how much the mean grows in an index e times as large.
        n_reference_segments: size of the index, every row compared with a query once.
    """

    n_segments: tuple[int, ...]
    score_mean: tuple[float, ...]
    score_std: tuple[float, ...]
    score_growth: tuple[float, ...]
    n_reference_segments: int

    @classmethod
    def from_dict(cls, stored: Mapping) -> "Calibration":
        """The calibration of a model folder, see `to_dict`."""
        columns = ("n_segments", "score_mean", "score_std", "score_growth")
        return cls(*(tuple(stored[name]) for name in columns), stored["n_reference_segments"])

    def to_dict(self) -> dict[str, list | int]:
        """The attributes, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    def p_value(self, score: float, n_segments: int, n_rows: int, n_shifts: int) -> float:
        """The probability that the best wrong track of a query scores as much, or more.

        Args:
            score: mean inner product along the best diagonal.
            n_segments: length of the query; values are interpolated over its logarithm.
            n_rows: fingerprints in the index.
            n_shifts: at which the query was fingerprinted; each was compared with every row.
        """
        lengths = np.log(np.asarray(self.n_segments, np.float64))
        mean, std, growth = (
            float(np.interp(math.log(n_segments), lengths, values))
            for values in (self.score_mean, self.score_std, self.score_growth)
        )
        n_times = n_shifts * max(1, n_rows) / self.n_reference_segments
        return statistics.NormalDist().cdf((mean + growth * math.log(n_times) - score) / std)


# For a model that carries none: a mean inner product of 0.75 is reached once in a thousand times.
# Unrelated fingerprints do so rarely even in single segments, but so do heavily disturbed ones of
# the same second.
UNCALIBRATED = Calibration((1,), (0.5,), (0.0809,), (0.0,), 1)
