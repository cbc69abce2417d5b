"""Networks from log-mel spectrograms to fingerprints, all behind one contract.

``module.apply({"params": params}, mels)`` turns ``(b, n_mels, n_frames)`` float32 in [-1, 1] into
``(b, d)`` float32 of unit norm.
"""

from collections.abc import Mapping

import flax.linen as nn

from fingerprint.encoders.nafp import NAFP
from fingerprint.errors import ConfigError

_ENCODERS: Mapping[str, type[nn.Module]] = {"nafp": NAFP}
_FLAX_FIELDS = {"parent", "name"}


def build_encoder(config_encoder: Mapping, dtype: str = "float32") -> nn.Module:
    """The network that ``config.encoder`` names, with the section's other values as its settings.

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
    known = set(encoder.__dataclass_fields__) - _FLAX_FIELDS - {"dtype"}
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"encoder.{key} is not a setting of {name}, which has {', '.join(sorted(known))}."
            )
    return encoder(**settings, dtype=dtype)
