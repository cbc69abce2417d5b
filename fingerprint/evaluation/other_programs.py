"""Answers of other programs, from a plain CSV table: judged under the same protocols as ours."""

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from fingerprint.evaluation.answers import (
    MAX_CANDIDATES,
    Answer,
    AnswerError,
    Candidate,
    asked_lengths,
    name_of,
    same_length,
    write_header,
)
from fingerprint.evaluation.query_sets import QuerySet


def keep_table(
    path: str | os.PathLike,
    name: str,
    queries: QuerySet,
    answers: str | os.PathLike,
    durations_s: Sequence[float] = (),
    query_set: str | None = None,
) -> None:
    """Keep the answers of another program as those of our systems are kept.

    Raises:
        AnswerError: as `read_table`.
    """
    rows = list(read_table(path, queries, durations_s, query_set))
    found_s = sorted({answer.duration_s for answer in rows})
    with open(answers, "w", encoding="utf-8") as file:
        write_header(file, system=name, queries=queries.identity, durations_s=found_s)
        file.writelines(answer.to_line() for answer in rows)


def read_table(
    path: str | os.PathLike,
    queries: QuerySet,
    durations_s: Sequence[float] = (),
    query_set: str | None = None,
) -> Iterator[Answer]:
    """Answers of another program: a CSV table of (query, track, start_s, score).

    A query has one row per candidate, best first or in any order, as scores say; a row whose
    track is empty says that nothing was found, and so does a query without a row. Columns
    ``duration_s`` (else the whole query was asked) and ``verdict`` are optional; ``start_s`` and
    ``score`` may be empty. Tracks may be paths, also of the same collection in another place, or
    ends of them, down to the name of the file, that one recording of the truth has alone.

    Args:
        path: the table.
        queries: what the program was asked.
        durations_s: lengths under which answers are counted, where they are meant.
        query_set: only rows whose column ``set`` is this, where there are several sets.

    Raises:
        AnswerError: the table cannot be read, or a row names no query or no number.
    """
    truths = {truth.id: truth for truth in queries.truths()}
    found: dict[tuple[str, float], list[Candidate]] = {}
    verdicts: dict[tuple[str, float], str] = {}
    names = _names_of_tracks(queries)
    for where, row in _table_rows(path, query_set):
        if row["query"] not in truths:
            raise AnswerError(f"{where}: {row['query']!r} is no query of {queries.folder}.")
        duration_s = _number(row.get("duration_s"), truths[row["query"]].duration_s, where)
        if duration_s is None:
            raise AnswerError(
                f"{where}: the length of {row['query']!r} is not known; give the column "
                f"duration_s in this table, or in truth.csv in {queries.folder}."
            )
        key = row["query"], same_length(duration_s, durations_s)
        candidates = found.setdefault(key, [])
        if row.get("verdict"):
            verdicts[key] = _verdict(row["verdict"], where)
        if row["track"]:
            track = _recording(row["track"], names) or name_of(row["track"], queries.root)
            candidates.append(_candidate(row, track, -float(len(candidates)), where))
    lengths_s = sorted({duration_s for _, duration_s in found})
    for query, truth in truths.items():
        for duration_s in asked_lengths(lengths_s, truth.duration_s or math.inf):
            candidates = found.get((query, duration_s), [])
            best_first = sorted(candidates, key=lambda each: -each.score)[:MAX_CANDIDATES]
            # A program that gives verdicts has said "no match" by saying nothing.
            verdict = verdicts.get((query, duration_s), "no_match" if verdicts else None)
            yield Answer(query, duration_s, verdict, tuple(best_first))


def _candidate(row: Mapping[str, str], track: str, default_score: float, where: str) -> Candidate:
    return Candidate(
        track,
        _number(row.get("start_s"), None, where),
        _number(row.get("score"), default_score, where),
    )


def _names_of_tracks(queries: QuerySet) -> dict[str, str]:
    """Names of the recordings in answers, by every spelling that one of them has alone.

    Spellings are the ends of a recording's path, and its file name without the suffix. A name
    stands for itself, whatever else ends with it.
    """
    names: dict[str, set[str]] = {}
    for track in {truth.track for truth in queries.truths()} - {None}:
        name = name_of(track, queries.root)
        for spelling in {track, name, Path(track).stem, *_ends(track), *_ends(name)}:
            names.setdefault(spelling, set()).add(name)
    unique = {spelling: min(found) for spelling, found in names.items() if len(found) == 1}
    return unique | {name: name for found in names.values() for name in found}


def _recording(cell: str, names: Mapping[str, str]) -> str | None:
    """The recording that a cell names, None if there is no such recording.

    Of a path in another place the end has to be the whole name: files of two albums are both
    called 01.flac.
    """
    if cell in names:
        return names[cell]
    return next((end for end in _ends(cell) if names.get(end) == end), None)


def _ends(path: str) -> list[str]:
    """What a path ends with, the longest first, down to the file name."""
    parts = PurePath(path).parts
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _table_rows(
    path: str | os.PathLike, query_set: str | None
) -> Iterator[tuple[str, dict[str, str]]]:
    needed = ("query", "track") if query_set is None else ("query", "track", "set")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in needed:
                if column not in (table.fieldnames or ()):
                    raise AnswerError(f"{path} has no column {column!r}.")
            for number, row in enumerate(table, 2):
                if query_set is None or row["set"] == query_set:
                    yield f"{path}, line {number}", {k: v or "" for k, v in row.items() if k}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnswerError(f"{path} cannot be read as a CSV table: {error}.") from error


def _number(cell: str | None, default: float | None, where: str) -> float | None:
    if not cell:
        return default
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AnswerError(f"{where}: {cell!r} is no number.")
    return value


def _verdict(cell: str, where: str) -> str:
    verdict = cell.strip().replace(" ", "_")
    if verdict not in ("match", "no_match"):
        raise AnswerError(f"{where}: the verdict {cell!r} is neither 'match' nor 'no_match'.")
    return verdict
