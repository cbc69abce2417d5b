"""Loss and gradient of a batch, in one go or holding one part's activations at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def value_and_grad(
    encoder: nn.Module,
    objective: Callable,
    params: Mapping,
    model_state: Mapping,
    mels: jax.Array,
    train_encoder: bool = True,
) -> tuple[tuple[jax.Array, tuple[dict, dict]], dict]:
    """Loss of a batch and its exact gradient.

    One chunk is ordinary differentiation. Several are GradCache (Gao et al., arXiv 2101.06983):
    encode every chunk without keeping activations, take the loss and its gradient with respect to
    the embeddings, then encode each chunk again to pull that gradient back to the parameters.

    Args:
        encoder: With several chunks its embeddings of a row must not depend on other rows.
        objective: As `objective.build_objective` makes it.
        params: As in `train_step.TrainState`.
        model_state: Likewise.
        mels: ``(n_chunks, n_roles, chunk_pairs, n_mels, n_frames)``, originals and replicas.
        train_encoder: False takes the encoder as it is in use, and no gradient of it.

    Returns:
        ``((loss, (metrics, new_model_state)), gradient by params)`` of this device, not yet
        averaged over devices; the gradient of an encoder that is not trained is left out.
    """
    if not train_encoder:
        frozen = {"params": params["encoder"], "batch_stats": model_state["encoder"]}
        embeddings = jax.lax.map(lambda chunk: _apply(encoder, frozen, chunk), mels)
        result, grads, _ = _through_embeddings(objective, params, model_state, embeddings)
        return result, grads
    if len(mels) > 1:
        return _in_chunks(encoder, objective, params, model_state, mels)

    def loss_of(params):
        variables = {"params": params["encoder"], "batch_stats": model_state["encoder"]}
        embeddings, updated = _apply(
            encoder, variables, mels[0], train=True, mutable=["batch_stats"]
        )
        loss, (metrics, state) = objective(params, model_state, embeddings)
        return loss, (metrics, {"encoder": updated.get("batch_stats", {}), **state})

    return jax.value_and_grad(loss_of, has_aux=True)(params)


def _in_chunks(encoder, objective, params, model_state, mels):
    def encode(encoder_params, chunk):
        return _apply(encoder, {"params": encoder_params}, chunk, train=True)

    embeddings = jax.lax.map(lambda chunk: encode(params["encoder"], chunk), mels)
    result, grads, cotangents = _through_embeddings(objective, params, model_state, embeddings)

    def add_gradient(total, chunk_and_cotangent):
        chunk, cotangent = chunk_and_cotangent
        _, pull_back = jax.vjp(lambda p: encode(p, chunk), params["encoder"])
        return jax.tree.map(jnp.add, total, pull_back(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params["encoder"])
    encoder_grads, _ = jax.lax.scan(add_gradient, zeros, (mels, cotangents))
    return result, {"encoder": encoder_grads, **grads}


def _through_embeddings(objective, params, model_state, embeddings):
    """The objective of ``(n_chunks, n_roles, chunk_pairs, d)``, and its gradients.

    Returns:
        Loss with metrics and state; the gradient by all parameters but the encoder's; that by
        the embeddings.
    """
    others = {name: values for name, values in params.items() if name != "encoder"}

    def loss_of(others, embeddings):
        n_roles, d = embeddings.shape[1], embeddings.shape[-1]
        by_role = jnp.swapaxes(embeddings, 0, 1).reshape(n_roles, -1, d)
        loss, (metrics, state) = objective(others, model_state, by_role)
        return loss, (metrics, {"encoder": model_state["encoder"], **state})

    result, (grads, cotangents) = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
        others, embeddings
    )
    return result, grads, cotangents


def _apply(encoder: nn.Module, variables: Mapping, chunk: jax.Array, **how: Any) -> Any:
    """Embeddings ``(n_roles, chunk_pairs, d)``, with what else the encoder is asked for."""
    rows = chunk.reshape(-1, *chunk.shape[2:])
    result = encoder.apply(variables, rows, **how)
    embeddings, *others = result if isinstance(result, tuple) else (result,)
    embeddings = embeddings.reshape(*chunk.shape[:2], -1)
    return (embeddings, *others) if others else embeddings
