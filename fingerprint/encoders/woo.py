"""Woo's triplet network: three convolutions and two dense layers over a part of a spectrogram."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.head import unit_norm
from fingerprint.encoders.settings import DTYPES, require_choice, require_counts
from fingerprint.errors import ConfigError


class Woo(nn.Module):
    """Valid 3x3 convolutions with 2x2 max-pools between them, two dense layers, unit norm.

    With its defaults it has 85,423,754 parameters for 50 x 50 inputs, 84,938,752 of them in the
    first dense layer, and 822,572,682 for 128 x 128. No batch norm: ``train`` changes nothing.

    Attributes:
        widths: channels of the convolutions.
        dense_units: hidden units of the first dense layer.
        embedding_dim: d.
        dtype: of convolutions and first dense layer ("float32" or "bfloat16"); parameters and
            result are float32.

    Raises:
        ConfigError: on construction, a value that none of this allows; on a call, an input that
            the convolutions use up.
    """

    widths: tuple[int, ...] = (128, 128, 256)
    dense_units: int = 4096
    embedding_dim: int = 10
    dtype: str = "float32"

    def __post_init__(self):
        """Refuse what cannot work, in a sentence."""
        super().__post_init__()
        require_counts(
            widths=self.widths, dense_units=self.dense_units, embedding_dim=self.embedding_dim
        )
        require_choice("dtype", self.dtype, DTYPES)

    @nn.compact
    def __call__(self, mels: jax.Array, train: bool = False) -> jax.Array:
        """Log-mels ``(b, n_mels, n_frames)`` -> fingerprints ``(b, d)`` float32, unit norm."""
        dtype = jnp.dtype(self.dtype)
        he_uniform = nn.initializers.he_uniform()
        x = mels[..., None]
        for number, width in enumerate(self.widths, start=1):
            if number > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            if min(x.shape[1:3]) < 3:
                raise ConfigError(
                    f"An input of {mels.shape[1]} mels x {mels.shape[2]} frames leaves nothing "
                    f"for convolution {number} of encoder.widths: choose fewer or a larger input."
                )
            conv = nn.Conv(
                *(width, (3, 3)),
                padding="VALID",
                dtype=dtype,
                kernel_init=he_uniform,
                name=f"conv{number}",
            )
            x = nn.relu(conv(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(self.dense_units, dtype=dtype, kernel_init=he_uniform, name="dense1")(x)
        x = nn.relu(x).astype(jnp.float32)
        return unit_norm(nn.Dense(self.embedding_dim, kernel_init=he_uniform, name="dense2")(x))
