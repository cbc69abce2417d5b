"""The encoder of NAFP (Chang et al., arXiv 2010.11910, section 3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.head import DivideAndEncode, unit_norm
from fingerprint.encoders.norm import SegmentNorm
from fingerprint.encoders.separable import CONV_IMPLS, AxisConv
from fingerprint.encoders.settings import DTYPES, require_choice, require_counts, require_divisor
from fingerprint.errors import ConfigError

FRAME_STRIDES = (2, 2, 2, 2, 1, 2, 1, 2)
MEL_STRIDE = 2
BLOCK_ORDERS = ("conv_norm_relu", "conv_elu_norm")
NORM_AFFINES = ("joint", "channel")


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
        require_choice("norm_affine", self.norm_affine, NORM_AFFINES)
        require_choice("block_order", self.block_order, BLOCK_ORDERS)
        require_choice("dtype", self.dtype, DTYPES)
        require_choice("conv_impl", self.conv_impl, CONV_IMPLS)
        require_counts(widths=self.widths, head_units=self.head_units)
        if len(self.widths) != len(FRAME_STRIDES):
            raise ConfigError(
                f"widths is {tuple(self.widths)!r}, but NAFP has {len(FRAME_STRIDES)} blocks: "
                "give one width for each."
            )
        require_divisor("embedding_dim", self.embedding_dim, "the last width", self.widths[-1])

    @nn.compact
    def __call__(self, mels: jax.Array, train: bool = False) -> jax.Array:
        """Log-mels ``(b, n_mels, n_frames)`` -> fingerprints ``(b, d)`` float32, unit norm.

        Without batch norm ``train`` changes nothing.
        """
        x = mels[..., None]
        for block, (width, frame_stride) in enumerate(
            zip(self.widths, FRAME_STRIDES, strict=True), start=1
        ):
            x = self._conv(x, width, 2, frame_stride, f"block{block}_frames")
            x = self._conv(x, width, 1, MEL_STRIDE, f"block{block}_mels")
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return unit_norm(DivideAndEncode(self.embedding_dim, self.head_units, name="head")(x))

    def _conv(self, x: jax.Array, width: int, axis: int, stride: int, name: str) -> jax.Array:
        conv = AxisConv(width, axis, stride, jnp.dtype(self.dtype), self.conv_impl, name=name)
        norm = SegmentNorm(self.norm_affine, self.conv_impl, name=f"{name}_norm")
        if self.block_order == "conv_norm_relu":
            return nn.relu(norm(conv(x)))
        return norm(nn.elu(conv(x)))
