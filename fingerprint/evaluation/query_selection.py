"""The sets of queries of an evaluation: made from what the databases hold, or made before."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.answers import name_of
from fingerprint.evaluation.asking import System
from fingerprint.evaluation.query_set_writer import duration_of, write_query_set
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QuerySettings, audio_of_kind


class EvaluationError(FingerprintError):
    """An evaluation that cannot be run as asked."""


def make_or_open(
    folder: Path,
    settings: Mapping[str, QuerySettings],
    systems: Sequence[System],
    *,
    progress: bool = True,
) -> tuple[dict[str, QuerySet], dict[str, int] | None]:
    """Make the sets of queries, or open those that are there.

    Queries with an answer are made from recordings that all systems hold, so that these are
    compared on the same ones; queries without one from recordings that none of them holds.

    Returns:
        The sets, and how many files were asked and left out; None where nothing was made.

    Raises:
        EvaluationError: no recording is left, or a set was made with other settings.
        FingerprintError: a folder or a file cannot be used.
    """
    query_sets, n_files = {}, None
    for name, own in settings.items():
        place = folder / f"queries-{name}"
        if place.exists():
            query_sets[name] = _opened(place, own)
            continue
        known, n_files = _known_files(own, [system.reference_paths() for system in systems])
        held = [set(system.track_paths.values()) for system in systems]
        sources = [known, *([_unknown_files(own, held)] if own.unknown else [])]
        # Recipes alone: they are small, and are made into sound as fast as a file is read.
        query_sets[name] = write_query_set(
            place, own, sources=sources, audio="recipe", progress=progress
        )
    return query_sets, n_files


def _opened(place: Path, settings: QuerySettings) -> QuerySet:
    queries = QuerySet.open(place)
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    others = [name for name in wanted if queries.settings.get(name) != wanted[name]]
    if others:
        raise EvaluationError(
            f"{place} holds queries that were made with another {others[0]}, "
            f"{queries.settings.get(others[0])!r} instead of {wanted[others[0]]!r}: choose another "
            "folder, or delete that one."
        )
    return queries


def _known_files(
    settings: QuerySettings, held: Sequence[set[str]]
) -> tuple[list[str], dict[str, int]]:
    """The files to ask for, held by all systems, and how many there are and are left out."""
    files = audio_of_kind(settings.queries_from, settings.kind, settings.split)
    in_all = [f for f in files if all(os.path.realpath(f) in tracks for tracks in held)]
    longest_s = max(settings.durations_s) * settings.fastest
    asked = [file for file in in_all if duration_of(file) >= longest_s]
    if not asked:
        raise EvaluationError(
            f"{settings.queries_from} has {len(files)} files, {len(in_all)} of them are in every "
            f"index, and none of these lasts {longest_s:g} s: index them, or ask for less."
        )
    left_out = {
        "not_in_every_index": len(files) - len(in_all),
        "too_short": len(in_all) - len(asked),
    }
    return asked, {"asked": len(asked)} | left_out


def _unknown_files(settings: QuerySettings, held: Sequence[set[str]]) -> list[str]:
    split = settings.unknown_split or settings.split
    longest_s = max(settings.durations_s) * settings.fastest
    chosen = [
        file
        for file in audio_of_kind(settings.unknown, settings.kind, split)
        if not any(os.path.realpath(file) in tracks for tracks in held)
        and duration_of(file) >= longest_s
    ]
    if not chosen:
        raise EvaluationError(
            f"No file of {settings.unknown} lasts {longest_s:g} s and is in none of the indexes: "
            "queries without an answer cannot be made from it."
        )
    return chosen


def check_tracks(queries: QuerySet, systems: Sequence[System]) -> None:
    """Refuse, before anybody is asked, queries that the databases cannot be asked.

    Raises:
        EvaluationError: no database holds a recording of them, or one has such a recording among
            its distractors, which are never the right answer.
    """
    tracks = {name_of(truth.track, queries.root) for truth in queries.truths() if truth.track}
    held = set()
    for system in systems:
        references = {name_of(path, queries.root) for path in system.reference_paths()}
        others = {name_of(path, queries.root) for path in system.track_paths.values()}
        if wrong := sorted(tracks & (others - references)):
            raise EvaluationError(
                f"{wrong[0]} is asked for, but among the distractors of {system.name}, as are "
                f"{len(wrong)} in all: remove the distractors, or ask for other recordings."
            )
        held |= references
    if systems and tracks and not tracks & held:
        raise EvaluationError(
            f"None of the {len(tracks)} recordings of {queries.folder} is in an index: if audio "
            "was moved since it was indexed, index it where it is now."
        )
