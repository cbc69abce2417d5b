"""From stored answers to figures: everything that tables and pictures show, asking nobody."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.errors import FingerprintError
from fingerprint.evaluation import metrics
from fingerprint.evaluation.answers import read_answers, read_header
from fingerprint.evaluation.judging import Judgement, Truth, judge_all, truths_of
from fingerprint.evaluation.protocols import Protocol, protocol_named
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.record import read_record

# The measure of recordings is compared whatever a protocol compares.
ALWAYS_PAIRED = "top1"
# What a database is and holds, in the order of the table.
FACTS = (
    *("index", "method", "searcher", "tracks", "duration_s", "distractor_duration_s", "rows"),
    *("bytes", "dim", "n_batch"),
)
Hits = dict[str, dict[metrics.Group, dict[str, bool]]]


class ResultError(FingerprintError):
    """Answers that no result can be made of."""


def assemble(folder: Path) -> dict[str, Any]:
    """Judge all answers of an evaluation and count.

    Args:
        folder: with a record, sets of queries and answers.

    Returns:
        JSON-able values: ``results`` has a row per system, set of queries, condition and length;
        ``pooled`` one for all conditions together; ``open_set`` the threshold curves, over all
        conditions; ``comparisons`` the paired tests; ``systems`` what was asked; ``leaks`` and
        ``clean`` whether audio occurs where it must not; and the record.

    Raises:
        FingerprintError: something is missing, damaged, or does not belong together.
    """
    record = read_record(folder)
    if not record["systems"]:
        raise ResultError(
            f"No system has answered all queries of {folder}: repeat the call that was interrupted."
        )
    protocol = protocol_named(record["protocol"])
    tolerances = metrics.Tolerances(record["offset_tolerance_s"], protocol.hop_s)
    counted: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("results", "pooled", "open_set", "comparisons")
    }
    query_sets = {}
    for name, place in record["query_sets"].items():
        queries = QuerySet.open(folder / place)
        found = _set_results(folder, name, queries, record, protocol, tolerances)
        query_sets[name] = {"n_queries": len(queries), "n_answerable": found.pop("n_answerable")}
        for part, rows in found.items():
            counted[part] += rows
    add_speed_up(counted["pooled"])
    return {
        "protocol": protocol.name,
        "settings": record["settings"],
        "offset_tolerance_s": record["offset_tolerance_s"],
        "n_files": record["n_files"],
        "query_sets": query_sets,
        "systems": [system_facts(folder, record, system) for system in record["systems"]],
        **counted,
        "clean": bool(record["leaks"] and record["leaks"]["clean"]),
        "leaks": record["leaks"],
        "record": record["made_with"],
    }


def answers_path(folder: Path, query_set: str, system: str) -> Path:
    """Where the answers of a system are kept."""
    return folder / f"answers-{query_set}-{system}.jsonl"


def system_facts(folder: Path, record: Mapping[str, Any], system: str) -> dict[str, Any]:
    """What a system is and how large its database is, as the answers' first line says."""
    for query_set in record["query_sets"]:
        header = read_header(answers_path(folder, query_set, system))
        database = header["database"] or {"method": "another program"}
        facts = {name: database.get(name) for name in FACTS}
        return {"system": system} | facts | {"record": header["record"]}
    return {"system": system}


def add_speed_up(rows: list[dict[str, Any]]) -> None:
    """CPU time of the first system over that of each, for the same queries."""
    first: dict[tuple, float | None] = {}
    for row in rows:
        base_s = first.setdefault((row["set"], row["duration_s"]), row["cpu_s_per_query"])
        own_s = row["cpu_s_per_query"]
        row["speed_up"] = round(base_s / own_s, 4) if base_s and own_s else None


