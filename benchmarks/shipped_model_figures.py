"""From stored answers to figures with intervals; nobody is asked."""

import itertools
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from shipped_model_material import Material, ShippedModelError
from shipped_model_plan import MAIN, NAFP, START_TOLERANCE_S, Set, System
from shipped_model_repeats import is_repeated

from fingerprint.evaluation import metrics
from fingerprint.evaluation.answers import asked_lengths, read_answers, read_header
from fingerprint.evaluation.judging import Judgement, judge_all, truths_of
from fingerprint.evaluation.query_sets import QuerySet

TOLERANCES = metrics.Tolerances(exact_s=START_TOLERANCE_S)
# Of a database, in the order of the table.
FACTS = ("tracks", "duration_s", "rows", "bytes")
VERDICTS = ("match_right", "match_wrong", "false_alarm")
Row = dict[str, Any]
Question = tuple[str, float]


def figures(
    material: Material, sets: Sequence[Set], systems: Sequence[System]
) -> dict[str, list[Row]]:
    """Everything that the answers say, as far as there are any.

    Returns:
        JSON-able values. ``results``: a row for each set, system and length, with shares as of
        `metrics.share`; ``start`` is the share of the hits whose start is right to 50 ms,
        and ``start_or_repeat``, counted in the main set alone, of those whose start is right or
        at another place where the recording sounds the same.
        ``comparisons``: McNemar's test of each system against the landmark preset that finds the
        most at that length, and against the network by NAFP's recipe. ``databases``: what the main
        indexes hold.
    """
    results, comparisons, databases = [], [], []
    for wanted in sets:
        answered = {s.name: found for s in systems if (found := _judge(material, wanted, s))}
        for system in (s for s in systems if s.name in answered):
            judgements, repeats = answered[system.name], None
            if wanted.database == MAIN:
                repeats = _repeats(material, wanted, system, judgements)
                header = read_header(material.answers(system, wanted))
                facts = {name: header["database"][name] for name in FACTS}
                databases.append({"system": system.name} | facts)
            groups = _by_length(judgements)
            results += [_row(wanted, system.name, group, repeats) for group in groups]
        presets = [s.name for s in systems if s.is_landmark_preset and s.name in answered]
        comparisons += _comparisons(wanted, answered, presets)
    return {"results": results, "comparisons": comparisons, "databases": databases}


def _judge(material: Material, wanted: Set, system: System) -> list[Judgement]:
    """A system's answers beside the truth; none where it has not been asked everything.

    Raises:
        ShippedModelError: the answers are to other queries.
    """
    if system.model and system.model not in material.models:
        return []
    path, folder = material.answers(system, wanted), material.query_folder(wanted)
    if not path.exists() or not folder.exists():
        return []
    queries = QuerySet.open(folder, root=material.audio)
    header = read_header(path)
    if header["queries"] != queries.identity:
        raise ShippedModelError(f"{path} holds answers to other queries than {folder}: delete it.")
    judgements = list(judge_all(read_answers(path), truths_of(queries)))
    n_wanted = sum(
        len(asked_lengths(header["durations_s"], truth.duration_s)) for truth in queries.truths()
    )
    if len(judgements) < n_wanted:
        print(
            f"{system.name} has answered {len(judgements)} of {n_wanted} questions of the set "
            f"{wanted.name}, and is left out of it until it has answered all.",
            file=sys.stderr,
        )
        return []
    return judgements


def _repeats(
    material: Material, wanted: Set, system: System, judgements: Sequence[Judgement]
) -> set[Question]:
    """The questions whose clip was found at another place that sounds the same."""
    misplaced = {
        (each.query, each.duration_s)
        for each in judgements
        if each.rank == 1 and each.error_s > START_TOLERANCE_S
    }
    queries = QuerySet.open(material.query_folder(wanted), root=material.audio)
    truths = {truth.id: truth for truth in queries.truths()}
    repeats = set()
    for answer in read_answers(material.answers(system, wanted)):
        question, truth = (answer.query, answer.duration_s), truths[answer.query]
        if question in misplaced:
            places_s = truth.start_s, answer.candidates[0].start_s
            if is_repeated(truth.track, *places_s, answer.duration_s, START_TOLERANCE_S):
                repeats.add(question)
    return repeats


def _by_length(judgements: Iterable[Judgement]) -> list[list[Judgement]]:
    groups: dict[float, list[Judgement]] = {}
    for each in judgements:
        groups.setdefault(each.duration_s, []).append(each)
    return [groups[duration_s] for duration_s in sorted(groups)]


def _row(
    wanted: Set, system: str, group: Sequence[Judgement], repeats: Collection[Question] | None
) -> Row:
    known = [each for each in group if each.answerable]
    unknown = [each for each in group if not each.answerable]
    hits = metrics.hits(known, TOLERANCES)
    # Where no start is known, none is counted.
    found = np.flatnonzero(hits["top1"]) if "exact" in hits else []
    right = [known[i] for i in found]
    starts = {"start": np.array([hits["exact"][i] for i in found], bool)}
    if repeats is not None:
        repeated = np.array([(each.query, each.duration_s) in repeats for each in right], bool)
        starts["start_or_repeat"] = starts["start"] | repeated
    row = {
        "set": wanted.name,
        "title": wanted.title,
        "system": system,
        "duration_s": group[0].duration_s,
        **metrics.shares({name: hits[name] for name in ("top1", *VERDICTS[:2])}, known),
        "start_or_repeat": metrics.share([]),
        **metrics.shares(starts, right),
        **metrics.shares({"false_alarm": np.array([e.matched for e in unknown], bool)}, unknown),
    }
    cpu_s = [each.cpu_s for each in group if each.cpu_s is not None]
    return row | {"cpu_s": round(sum(cpu_s) / len(cpu_s), 5) if cpu_s else None}


def _comparisons(
    wanted: Set, answered: Mapping[str, Sequence[Judgement]], presets: Sequence[str]
) -> Iterable[Row]:
    by_length: dict[float, dict[str, dict[str, bool]]] = {}
    for system, judgements in answered.items():
        for group in _by_length(judgements):
            flags = {each.query: each.rank == 1 for each in group if each.answerable}
            by_length.setdefault(group[0].duration_s, {})[system] = flags
    for duration_s, flags in sorted(by_length.items()):
        own = [preset for preset in presets if preset in flags]
        others = [max(own, key=lambda preset: sum(flags[preset].values()))] if own else []
        others += [NAFP] if NAFP in flags else []
        for system, other in itertools.product(flags, others):
            # The others are compared among themselves once.
            if system == other or (system, other) == tuple(others):
                continue
            compared = metrics.compare(flags[system], flags[other])
            if compared is not None:
                keys = {"set": wanted.name, "duration_s": duration_s}
                yield keys | {"first": system, "second": other} | compared
