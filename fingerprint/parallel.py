"""Devices and hosts: everything that `jax.pmap` needs to know is said here and nowhere else."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fingerprint.errors import ConfigError

DEVICE_AXIS = "devices"


def over_devices(step: Callable) -> Callable:
    """Compile ``step(state, batch) -> (state, metrics)`` for all devices of all hosts.

    The state is the same everywhere and has no axis for devices; the batch has one in front, as
    `split_batch` makes it; the metrics must be reduced over `DEVICE_AXIS` inside the step.
    """
    # On CPU a checkpoint being written may still read the buffers that a donation would reuse.
    donated = () if jax.default_backend() == "cpu" else (0,)
    return jax.pmap(
        step,
        axis_name=DEVICE_AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=donated,
    )


def replicate(tree: Any) -> Any:
    """Put host arrays on every device of this host, as `over_devices` returns its state."""
    return _place(tree, jax.local_devices())


def as_global(tree: Any) -> Any:
    """Make replicated arrays of this host into arrays that span all hosts, as checkpoints want."""
    if jax.process_count() == 1:
        return tree
    return _place(to_host(tree), jax.devices())


def _place(tree: Any, devices: list[jax.Device]) -> Any:
    sharding = NamedSharding(Mesh(np.array(devices), (DEVICE_AXIS,)), PartitionSpec())

    def place(values):
        values = np.asarray(values)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree)


def to_host(tree: Any) -> Any:
    """Read replicated arrays as numpy arrays, waiting until they are computed."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data), tree)


def pairs_per_device(n_pairs: int, grad_cache_pairs: int = 0) -> int:
    """Pairs of the global batch that each device gets.

    Raises:
        ConfigError: the devices cannot share the batch equally, or a device's share cannot be
            divided into equal parts of ``grad_cache_pairs`` (0: one part).
    """
    n_devices = jax.device_count()
    if n_pairs < n_devices or n_pairs % n_devices:
        raise ConfigError(
            f"pairs.n_pairs is {n_pairs}, which {n_devices} devices cannot share equally: choose "
            f"a multiple of {n_devices}."
        )
    share = n_pairs // n_devices
    if grad_cache_pairs and share % grad_cache_pairs:
        raise ConfigError(
            f"training.grad_cache_pairs is {grad_cache_pairs}, which does not divide the {share} "
            "pairs of each device: choose a divisor, or 0 for no cache."
        )
    return share


def split_batch(batch: dict[str, np.ndarray], *, stop: bool = False) -> dict[str, np.ndarray]:
    """Give this host's rows ``(p, ...)`` to its devices: ``(n_local_devices, p / n, ...)``.

    Every device gets ``stop`` as well, the host's wish to end the run.
    """
    n_devices = jax.local_device_count()
    split = {
        name: rows.reshape(n_devices, len(rows) // n_devices, *rows.shape[1:])
        for name, rows in batch.items()
    }
    return split | {"stop": np.full(n_devices, stop, np.int32)}


def n_steps_ahead() -> int:
    """Steps that may be under way before the result of an earlier one is awaited.

    Simulated devices on CPU wait for each other in threads that a second step would take from
    them: one step at a time there. Elsewhere two hide the host's work behind the device's.
    """
    return 0 if jax.default_backend() == "cpu" and jax.local_device_count() > 1 else 2


def start_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Join the processes of a run on several hosts; call it before anything else uses jax.

    Without arguments jax finds the other hosts by itself, on a TPU slice or under a cluster
    manager that it knows.

    Raises:
        ConfigError: one of three values that belong together is missing, or the others cannot be
            reached.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(v is None for v in given) and any(v is not None for v in given):
        raise ConfigError(
            "coordinator_address, num_processes and process_id belong together, but only some of "
            f"them are given ({given}): give all three or none."
        )
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"The processes of this run cannot find each other: {error}") from None
