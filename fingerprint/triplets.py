"""Triplet losses with unit-norm embeddings, on one device or across all of them.

Each takes this device's rows and ``axis_name``, the axis of ``jax.pmap`` over which the batch is
spread (None on one device); negatives come from every device. Average the loss and its gradients
over this axis *outside* ``jax.grad``: the result is that of one device with the whole batch.
"""

import jax
import jax.numpy as jnp

from fingerprint.errors import ConfigError

_ROOT_EPSILON = 1e-9


def gathered(own: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array | int]:
    """The rows of all devices, with gradients, and where those of this device begin among them."""
    if axis_name is None:
        return own, 0
    # Gradients have to flow through the gathered rows: without them the loss looks the same and
    # its gradient is wrong.
    everyone = jax.lax.all_gather(own, axis_name, tiled=True)
    return everyone, jax.lax.axis_index(axis_name) * len(own)


def inner_products(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """``(n, d)``, ``(m, d)`` -> ``(n, m)``, in full float32 on every device."""
    return jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)


def triplet_np(
    originals: jax.Array,
    replicas: jax.Array,
    *,
    margin: float,
    squared: bool = False,
    mean_over: str = "violating",
    axis_name: str | None = None,
) -> jax.Array:
    """Now-Playing's triplet as NAFP replicates it: all negatives against the hardest positive.

    An original is an anchor; its replicas are its positives, all other originals and replicas its
    negatives. The summand of a negative n is ``max(max_p D(a, p) - D(a, n) + margin, 0)`` (online
    mining of Chang et al., arXiv 2010.11910, after Gfeller et al., arXiv 1711.10958).

    Args:
        originals: ``(b, d)``, unit norm.
        replicas: ``(b * n_positives, d)``, unit norm, those of an original one after the other.
        margin: In units of D.
        squared: D is the squared Euclidean distance instead of the distance.
        mean_over: "violating" averages over the cells above 0, so that the gradient does not fade
            as most triplets are satisfied; "all", as published, over every pair of an anchor and
            an embedding.
        axis_name: See the module.

    Returns:
        Scalar, float32.
    """
    originals, replicas = originals.astype(jnp.float32), replicas.astype(jnp.float32)
    n_anchors, n_positives = len(originals), len(replicas) // len(originals)
    all_replicas, _ = gathered(replicas, axis_name)
    all_originals, first = gathered(originals, axis_name)
    columns = jnp.concatenate([all_replicas, all_originals])
    n_everywhere = len(all_originals)

    distance = _squared_distance(originals, columns)
    if not squared:
        distance = jnp.sqrt(distance + _ROOT_EPSILON)
    anchor = (first + jnp.arange(n_anchors))[:, None]
    group = jnp.concatenate(
        [jnp.arange(len(all_replicas)) // n_positives, jnp.arange(n_everywhere)]
    )
    same = anchor == group[None, :]
    is_replica = (jnp.arange(len(columns)) < len(all_replicas))[None, :]
    hardest_positive = jnp.max(
        jnp.where(same & is_replica, distance, -jnp.inf), axis=1, keepdims=True
    )
    violation = jnp.where(same, 0.0, jax.nn.relu(hardest_positive - distance + margin))
    if mean_over == "all":
        return jnp.mean(violation)
    n_violating = jnp.sum(violation > 0, dtype=jnp.float32)
    if axis_name is not None:
        # The mean over devices, so that averaging the loss over devices divides by the sum.
        n_violating = jax.lax.pmean(n_violating, axis_name)
    return jnp.sum(violation) / jnp.where(n_violating > 0, n_violating, 1.0)


def triplet_nmfp(
    originals: jax.Array,
    replicas: jax.Array,
    *,
    margin: float,
    axis_name: str | None = None,
) -> jax.Array:
    """Semi-hard triplets: every row is an anchor with one negative (neural-music-fp's variant).

    With squared Euclidean distances D and the largest one to a positive, D_p, the negative of an
    anchor is the nearest that is farther than D_p but by less than the margin; where there is
    none, the nearest of all. The loss is the mean of ``max(D_p - D_n + margin, 0)``.

    Args:
        originals: ``(b, d)``, unit norm.
        replicas: ``(b * n_positives, d)``, unit norm, those of an original one after the other;
            a group of an original and its replicas are positives of each other.
        margin: In units of squared distance.
        axis_name: See the module.

    Returns:
        Scalar, float32: the mean over the rows of this device.
    """
    originals, replicas = originals.astype(jnp.float32), replicas.astype(jnp.float32)
    n_positives = len(replicas) // len(originals)
    all_originals, first = gathered(originals, axis_name)
    all_replicas, first_replica = gathered(replicas, axis_name)
    rows = jnp.concatenate([originals, replicas])
    columns = jnp.concatenate([all_originals, all_replicas])
    n_everywhere = len(all_originals)

    column = jnp.arange(len(columns))
    group = jnp.where(column < n_everywhere, column, (column - n_everywhere) // n_positives)
    own_column = jnp.concatenate(
        [
            first + jnp.arange(len(originals)),
            n_everywhere + first_replica + jnp.arange(len(replicas)),
        ]
    )
    same = group[own_column][:, None] == group[None, :]
    itself = own_column[:, None] == column[None, :]

    distance = _squared_distance(rows, columns)
    positive = jnp.max(jnp.where(same & ~itself, distance, -jnp.inf), axis=1, keepdims=True)
    semi_hard = ~same & (distance > positive) & (distance < positive + margin)
    nearest_semi_hard = jnp.min(jnp.where(semi_hard, distance, jnp.inf), axis=1)
    nearest = jnp.min(jnp.where(same, jnp.inf, distance), axis=1)
    negative = jnp.where(jnp.any(semi_hard, axis=1), nearest_semi_hard, nearest)
    return jnp.mean(jax.nn.relu(positive[:, 0] - negative + margin))


def triplet_shuffled(
    originals: jax.Array,
    replicas: jax.Array,
    *,
    margin: float,
    axis_name: str | None = None,
) -> jax.Array:
    """One random negative per anchor (Woo's triplet network).

    The published negative is an entry of the shuffled list of anchors, which now and then is the
    anchor itself. Here it is the next original of the whole batch (the first follows the last):
    batches are drawn at random, so their order is, and no anchor is its own negative. Summed over
    the whole batch, as published, and not averaged: its balance with penalties on parameters
    depends on that.

    Args:
        originals: ``(b, d)``, unit norm.
        replicas: ``(b, d)``, unit norm; row i is the positive of original i.
        margin: In units of squared distance.
        axis_name: See the module.

    Returns:
        Scalar, float32; its mean over devices is the sum over the whole batch.

    Raises:
        ConfigError: the whole batch is one pair.
    """
    originals, replicas = originals.astype(jnp.float32), replicas.astype(jnp.float32)
    everyone, first = gathered(originals, axis_name)
    if len(everyone) < 2:
        raise ConfigError(
            "pairs.n_pairs is 1, but the loss triplet_shuffled takes its negatives from other "
            "pairs of the batch: choose 2 or more."
        )
    negatives = everyone[(first + 1 + jnp.arange(len(originals))) % len(everyone)]
    to_replica = jnp.sum((originals - replicas) ** 2, axis=1)
    to_negative = jnp.sum((originals - negatives) ** 2, axis=1)
    n_devices = len(everyone) // len(originals)
    return n_devices * jnp.sum(jax.nn.relu(to_replica - to_negative + margin))


def _squared_distance(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Of unit-norm rows ``(n, d)`` and ``(m, d)``: ``(n, m)``, not below 0 by rounding."""
    return jnp.maximum(2.0 - 2.0 * inner_products(rows, columns), 0.0)
