"""One training step, the same program on every device: waveforms in, new parameters out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape, log_mel, spec_augment
from fingerprint.losses import build_loss
from fingerprint.optimizers import build_optimizer
from fingerprint.parallel import DEVICE_AXIS, pairs_per_device


class TrainState(NamedTuple):
    """All that a run remembers from one step to the next.

    Attributes:
        step: Number of steps done, int32; the next batch has this number.
        params: Parameters of the encoder, float32.
        opt_state: State of the optimiser.
    """

    step: Any
    params: Any
    opt_state: Any


def initial_state(config: ConfigDict) -> TrainState:
    """The state before the first step, a function of the configuration alone."""
    encoder = build_encoder(config.encoder, dtype=config.training.dtype)
    optimizer, _ = build_optimizer(config.optimizer, config.training.n_steps)
    mels = np.zeros((1, *input_shape(config)), np.float32)

    @jax.jit
    def initialize(key):
        params = encoder.init(key, mels)["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return initialize(jax.random.key(config.seed))


def build_step(config: ConfigDict) -> Callable:
    """The step of one device: ``step(state, batch) -> (state, metrics)``.

    To be compiled by `parallel.over_devices`. The batch holds ``original`` and ``replica``,
    ``(pairs_per_device, n_samples)`` float32 waveforms, and ``stop``, an int32 scalar. The metrics
    are the scalars ``loss`` and ``grad_norm`` (over all devices), ``learning_rate``, and ``stop``:
    the largest of all devices, so that all hosts hear in the same step that one was told to stop.

    Raises:
        ConfigError: the devices cannot share the batch, or a section has unknown values.
    """
    encoder = build_encoder(config.encoder, dtype=config.training.dtype)
    loss_fn = build_loss(config.loss)
    optimizer, schedule = build_optimizer(config.optimizer, config.training.n_steps)
    chunk_pairs = config.training.grad_cache_pairs or pairs_per_device(config.pairs.n_pairs)
    pairs_per_device(config.pairs.n_pairs, chunk_pairs)

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        mels = masked_log_mels(config, state.step, batch, chunk_pairs)
        loss, grads = cached_value_and_grad(encoder, loss_fn, state.params, mels)
        # Averaged outside of the differentiation: inside, every gradient would count once per
        # device.
        loss, grads = jax.lax.pmean((loss, grads), DEVICE_AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
            "stop": jax.lax.pmax(batch["stop"], DEVICE_AXIS),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def masked_log_mels(
    config: ConfigDict, step: jax.Array, batch: dict, chunk_pairs: int
) -> jax.Array:
    """Log-mels of originals and replicas with the mask of this step, in chunks of pairs.

    The mask depends on seed and step alone: it is the same on all devices, so that the global
    batch does not depend on their number.

    Returns:
        ``(n_chunks, 2, chunk_pairs, n_mels, n_frames)``.
    """
    pairs = jnp.stack([batch["original"], batch["replica"]])
    n_pairs, n_samples = pairs.shape[1:]
    mels = log_mel(
        pairs.reshape(-1, n_samples), sample_rate_hz=config.sample_rate_hz, **config.features
    )
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    mels = spec_augment(key, mels, **config.spec_augment)
    mels = mels.reshape(2, n_pairs // chunk_pairs, chunk_pairs, *mels.shape[1:])
    return jnp.moveaxis(mels, 0, 1)


def cached_value_and_grad(
    encoder: nn.Module, loss_fn: Callable, params: Any, mels: jax.Array
) -> tuple[jax.Array, Any]:
    """Loss of a batch and its exact gradient, holding one chunk's activations at a time.

    GradCache (Gao et al., arXiv 2101.06983): encode every chunk without keeping activations, take
    the loss and its gradient with respect to the embeddings, then encode each chunk again to pull
    that gradient back to the parameters. One chunk is ordinary differentiation.

    Args:
        encoder: Its embeddings of a row must not depend on other rows.
        loss_fn: As `losses.build_loss` makes it.
        params: Parameters of the encoder.
        mels: ``(n_chunks, 2, chunk_pairs, n_mels, n_frames)``, originals and replicas.

    Returns:
        The loss of this device and the gradient by ``params``, not yet averaged over devices.
    """

    def encode(params, chunk):
        embeddings = encoder.apply({"params": params}, chunk.reshape(-1, *chunk.shape[2:]))
        return embeddings.reshape(*chunk.shape[:2], -1)

    def loss_of(embeddings):
        originals, replicas = jnp.moveaxis(embeddings, 1, 0).reshape(2, -1, embeddings.shape[-1])
        return loss_fn(originals, replicas, axis_name=DEVICE_AXIS)

    if len(mels) == 1:
        return jax.value_and_grad(lambda p: loss_of(encode(p, mels[0])[None]))(params)

    loss, cotangents = jax.value_and_grad(loss_of)(jax.lax.map(lambda c: encode(params, c), mels))

    def add_gradient(total, chunk_and_cotangent):
        chunk, cotangent = chunk_and_cotangent
        _, pull_back = jax.vjp(lambda p: encode(p, chunk), params)
        return jax.tree.map(jnp.add, total, pull_back(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, _ = jax.lax.scan(add_gradient, zeros, (mels, cotangents))
    return loss, grads
