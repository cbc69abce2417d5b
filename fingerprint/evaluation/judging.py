"""Answers against the truth: what each of them got right, before anything is counted."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping

from fingerprint.evaluation.answers import Answer, AnswerError, Candidate, name_of
from fingerprint.evaluation.query_sets import QuerySet


@dataclasses.dataclass(frozen=True, slots=True)
class Truth:
    """What a judge has to know of a query.

    Attributes:
        track: name of its recording, as answers name it; None where there is no right answer.
        start_s: second of the recording at which the query starts; None where not known.
        condition: the condition that it was made under, "" for the only one.
        snr_db: its signal-to-noise ratio, where there is one.
        excerpt: what it shares with the same excerpt under other conditions.
    """

    track: str | None
    start_s: float | None
    condition: str
    snr_db: float | None
    excerpt: str


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """One answer beside the truth.

    Attributes:
        query: id of the query.
        duration_s: how much of it was asked.
        condition: as of `Truth`.
        snr_db: likewise.
        cluster: the recording, whose queries succeed and fail together; else the query itself.
        answerable: whether the database holds the recording.
        matched: whether the system says "match"; None where it says nothing of that sort.
        score: of the best candidate, -inf where nothing was found.
        rank: place of the right track among different tracks, from 1 on; None if it is not there.
        error_s: distance between the true start and that of the right track's best candidate; NaN
            where one of them is not known.
        wall_s: how long the answer took.
        cpu_s: likewise, in seconds of one core.
        examined: share of the database that was compared with.
    """

    query: str
    duration_s: float
    condition: str
    snr_db: float | None
    cluster: str
    answerable: bool
    matched: bool | None
    score: float
    rank: int | None
    error_s: float
    wall_s: float | None
    cpu_s: float | None
    examined: float | None


def truths_of(queries: QuerySet) -> dict[str, Truth]:
    """The truth of each query by its id."""
    truths = {}
    for truth in queries.truths():
        known = truth.conditions
        excerpt, condition, snr_db = (known.get(n) for n in ("excerpt", "condition", "snr_db"))
        truths[truth.id] = Truth(
            None if truth.track is None else name_of(truth.track, queries.root),
            truth.start_s,
            "" if condition is None else str(condition),
            snr_db if isinstance(snr_db, float) else None,
            truth.id if excerpt is None else str(excerpt),
        )
    return truths


def judge(answer: Answer, truth: Truth, answerable: bool | None = None) -> Judgement:
    """Compare an answer with the truth.

    Args:
        answer: of any system.
        truth: of the query.
        answerable: used where the answer does not say whether the system's database holds the
            recording; by default it does where there is one.
    """
    if answer.answerable is not None:
        answerable = answer.answerable
    elif answerable is None:
        answerable = truth.track is not None
    rank, right = _right(answer.candidates, truth.track) if answerable else (None, None)
    unknown = right is None or right.start_s is None or truth.start_s is None
    return Judgement(
        query=answer.query,
        duration_s=answer.duration_s,
        condition=truth.condition,
        snr_db=truth.snr_db,
        cluster=truth.track or answer.query,
        answerable=answerable,
        matched=None if answer.verdict is None else answer.verdict == "match",
        score=answer.candidates[0].score if answer.candidates else -math.inf,
        rank=rank,
        error_s=math.nan if unknown else abs(right.start_s - truth.start_s),
        wall_s=answer.wall_s,
        cpu_s=answer.cpu_s,
        examined=answer.examined,
    )


def judge_all(
    answers: Iterable[Answer],
    truths: Mapping[str, Truth],
    answerable: Mapping[str, bool] | None = None,
) -> Iterator[Judgement]:
    """`judge` for the answers of a system.

    Args:
        answerable: by query, for a system that does not say it.

    Raises:
        AnswerError: an answer to a query that the set does not have.
    """
    for answer in answers:
        if answer.query not in truths:
            raise AnswerError(
                f"There is an answer to query {answer.query!r}, which the set of queries does not "
                "have: answers and queries do not belong together."
            )
        yield judge(answer, truths[answer.query], (answerable or {}).get(answer.query))


def _right(
    candidates: Iterable[Candidate], track: str | None
) -> tuple[int | None, Candidate | None]:
    """The first candidate of the right track, and its place among different tracks."""
    seen: dict[str, None] = {}
    for candidate in candidates:
        seen[candidate.track] = None
        if candidate.track == track:
            return len(seen), candidate
    return None, None
