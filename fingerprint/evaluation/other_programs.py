"""Answers of other programs, from a plain CSV table: judged under the same protocols as ours."""

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path

from fingerprint.evaluation.answers import MAX_CANDIDATES, Answer, AnswerError, Candidate, name_of
from fingerprint.evaluation.query_sets import QuerySet


def read_table(path: str | os.PathLike, queries: QuerySet) -> Iterator[Answer]:
    """Answers of another program: a CSV table of (query, track, start_s, score).

    A query has one row per candidate, best first or in any order, as scores say; a row whose
    track is empty says that nothing was found. Columns ``duration_s`` (else the whole query was
    asked) and ``verdict`` are optional; ``start_s`` and ``score`` may be empty. Queries that have
    no row were not answered. Tracks may be paths, or names of files of which the truth has one.

    Raises:
        AnswerError: the table cannot be read, or a row names no query or no number.
    """
    truths = {truth.id: truth for truth in queries.truths()}
    names = _names_of_tracks(queries)
    rows: dict[tuple[str, float], list[Candidate]] = {}
    verdicts: dict[tuple[str, float], str | None] = {}
    for where, row in _table_rows(path):
        if row["query"] not in truths:
            raise AnswerError(f"{where}: {row['query']!r} is no query of {queries.folder}.")
        duration_s = _number(row.get("duration_s"), truths[row["query"]].duration_s, where)
        if duration_s is None:
            raise AnswerError(f"{where}: the length of {row['query']!r} is not known; name it.")
        key = row["query"], duration_s
        candidates = rows.setdefault(key, [])
        verdicts[key] = row.get("verdict") or None
        if row["track"]:
            track = names.get(row["track"]) or names.get(Path(row["track"]).name)
            candidates.append(
                Candidate(
                    track or name_of(row["track"], queries.root),
                    _number(row.get("start_s"), math.nan, where),
                    _number(row.get("score"), -float(len(candidates)), where),
                )
            )
    for (query, duration_s), candidates in rows.items():
        best_first = sorted(candidates, key=lambda each: -each.score)[:MAX_CANDIDATES]
        yield Answer(query, duration_s, verdicts[query, duration_s], tuple(best_first))


def _names_of_tracks(queries: QuerySet) -> dict[str, str]:
    """Names of the recordings in answers, by path, file name and stem where these are unique."""
    names: dict[str, set[str]] = {}
    for track in {truth.track for truth in queries.truths()} - {None}:
        name = name_of(track, queries.root)
        for spelling in {track, name, Path(track).name, Path(track).stem}:
            names.setdefault(spelling, set()).add(name)
    return {spelling: min(found) for spelling, found in names.items() if len(found) == 1}


def _table_rows(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in ("query", "track"):
                if column not in (table.fieldnames or ()):
                    raise AnswerError(f"{path} has no column {column!r}.")
            for number, row in enumerate(table, 2):
                yield f"{path}, line {number}", {k: v or "" for k, v in row.items() if k}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnswerError(f"{path} cannot be read as a CSV table: {error}.") from error


def _number(cell: str | None, default: float | None, where: str) -> float | None:
    if not cell:
        return default
    try:
        return float(cell)
    except ValueError:
        raise AnswerError(f"{where}: {cell!r} is no number.") from None
