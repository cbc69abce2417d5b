"""Putting a set of queries to a system; a run that was interrupted goes on where it stopped."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fingerprint.audio import AudioError
from fingerprint.evaluation.answers import (
    MAX_CANDIDATES,
    Answer,
    AnswerError,
    Candidate,
    asked_lengths,
    header_of,
    name_of,
    read_header,
    write_header,
)
from fingerprint.evaluation.distractors import count_roles, is_distractor
from fingerprint.evaluation.query_sets import LabelledQuery, QuerySet
from fingerprint.generate import NEURAL_METHODS
from fingerprint.identification import Identification, Recognizer
from fingerprint.progress import progress_bar
from fingerprint.recognizer import describe_index, open_recognizer
from fingerprint.store import Store, Track


class System:
    """An index under a name; its recogniser is opened when the first query is put to it.

    Attributes:
        name: what it is called in tables and in names of files.
        database: what the index is and holds.
        tracks: the recordings in it.
    """

    def __init__(self, name: str, index_dir: str | os.PathLike, searcher: str = "auto"):
        store = Store.open(index_dir)
        self.name = name
        distractors = count_roles(store.tracks)["distractors"]
        database = describe_index(index_dir) | {
            "content": store.content_id,
            "distractor_duration_s": distractors["duration_s"],
        }
        if database["method"] in NEURAL_METHODS:
            database |= _network(index_dir, store) | {"searcher": searcher}
        self.database: Mapping[str, Any] = database
        self.tracks: Sequence[Track] = store.tracks
        # One choice for all systems of a comparison, of which some search in a way of their own.
        self._searcher = database.get("searcher", "auto")
        self._index_dir = index_dir

    @functools.cached_property
    def recognizer(self) -> Recognizer:
        """Whom to ask."""
        return open_recognizer(self._index_dir, searcher=self._searcher)

    @functools.cached_property
    def track_paths(self) -> Mapping[str, str]:
        """The file of each track, by the track's name."""
        # Links are looked up on the disk for each track; several steps of a run need the result.
        return {t.name: os.path.realpath(t.resolved_path or t.name) for t in self.tracks}

    def reference_paths(self) -> set[str]:
        """Files of the tracks that can be a right answer; distractors never are."""
        path_of = self.track_paths
        return {path_of[track.name] for track in self.tracks if not is_distractor(track)}


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

    The first query is asked twice: its first calls load and compile, and are not timed. Answers
    that the file holds are not asked for again. Memory grows with the ids of the queries alone.

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
    header = header_of(
        system=system.name,
        queries=queries.identity,
        durations_s=durations_s,
        database=system.database,
        record=record,
    )
    done = _prepare(Path(path), header, queries)
    if len(done) == len(queries):
        return
    names = {name: name_of(file, queries.root) for name, file in system.track_paths.items()}
    held = {name_of(file, queries.root) for file in system.reference_paths()}
    with (
        open(path, "a", encoding="utf-8") as file,
        progress_bar(len(queries), "query", progress, initial=len(done), desc=system.name) as bar,
    ):
        for number, query in enumerate(queries.queries(skip=done)):
            if number == 0:
                for duration_s in asked_lengths(durations_s, query.duration_s):
                    _identify(system.recognizer, query, duration_s)
            answerable = query.track is not None and name_of(query.track, queries.root) in held
            _answer(file, system.recognizer, query, durations_s, names, answerable)
            bar.update()


def _network(index_dir: str | os.PathLike, store: Store) -> dict[str, int | None]:
    """Dimension, and rows of a batch in training: what tables of networks are ordered by."""
    n_batch = None
    # A damaged model is refused, with a sentence, when the recogniser is opened.
    with contextlib.suppress(OSError, ValueError, KeyError):
        text = (Path(index_dir) / "model" / "model.json").read_text("utf-8")
        pairs = json.loads(text)["config"]["pairs"]
        n_batch = pairs["n_pairs"] * (1 + pairs.get("n_positives", 1))
    (dim,) = store.columns["embeddings"][1]
    return {"dim": dim, "n_batch": n_batch}


def _answer(
    file: IO[str],
    recognizer: Recognizer,
    query: LabelledQuery,
    durations_s: Sequence[float],
    names: Mapping[str, str],
    answerable: bool,
) -> None:
    """Write the answers to one query, at all its lengths at once."""
    lines = []
    for duration_s in asked_lengths(durations_s, query.duration_s):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        found = _identify(recognizer, query, duration_s)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        starts_s = (match.start_s for match in found.matches)
        answer = Answer(
            query.id,
            duration_s,
            found.verdict,
            tuple(
                Candidate(names[match.track], float(start_s), float(match.score))
                for match, start_s in zip(found.matches, starts_s, strict=True)
            ),
            wall_s=round(wall_s, 5),
            cpu_s=round(cpu_s, 5),
            examined=found.examined,
            answerable=answerable,
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


def _prepare(path: Path, header: Mapping[str, Any], queries: QuerySet) -> set[str]:
    """Begin the file, or cut what was not finished off it; the ids of the queries it answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not path.stat().st_size:
        with open(path, "w", encoding="utf-8") as file:
            write_header(file, **header)
        return set()
    found = read_header(path)
    for name in ("queries", "durations_s", "database"):
        if found[name] != json.loads(json.dumps(header[name])):
            raise AnswerError(
                f"{path} holds answers to other {name.replace('_s', '')}: {found[name]!r} instead "
                f"of {header[name]!r}; choose another folder, or delete it."
            )
    lengths_s = {truth.id: truth.duration_s for truth in queries.truths()}
    return _cut(path, lengths_s, header["durations_s"])


def _cut(
    path: Path, lengths_s: Mapping[str, float | None], durations_s: Sequence[float]
) -> set[str]:
    """Cut what is damaged, or not known to be complete, off the end; the queries that are left."""
    counts: dict[str, int] = {}
    with open(path, "rb+") as file:
        end = last_start = file.seek(len(file.readline()))
        for line in iter(file.readline, b""):
            query = _query_of(line)
            if query is None:
                break
            if query not in counts:
                last_start = end
            counts[query] = counts.get(query, 0) + 1
            end += len(line)
        last = next(reversed(counts), None)
        if last is not None:
            length_s = lengths_s.get(last)
            if length_s is None or counts[last] != len(asked_lengths(durations_s, length_s)):
                del counts[last]
                end = last_start
        file.truncate(end)
    return set(counts)


def _query_of(line: bytes) -> str | None:
    """The query of a line; None where the line was cut or damaged."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if line.endswith(b"\n"):
            return json.loads(line)["query"]
    return None
