"""What systems answered to a set of queries, a line for each: asked once, judged at any time.

    {"format": "fingerprint answers", ..., "system": ..., "queries": ..., "database": {...}}
    {"query": "000000", "duration_s": 1.0, "verdict": "match", "candidates": [[...], ...], ...}

A candidate is ``[track, start_s, score]``. Tracks are named by their path, relative to the root of
the queries where they lie below it.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from fingerprint.errors import FingerprintError

FORMAT, FORMAT_VERSION = "fingerprint answers", 1
MAX_CANDIDATES = 10
# Of a second; starts are kept to a tenth of a millisecond.
START_DECIMALS = 4
# Recorded queries of "10 s" are hardly ever that to the sample.
LENGTH_SLACK = 1.01


class AnswerError(FingerprintError):
    """Answers that cannot be read, or that belong to other queries."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A place that a query may come from: ``start_s`` is the second of the track at its start.

    It is None where a system does not say it.
    """

    track: str
    start_s: float | None
    score: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """One system's answer to the first ``duration_s`` seconds of a query.

    Attributes:
        query: id of the query.
        duration_s: how much of it was asked.
        verdict: "match" or "no_match"; None where a system says nothing of that sort.
        candidates: best first, at most `MAX_CANDIDATES`.
        wall_s: how long it took; None if unknown.
        cpu_s: likewise, in seconds of one core.
        examined: share of the database that each search compared; None where nobody counts.
        answerable: whether the database holds the recording; None if unknown.
    """

    query: str
    duration_s: float
    verdict: str | None
    candidates: tuple[Candidate, ...]
    wall_s: float | None = None
    cpu_s: float | None = None
    examined: float | None = None
    answerable: bool | None = None

    def to_line(self) -> str:
        """As a line of the file, with its end."""
        values = dataclasses.asdict(self)
        values["candidates"] = [
            [
                each.track,
                None if each.start_s is None else round(each.start_s, START_DECIMALS),
                round(each.score, 6),
            ]
            for each in self.candidates
        ]
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Answer":
        """What `to_line` wrote.

        Raises:
            ValueError, TypeError, KeyError: it did not write this.
        """
        values = json.loads(line)
        values["candidates"] = tuple(Candidate(*each) for each in values["candidates"])
        return cls(**values)


def name_of(path: str, root: str | os.PathLike) -> str:
    """A recording's name in tables: relative to ``root`` where it lies below it."""
    path, root = os.path.realpath(path), os.path.realpath(root)
    return os.path.relpath(path, root) if path.startswith(root + os.sep) else path


def asked_lengths(durations_s: Sequence[float], query_s: float) -> list[float]:
    """Those lengths that a query of ``query_s`` seconds has, to a hundredth."""
    return [duration_s for duration_s in durations_s if duration_s <= query_s * LENGTH_SLACK]


def same_length(duration_s: float, durations_s: Sequence[float]) -> float:
    """The one of ``durations_s`` that is meant; ``duration_s`` itself where none is."""
    for each in durations_s:
        if each / LENGTH_SLACK <= duration_s <= each * LENGTH_SLACK:
            return each
    return duration_s


def header_of(
    *,
    system: str,
    queries: str,
    durations_s: Sequence[float],
    database: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The first line of a file of answers.

    Args:
        system: name of whom was asked.
        queries: identity of the set of queries.
        durations_s: the lengths that were asked.
        database: what the system's index is and holds; None for another program.
        record: what made the run.
    """
    return {
        "system": system,
        "queries": queries,
        "durations_s": list(durations_s),
        "database": database and dict(database),
        "record": record and dict(record),
    }


def write_header(file: IO[str], **header: Any) -> None:
    """Begin a file of answers; arguments as of `header_of`."""
    line = {"format": FORMAT, "format_version": FORMAT_VERSION} | header_of(**header)
    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """The first line of a file of answers.

    Raises:
        AnswerError: there is no such file, or it holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            header = json.loads(file.readline())
        known = (header["format"], header["format_version"]) == (FORMAT, FORMAT_VERSION)
        names = {"system", "queries", "durations_s", "database", "record"} <= set(header)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AnswerError(f"{path} holds no answers that can be read ({error!r}).") from error
    if not (known and names):
        raise AnswerError(
            f"{path} is of another format than {FORMAT!r}, version {FORMAT_VERSION}: ask again."
        )
    return header


def read_answers(path: str | os.PathLike) -> Iterator[Answer]:
    """The answers of a file, one by one.

    Raises:
        AnswerError: it cannot be read, or a line of it is damaged.
    """
    read_header(path)
    with open(path, encoding="utf-8") as file:
        next(file)
        for number, line in enumerate(file, 2):
            try:
                yield Answer.from_line(line)
            except (ValueError, TypeError, KeyError) as error:
                raise AnswerError(
                    f"Line {number} of {path} is damaged ({error!r}): ask again, which goes on "
                    "from the lines before it."
                ) from error
