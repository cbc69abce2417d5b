"""From stored answers and records to figures and verdicts; nothing is trained, nobody is asked.

The verdict on a contrast: it *holds* if the 95 % interval of the mean difference over seeds (whole
recordings drawn again) lies above what is claimed, and so does the difference of every seed. It
*fails* if the interval lies below what is claimed, or below two points where only "better" is. All
else is *undecided*. A claim is reproduced if all its contrasts and bounds hold, and not reproduced
if one fails.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fingerprint.evaluation import metrics
from fingerprint.evaluation.statistics import bootstrap_interval
from fingerprint.experiments.pieces import (
    NEGLIGIBLE,
    Bound,
    Cell,
    Contrast,
    Experiment,
    ExperimentError,
    Training,
)
from fingerprint.experiments.shares import Shares, aligned
from fingerprint.experiments.suite import Suite
from fingerprint.experiments.training_runs import has_begun, record_of
from fingerprint.experiments.workspace import Workspace, read_json
from fingerprint.recognizer import describe_index

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run yet"
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
OTHER = "of another configuration"
DATABASE_FACTS = ("method", "tracks", "duration_s", "rows", "bytes")
N_RESAMPLES = 2000


class Figures:
    """Everything that a suite's answers say.

    Args:
        suite: the experiments.
        workspace: where their answers lie.
    """

    def __init__(self, suite: Suite, workspace: Workspace):
        self._suite, self._workspace = suite, workspace
        self._shares = Shares(suite, workspace)

    def all(self) -> dict[str, Any]:
        """JSON-able: runs, systems, and of every experiment its shares and its verdict."""
        return {
            "title": self._suite.title,
            "runs": self.runs(),
            "databases": self.databases(),
            "experiments": [self.experiment(each) for each in self._suite.experiments],
        }

    def runs(self) -> list[dict[str, Any]]:
        """What is known of each training run, and whether it is done, begun or not run yet."""
        rows = []
        for training in self._suite.trainings:
            for seed in training.seeds:
                row: dict[str, Any] = {"training": training.name, "seed": seed}
                row |= {"config": training.config, "overrides": dict(training.overrides)}
                rows.append(row | self._state(training, seed))
        return rows

    def databases(self) -> list[dict[str, Any]]:
        """What each index holds, of the first seed that is there."""
        rows = []
        for system in self._suite.systems:
            for seed in self._suite.seeds_of(system):
                folder = self._workspace.index(system, seed)
                if folder.exists():
                    facts = describe_index(folder)
                    row = {"system": system.name, "references": system.references}
                    rows.append(row | {name: facts[name] for name in DATABASE_FACTS})
                    break
        return rows

    def experiment(self, experiment: Experiment) -> dict[str, Any]:
        """One experiment with its shares, contrasts, bounds and verdict."""
        contrasts = [self.contrast(each) for each in experiment.contrasts]
        bounds = [self.bound(each) for each in experiment.bounds]
        tables = [
            [[self.share(cell) for cell in table.cells(system)] for system in table.systems]
            for table in experiment.tables
        ]
        deciding = [each for each in (*contrasts, *bounds) if each["is_claim"]]
        return {
            "key": experiment.key,
            "claim": experiment.claim,
            "source": experiment.source,
            "verdict": verdict(each["outcome"] for each in deciding),
            "is_complete": all(each["is_complete"] for each in deciding),
            "contrasts": contrasts,
            "bounds": bounds,
            "tables": tables,
        }

    def share(self, cell: Cell) -> dict[str, Any]:
        """A share: its mean over seeds with an interval, and that of each seed."""
        seeds = self._shares.answered_seeds(cell.system, cell.queries)
        row = _cell_row(cell) | {"seeds": seeds, "rate": None}
        if not seeds:
            return row
        parts = [self._parts([cell], seed) for seed in seeds]
        tracks, values = parts[0][0], np.concatenate([own for _, own in parts])
        low, high = _interval(values.mean(axis=0), tracks)
        rates = values.mean(axis=1)
        return row | {
            "rate": round(float(rates.mean()), 4),
            "low": low,
            "high": high,
            "by_seed": [round(float(rate), 4) for rate in rates],
            "n_queries": len(tracks),
            "n_recordings": len(set(tracks)),
        }

    def contrast(self, contrast: Contrast) -> dict[str, Any]:
        """A difference: its mean over seeds, its interval, each seed, McNemar's test of each."""
        cells = [*contrast.plus, *contrast.minus]
        signs = np.repeat([1.0, -1.0], [len(contrast.plus), len(contrast.minus)])
        wanted = self._suite.common_seeds(cell.system for cell in cells)
        seeds = [seed for seed in wanted if all(self._is_answered(c, seed) for c in cells)]
        row = {
            "label": contrast.label,
            "is_claim": contrast.is_claim,
            "at_least": contrast.at_least,
            "published": contrast.published,
            "plus": [_cell_row(cell) for cell in contrast.plus],
            "minus": [_cell_row(cell) for cell in contrast.minus],
            "seeds": seeds,
            "is_complete": seeds == wanted,
        }
        if not seeds:
            return row | {"outcome": NOT_RUN}
        differences, tests = [], []
        for seed in seeds:
            tracks, values = self._parts(cells, seed)
            differences.append(signs @ values)
            if len(cells) == 2:
                tests.append(_p_value(values))
        low, high = _interval(np.mean(differences, axis=0), tracks)
        by_seed = [float(np.mean(each)) for each in differences]
        return row | {
            "difference": round(float(np.mean(by_seed)), 4),
            "low": low,
            "high": high,
            "by_seed": [round(each, 4) for each in by_seed],
            "p_values": tests,
            "n_queries": len(tracks),
            "outcome": outcome(low, high, by_seed, contrast.at_least),
        }

    def bound(self, bound: Bound) -> dict[str, Any]:
        """A figure of a measurement, of each seed."""
        measurement = self._suite.measurement_named(bound.measurement)
        wanted = self._suite.common_seeds(measurement.systems)
        paths = {seed: self._workspace.measured(measurement, seed) for seed in wanted}
        stored = {s: read_json(p)["figures"] for s, p in paths.items() if p.exists()}
        # A figure that a measurement could not get is as one that was not taken.
        found = {s: own[bound.figure] for s, own in stored.items() if bound.figure in own}
        values = list(found.values())
        row = {
            "label": bound.label,
            "figure": bound.figure,
            "is_claim": bound.is_claim,
            "at_least": bound.at_least,
            "published": bound.published,
            "seeds": list(found),
            "by_seed": values,
            "is_complete": len(found) == len(wanted),
        }
        if not values:
            return row | {"outcome": NOT_RUN}
        holds = [value >= bound.at_least for value in values]
        decided = HOLDS if all(holds) else UNDECIDED if any(holds) else FAILS
        return row | {"mean": round(float(np.mean(values)), 4), "outcome": decided}

    def _parts(self, cells: Sequence[Cell], seed: int | None) -> tuple[list[str], np.ndarray]:
        """The recordings, and the values of each cell, of the excerpts that they share."""
        own = [self._shares.values(cell, self._own_seed(cell, seed)) for cell in cells]
        mixed = len({(cell.queries, cell.condition) for cell in cells}) > 1
        keys, values = aligned(own, ignore_condition=mixed)
        tracks = [self._shares.tracks(name) for name in {cell.queries: None for cell in cells}]
        if any({own[key[0]] for own in tracks} != {tracks[0][key[0]]} for key in keys):
            raise ExperimentError(
                f"{' and '.join({cell.queries: None for cell in cells})} have other excerpts."
            )
        return [tracks[0][key[0]] for key in keys], values

    def _state(self, training: Training, seed: int) -> dict[str, Any]:
        try:
            record = record_of(self._workspace, training, seed)
        except ExperimentError as error:
            return {"state": OTHER, "reason": str(error)}
        if record is None:
            return {"state": "begun" if has_begun(self._workspace, training, seed) else NOT_RUN}
        return {"state": "done"} | record

    def _own_seed(self, cell: Cell, seed: int | None) -> int | None:
        return seed if self._suite.system_named(cell.system).training else None

    def _is_answered(self, cell: Cell, seed: int | None) -> bool:
        own_seed = self._own_seed(cell, seed)
        return own_seed in self._shares.answered_seeds(cell.system, cell.queries)


