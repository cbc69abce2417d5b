"""Checkpoints of a training run: asynchronous, atomic, and refused under another configuration."""

import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from fingerprint.config import config_to_values, with_defaults
from fingerprint.errors import FingerprintError
from fingerprint.parallel import as_global, replicate, to_host

# What may change between a run and its continuation: when it ends, what it reports and keeps, how
# its model is used, where prepared data lie, and how much of a batch is computed at once.
_FREE_KEYS = (
    "training.n_steps",
    "training.log_every_steps",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
    "training.evaluate_every_steps",
    "training.grad_cache_pairs",
    "evaluation",
    "reference",
    "search",
    "data.cache_dir",
)


class CheckpointError(FingerprintError):
    """A checkpoint that cannot be continued from, or could not be written."""


class Checkpoints:
    """The checkpoints in ``workdir/checkpoints``; use it as a context, which waits for the last.

    A batch is a function of the seed and its number, so what a `TrainState` holds is the
    whole state of a run.
    """

    def __init__(self, workdir: str | os.PathLike, config: ConfigDict):
        self._config = config_to_values(config)
        self._folder = (pathlib.Path(workdir) / "checkpoints").resolve()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.training.keep_checkpoints, enable_async_checkpointing=True
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_exception) -> None:
        # An interpreter that ends without this loses the last checkpoint without an error.
        try:
            self._manager.wait_until_finished()
        finally:
            self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Start writing the state after ``step`` steps; a step already there is left alone.

        Raises:
            CheckpointError: there is a checkpoint of a later step.
        """
        if step in self._manager.all_steps():
            return
        contents = ocp.args.Composite(
            state=ocp.args.StandardSave(as_global(state)), config=ocp.args.JsonSave(self._config)
        )
        if not self._manager.save(step, args=contents):
            raise CheckpointError(
                f"Step {step} was not saved in {self._folder}, which holds step "
                f"{self._manager.latest_step()}: choose another workdir."
            )

    def restore(self, state: Any) -> Any | None:
        """The newest complete checkpoint, or None when there is none.

        Args:
            state: A state of the same structure, as `parallel.replicate` places it.

        Raises:
            CheckpointError: it was made with another configuration; the sentence names the key.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        saved = self._manager.restore(
            step, args=ocp.args.Composite(config=ocp.args.JsonRestore())
        ).config
        self._check_config(saved)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, as_global(state))
        contents = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        return replicate(to_host(self._manager.restore(step, args=contents).state))

    def _check_config(self, saved: dict) -> None:
        # A run that an earlier version began goes on under this one.
        then, now = (
            _flat(config_to_values(with_defaults(ConfigDict(values))))
            for values in (saved, self._config)
        )
        for key in sorted(then.keys() | now.keys()):
            free = any(key == name or key.startswith(f"{name}.") for name in _FREE_KEYS)
            if not free and then.get(key) != now.get(key):
                raise CheckpointError(
                    f"{key} is {now.get(key)!r}, but the checkpoints in {self._folder} were made "
                    f"with {then.get(key)!r}: restore that value or choose another workdir."
                )


def _flat(section: dict, prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level, with keys such as ``encoder.widths``."""
    flat = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
