"""Training runs, each a process of its own that leaves a record; a finished one is never repeated.

A run that another program has started with the same configuration is taken over as it is, with
what it has recorded: `command.txt`, `commit.txt` and `done`.
"""

import contextlib
import json
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fingerprint.config import config_to_values, load_config, with_defaults
from fingerprint.evaluation.record import provenance, write_json
from fingerprint.experiments.pieces import ExperimentError, Training
from fingerprint.experiments.workspace import Workspace, labelled, read_json

CHECKOUT = Path(__file__).parents[2]
RECORD, LOG = "run.json", "log.txt"
# What does not change what is trained: names and places.
_PLACES = (("name",), ("data", "root"), ("data", "cache_dir"), ("training", "initial_model"))


def train(workspace: Workspace, training: Training, seed: int) -> dict[str, Any]:
    """Train, or go on, or take over what is done.

    Returns:
        The record, as of `record_of`.

    Raises:
        ExperimentError: the run failed or is under way, or the folder holds one of another
            configuration.
    """
    done = record_of(workspace, training, seed)
    if done is not None:
        return done
    folder = workspace.run(training, seed)
    command = command_of(workspace, training, seed)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_second(folder)
    earlier = _attempts(folder)
    before_s, began_s, status = _children_cpu_s(), time.monotonic(), None
    try:
        status = _run(command, folder / LOG)
    finally:
        attempt = {
            "cpu_s": round(_children_cpu_s() - before_s, 1),
            "wall_s": round(time.monotonic() - began_s, 1),
            "status": status,
        }
        record = {
            "training": training.name,
            "seed": seed,
            "command": shlex.join(command[1:]),
            "made_with": provenance(),
            "attempts": [*earlier, attempt],
            "is_done": status == 0,
        }
        write_json(folder / RECORD, record)
    if status:
        raise ExperimentError(
            f"Training {labelled(training.name, seed)} ended with status {status}: the end of "
            f"{folder / LOG} says why."
        )
    done = record_of(workspace, training, seed)
    if done is None:
        raise ExperimentError(f"{folder} holds no model, although the training is done.")
    return done


def record_of(workspace: Workspace, training: Training, seed: int) -> dict[str, Any] | None:
    """What is known of a finished run: how it was made, what it cost, and how it ended.

    Returns:
        ``command``, ``commit``, ``cpu_s``, ``wall_s``, ``n_steps``, ``n_pairs``, ``final_loss``
        and ``identity``; None for what is not known. None where the run is not done.

    Raises:
        ExperimentError: its model is of another configuration.
    """
    folder = workspace.run(training, seed)
    own = read_json(folder / RECORD) if (folder / RECORD).exists() else {}
    is_done = own.get("is_done") or (not own and (folder / "done").exists())
    description = workspace.model(training, seed) / "model.json"
    if not is_done or not description.exists():
        return None
    model = read_json(description)
    _check_config(training, seed, model["config"], folder)
    steps = [line for line in _metrics(folder / "metrics.jsonl") if "loss" in line]
    attempts = own.get("attempts", [])
    wall_s = _sum(attempts, "wall_s") if attempts else _said_wall_s(folder / "done")
    return {
        "training": training.name,
        "seed": seed,
        "config": training.config,
        "command": own.get("command") or _text(folder / "command.txt"),
        "commit": own["made_with"]["commit"] if own else _text(folder / "commit.txt"),
        "libraries": own["made_with"]["libraries"] if own else None,
        "cpu_s": _sum(attempts, "cpu_s") if attempts else None,
        "wall_s": wall_s,
        "n_steps": model["config"]["training"]["n_steps"],
        "n_pairs": model["config"]["pairs"]["n_pairs"],
        "final_loss": round(steps[-1]["loss"], 4) if steps else None,
        "identity": model["identity"],
    }


def has_begun(workspace: Workspace, training: Training, seed: int) -> bool:
    """Whether a run has left anything."""
    return workspace.run(training, seed).exists()


def command_of(workspace: Workspace, training: Training, seed: int) -> list[str]:
    """The command that trains."""
    flags = {
        "data.root": workspace.collection().absolute(),
        "data.cache_dir": (workspace.datasets or workspace.folder / "datasets").absolute(),
        "seed": seed,
        "name": training.name,
    } | dict(training.overrides)
    if training.starts_from:
        start = workspace.folder / labelled(training.starts_from, seed) / "model"
        flags["training.initial_model"] = start.absolute()
    return [
        sys.executable,
        "train.py",
        f"--config={training.config}",
        f"--workdir={workspace.run(training, seed).absolute()}",
        *(f"--config.{key}={value}" for key, value in flags.items()),
    ]


def wanted_config(training: Training, seed: int) -> dict[str, Any]:
    """The configuration that a run is to have, as values."""
    config = load_config(CHECKOUT / training.config)
    config.update_from_flattened_dict({"seed": seed, "name": training.name, **training.overrides})
    return _comparable(config_to_values(config))


def _check_config(training: Training, seed: int, found: dict[str, Any], folder: Path) -> None:
    found = _comparable(config_to_values(with_defaults(ConfigDict(found))))
    wanted = wanted_config(training, seed)
    if found != wanted:
        flat = {key: _flat(values) for key, values in (("found", found), ("wanted", wanted))}
        keys = sorted(set(flat["found"]) | set(flat["wanted"]))
        key = next(k for k in keys if flat["found"].get(k) != flat["wanted"].get(k))
        raise ExperimentError(
            f"{folder} holds a run with {key} {flat['found'].get(key)!r}, but "
            f"{flat['wanted'].get(key)!r} is wanted: remove it, or choose another folder."
        )


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    """Values without places, and without steps that never happen: None, or absent, is the same."""
    for *sections, name in _PLACES:
        inner = values
        for section in sections:
            inner = inner.get(section) or {}
        inner.pop(name, None)
    steps = values["augmentation"]
    for name, step in list(steps.items()):
        if step is None or (isinstance(step, dict) and step.get("probability") == 0.0):
            del steps[name]
    return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        flat |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def _run(command: list[str], log: Path) -> int:
    """The exit status of a process that never outlives this one's interruption."""
    with open(log, "a", encoding="utf-8") as file:
        # In a session of its own Ctrl-C at a terminal reaches it as the SIGTERM below alone, at
        # which it writes a checkpoint before it ends.
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=file, stderr=file, start_new_session=True
        )
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _refuse_second(folder: Path) -> None:
    """Two processes in one folder would spoil each other's checkpoints; seen on Linux only."""
    own = f"--workdir={folder.absolute()}".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if own in path.read_bytes().split(b"\0"):
                raise ExperimentError(
                    f"{folder} is being trained by process {path.parent.name}: wait for it."
                )


def _attempts(folder: Path) -> list[dict[str, Any]]:
    return read_json(folder / RECORD)["attempts"] if (folder / RECORD).exists() else []


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _metrics(path: Path) -> list[dict[str, Any]]:
    lines = []
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def _sum(attempts: list[dict[str, Any]], name: str) -> float:
    return round(sum(attempt[name] for attempt in attempts), 1)


def _said_wall_s(path: Path) -> float | None:
    """The seconds that a program which writes "123 s" has taken."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return float(path.read_text("utf-8").split()[0])
    return None


def _text(path: Path) -> str | None:
    return path.read_text("utf-8").strip() if path.exists() else None
