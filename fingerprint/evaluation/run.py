"""One evaluation: queries are made once, put to every system, judged, counted and shown.

Everything is kept in a folder; a call that was interrupted is repeated, and goes on:

    record.json                      what the evaluation consists of, and what it was made with
    queries-<set>/                   the queries: truth and recipes
    answers-<set>-<system>.jsonl     what each system answered
    table.md, table*.csv             tables
    result.json                      every figure with its intervals
    *.png                            figures, where matplotlib is installed
"""

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.errors import FingerprintError
from fingerprint.evaluation import results
from fingerprint.evaluation.answers import name_of
from fingerprint.evaluation.asking import System, ask
from fingerprint.evaluation.leaks import LeakReport, check_leaks
from fingerprint.evaluation.other_programs import keep_table
from fingerprint.evaluation.protocols import Protocol, protocol_named
from fingerprint.evaluation.query_set_writer import duration_of, write_query_set
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QuerySettings, audio_of_kind
from fingerprint.evaluation.record import RECORD, provenance, read_record, save_record

# Name of a set of queries that the user gives.
GIVEN = "given"
# Fields of the queries' settings that an evaluation lets the user choose.
QUERY_FIELDS = (
    *("queries_from", "kind", "split", "unknown", "unknown_split", "noise", "room_ir", "device_ir"),
    *("room_share", "device_share", "durations_s", "snr_db", "t60_s", "n_queries", "seed"),
)


class EvaluationError(FingerprintError):
    """An evaluation that cannot be run as asked."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        index_dirs: the indexes to ask.
        protocol: a name of `protocols.PROTOCOLS`.
        query_fields: fields of `QuerySettings`, where queries are to be made; those of the
            protocol hold for the others.
        queries: folder of a set of queries, instead.
        answers: tables of answers of other programs, by a name for each.
        training: folder of what was trained on, to look for it in the databases.
        training_split: its split in the manifest.
        offset_tolerance_s: largest error of an exact start.
        searcher: of neural indexes.
        command: arguments of the program, for the record.
    """

    index_dirs: Sequence[str] = ()
    protocol: str = "realistic"
    query_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    queries: str | None = None
    answers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    training: str | None = None
    training_split: str = "train"
    offset_tolerance_s: float = 0.5
    searcher: str = "auto"
    command: Sequence[str] = ()


def evaluate(
    request: Request, output: str | os.PathLike | None = None, *, progress: bool = True
) -> dict[str, Any]:
    """Make the queries, ask every system, judge and count.

    Systems that an earlier call has asked in the same folder stay in its tables.

    Args:
        request: what is asked.
        output: folder for everything that is made; by default nothing is kept.
        progress: show queries done on standard error.

    Returns:
        What `results.assemble` says.

    Raises:
        EvaluationError: no recording to ask for, or a folder of another evaluation.
        FingerprintError: an index, a folder or a file cannot be used.
    """
    if output is None:
        with tempfile.TemporaryDirectory(prefix="fingerprint-") as folder:
            return _evaluate(request, Path(folder), progress)
    return _evaluate(request, Path(output), progress)


def stored(folder: str | os.PathLike) -> dict[str, Any]:
    """Judge and count what an earlier call has kept in a folder; nobody is asked.

    Raises:
        FingerprintError: the folder holds no evaluation, or something in it is damaged.
    """
    return results.assemble(Path(folder))


def _evaluate(request: Request, folder: Path, progress: bool) -> dict[str, Any]:
    protocol = protocol_named(request.protocol)
    systems = _systems(request)
    earlier = read_record(folder) if (folder / RECORD).exists() else None
    record = _record(request, protocol, systems, earlier)
    folder.mkdir(parents=True, exist_ok=True)
    if request.queries is not None:
        query_sets = {GIVEN: QuerySet.open(request.queries)}
        durations_s = {GIVEN: request.query_fields.get("durations_s") or protocol.durations_s}
    else:
        settings = protocol.settings(request.query_fields)
        query_sets, n_files = _query_sets(folder, settings, systems, progress)
        record["n_files"] = n_files or record["n_files"]
        durations_s = {name: each.durations_s for name, each in settings.items()}
    record["query_sets"] = {
        name: os.path.relpath(queries.folder, os.path.realpath(folder))
        for name, queries in query_sets.items()
    }
    for name, queries in query_sets.items():
        _check_tracks(queries, systems)
        for program, table in request.answers.items():
            path = results.answers_path(folder, name, program)
            query_set = name if len(query_sets) > 1 else None
            keep_table(table, program, queries, path, durations_s[name], query_set)
        for system in systems:
            path = results.answers_path(folder, name, system.name)
            ask(
                queries, system, path,
                durations_s=durations_s[name], record=record["made_with"], progress=progress,
            )  # fmt: skip
    if request.training is not None:
        record["leaks"] = _leaks(request, folder, query_sets, systems, progress)
    save_record(folder, record)
    return results.assemble(folder)


