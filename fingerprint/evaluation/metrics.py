"""Counts of right and wrong answers, with the uncertainty that their number leaves."""

import dataclasses
from collections.abc import Iterable

from fingerprint.evaluation.statistics import wilson_interval
from fingerprint.identification import Identification


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One query's answer by one index: what was asked, and whether the answer is right.

    ``answerable`` is False for a query from a recording that the index does not hold; ``exact``
    says that the best match is the right track at the right second.
    """

    index: str
    duration_s: float
    snr_db: float | None
    answerable: bool
    matched: bool
    right_track: bool
    exact: bool
    wall_s: float
    cpu_s: float


def judge(
    identification: Identification, track: str | None, start_s: float, tolerance_s: float
) -> dict[str, bool]:
    """Compare an answer with the truth; ``track`` is None where there is no right answer.

    The start that a match implies is that of the whole query, also where only a part of the
    query lies within the track. Returns the fields ``answerable``, ``matched``, ``right_track``
    and ``exact`` of an `Outcome`.
    """
    best = identification.matches[0] if identification.matches else None
    right_track = best is not None and best.track == track
    return {
        "answerable": track is not None,
        "matched": identification.verdict == "match",
        "right_track": right_track,
        "exact": right_track
        and abs(best.reference_start_s - best.query_start_s - start_s) <= tolerance_s,
    }


def rate(flags: Iterable[bool]) -> dict[str, float | int | None]:
    """A share with its count and 95 % interval, as numbers for a table; None if nothing counts."""
    flags = list(flags)
    low, high = wilson_interval(sum(flags), len(flags))
    share = round(sum(flags) / len(flags), 4) if flags else None
    return {"rate": share, "low": round(low, 4), "high": round(high, 4), "n": len(flags)}


def summarise(outcomes: list[Outcome]) -> list[dict]:
    """One row per index, signal-to-noise ratio and duration, in the order of appearance.

    ``top1`` is the right track in first place and ``exact`` also the right second, whatever the
    verdict; ``match_right`` and ``match_wrong`` are the verdict "match" with a right or wrong
    track; ``false_alarm`` is the verdict "match" where no answer is right.
    """
    groups: dict[tuple, list[Outcome]] = {}
    for outcome in outcomes:
        key = (outcome.index, outcome.snr_db, outcome.duration_s)
        groups.setdefault(key, []).append(outcome)
    rows = []
    for (index, snr_db, duration_s), group in groups.items():
        known = [o for o in group if o.answerable]
        rows.append(
            {
                "index": index,
                "snr_db": snr_db,
                "duration_s": duration_s,
                "top1": rate(o.right_track for o in known),
                "exact": rate(o.exact for o in known),
                "match_right": rate(o.matched and o.right_track for o in known),
                "match_wrong": rate(o.matched and not o.right_track for o in known),
                "false_alarm": rate(o.matched for o in group if not o.answerable),
                "wall_s_per_query": round(sum(o.wall_s for o in group) / len(group), 4),
                "cpu_s_per_query": round(sum(o.cpu_s for o in group) / len(group), 4),
            }
        )
    return rows
