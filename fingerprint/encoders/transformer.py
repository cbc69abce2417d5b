"""The patch transformer under the balanced hash codes of Singh et al. (arXiv 2211.11060)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fingerprint.encoders.head import unit_norm
from fingerprint.encoders.norm import batch_norm
from fingerprint.encoders.settings import DTYPES, require_choice, require_counts, require_divisor
from fingerprint.errors import ConfigError

TOKENS = ("transposed", "scrambled")
_LAYER_NORM_EPSILON = 1e-5


def sinusoidal_positions(n_positions: int, d_model: int) -> np.ndarray:
    """Sines at even and cosines at odd places (Vaswani et al., arXiv 1706.03762, section 3.5).

    Returns:
        ``(n_positions, d_model)`` float32.
    """
    pairs = np.arange(0, d_model, 2)
    angles = np.arange(n_positions)[:, None] / 10_000.0 ** (pairs / d_model)
    positions = np.zeros((n_positions, d_model), np.float32)
    positions[:, 0::2] = np.sin(angles)
    positions[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return positions


class TransformerLayer(nn.Module):
    """Self-attention, then two dense layers, each added to its input and then normalised.

    Attributes:
        n_heads: of the attention; has to divide the size of a token.
        feed_forward_units: between the two dense layers, with ReLU.
        dtype: of the products; softmax and statistics are float32.
    """

    n_heads: int
    feed_forward_units: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens ``(b, n_tokens, d_model)`` -> same shape and dtype."""
        attended = nn.MultiHeadDotProductAttention(
            self.n_heads, dtype=self.dtype, force_fp32_for_softmax=True, name="attention"
        )(x)
        x = self._norm("attention_norm")(x + attended)
        hidden = nn.relu(nn.Dense(self.feed_forward_units, dtype=self.dtype, name="expand")(x))
        hidden = nn.Dense(x.shape[-1], dtype=self.dtype, name="contract")(hidden)
        return self._norm("feed_forward_norm")(x + hidden)

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(_LAYER_NORM_EPSILON, dtype=self.dtype, name=name)


class PatchTransformer(nn.Module):
    """Patches over all mels, transformer layers, all tokens through two dense layers, unit norm.

    With its defaults it has 7,716,352 parameters for 64 x 100 inputs (0.99 s): ten tokens.
    Frames that fill no patch are left out.

    Attributes:
        patch_frames: frames of one token.
        d_model: size of a token; even.
        n_layers: transformer layers.
        n_heads: of their attention; has to divide ``d_model``.
        feed_forward_units: hidden units of a layer.
        hidden_units: between the flattened tokens and the fingerprint.
        embedding_dim: d.
        tokens: "transposed": a token is a patch. "scrambled", as in the published code, which
            reinterprets the memory of (d_model, patches) as (patches, d_model): a token mixes a
            few channels of all patches.
        dtype: of the products ("float32" or "bfloat16"); parameters, softmax, statistics and
            result are float32.
        axis_name: devices over which the statistics of a batch are averaged; None outside of
            training.

    Raises:
        ConfigError: on construction, a value that none of this allows; on a call, fewer frames
            than one patch has.
    """

    patch_frames: int = 10
    d_model: int = 128
    n_layers: int = 8
    n_heads: int = 8
    feed_forward_units: int = 2048
    hidden_units: int = 2048
    embedding_dim: int = 128
    tokens: str = "transposed"
    dtype: str = "float32"
    axis_name: str | None = None

    def __post_init__(self):
        """Refuse what cannot work, in a sentence."""
        super().__post_init__()
        require_counts(
            patch_frames=self.patch_frames,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            feed_forward_units=self.feed_forward_units,
            hidden_units=self.hidden_units,
            embedding_dim=self.embedding_dim,
        )
        require_divisor("n_heads", self.n_heads, "d_model", self.d_model)
        require_choice("tokens", self.tokens, TOKENS)
        require_choice("dtype", self.dtype, DTYPES)

    @nn.compact
    def __call__(self, mels: jax.Array, train: bool = False) -> jax.Array:
        """Log-mels ``(b, n_mels, n_frames)`` -> fingerprints ``(b, d)`` float32, unit norm."""
        dtype = jnp.dtype(self.dtype)
        x = nn.Dense(self.d_model, dtype=dtype, name="patch")(self._patches(mels))
        if self.tokens == "scrambled":
            x = jnp.swapaxes(x, 1, 2).reshape(x.shape)
        x = x + sinusoidal_positions(x.shape[1], self.d_model).astype(dtype)[None]
        for number in range(1, self.n_layers + 1):
            layer = (self.n_heads, self.feed_forward_units, dtype)
            x = TransformerLayer(*layer, name=f"layer{number}")(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(self.hidden_units, dtype=dtype, name="hidden")(x)
        x = nn.relu(batch_norm(train, self.axis_name, dtype, "hidden_norm")(x))
        x = nn.Dense(self.embedding_dim, name="out")(x.astype(jnp.float32))
        return unit_norm(batch_norm(train, self.axis_name, jnp.float32, "out_norm")(x))

    def _patches(self, mels: jax.Array) -> jax.Array:
        """``(b, n_patches, n_mels * patch_frames)``: what a convolution in steps would see."""
        b, n_mels, n_frames = mels.shape
        n_patches = n_frames // self.patch_frames
        if n_patches == 0:
            raise ConfigError(
                f"encoder.patch_frames is {self.patch_frames}, but a segment has only {n_frames} "
                "frames: choose shorter patches or longer segments."
            )
        whole = mels[:, :, : n_patches * self.patch_frames]
        patches = whole.reshape(b, n_mels, n_patches, self.patch_frames)
        return jnp.moveaxis(patches, 2, 1).reshape(b, n_patches, -1)
