"""Counts of right and wrong answers, with the uncertainty that their number leaves.

    top1, top3, top10             the right recording in first place, among the first three, ten
    within_50ms ... within_500ms  in first place, and its start right to so much
    exact                         likewise, to a tolerance of the user
    segment_exact, segment_near   likewise, to half a hop and to one and a half: the nearest segment
                                  of the database is the right one, or a neighbour of it
    match_right, match_wrong      the verdict "match" with the right, or a wrong, recording
    false_alarm                   the verdict "match" where the database holds no right recording

All but the last are shares of the queries whose recording the database holds. A song hit (top1) and
a segment hit (the following) are different measures: nothing counts them together.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fingerprint.evaluation.answers import START_DECIMALS
from fingerprint.evaluation.judging import Judgement
from fingerprint.evaluation.open_set import ThresholdCurve, threshold_curve
from fingerprint.evaluation.statistics import bootstrap_intervals, mcnemar, wilson_interval

SONG_HITS = {"top1": 1, "top3": 3, "top10": 10}
WITHIN_S = {"within_50ms": 0.05, "within_100ms": 0.1, "within_250ms": 0.25, "within_500ms": 0.5}
SEGMENT_HITS = (*WITHIN_S, "exact", "segment_exact", "segment_near")
VERDICTS = ("match_right", "match_wrong")
FALSE_ALARM_SHARE = 0.001
FIXED_RECALLS = (0.5, 0.8, 0.9)
N_RESAMPLES = 1000
# Points that are kept of a threshold curve.
N_CURVE_POINTS = 200
# Starts in files are rounded.
_ROUNDING_S = 10.0**-START_DECIMALS
Group = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How wrong a start may be: ``exact_s`` for "exact", ``hop_s`` between segments."""

    exact_s: float = 0.5
    hop_s: float = 0.5

    def limits_s(self) -> dict[str, float]:
        """The largest error of each segment hit."""
        hops = {"segment_exact": self.hop_s / 2, "segment_near": 1.5 * self.hop_s}
        return WITHIN_S | {"exact": self.exact_s} | hops


def share(flags: Iterable[bool]) -> dict[str, float | int | None]:
    """A share with its count and 95 % interval (Wilson); the share is None if nothing counts."""
    flags = list(flags)
    low, high = wilson_interval(sum(flags), len(flags))
    rate = round(sum(flags) / len(flags), 6) if flags else None
    return {"rate": rate, "low": round(low, 6), "high": round(high, 6), "n": len(flags)}


def hits(judgements: Sequence[Judgement], tolerances: Tolerances) -> dict[str, np.ndarray]:
    """Which of the answerable queries were answered rightly, by each measure.

    Returns:
        ``(n,)`` bool by measure; a measure is absent where it is not known, as that of a start
        where no start is.
    """
    ranks = np.array([each.rank or np.inf for each in judgements])
    errors_s = np.array([each.error_s for each in judgements])
    found = {name: ranks <= k for name, k in SONG_HITS.items()}
    right = found["top1"]
    if not right.any() or not np.isnan(errors_s[right]).all():
        for name, limit_s in tolerances.limits_s().items():
            # Comparisons with NaN are false: a start that is not known is not right.
            found[name] = right & (errors_s <= limit_s + _ROUNDING_S)
    if all(each.matched is not None for each in judgements):
        matched = np.array([each.matched for each in judgements], bool)
        found |= {"match_right": matched & right, "match_wrong": matched & ~right}
    return found


def group(judgements: Iterable[Judgement]) -> dict[Group, list[Judgement]]:
    """Judgements by condition and length, in the order of appearance."""
    groups: dict[Group, list[Judgement]] = {}
    for each in judgements:
        groups.setdefault((each.condition, each.duration_s), []).append(each)
    return groups


