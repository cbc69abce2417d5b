"""Contrastive losses over (original, replica) pairs, on one device or across all of them."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fingerprint.errors import ConfigError


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


_LOSSES: Mapping[str, Callable] = {"ntxent": ntxent}


def build_loss(section: Mapping) -> Callable[..., jax.Array]:
    """The loss that ``config.loss`` names, with the section's other values as its settings.

    Returns:
        ``loss(originals (b, d), replicas (b, d), axis_name=None) -> scalar``.

    Raises:
        ConfigError: an unknown loss, or settings that it does not have.
    """
    settings = dict(section)
    name = settings.pop("name", None)
    if name not in _LOSSES:
        raise ConfigError(f"loss.name is {name!r}; choose one of {', '.join(sorted(_LOSSES))}.")
    if set(settings) != {"temperature"}:
        raise ConfigError(
            f"loss has the settings {sorted(settings)}, but {name} takes exactly 'temperature'."
        )
    if not settings["temperature"] > 0:
        raise ConfigError(
            f"loss.temperature is {settings['temperature']!r}, but it has to be positive."
        )
    return functools.partial(_LOSSES[name], **settings)
