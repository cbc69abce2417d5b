"""Makes what a suite names, one thing after another; what is there is left as it is."""

import dataclasses
import functools
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.asking import System as IndexedSystem
from fingerprint.evaluation.asking import ask
from fingerprint.evaluation.record import provenance, write_json
from fingerprint.experiments import material
from fingerprint.experiments.pieces import (
    ExperimentError,
    Measurement,
    NotYetError,
    System,
    Training,
)
from fingerprint.experiments.suite import Suite
from fingerprint.experiments.training_runs import record_of, train
from fingerprint.experiments.workspace import Workspace, labelled
from fingerprint.recognizer import create_or_open


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to do, in words, and about how long it takes."""

    title: str
    do: Callable[[], Any]
    cpu_s: float = 0.0


def run(suite: Suite, workspace: Workspace, *, training: bool = True) -> list[str]:
    """Train, index, ask and measure, seed by seed; a failure does not stop the others.

    Args:
        training: whether runs that are not done are trained; otherwise they are left out.

    Returns:
        What failed, a sentence each.
    """
    failures = []
    all_tasks = list(tasks(suite, workspace, training=training))
    for number, task in enumerate(all_tasks, 1):
        _say(f"[{number}/{len(all_tasks)}] {task.title}")
        began_s = time.monotonic()
        try:
            task.do()
        except NotYetError as error:
            # Where a training failed, that is said; where none is wanted, it is no failure.
            _say(f"  left out: {error}")
        except FingerprintError as error:
            failures.append(f"{task.title}: {error}")
            _say(f"failed: {error}")
        except Exception as error:
            failures.append(f"{task.title}: {error!r}")
            _say(traceback.format_exc())
        else:
            _say(f"  {time.monotonic() - began_s:,.0f} s")
    return failures


def tasks(suite: Suite, workspace: Workspace, *, training: bool = True) -> Iterator[Task]:
    """Everything in order: what needs no training first, then each seed of all trainings."""
    for system in suite.systems:
        if not system.training:
            yield _asking(suite, workspace, system, None)
    trainings = sorted(suite.trainings, key=lambda each: bool(each.starts_from))
    for seed in sorted({seed for each in trainings for seed in each.seeds}):
        for each in trainings:
            if seed not in each.seeds:
                continue
            if training:
                yield _training(workspace, each, seed)
            for system in suite.systems:
                if system.training == each.name:
                    yield _asking(suite, workspace, system, seed)
    for measurement in suite.measurements:
        for seed in suite.common_seeds(measurement.systems):
            yield Task(
                f"measuring {labelled(measurement.name, seed)}",
                functools.partial(measure, suite, workspace, measurement, seed),
            )


def index_and_ask(suite: Suite, workspace: Workspace, system: System, seed: int | None) -> None:
    """Index the references, and put every set of queries to the index.

    Raises:
        NotYetError: the model is not there.
    """
    wanted = suite.references_named(system.references)
    folder = workspace.index(system, seed)
    recognizer = create_or_open(
        folder,
        method=system.method,
        preset=system.preset,
        model=_model(suite, workspace, system, seed),
    )
    report = recognizer.add_files(material.references(workspace, wanted))
    if report.failed:
        path, sentence = report.failed[0]
        raise ExperimentError(f"{path} cannot be indexed: {sentence}")
    indexed = IndexedSystem(labelled(system.name, seed), folder, system.searcher)
    for name, durations_s in system.queries.items():
        own = suite.queries_named(name)
        found = material.queries(workspace, own, suite.references_named(own.references))
        path = workspace.answers(system, seed, name)
        ask(found, indexed, path, durations_s=durations_s, record=provenance())


def measure(suite: Suite, workspace: Workspace, measurement: Measurement, seed: int | None) -> None:
    """Take a measurement where it has not been taken.

    Raises:
        NotYetError: an index is not there.
    """
    path = workspace.measured(measurement, seed)
    if path.exists():
        return
    indexes = {}
    for name in measurement.systems:
        system = suite.system_named(name)
        own_seed = seed if system.training else None
        indexes[name] = workspace.index(system, own_seed)
        if not indexes[name].exists():
            raise NotYetError(f"{labelled(name, own_seed)} is not indexed yet.")
    sets = {}
    for name in measurement.queries:
        own = suite.queries_named(name)
        cut = suite.references_named(own.references)
        sets[name] = material.queries(workspace, own, cut).folder
    figures = measurement.measure(indexes, sets, path.with_suffix(""))
    write_json(path, {"figures": dict(figures), "made_with": provenance()})


def _model(suite: Suite, workspace: Workspace, system: System, seed: int | None) -> Path | None:
    """The model of a system, its settings changed where they are to be."""
    if not system.training:
        return None
    training = suite.training_named(system.training)
    if record_of(workspace, training, seed) is None:
        raise NotYetError(f"{labelled(training.name, seed)} is not trained yet.")
    model = workspace.model(training, seed)
    if not system.settings:
        return model
    # Imports jax.
    from fingerprint.model_folder import read_model, save_model

    stored = read_model(model)
    stored.config.update_from_flattened_dict(dict(system.settings))
    changed = workspace.changed_model(system, seed)
    save_model(changed, stored.config, stored.variables, stored.calibration, stored.hash_head)
    return changed


def _training(workspace: Workspace, training: Training, seed: int) -> Task:
    return Task(
        f"training {labelled(training.name, seed)}",
        functools.partial(train, workspace, training, seed),
        training.cpu_s,
    )


def _asking(suite: Suite, workspace: Workspace, system: System, seed: int | None) -> Task:
    return Task(
        f"asking {labelled(system.name, seed)}",
        functools.partial(index_and_ask, suite, workspace, system, seed),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
