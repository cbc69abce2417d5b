"""Experiments with everything that they name: `running` makes it, `figures` counts.

A suite is written as one file of data and run by `command.main`; benchmarks/orderings.py is one.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from fingerprint.experiments.pieces import (
    WHOLE,
    Experiment,
    ExperimentError,
    Measurement,
    Queries,
    References,
    System,
    Training,
)


@dataclasses.dataclass(frozen=True)
class Suite:
    """Experiments with everything that they name; checked when it is made.

    ``preamble`` stands at the head of the report. Where ``changes_of`` names a system, every
    experiment is a change of it: the report says what each is worth, and gives no verdicts.

    Raises:
        ExperimentError: a name is missing, or given twice.
    """

    title: str
    trainings: Sequence[Training]
    systems: Sequence[System]
    queries: Sequence[Queries]
    experiments: Sequence[Experiment]
    measurements: Sequence[Measurement] = ()
    preamble: str = ""
    changes_of: str = ""
    references: Sequence[References] = (References(WHOLE),)

    def __post_init__(self):
        for system in self.systems:
            self.references_named(system.references)
            for name in system.queries:
                self.queries_named(name)
            if bool(system.training) != (system.method == "neural"):
                raise ExperimentError(f"System {system.name!r} is neural without a training.")
            if system.training:
                self.training_named(system.training)
        for training in self.trainings:
            if training.starts_from:
                self.training_named(training.starts_from)
        if self.changes_of:
            self.system_named(self.changes_of)
        for experiment in self.experiments:
            self._check(experiment)

    def only(self, keys: Iterable[str]) -> "Suite":
        """The same suite with those experiments alone, or with all where none is named.

        Raises:
            ExperimentError: there is no such experiment.
        """
        keys = list(keys) or [experiment.key for experiment in self.experiments]
        chosen = [_named(self.experiments, key, "experiment") for key in keys]
        systems = {cell.system for experiment in chosen for cell in experiment.cells()}
        bounds = {bound.measurement for experiment in chosen for bound in experiment.bounds}
        measurements = [m for m in self.measurements if m.name in bounds]
        systems |= {name for measurement in measurements for name in measurement.systems}
        kept = [system for system in self.systems if system.name in systems]
        trained = {system.training for system in kept}
        trained |= {t.starts_from for t in self.trainings if t.name in trained}
        return dataclasses.replace(
            self,
            trainings=[training for training in self.trainings if training.name in trained],
            systems=kept,
            experiments=chosen,
            measurements=measurements,
        )

    def systems_of(self, experiment: Experiment) -> list[System]:
        """What an experiment needs, in the order of the suite."""
        names = {cell.system for cell in experiment.cells()}
        for bound in experiment.bounds:
            names |= set(self.measurement_named(bound.measurement).systems)
        return [system for system in self.systems if system.name in names]

    def trainings_of(self, experiment: Experiment) -> list[Training]:
        """What an experiment needs trained, in the order of the suite."""
        names = {system.training for system in self.systems_of(experiment)}
        names |= {training.starts_from for training in self.trainings if training.name in names}
        return [training for training in self.trainings if training.name in names]

    def seeds_of(self, system: System) -> Sequence[int | None]:
        """The seeds that a system exists with; only None where nothing is trained."""
        return self.training_named(system.training).seeds if system.training else (None,)

    def common_seeds(self, names: Iterable[str]) -> list[int | None]:
        """The seeds that all trained systems of these have; only None where none is trained."""
        all_seeds = [self.seeds_of(self.system_named(name)) for name in names]
        trained = [set(seeds) for seeds in all_seeds if None not in seeds]
        return sorted(set.intersection(*trained)) if trained else [None]

    def training_named(self, name: str) -> Training:
        """The training of a name."""
        return _named(self.trainings, name)

    def system_named(self, name: str) -> System:
        """The system of a name."""
        return _named(self.systems, name)

    def queries_named(self, name: str) -> Queries:
        """The set of queries of a name."""
        return _named(self.queries, name)

    def references_named(self, name: str) -> References:
        """The references of a name."""
        return _named(self.references, name)

    def measurement_named(self, name: str) -> Measurement:
        """The measurement of a name."""
        return _named(self.measurements, name)

    def _check(self, experiment: Experiment) -> None:
        for cell in experiment.cells():
            asked = self.system_named(cell.system).queries.get(cell.queries, ())
            if cell.duration_s not in asked:
                raise ExperimentError(
                    f"Experiment {experiment.key} shows {cell.system!r} at {cell.duration_s:g} s "
                    f"of {cell.queries!r}, which it is not asked."
                )
        for bound in experiment.bounds:
            for name in self.measurement_named(bound.measurement).systems:
                self.system_named(name)


def _named(items: Sequence[Any], name: str, kind: str = "") -> Any:
    """The one item of a name.

    Raises:
        ExperimentError: there is none, or more than one.
    """
    attribute = "key" if kind == "experiment" else "name"
    found = [item for item in items if getattr(item, attribute) == name]
    if len(found) != 1:
        known = ", ".join(getattr(item, attribute) for item in items)
        raise ExperimentError(f"{name!r} stands for {len(found)} of these, not for one: {known}.")
    return found[0]
