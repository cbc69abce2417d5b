"""What a threshold on the score buys: answers kept, false alarms raised.

A system that has to say "no match" is judged on two sets of queries: those that have an answer in
the database, and those that have none. Every threshold is a trade between them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fingerprint.errors import FingerprintError


@dataclasses.dataclass(frozen=True)
class ThresholdCurve:
    """Recall and false alarms at every threshold that changes one of them.

    Element i is for accepting scores of at least ``thresholds[i]``; thresholds descend, so that
    all three shares grow along the arrays. The first one, infinite, accepts nothing.

    Attributes:
        thresholds: ``(n,)``.
        recall: ``(n,)`` share of answerable queries that are accepted with the right track.
        wrong: ``(n,)`` share of answerable queries that are accepted with a wrong track.
        false_alarm: ``(n,)`` share of unanswerable queries that are accepted.
        n_answerable: queries behind the first two shares.
        n_unanswerable: queries behind the last share.
    """

    thresholds: np.ndarray
    recall: np.ndarray
    wrong: np.ndarray
    false_alarm: np.ndarray
    n_answerable: int
    n_unanswerable: int

    def recall_at(self, false_alarm: float) -> float:
        """The highest recall with at most this share of false alarms."""
        return float(self.recall[self.false_alarm <= false_alarm].max())

    def false_alarm_at(self, recall: float) -> float | None:
        """The lowest share of false alarms with at least this recall; None if never reached."""
        reached = self.false_alarm[self.recall >= recall]
        return float(reached.min()) if len(reached) else None


def threshold_curve(
    scores: Sequence[float], right: Sequence[bool], unknown_scores: Sequence[float]
) -> ThresholdCurve:
    """Compare the best scores of answerable queries with those of unanswerable ones.

    Args:
        scores: ``(n,)`` best score of each answerable query, -inf where nothing was found.
        right: ``(n,)`` whether that best candidate is the right track.
        unknown_scores: ``(m,)`` best score of each query without an answer.

    Raises:
        FingerprintError: one of the sets is empty, lengths differ, or a score is NaN.
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    unknown = np.asarray(unknown_scores, np.float64)
    if scores.shape != right.shape:
        raise FingerprintError(
            f"There are {len(scores)} scores and {len(right)} judgements: give one for each query."
        )
    if not len(scores) or not len(unknown):
        raise FingerprintError(
            f"A threshold needs both sorts of queries, but {len(scores)} have an answer and "
            f"{len(unknown)} have none; make queries of the sort that is missing."
        )
    if np.isnan(scores).any() or np.isnan(unknown).any():
        raise FingerprintError("A score is NaN; a query that found nothing has the score -inf.")
    found = np.concatenate([scores, unknown])
    thresholds = np.concatenate([[np.inf], np.unique(found[np.isfinite(found)])[::-1]])
    return ThresholdCurve(
        thresholds,
        _share_accepted(scores[right], thresholds, len(scores)),
        _share_accepted(scores[~right], thresholds, len(scores)),
        _share_accepted(unknown, thresholds, len(unknown)),
        len(scores),
        len(unknown),
    )


def _share_accepted(scores: np.ndarray, thresholds: np.ndarray, n: int) -> np.ndarray:
    """Share (of ``n``) of scores that reach each threshold."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")) / n
