"""Networks from log-mel spectrograms to fingerprints, all behind one contract.

``module.apply(variables, mels)`` turns ``(b, n_mels, n_frames)`` float32 in [-1, 1] into ``(b, d)``
float32 of unit norm. ``variables`` holds ``params`` and, for networks with batch norm,
``batch_stats``; in training ``module.apply(variables, mels, train=True, mutable=["batch_stats"])``
also returns the new statistics.
"""

from collections.abc import Mapping

import flax.linen as nn

from fingerprint.encoders.attention import AttentionNetwork
from fingerprint.encoders.nafp import NAFP
from fingerprint.encoders.transformer import PatchTransformer
from fingerprint.encoders.woo import Woo
from fingerprint.errors import ConfigError

_ENCODERS: Mapping[str, type[nn.Module]] = {
    "nafp": NAFP,
    "attention": AttentionNetwork,
    "transformer": PatchTransformer,
    "woo": Woo,
}
# Fields of a module that are no settings: Flax's own, and what the caller decides.
_OTHER_FIELDS = {"parent", "name", "dtype", "axis_name"}


def build_encoder(
    config_encoder: Mapping, dtype: str = "float32", axis_name: str | None = None
) -> nn.Module:
    """The network that ``config.encoder`` names, with the section's other values as its settings.

    Args:
        config_encoder: ``name`` and settings of that network.
        dtype: of its products, "float32" or "bfloat16".
        axis_name: axis of ``jax.pmap`` over which batch norm averages its statistics in training;
            networks without batch norm ignore it.

    Raises:
        ConfigError: an unknown network, a setting that it does not have or cannot take.
    """
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in dict(config_encoder).items()
    }
    name = settings.pop("name", None)
    if name not in _ENCODERS:
        raise ConfigError(f"encoder.name is {name!r}; choose one of {', '.join(_ENCODERS)}.")
    encoder = _ENCODERS[name]
    fields = set(encoder.__dataclass_fields__)
    known = fields - _OTHER_FIELDS
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"encoder.{key} is not a setting of {name}, which has {', '.join(sorted(known))}."
            )
    if "axis_name" in fields:
        settings["axis_name"] = axis_name
    return encoder(**settings, dtype=dtype)
