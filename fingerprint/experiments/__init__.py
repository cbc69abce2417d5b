"""Comparisons of trained systems as data: what is trained, what it is asked, what is claimed.

A file with a `Suite` and one line is a program that trains, indexes, asks, goes on where it was
interrupted, and writes a report with intervals and verdicts:

    WHOLE_CHAIN = Training("whole", "configs/nafp_small.py", {"training.n_steps": 2000})
    NO_ROOMS = Training("no_rooms", "configs/nafp_small.py",
                        {"training.n_steps": 2000, "augmentation.room.probability": 0.0})
    PHONE = Queries("phone", {"noise": "audio", "room_ir": "audio", "durations_s": (1.0, 10.0)})
    CELLS = [Cell(name, 1.0, "phone") for name in ("whole", "no_rooms")]
    BETTER = Contrast("whole - no_rooms, 1 s", CELLS[:1], CELLS[1:])
    SUITE = Suite(
        title="Rooms",
        trainings=[WHOLE_CHAIN, NO_ROOMS],
        systems=[System(n, {"phone": (1.0,)}, training=n) for n in ("whole", "no_rooms")],
        queries=[PHONE],
        experiments=[Experiment("1", "Rooms in training help", "ours", "Equal steps.", [BETTER])],
    )
    sys.exit(main(SUITE, __doc__))

benchmarks/orderings.py is such a program.
"""

from fingerprint.experiments.command import main
from fingerprint.experiments.pieces import (
    Bound,
    Cell,
    Contrast,
    Experiment,
    ExperimentError,
    Measurement,
    Queries,
    References,
    System,
    Table,
    Training,
)
from fingerprint.experiments.suite import Suite

__all__ = [
    "Bound",
    "Cell",
    "Contrast",
    "Experiment",
    "ExperimentError",
    "Measurement",
    "Queries",
    "References",
    "Suite",
    "System",
    "Table",
    "Training",
    "main",
]