def _systems(request: Request) -> list[System]:
    """The indexes under the names of their folders, or their paths where names are the same."""
    stems = [Path(folder).stem for folder in request.index_dirs]
    names = [
        _file_name(str(folder) if stems.count(stem) > 1 else stem)
        for folder, stem in zip(request.index_dirs, stems, strict=True)
    ]
    both = set(names) & set(request.answers)
    if both or len(set(names)) < len(names):
        raise EvaluationError(
            f"Two systems are called {min(both or names)!r}: give the answers another name, and "
            "each index once."
        )
    pairs = zip(names, request.index_dirs, strict=True)
    return [System(name, folder, request.searcher) for name, folder in pairs]


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "index"


def _record(
    request: Request, protocol: Protocol, systems: Sequence[System], earlier: dict | None
) -> dict[str, Any]:
    """What the evaluation consists of, together with what the folder holds already.

    Raises:
        EvaluationError: the folder holds another one.
    """
    names = [*(system.name for system in systems), *map(_file_name, request.answers)]
    record: dict[str, Any] = {
        "protocol": protocol.name,
        "offset_tolerance_s": request.offset_tolerance_s,
        "settings": dict(request.query_fields) if request.queries is None else {},
        "systems": names,
        "n_files": None,
        "leaks": None,
        "made_with": provenance(request.command),
    }
    if earlier is None:
        return record
    if earlier["protocol"] != protocol.name:
        raise EvaluationError(
            f"The folder holds an evaluation by the protocol {earlier['protocol']}, not "
            f"{protocol.name}: choose another one."
        )
    record["systems"] = list(dict.fromkeys([*earlier["systems"], *names]))
    # What was compared for leaks were the databases of that call.
    same = record["systems"] == earlier["systems"]
    return record | {"n_files": earlier["n_files"], "leaks": earlier["leaks"] if same else None}


def _query_sets(
    folder: Path,
    settings: Mapping[str, QuerySettings],
    systems: Sequence[System],
    progress: bool,
) -> tuple[dict[str, QuerySet], dict[str, int] | None]:
    """Make the sets of queries, or open those that are there.

    Returns:
        The sets, and how many files were asked and left out; None where nothing was made.
    """
    query_sets, n_files = {}, None
    for name, own in settings.items():
        place = folder / f"queries-{name}"
        if place.exists():
            query_sets[name] = _opened(place, own)
            continue
        held = [set(system.track_paths().values()) for system in systems]
        known, n_files = _known_files(own, held)
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
    """The files to ask for, and how many there are and how many are left out."""
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


def _check_tracks(queries: QuerySet, systems: Sequence[System]) -> None:
    """Refuse, before anybody is asked, queries of which no database holds a recording."""
    tracks = {name_of(truth.track, queries.root) for truth in queries.truths() if truth.track}
    held = {name_of(path, queries.root) for s in systems for path in s.track_paths().values()}
    if systems and tracks and not tracks & held:
        raise EvaluationError(
            f"None of the {len(tracks)} recordings of {queries.folder} is in an index: if audio "
            "was moved since it was indexed, index it where it is now."
        )


def _leaks(
    request: Request,
    folder: Path,
    query_sets: Mapping[str, QuerySet],
    systems: Sequence[System],
    progress: bool,
) -> dict[str, Any]:
    """Compare training, databases and unknown recordings; paths as in answers."""
    references = {path for system in systems for path in system.track_paths().values()}
    asked = {truth.track for queries in query_sets.values() for truth in queries.truths()}
    roles = {
        "training": audio_of_kind(request.training, "music", request.training_split),
        "references": sorted(references),
        "unknown": sorted(asked - references - {None}),
    }
    found: LeakReport = check_leaks(roles, folder / "leaks.index", progress=progress)
    root = next(iter(query_sets.values())).root
    report_ = found.to_dict()
    for leak in report_["leaks"]:
        for name in ("path", "other_path"):
            leak[name] = name_of(leak[name], root)
    report_["unreadable"] = [
        [name_of(path, root), sentence] for path, sentence in report_["unreadable"]
    ]
    return report_
