"""What stored answers say about single queries: right or not, by excerpt and condition."""

import functools
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fingerprint.evaluation import metrics
from fingerprint.evaluation.answers import read_answers, read_header
from fingerprint.evaluation.judging import Judgement, Truth, judge_all, truths_of
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.experiments.pieces import Cell, ExperimentError
from fingerprint.experiments.suite import Suite
from fingerprint.experiments.workspace import Workspace

# Of a query: its excerpt, and the condition that it was made under.
Key = tuple[str, str]


class Shares:
    """The answers of a suite, each file read once.

    Args:
        suite: the experiments.
        workspace: where their answers lie.
    """

    def __init__(self, suite: Suite, workspace: Workspace):
        self._suite, self._workspace = suite, workspace
        self._judgements = functools.cache(self._judge)
        self._set = functools.cache(self._open_set)
        self._truths = functools.cache(self._read_truths)

    def values(self, cell: Cell, seed: int | None) -> dict[Key, float]:
        """Whether each query was answered rightly, as 0 or 1.

        Raises:
            ExperimentError: there are no such answers.
        """
        chosen = [
            each
            for each in self._judgements(cell.system, seed, cell.queries)
            if each.duration_s == cell.duration_s and cell.condition in (None, each.condition)
        ]
        if not chosen:
            raise ExperimentError(
                f"{cell.system!r} has no answers of {cell.duration_s:g} s to {cell.queries!r} "
                f"under {cell.condition!r}."
            )
        hop_s = self._suite.queries_named(cell.queries).hop_s
        hits = metrics.hits(chosen, metrics.Tolerances(hop_s=hop_s))
        # A measure is missing where nothing was found, and no start known.
        none = np.zeros(len(chosen))
        if cell.measure == "near_minus_exact":
            near, exact = (hits.get(name, none) for name in ("segment_near", "segment_exact"))
            flags = near.astype(float) - exact
        else:
            flags = hits.get(cell.measure, none).astype(float)
        truths = self._truths(cell.queries)
        keys = [(truths[each.query].excerpt, each.condition) for each in chosen]
        return dict(zip(keys, flags.tolist(), strict=True))

    def tracks(self, queries: str) -> dict[str, str]:
        """The file of the recording of each excerpt of a set; sets name them from other roots."""
        root = self._set(queries).root
        truths = self._truths(queries).values()
        return {truth.excerpt: os.path.join(root, truth.track) for truth in truths}

    def answered_seeds(self, name: str, queries: str) -> list[int | None]:
        """The seeds with which a system has answered all queries of a set."""
        system = self._suite.system_named(name)
        n_answers = len(system.queries[queries])
        return [
            seed
            for seed in self._suite.seeds_of(system)
            if self._workspace.answers(system, seed, queries).exists()
            and len(self._judgements(name, seed, queries)) == n_answers * len(self._truths(queries))
        ]

    def _judge(self, system: str, seed: int | None, queries: str) -> list[Judgement]:
        path = self._workspace.answers(self._suite.system_named(system), seed, queries)
        asked = self._set(queries)
        if read_header(path)["queries"] != asked.identity:
            raise ExperimentError(
                f"{path} holds answers to other queries than {asked.folder}: delete it."
            )
        return [j for j in judge_all(read_answers(path), self._truths(queries)) if j.answerable]

    def _read_truths(self, queries: str) -> Mapping[str, Truth]:
        return truths_of(self._set(queries))

    def _open_set(self, queries: str) -> QuerySet:
        return QuerySet.open(self._workspace.queries(queries))


def aligned(
    parts: Sequence[Mapping[Key, float]], ignore_condition: bool = False
) -> tuple[list[Key], np.ndarray]:
    """The keys that all parts have, and values ``(n_parts, n_keys)``.

    Raises:
        ExperimentError: the parts are of other queries.
    """
    if ignore_condition:
        parts = [_by_excerpt(part) for part in parts]
    keys = list(parts[0])
    if any(set(part) != set(keys) for part in parts):
        raise ExperimentError("Shares that are compared have to be of the same excerpts.")
    return keys, np.array([[part[key] for key in keys] for part in parts])


def _by_excerpt(part: Mapping[Key, float]) -> dict[Key, float]:
    """The mean over the conditions of each excerpt."""
    values: dict[Key, list[float]] = {}
    for (excerpt, _), value in part.items():
        values.setdefault((excerpt, ""), []).append(value)
    return {key: float(np.mean(own)) for key, own in values.items()}