def summarise(judgements: Sequence[Judgement], tolerances: Tolerances) -> dict[str, Any]:
    """Shares of one system's answers, each with intervals, and what the answers cost.

    Returns:
        JSON-able values. Shares are as of `share`, with the bounds ``track_low`` and
        ``track_high`` of a bootstrap over recordings (of Wilson, with a count of one for each
        recording, where all or no answers are right); costs are means over the queries, None
        where not known.
    """
    known = [each for each in judgements if each.answerable]
    unknown = [each for each in judgements if not each.answerable]
    names = (*SONG_HITS, *SEGMENT_HITS, *VERDICTS)
    row: dict[str, Any] = {
        "n_answerable": len(known),
        "n_unanswerable": len(unknown),
        "n_recordings": len({each.cluster for each in known}),
    }
    row |= dict.fromkeys(names, share([])) | shares(hits(known, tolerances), known)
    alarms = [each.matched for each in unknown if each.matched is not None]
    row["false_alarm"] = share(alarms)
    costs = {"wall_s_per_query": "wall_s", "cpu_s_per_query": "cpu_s", "examined": "examined"}
    for name, attribute in costs.items():
        row[name] = _mean(getattr(each, attribute) for each in judgements)
    return row


def open_set(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """What a threshold on the score buys; None without queries of both sorts.

    Returns:
        The recall at one false alarm in a thousand, the false alarms at fixed recalls, and the
        curve, thinned, as JSON-able values.
    """
    known = [each for each in judgements if each.answerable]
    unknown = [each.score for each in judgements if not each.answerable]
    if not known or not unknown:
        return None
    right = [each.rank == 1 for each in known]
    curve = threshold_curve([each.score for each in known], right, unknown)
    at_recalls = {f"{recall:g}": curve.false_alarm_at(recall) for recall in FIXED_RECALLS}
    return {
        "n_answerable": curve.n_answerable,
        "n_unanswerable": curve.n_unanswerable,
        "recall_at_one_in_a_thousand": curve.recall_at(FALSE_ALARM_SHARE),
        "recall_without_false_alarm": curve.recall_at(0.0),
        "false_alarm_at_recall": at_recalls,
        "curve": _thinned(curve),
    }


def compare(first: Mapping[str, bool], second: Mapping[str, bool]) -> dict[str, float | int] | None:
    """McNemar's test on the queries that two systems have in common; None if there are none.

    Args:
        first, second: whether each query was answered rightly, by its id.
    """
    common = [query for query in first if query in second]
    if not common:
        return None
    result = mcnemar([first[q] for q in common], [second[q] for q in common])
    return dataclasses.asdict(result)


def shares(
    found: Mapping[str, np.ndarray], judgements: Sequence[Judgement]
) -> dict[str, dict[str, float | int | None]]:
    """Shares as of `share`, of each row of ``(n,)`` flags on judgements ``(n,)``.

    ``track_low`` and ``track_high`` are the 95 % interval of drawing whole recordings again, whose
    queries succeed and fail together.
    """
    columns = np.column_stack(list(found.values()))
    tracks = [each.cluster for each in judgements]
    bounds = bootstrap_intervals(columns, tracks, n_resamples=N_RESAMPLES)
    n_tracks = len(set(tracks))
    by_name = {}
    for (name, flags), (low, high) in zip(found.items(), bounds.tolist(), strict=True):
        if flags.all() or not flags.any():
            # Drawing again what is all the same shows no doubt; count every recording once.
            low, high = wilson_interval(n_tracks * bool(flags.any()), n_tracks)
        ends = {"track_low": round(low, 6), "track_high": round(high, 6)}
        by_name[name] = share(flags.tolist()) | ends
    return by_name


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 6) if known else None


def _thinned(curve: ThresholdCurve) -> dict[str, list[float]]:
    """Points at which something changes, and no more of them than a figure shows."""
    columns = {n: getattr(curve, n) for n in ("thresholds", "recall", "wrong", "false_alarm")}
    n = len(curve.thresholds)
    # False alarms are rare, so that each of the first ones matters.
    alarms = np.flatnonzero(np.diff(curve.false_alarm, prepend=-1.0))[: N_CURVE_POINTS // 2]
    evenly = np.linspace(0, n - 1, min(n, N_CURVE_POINTS // 2)).astype(int)
    kept = np.unique(np.concatenate([alarms, np.maximum(alarms - 1, 0), evenly, [n - 1]]))
    # The first threshold, infinite, accepts nothing: JSON has no number for it.
    kept = kept[kept > 0]
    return {name: [round(v, 6) for v in column[kept].tolist()] for name, column in columns.items()}
