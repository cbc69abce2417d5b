"""One training step, the same program on every device: waveforms in, new parameters out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from fingerprint.balanced_hash import build_hash
from fingerprint.describe import network_shapes
from fingerprint.encoders import build_encoder
from fingerprint.errors import ConfigError
from fingerprint.features import crop, input_shape, log_mel, silence_level, spec_augment
from fingerprint.grad_cache import value_and_grad
from fingerprint.model_folder import load_encoder
from fingerprint.objective import build_l2, build_objective
from fingerprint.optimizers import build_optimizer
from fingerprint.parallel import DEVICE_AXIS, pairs_per_device
from fingerprint.pretrained import find_model


class TrainState(NamedTuple):
    """All that a run remembers from one step to the next.

    Attributes:
        step: Number of steps done, int32; the next batch has this number.
        params: ``{"encoder": ...}`` and, with codes, ``"hash_head"``; float32.
        model_state: What a network remembers that no gradient moves: ``{"encoder": batch
            statistics or {}}`` and, with codes, ``"hash_head"`` likewise and, if it has rows,
            ``"queue"``, the codes of past batches.
        opt_state: State of the optimiser, of the parameters that it moves.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any

    def encoder_variables(self) -> dict:
        """The encoder as flax and `model.save_model` take it."""
        return self._variables("encoder")

    def hash_head_variables(self) -> dict | None:
        """The hash head likewise, or None."""
        return self._variables("hash_head") if "hash_head" in self.params else None

    def _variables(self, name: str) -> dict:
        statistics = self.model_state[name]
        params = {"params": self.params[name]}
        return params | {"batch_stats": statistics} if statistics else params


def initial_state(config: ConfigDict) -> TrainState:
    """The state before the first step, a function of the configuration alone.

    The encoder starts from the model ``config.training.initial_model`` where that is given.

    Raises:
        ConfigError: the encoder is to stay as it is, but none is given.
        ModelError: that folder cannot be used, or its encoder sees something else than this one.
    """
    optimizer, _ = build_optimizer(config.optimizer, config.training.n_steps)
    key = jax.random.key(config.seed)
    encoder = _initial_encoder(config, key)
    params = {"encoder": encoder["params"]}
    model_state = {"encoder": encoder.get("batch_stats", {})}
    if config.hash is not None:
        hashing = build_hash(config.hash)
        embedding, _ = network_shapes(config)
        head = jax.jit(hashing.head(None).init)(
            jax.random.fold_in(key, 1), jnp.zeros(embedding.shape, embedding.dtype)
        )
        params["hash_head"] = head["params"]
        model_state["hash_head"] = head["batch_stats"]
        if hashing.queue_rows:  # A checkpoint holds no array without elements.
            model_state["queue"] = hashing.initial_queue(jax.random.fold_in(key, 2))
    opt_state = jax.jit(optimizer.init)(_trained(config, params))
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state)


def given_encoder(config: ConfigDict) -> dict | None:
    """Variables of the encoder of ``config.training.initial_model``; None without one.

    Raises:
        ConfigError: the encoder is to stay as it is, but none is given.
        ModelError: as `initial_state`.
    """
    model = config.training.initial_model
    if not (model or _trains_encoder(config)):
        raise ConfigError(
            "hash.train_encoder is False, which trains the head of a finished encoder: name its "
            "model folder as training.initial_model."
        )
    return load_encoder(find_model(model), config) if model else None


def _initial_encoder(config: ConfigDict, key: jax.Array) -> Mapping:
    given = given_encoder(config)
    if given is not None:
        return jax.tree.map(jnp.asarray, given)
    encoder = build_encoder(config.encoder, dtype=config.training.dtype)
    return jax.jit(encoder.init)(key, np.zeros((1, *input_shape(config)), np.float32))


def _trains_encoder(config: ConfigDict) -> bool:
    return config.hash is None or build_hash(config.hash).train_encoder


def _trained(config: ConfigDict, params: Mapping) -> dict:
    """The parameters that the optimiser moves; it never sees those of a frozen encoder."""
    return {k: v for k, v in params.items() if k != "encoder" or _trains_encoder(config)}


