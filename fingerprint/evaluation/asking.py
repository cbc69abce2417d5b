"""Putting a set of queries to a system; a run that was interrupted goes on where it stopped."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import tqdm

from fingerprint.audio import AudioError
from fingerprint.evaluation.answers import (
    FORMAT,
    FORMAT_VERSION,
    MAX_CANDIDATES,
    Answer,
    AnswerError,
    Candidate,
    name_of,
    read_header,
)
from fingerprint.evaluation.query_sets import LabelledQuery, QuerySet
from fingerprint.identification import Identification, Recognizer


@dataclasses.dataclass(frozen=True)
class System:
    """A recogniser under a name, with what is known of its database."""

    name: str
    recognizer: Recognizer
    database: Mapping[str, Any]


def ask(
    queries: QuerySet,
    system: System,
    path: str | os.PathLike,
    *,
    durations_s: Sequence[float],
    record: Mapping[str, Any],
    progress: bool = True,
) -> None:
    """Put every query, at every length that it has, to a system; keep the answers in a file.

    The first call loads and compiles; its time is not counted. Answers that the file holds are
    not asked for again.

    Args:
        queries: the queries.
        system: whom to ask.
        path: JSON lines; goes on where an earlier call stopped.
        durations_s: lengths to ask; a query is asked at those that do not exceed its own.
        record: what made this run, kept in the first line.
        progress: show queries done and the time left on standard error.

    Raises:
        AnswerError: the file holds answers to other queries, or of another database.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "system": system.name,
        "queries": queries.identity,
        "durations_s": list(durations_s),
        "database": dict(system.database),
        "record": dict(record),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _prepare(path, header)
    interval_s = 0.2 if sys.stderr.isatty() else 30.0
    with (
        open(path, "a", encoding="utf-8") as file,
        tqdm.tqdm(
            total=len(queries), unit="query", disable=not progress, mininterval=interval_s,
            initial=len(done), desc=system.name,
        ) as bar,
    ):  # fmt: skip
        names = {
            track.name: name_of(track.resolved_path or track.name, queries.root)
            for track in system.recognizer.tracks
        }
        for number, query in enumerate(queries.queries(skip=done)):
            if number == 0:
                _identify(system.recognizer, query, min(durations_s))
            _answer(file, system.recognizer, query, durations_s, names)
            bar.update()


def _answer(
    file: IO[str],
    recognizer: Recognizer,
    query: LabelledQuery,
    durations_s: Sequence[float],
    names: Mapping[str, str],
) -> None:
    """Write the answers to one query, at all its lengths at once."""
    lines = []
    for duration_s in durations_s:
        if duration_s > query.duration_s + 1e-6:
            continue
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        found = _identify(recognizer, query, duration_s)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        candidates = tuple(
            Candidate(
                names[match.track],
                match.reference_start_s - match.query_start_s,
                match.score,
            )
            for match in found.matches
        )
        answer = Answer(
            query.id, duration_s, found.verdict, candidates, round(wall_s, 5), round(cpu_s, 5)
        )
        lines.append(answer.to_line())
    file.write("".join(lines))
    file.flush()


def _identify(recognizer: Recognizer, query: LabelledQuery, duration_s: float) -> Identification:
    try:
        return recognizer.identify(
            query.first(duration_s), MAX_CANDIDATES, sample_rate_hz=query.sample_rate_hz
        )
    except AudioError:
        # Nothing is left of the query at the recogniser's sample rate: it has no answer.
        return Identification("no_match", [])


def _prepare(path: Path, header: Mapping[str, Any]) -> set[str]:
    """Begin the file, or cut what was not finished off it; the ids of the queries it answers."""
    if not path.exists():
        path.write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")
        return set()
    found = read_header(path)
    for name in ("queries", "durations_s", "database"):
        if found[name] != json.loads(json.dumps(header[name])):
            raise AnswerError(
                f"{path} holds answers to other {name.replace('_s', '')}: {found[name]!r} instead "
                f"of {header[name]!r}; choose another folder, or delete it."
            )
    with open(path, "rb+") as file:
        end_of_query = file.seek(len(file.readline()))
        done: list[str] = []
        while line := file.readline():
            try:
                query = json.loads(line)["query"]
            except (ValueError, KeyError):
                break
            if not done or query != done[-1]:
                end_of_query = file.tell() - len(line)
                done.append(query)
        # The last query may lack some of its lengths: it is asked again.
        file.truncate(end_of_query)
    return set(done[:-1])
