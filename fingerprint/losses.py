"""Losses over originals and their replicas, on one device or across all of them.

The contrastive ones are here, the triplets in `triplets`; `build_loss` makes any of them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fingerprint.errors import ConfigError
from fingerprint.triplets import (
    gathered,
    inner_products,
    triplet_nmfp,
    triplet_np,
    triplet_shuffled,
)


def ntxent(
    originals: jax.Array, replicas: jax.Array, *, temperature: float, axis_name: str | None = None
) -> jax.Array:
    """NT-Xent (Chen et al., arXiv 2002.05709; Chang et al., arXiv 2010.11910, Eq. 1).

    For each of the 2b embeddings here, cross-entropy of finding its partner among all other
    embeddings of the batch; the published NAFP code adds the mean over originals to the mean over
    replicas, which is twice this. Computed in float32.

    Args:
        originals: ``(b, d)``, unit norm; row i is the partner of row i of ``replicas``.
        replicas: ``(b, d)``, unit norm.
        temperature: divides the inner products.
        axis_name: axis of ``jax.pmap`` over which the batch is spread. Negatives then come from
            every device. Average the loss and its gradients over this axis *outside*
            ``jax.grad``: the result is that of one device with the whole batch.

    Returns:
        Scalar: the mean over the rows of this device.
    """
    own = jnp.stack([originals, replicas]).astype(jnp.float32)
    n_pairs = own.shape[1]
    everyone, first = own, 0
    if axis_name is not None:
        # Gradients flow through the gathered rows too: without them the loss looks the same and
        # its gradient is wrong.
        everyone = jax.lax.all_gather(own, axis_name, axis=1, tiled=True)
        first = jax.lax.axis_index(axis_name) * n_pairs
    n_pairs_everywhere = everyone.shape[1]

    logits = jnp.einsum(
        "spd,tqd->sptq", own, everyone, precision=jax.lax.Precision.HIGHEST
    ).reshape(2 * n_pairs, 2 * n_pairs_everywhere)
    logits = logits / temperature
    original_column = first + jnp.arange(n_pairs)
    replica_column = original_column + n_pairs_everywhere
    own_column = jnp.concatenate([original_column, replica_column])
    partner_column = jnp.concatenate([replica_column, original_column])

    itself = own_column[:, None] == jnp.arange(2 * n_pairs_everywhere)[None, :]
    partner = jnp.take_along_axis(logits, partner_column[:, None], axis=1)[:, 0]
    everything_else = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, logits), axis=1)
    return jnp.mean(everything_else - partner)


def infonce(
    originals: jax.Array, replicas: jax.Array, *, temperature: float, axis_name: str | None = None
) -> jax.Array:
    """InfoNCE from originals to replicas alone (the released code of arXiv 2211.11060).

    Cross-entropy of finding the replica of an original among the replicas of the whole batch:
    ``-log(exp(a_i b_i / t) / sum_k exp(a_i b_k / t))``. Other originals are no negatives, and
    replicas do not look for their originals. Computed in float32.

    Args:
        originals: ``(b, d)``, unit norm.
        replicas: ``(b, d)``, unit norm; row i is the replica of original i.
        temperature: Divides the inner products.
        axis_name: As in `ntxent`.

    Returns:
        Scalar: the mean over the originals of this device.
    """
    everyone, first = gathered(replicas.astype(jnp.float32), axis_name)
    logits = inner_products(originals.astype(jnp.float32), everyone) / temperature
    replica_column = first + jnp.arange(len(originals))
    replica = jnp.take_along_axis(logits, replica_column[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - replica)


_LOSSES: Mapping[str, Callable] = {
    loss.__name__: loss for loss in (ntxent, infonce, triplet_np, triplet_nmfp, triplet_shuffled)
}
_TAKE_SEVERAL_POSITIVES = (triplet_np, triplet_nmfp)
_ROWS = ("originals", "replicas", "axis_name")


def build_loss(section: Mapping, n_positives: int = 1) -> Callable[..., jax.Array]:
    """The loss that ``config.loss`` names, with the section's other values as its settings.

    Args:
        section: ``name`` is one of "ntxent", "infonce", "triplet_np", "triplet_nmfp" and
            "triplet_shuffled"; the other keys are that function's settings.
        n_positives: Replicas of each original; more than one only with the first two triplets.

    Returns:
        ``loss(originals (b, d), replicas (b * n_positives, d), axis_name=None) -> scalar``.

    Raises:
        ConfigError: an unknown loss, settings that it does not have or that cannot work, or more
            positives than it takes.
    """
    settings = dict(section)
    name = settings.pop("name", None)
    if name not in _LOSSES:
        raise ConfigError(f"loss.name is {name!r}; choose one of {', '.join(sorted(_LOSSES))}.")
    loss = _LOSSES[name]
    _check_settings(name, settings)
    if n_positives != 1 and loss not in _TAKE_SEVERAL_POSITIVES:
        several = " or ".join(takes.__name__ for takes in _TAKE_SEVERAL_POSITIVES)
        raise ConfigError(
            f"pairs.n_positives is {n_positives}, but the loss {name} takes one replica of each "
            f"original: set it to 1 or choose {several}."
        )
    return functools.partial(loss, **settings)


def _check_settings(name: str, settings: Mapping) -> None:
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(_LOSSES[name]).parameters.items()
        if key not in _ROWS
    }
    required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
    if not required <= set(settings) <= set(parameters):
        optional = "".join(f", {key!r} if wanted" for key in sorted(set(parameters) - required))
        raise ConfigError(
            f"loss has the settings {sorted(settings)}, but {name} takes exactly "
            f"{', '.join(map(repr, sorted(required)))}{optional}."
        )
    for key in ("temperature", "margin"):
        value = settings.get(key, 1)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and value > 0):
            raise ConfigError(f"loss.{key} is {value!r}, but it has to be a positive number.")
    if not isinstance(settings.get("squared", False), bool):
        raise ConfigError(f"loss.squared is {settings['squared']!r}; choose True or False.")
    if settings.get("mean_over", "all") not in ("all", "violating"):
        raise ConfigError(
            f"loss.mean_over is {settings['mean_over']!r}; choose 'violating' or 'all'."
        )