def outcome(low: float, high: float, by_seed: Sequence[float], at_least: float) -> str:
    """The verdict on a contrast; see the module."""
    if low > at_least and all(each > at_least for each in by_seed):
        return HOLDS
    return FAILS if high < max(at_least, NEGLIGIBLE) else UNDECIDED


def verdict(outcomes: Iterable[str]) -> str:
    """The verdict on a claim from those on what it consists of."""
    outcomes = list(outcomes)
    if not outcomes or NOT_RUN in outcomes:
        return NOT_RUN
    if FAILS in outcomes:
        return NOT_REPRODUCED
    return REPRODUCED if set(outcomes) == {HOLDS} else UNDECIDED


def _cell_row(cell: Cell) -> dict[str, Any]:
    return {
        "system": cell.system,
        "queries": cell.queries,
        "condition": cell.condition,
        "duration_s": cell.duration_s,
        "measure": cell.measure,
    }


def _p_value(values: np.ndarray) -> float | None:
    """McNemar's test of two rows of hits; None where they are no hits."""
    if not np.isin(values, (0.0, 1.0)).all():
        return None
    first, second = (dict(enumerate(row.astype(bool).tolist())) for row in values)
    return metrics.compare(first, second)["p_value"]


def _interval(values: np.ndarray, tracks: Sequence[str]) -> tuple[float, float]:
    low, high = bootstrap_interval(values, tracks, n_resamples=N_RESAMPLES)
    return round(low, 4), round(high, 4)
