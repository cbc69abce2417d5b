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
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.evaluation import results
from fingerprint.evaluation.answers import name_of
from fingerprint.evaluation.asking import System, ask
from fingerprint.evaluation.distractors import is_distractor, is_made
from fingerprint.evaluation.leaks import LeakReport, check_leaks
from fingerprint.evaluation.other_programs import keep_table
from fingerprint.evaluation.protocols import Protocol, protocol_named
from fingerprint.evaluation.query_selection import EvaluationError, check_tracks, make_or_open
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import audio_of_kind
from fingerprint.evaluation.record import RECORD, provenance, read_record, save_record

# Name of a set of queries that the user gives.
GIVEN = "given"
# Fields of the queries' settings that an evaluation lets the user choose.
QUERY_FIELDS = (
    *("queries_from", "kind", "split", "unknown", "unknown_split", "noise", "room_ir", "device_ir"),
    *("room_share", "device_share", "durations_s", "snr_db", "t60_s", "n_queries", "seed"),
)


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
        query_sets, n_files = make_or_open(folder, settings, systems, progress=progress)
        record["n_files"] = n_files or record["n_files"]
        durations_s = {name: each.durations_s for name, each in settings.items()}
    for queries in query_sets.values():
        check_tracks(queries, systems)
    record["query_sets"] = {
        name: os.path.relpath(queries.folder, os.path.realpath(folder))
        for name, queries in query_sets.items()
    }
    # What is not finished has no place in tables, but a repeated call knows of its queries.
    save_record(folder, record | {"systems": earlier["systems"] if earlier else []})
    _ask_all(request, folder, query_sets, systems, durations_s, record, progress)
    save_record(folder, record)
    if request.training is not None:
        record["leaks"] = _leaks(request, folder, query_sets, systems, progress)
        save_record(folder, record)
    return results.assemble(folder)


def _ask_all(
    request: Request,
    folder: Path,
    query_sets: Mapping[str, QuerySet],
    systems: Sequence[System],
    durations_s: Mapping[str, Sequence[float]],
    record: Mapping[str, Any],
    progress: bool,
) -> None:
    for name, queries in query_sets.items():
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
        EvaluationError: the folder holds another one, or databases that would not be checked.
    """
    names = [*(system.name for system in systems), *request.answers]
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
    others = set(earlier["systems"]) - set(names)
    if request.training is not None and others:
        raise EvaluationError(
            f"The folder has answers of {min(others)} too, whose database is to be compared with "
            "the training as well: name all indexes in one call."
        )
    record["systems"] = list(dict.fromkeys([*earlier["systems"], *names]))
    # What was compared for leaks were the databases of that call.
    same = record["systems"] == earlier["systems"]
    return record | {"n_files": earlier["n_files"], "leaks": earlier["leaks"] if same else None}


def _leaks(
    request: Request,
    folder: Path,
    query_sets: Mapping[str, QuerySet],
    systems: Sequence[System],
    progress: bool,
) -> dict[str, Any]:
    """Compare training, databases and unknown recordings; paths as in answers."""
    paths: dict[str, set[str]] = {"references": set(), "distractors": set()}
    for system in systems:
        path_of = system.track_paths
        for track in system.tracks:
            if not is_made(track):
                role = "distractors" if is_distractor(track) else "references"
                paths[role].add(path_of[track.name])
    asked = {truth.track for queries in query_sets.values() for truth in queries.truths()}
    roles = {
        "training": audio_of_kind(request.training, "music", request.training_split),
        "references": sorted(paths["references"]),
        "distractors": sorted(paths["distractors"]),
        "unknown": sorted(asked - paths["references"] - {None}),
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
