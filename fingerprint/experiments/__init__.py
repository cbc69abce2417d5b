"""Comparisons of trained systems as data: what is trained, what it is asked, what is claimed."""

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
