"""What a comparison of trained systems consists of, each as a small piece of data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.errors import FingerprintError

WHOLE = "whole"
# A difference that is smaller counts as none.
NEGLIGIBLE = 0.02
Measure = Callable[[Mapping[str, Path], Mapping[str, Path], Path], Mapping[str, float]]


class ExperimentError(FingerprintError):
    """Experiments that cannot be run, or figures that do not belong together."""


class NotYetError(ExperimentError):
    """What is needed has not been made yet."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One configuration, trained once for each seed.

    Attributes:
        name: of its folders, ``<name>_seed<seed>``.
        config: file of the configuration, relative to the checkout.
        overrides: dotted keys and values, as after ``--config.`` on the command line.
        seeds: of the runs.
        cpu_s_per_step: an estimate, for ``--list``.
        starts_from: another training, whose model of the same seed ``training.initial_model`` is.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]
    seeds: Sequence[int] = (0, 1, 2)
    cpu_s_per_step: float = 0.5
    starts_from: str = ""

    @property
    def cpu_s(self) -> float:
        """Estimated cost of one run."""
        return self.cpu_s_per_step * self.overrides["training.n_steps"]


@dataclasses.dataclass(frozen=True)
class References:
    """The recordings of a database: those of the collection, whole or their middle ``clip_s``."""

    name: str
    clip_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Queries:
    """One set of queries.

    Attributes:
        name: of its folder.
        fields: of `QuerySettings`. ``noise`` may be "audio" (that of the collection) or "white";
            ``room_ir`` and ``device_ir`` "audio"; absent is not used.
        references: what is excerpted.
        offsets_s: where given, each excerpt is moved to so much after a multiple of ``hop_s``, once
            for each; the condition is then "offset_s=...".
        hop_s: of the databases that are asked.
    """

    name: str
    fields: Mapping[str, Any]
    references: str = WHOLE
    offsets_s: Sequence[float] = ()
    hop_s: float = 0.5


@dataclasses.dataclass(frozen=True)
class System:
    """An index, and what it is asked.

    Attributes:
        name: in tables.
        queries: lengths to ask by the name of a set.
        training: whose models make it, one index for each seed; "" for other methods.
        method: of a recogniser that is not trained.
        preset: likewise.
        settings: values of the model's ``search`` and ``reference`` that are changed after
            training, by dotted key.
        references: what the index holds.
        searcher: of a neural index; exact by default, so that no search costs a hit.
        cpu_s: an estimate of indexing and asking, for ``--list``.
    """

    name: str
    queries: Mapping[str, Sequence[float]]
    training: str = ""
    method: str = "neural"
    preset: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    references: str = WHOLE
    searcher: str = "exact"
    cpu_s: float = 180.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """One share: of a system's answers of one length to one set under one condition.

    ``condition`` is None for all conditions together. ``measure`` is one of `metrics.hits`, or
    "near_minus_exact": a neighbour of the right segment was found and not the right one.
    """

    system: str
    duration_s: float
    queries: str
    condition: str | None = None
    measure: str = "top1"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A claim about shares of the same excerpts: the sum of ``plus`` less that of ``minus``.

    Attributes:
        label: what is compared, in words.
        plus, minus: as many cells of one as of the other.
        at_least: the claim is that the difference exceeds this.
        is_claim: whether the verdict on the experiment depends on it.
        published: the figures of the publication.
    """

    label: str
    plus: Sequence[Cell]
    minus: Sequence[Cell]
    at_least: float = 0.0
    is_claim: bool = True
    published: str = ""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Figures that are no shares of answers.

    Attributes:
        name: of its files.
        systems: whose indexes are needed.
        queries: sets that are needed.
        measure: from index folders and query folders, by name, and a folder for what it likes to
            keep, to figures by name.
    """

    name: str
    systems: Sequence[str]
    measure: Measure
    queries: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Bound:
    """The claim that a figure of a measurement is at least so much, with every seed."""

    label: str
    measurement: str
    figure: str
    at_least: float
    is_claim: bool = True
    published: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Shares that are shown: a row for each system, a column for each condition and length."""

    title: str
    systems: Sequence[str]
    queries: str
    durations_s: Sequence[float]
    conditions: Sequence[str | None] = (None,)
    measures: Sequence[str] = ("top1",)

    def cells(self, system: str) -> list[Cell]:
        """One row, from the left to the right."""
        return [
            Cell(system, duration_s, self.queries, condition, measure)
            for measure in self.measures
            for condition in self.conditions
            for duration_s in self.durations_s
        ]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A published claim and how it is put to the test.

    Attributes:
        key: short; what ``--only`` chooses by.
        claim: what is said to be true, in one sentence.
        source: who says it, with the figures.
        design: what was made equal, what could not be, and what else a reader has to know.
        contrasts, bounds: what decides.
        tables: what is shown.
    """

    key: str
    claim: str
    source: str
    design: str
    contrasts: Sequence[Contrast] = ()
    bounds: Sequence[Bound] = ()
    tables: Sequence[Table] = ()

    def cells(self) -> Iterator[Cell]:
        """Every share that is needed."""
        for contrast in self.contrasts:
            yield from (*contrast.plus, *contrast.minus)
        for table in self.tables:
            for system in table.systems:
                yield from table.cells(system)
