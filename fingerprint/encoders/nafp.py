"""The encoder of NAFP (Chang et al., arXiv 2010.11910, section 3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.norm import SegmentNorm
from fingerprint.encoders.separable import CONV_IMPLS, AxisConv
from fingerprint.errors import ConfigError

FRAME_STRIDES = (2, 2, 2, 2, 1, 2, 1, 2)
MEL_STRIDE = 2
BLOCK_ORDERS = ("conv_norm_relu", "conv_elu_norm")
NORM_AFFINES = ("joint", "channel")


class DivideAndEncode(nn.Module):
    """The projection head: each of ``d`` slices of the input becomes one number.

    Lai et al., arXiv 1504.03410, as Chang et al. use it: per slice, with weights of its own,
    a dense layer with ELU and a dense layer with one output.
    """

    embedding_dim: int
    units: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``(b, h)`` -> ``(b, d)``, with d a divisor of h."""
        d, v, u = self.embedding_dim, x.shape[-1] // self.embedding_dim, self.units
        glorot = nn.initializers.glorot_uniform(batch_axis=(0,))
        zeros = nn.initializers.zeros_init()
        hidden = jnp.einsum(
            "bdv,dvu->bdu", x.reshape(-1, d, v), self.param("hidden_kernel", glorot, (d, v, u))
        )
        hidden = nn.elu(hidden + self.param("hidden_bias", zeros, (d, u))[None])
        out = jnp.einsum("bdu,dux->bdx", hidden, self.param("out_kernel", glorot, (d, u, 1)))
        return (out + self.param("out_bias", zeros, (d, 1))[None])[:, :, 0]


class NAFP(nn.Module):
    """Eight spatially separable convolution blocks, a divide-and-encode head, unit norm.

    A block convolves over frames (1x3), then over mels (3x1), all channels mixed. With
    d = 128 it has 16,939,008 parameters for 256 x 32 inputs (1 s), 19,224,576 for 256 x 63 (2 s).

    Attributes:
        widths: channels of the eight blocks.
        embedding_dim: d; has to divide the width of the last block.
        head_units: hidden units per dimension of the embedding.
        norm_affine: "joint" or "channel"; see :class:`fingerprint.encoders.norm.SegmentNorm`.
        block_order: "conv_norm_relu" as in the paper, "conv_elu_norm" as in the authors' code.
        dtype: of the convolutions ("float32" or "bfloat16"); parameters, statistics, head and
            result are float32.
        conv_impl: see :class:`fingerprint.encoders.separable.AxisConv`.

    Raises:
        ConfigError: on construction, a value that none of this allows.
    """

    widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512, 1024, 1024)
    embedding_dim: int = 128
    head_units: int = 32
    norm_affine: str = "joint"
    block_order: str = "conv_norm_relu"
    dtype: str = "float32"
    conv_impl: str = "auto"

    def __post_init__(self):
        """Refuse what cannot work, in a sentence."""
        super().__post_init__()
        for name, allowed in (
            ("norm_affine", NORM_AFFINES),
            ("block_order", BLOCK_ORDERS),
            ("dtype", ("float32", "bfloat16")),
            ("conv_impl", CONV_IMPLS),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                )
        if len(self.widths) != len(FRAME_STRIDES):
            raise ConfigError(
                f"widths is {tuple(self.widths)!r}, but NAFP has {len(FRAME_STRIDES)} blocks: "
                "give one width for each."
            )
        if self.embedding_dim < 1 or self.widths[-1] % self.embedding_dim:
            raise ConfigError(
                f"embedding_dim is {self.embedding_dim}, but the last width, {self.widths[-1]}, "
                "is cut into that many equal slices: choose a divisor of it."
            )

    @nn.compact
    def __call__(self, mels: jax.Array) -> jax.Array:
        """Log-mels ``(b, n_mels, n_frames)`` -> fingerprints ``(b, d)`` float32, unit norm."""
        x = mels[..., None]
        for block, (width, frame_stride) in enumerate(
            zip(self.widths, FRAME_STRIDES, strict=True), start=1
        ):
            x = self._conv(x, width, 2, frame_stride, f"block{block}_frames")
            x = self._conv(x, width, 1, MEL_STRIDE, f"block{block}_mels")
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        x = DivideAndEncode(self.embedding_dim, self.head_units, name="head")(x)
        # Inside the root, so that the gradient of a zero vector is finite.
        return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)

    def _conv(self, x: jax.Array, width: int, axis: int, stride: int, name: str) -> jax.Array:
        conv = AxisConv(width, axis, stride, jnp.dtype(self.dtype), self.conv_impl, name=name)
        norm = SegmentNorm(self.norm_affine, self.conv_impl, name=f"{name}_norm")
        if self.block_order == "conv_norm_relu":
            return nn.relu(norm(conv(x)))
        return norm(nn.elu(conv(x)))