def build_step(config: ConfigDict) -> Callable:
    """The step of one device: ``step(state, batch) -> (state, metrics)``.

    To be compiled by `parallel.over_devices`. The batch holds ``original``, ``(p, n_samples)``
    float32 waveforms for the p pairs of a device, ``replica``, ``(p * n_positives, n_samples)``
    with those of one original one after the other, and ``stop``, an int32 scalar. The metrics are
    the scalars ``loss`` and ``grad_norm`` (over all devices), ``learning_rate``, those of the hash
    head, ``l2`` if there is such a term, and ``stop``: the largest of all devices, so that all
    hosts hear in the same step that one was told to stop.

    Raises:
        ConfigError: the devices cannot share the batch or the queue of codes, a section has
            unknown values, or the gradient of a network with batch norm would have to be taken in
            parts.
    """
    chunk_pairs = config.training.grad_cache_pairs or pairs_per_device(config.pairs.n_pairs)
    pairs_per_device(config.pairs.n_pairs, chunk_pairs)
    if config.hash is not None:
        build_hash(config.hash).queue_rows_per_device(jax.device_count())
    _, shapes = network_shapes(config)
    _check_grad_cache(config, shapes)
    encoder = build_encoder(config.encoder, dtype=config.training.dtype, axis_name=DEVICE_AXIS)
    objective = build_objective(config, DEVICE_AXIS)
    optimizer, schedule = build_optimizer(config.optimizer, config.training.n_steps)
    penalty = None
    if config.l2 is not None and _trains_encoder(config):
        penalty = build_l2(config.l2, shapes["params"])

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        mels = masked_log_mels(config, state.step, batch, chunk_pairs, DEVICE_AXIS)
        (loss, (metrics, model_state)), grads = value_and_grad(
            encoder, objective, state.params, state.model_state, mels, _trains_encoder(config)
        )
        # Averaged outside of the differentiation: inside, every gradient would count once per
        # device.
        loss, metrics, grads = jax.lax.pmean((loss, metrics, grads), DEVICE_AXIS)
        trained = _trained(config, state.params)
        if penalty is not None:
            metrics["l2"], l2_grads = jax.value_and_grad(penalty)(trained["encoder"])
            loss += metrics["l2"]
            grads["encoder"] = jax.tree.map(jnp.add, grads["encoder"], l2_grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        metrics |= {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
            "stop": jax.lax.pmax(batch["stop"], DEVICE_AXIS),
        }
        params = state.params | optax.apply_updates(trained, updates)
        return TrainState(state.step + 1, params, model_state, opt_state), metrics

    return step


def _check_grad_cache(config: ConfigDict, variables: Mapping) -> None:
    chunk_pairs = config.training.grad_cache_pairs
    in_parts = chunk_pairs and chunk_pairs < pairs_per_device(config.pairs.n_pairs)
    if in_parts and _trains_encoder(config) and "batch_stats" in variables:
        raise ConfigError(
            f"training.grad_cache_pairs is {chunk_pairs}, but the encoder "
            f"{config.encoder.name!r} has batch norm, whose statistics of a part are not those of "
            "the batch: choose 0, with fewer pairs.n_pairs where memory is short."
        )


def masked_log_mels(
    config: ConfigDict,
    step: jax.Array,
    batch: Mapping,
    chunk_pairs: int,
    axis_name: str | None = None,
) -> jax.Array:
    """Log-mels of originals and replicas with crop and mask of this step, in chunks of pairs.

    The mask depends on seed and step alone, the crop of a pair on its place in the global batch
    as well: what is learned does not depend on the number of devices.

    Args:
        config: The configuration.
        step: Number of steps done.
        batch: ``original`` ``(p, n_samples)`` and ``replica`` ``(p * n_positives, n_samples)``.
        chunk_pairs: A divisor of p.
        axis_name: Axis of ``jax.pmap`` over which the batch is spread.

    Returns:
        ``(n_chunks, 1 + n_positives, chunk_pairs, n_mels, n_frames)``, originals first.
    """
    waveforms = _by_role(batch["original"], batch["replica"])
    n_roles, n_pairs, n_samples = waveforms.shape
    mels = log_mel(
        waveforms.reshape(-1, n_samples), sample_rate_hz=config.sample_rate_hz, **config.features
    )
    mels = mels.reshape(n_roles, n_pairs, *mels.shape[1:])
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    if config.crop is not None:
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n_pairs
        # The mask splits the same key, which makes its first few numbers.
        mels = _random_crops(config, jax.random.fold_in(key, 100), first, mels)
    mels = _masked(config, key, mels)
    mels = mels.reshape(n_roles, n_pairs // chunk_pairs, chunk_pairs, *mels.shape[2:])
    return jnp.moveaxis(mels, 0, 1)


def _by_role(originals: jax.Array, replicas: jax.Array) -> jax.Array:
    """``(1 + n_positives, p, n_samples)``: originals, first replicas, second ones, ..."""
    p, n_samples = originals.shape
    replicas = jnp.swapaxes(replicas.reshape(p, -1, n_samples), 0, 1)
    return jnp.concatenate([originals[None], replicas])


def _random_crops(config: ConfigDict, key: jax.Array, first: Any, mels: jax.Array) -> jax.Array:
    """Crop each pair of ``(n_roles, p, n_mels, n_frames)``, which begin at pair ``first``."""

    def crop_pair(pair: jax.Array, mels: jax.Array) -> jax.Array:
        pair_key = jax.random.fold_in(key, pair)
        return crop(mels[:, None], key=pair_key, **config.crop)[:, 0]

    pairs = first + jnp.arange(mels.shape[1])
    return jax.vmap(crop_pair, in_axes=(0, 1), out_axes=1)(pairs, mels)


def _masked(config: ConfigDict, key: jax.Array, mels: jax.Array) -> jax.Array:
    """Apply one mask to all of ``(n_roles, p, n_mels, n_frames)``, or to all but the originals."""
    settings = dict(config.spec_augment)
    n_spared = {"both": 0, "replicas": 1}[settings.pop("masked")]
    rows = mels[n_spared:].reshape(-1, *mels.shape[2:])
    masked = spec_augment(key, rows, **settings, fill=silence_level(config.features))
    return jnp.concatenate([mels[:n_spared], masked.reshape(-1, *mels.shape[1:])])