def _set_results(
    folder: Path,
    query_set: str,
    queries: QuerySet,
    record: Mapping[str, Any],
    protocol: Protocol,
    tolerances: metrics.Tolerances,
) -> dict[str, Any]:
    """The parts of the result that one set of queries contributes."""
    truths = truths_of(queries)
    paths = {name: answers_path(folder, query_set, name) for name in record["systems"]}
    for path in paths.values():
        if read_header(path)["queries"] != queries.identity:
            raise ResultError(f"{path} holds answers to other queries than {queries.folder}.")
    answerable = _answerable(paths.values(), truths)
    parts: dict[str, list] = {"results": [], "pooled": [], "open_set": []}
    hits: dict[str, Hits] = {}
    paired = dict.fromkeys((protocol.paired, ALWAYS_PAIRED))
    for name, path in paths.items():
        judgements = list(judge_all(read_answers(path), truths, answerable))
        if not judgements:
            raise ResultError(
                f"{path} holds no answer: every query of {queries.folder} is shorter than the "
                "lengths that are asked; ask for shorter ones (durations_s)."
            )
        where = {"system": name, "set": query_set}
        groups = metrics.group(judgements)
        parts["results"] += _rows(where, groups, tolerances)
        for part, rows in _pooled_rows(where, judgements, tolerances).items():
            parts[part] += rows
        hits[name] = {measure: _hits(groups, measure, tolerances) for measure in paired}
    parts["comparisons"] = list(_comparisons(query_set, hits))
    return parts | {"n_answerable": sum(answerable.values())}


def _answerable(paths: Iterable[Path], truths: Mapping[str, Truth]) -> dict[str, bool]:
    """Which queries have an answer, as the systems say that know, else as the truth says.

    Raises:
        ResultError: no recording of the set is in any database.
    """
    said: dict[str, bool] = {}
    for path in paths:
        for answer in read_answers(path):
            if answer.answerable is not None:
                said[answer.query] = said.get(answer.query, False) or answer.answerable
    with_track = [query for query, truth in truths.items() if truth.track is not None]
    if said and with_track and not any(said.values()):
        raise ResultError(
            f"None of the recordings of the {len(with_track)} queries is in a database: if audio "
            "was moved since it was indexed, index it where it is now."
        )
    return said or {query: truth.track is not None for query, truth in truths.items()}


def _rows(
    where: dict[str, str],
    groups: Mapping[metrics.Group, Sequence[Judgement]],
    tolerances: metrics.Tolerances,
) -> list[dict[str, Any]]:
    rows = []
    for (condition, duration_s), group in groups.items():
        ratios = {each.snr_db for each in group}
        snr_db = ratios.pop() if len(ratios) == 1 else None
        keys = where | {"condition": condition, "snr_db": snr_db, "duration_s": duration_s}
        rows.append(keys | metrics.summarise(group, tolerances))
    return rows


def _pooled_rows(
    where: dict[str, str], judgements: Sequence[Judgement], tolerances: metrics.Tolerances
) -> dict[str, list[dict[str, Any]]]:
    """A row for each length, and what thresholds buy at it."""
    pooled, curves = [], []
    for duration_s in dict.fromkeys(each.duration_s for each in judgements):
        group = [each for each in judgements if each.duration_s == duration_s]
        keys = where | {"condition": "", "duration_s": duration_s}
        found = metrics.open_set(group)
        shown: dict[str, Any] = {}
        if found is not None:
            curves.append(keys | found)
            at_recalls = found["false_alarm_at_recall"].items()
            shown = {f"false_alarm_at_recall_{recall}": value for recall, value in at_recalls}
            for name in ("recall_at_one_in_a_thousand", "recall_without_false_alarm"):
                shown[name] = found[name]
        pooled.append(keys | metrics.summarise(group, tolerances) | shown)
    return {"pooled": pooled, "open_set": curves}


def _hits(
    groups: Mapping[metrics.Group, Sequence[Judgement]],
    measure: str,
    tolerances: metrics.Tolerances,
) -> dict[metrics.Group, dict[str, bool]]:
    """Whether each query was answered rightly; nothing where the measure is not known."""
    found = {}
    for key, group in groups.items():
        known = [each for each in group if each.answerable]
        flags = metrics.hits(known, tolerances).get(measure)
        if flags is not None:
            pairs = zip(known, flags.tolist(), strict=True)
            found[key] = {each.query: flag for each, flag in pairs}
    return found


def _comparisons(query_set: str, hits: Mapping[str, Hits]) -> Iterable[dict[str, Any]]:
    """McNemar's test of every pair of systems, under every condition and at every length."""
    names = list(hits)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            for measure, groups in hits[first].items():
                for (condition, duration_s), flags in groups.items():
                    other = hits[second][measure].get((condition, duration_s), {})
                    compared = metrics.compare(flags, other)
                    if compared is not None:
                        yield {
                            "set": query_set,
                            "condition": condition,
                            "duration_s": duration_s,
                            "measure": measure,
                            "first": first,
                            "second": second,
                        } | compared
