"""What training minimises, as a function of embeddings: contrastive loss, code losses, weights."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import traverse_util
from ml_collections import ConfigDict

from fingerprint.balanced_hash import build_hash
from fingerprint.errors import ConfigError
from fingerprint.losses import build_loss


def build_objective(config: ConfigDict, axis_name: str | None = None) -> Callable:
    """The loss that ``config.loss`` and ``config.hash`` name, of the embeddings of one batch.

    Without a hash head it is the contrastive loss alone. With one, the head turns the embeddings
    into codes, and the loss is ``contrastive_weight * L_c`` plus the losses of the codes.

    Returns:
        ``objective(params, model_state, embeddings) -> (loss, (metrics, model_state))``, this
        device's part. ``embeddings`` is ``(1 + n_positives, b, d)``: originals, then the first
        replica of each, and so on. Of ``params`` and ``model_state`` the head's share is read
        (as in `train_step.TrainState`) and its new state returned; metrics are scalars.

    Raises:
        ConfigError: an unknown loss, settings that it does not have, or codes of several replicas.
    """
    n_positives = config.pairs.n_positives
    loss_fn = build_loss(config.loss, n_positives)

    def contrastive(embeddings: jax.Array) -> jax.Array:
        replicas = jnp.swapaxes(embeddings[1:], 0, 1).reshape(-1, embeddings.shape[-1])
        return loss_fn(embeddings[0], replicas, axis_name=axis_name)

    if config.hash is None:
        return lambda params, model_state, embeddings: (contrastive(embeddings), ({}, {}))
    if n_positives != 1:
        raise ConfigError(
            f"pairs.n_positives is {n_positives}, but the losses of binary codes compare an "
            "original with one replica: choose 1, or hash = None."
        )
    hashing = build_hash(config.hash)
    head = hashing.head(axis_name)

    def with_codes(params: Mapping, model_state: Mapping, embeddings: jax.Array):
        n_roles, b, d = embeddings.shape
        variables = {"params": params["hash_head"], "batch_stats": model_state["hash_head"]}
        codes, updated = head.apply(
            variables, embeddings.reshape(-1, d), train=True, mutable=["batch_stats"]
        )
        codes = codes.reshape(n_roles, b, -1)
        queue = model_state.get("queue", jnp.zeros((0, codes.shape[-1])))
        code_loss, metrics, queue = hashing.loss(codes[0], codes[1], queue, axis_name)
        contrastive_loss = contrastive(embeddings)
        loss = hashing.contrastive_weight * contrastive_loss + code_loss
        new_state = {"hash_head": updated["batch_stats"]}
        if "queue" in model_state:
            new_state["queue"] = queue
        return loss, ({"loss_contrastive": contrastive_loss} | metrics, new_state)

    return with_codes


def build_l2(weights: Mapping[str, float], params: Mapping) -> Callable[[Mapping], jax.Array]:
    """The penalty on large kernels, of parameters shaped as ``params``.

    Args:
        weights: ``config.l2``, from the beginning of a layer's name to its weight.
        params: Parameters of the encoder, or their shapes.

    Returns:
        ``penalty(params) -> scalar``: the sum of ``weight * sum(kernel ** 2)`` over those layers.

    Raises:
        ConfigError: no layer has such a name.
    """
    paths = traverse_util.flatten_dict(dict(params))
    layers = {path: path[-2] for path in paths if len(path) > 1 and path[-1] == "kernel"}
    weight_of_path = {}
    for beginning, weight in weights.items():
        found = [path for path, name in layers.items() if name.startswith(beginning)]
        if not found:
            raise ConfigError(
                f"l2.{beginning} is {weight!r}, but no layer of the network has a name that "
                f"begins so; there are {', '.join(sorted(set(layers.values())))}."
            )
        weight_of_path |= dict.fromkeys(found, weight)

    def penalty(params: Mapping) -> jax.Array:
        kernels = traverse_util.flatten_dict(dict(params))
        return sum(w * jnp.sum(jnp.square(kernels[path])) for path, w in weight_of_path.items())

    return penalty
