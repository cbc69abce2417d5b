"""The attention network of Singh et al. (arXiv 2210.08624): a residual network with masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.head import DivideAndEncode, unit_norm
from fingerprint.encoders.norm import batch_norm
from fingerprint.encoders.settings import DTYPES, require_choice, require_counts, require_divisor
from fingerprint.errors import ConfigError


class SpectralTemporalMask(nn.Module):
    """Weighs every (mel, frame) of each channel by what that channel itself shows.

    Per channel: ``softmax over mels of tanh(X w_frames)`` times ``softmax over frames of
    tanh(X^T w_mels)`` times ``scale``. The poster leaves the tanh out and prints ``X^T`` in both
    products; this is the form of the authors' code, the only one whose shapes fit.

    Attributes:
        scale: The mask's sum over mels and frames; its mean is ``scale / (n_mels * n_frames)``.
        init_std: Standard deviation of the initial weights; the published 1.0 saturates the tanh
            over many frames, where gradients are chaotic.
    """

    scale: float = 100.0
    init_std: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``(b, n_mels, n_frames, c)`` -> same shape and dtype; computed in float32."""
        _, n_mels, n_frames, channels = x.shape
        normal = nn.initializers.normal(self.init_std)
        over_frames = self.param("over_frames", normal, (n_frames, channels))
        over_mels = self.param("over_mels", normal, (n_mels, channels))
        values = x.astype(jnp.float32)
        per_mel = jnp.tanh(jnp.sum(values * over_frames[None, None], axis=2))
        per_frame = jnp.tanh(jnp.sum(values * over_mels[None, :, None], axis=1))
        mask = (
            self.scale
            * jax.nn.softmax(per_mel, axis=1)[:, :, None]
            * jax.nn.softmax(per_frame, axis=1)[:, None]
        )
        return (values * mask).astype(x.dtype)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut, a mask after each ReLU.

    Attributes:
        width: channels of the result.
        stride: of the first convolution, along both axes; beyond 1 the shortcut is a 1x1
            convolution with the same stride.
        attention: False leaves the masks out, as if they were 1.
        mask_scale: see :class:`SpectralTemporalMask`.
        mask_init_std: likewise.
        dtype: of the convolutions.
        axis_name: devices over which the statistics of a batch are averaged.
    """

    width: int
    stride: int
    attention: bool
    mask_scale: float
    mask_init_std: float
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """``(b, n_mels, n_frames, c)`` -> ``(b, n_mels', n_frames', width)``."""
        y = _conv3x3(self.width, self.stride, self.dtype, "conv1")(x)
        y = self._mask(nn.relu(self._norm(train, "norm1")(y)), "mask1")
        y = _conv3x3(self.width, 1, self.dtype, "conv2")(y)
        y = self._norm(train, "norm2")(y)
        if self.stride > 1:
            strides = (self.stride, self.stride)
            x = nn.Conv(self.width, (1, 1), strides, dtype=self.dtype, name="shortcut")(x)
        return self._mask(nn.relu(x + y), "mask2")

    def _norm(self, train: bool, name: str) -> nn.BatchNorm:
        return batch_norm(train, self.axis_name, self.dtype, name)

    def _mask(self, x: jax.Array, name: str) -> jax.Array:
        if not self.attention:
            return x
        return SpectralTemporalMask(self.mask_scale, self.mask_init_std, name=name)(x)


class AttentionNetwork(nn.Module):
    """A convolution, residual blocks that halve both axes from the second on, a grouped head.

    With its defaults it has 19,853,568 parameters for 64 x 96 inputs (0.95 s). The published
    head, a grouped convolution over the flattened channels, is NAFP's divide-and-encode.

    Attributes:
        widths: channels of the blocks; the first one also of the convolution before them.
        embedding_dim: d; has to divide the last width, so that a slice is whole channels.
        head_units: hidden units per dimension of the embedding.
        attention: False leaves the masks out, for the ablation.
        mask_scale: see :class:`SpectralTemporalMask`.
        mask_init_std: likewise.
        dtype: of the convolutions ("float32" or "bfloat16"); parameters, masks, statistics, head
            and result are float32.
        axis_name: devices over which the statistics of a batch are averaged; None outside of
            training.

    Raises:
        ConfigError: on construction, a value that none of this allows.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    embedding_dim: int = 128
    head_units: int = 32
    attention: bool = True
    mask_scale: float = 100.0
    mask_init_std: float = 1.0
    dtype: str = "float32"
    axis_name: str | None = None

    def __post_init__(self):
        """Refuse what cannot work, in a sentence."""
        super().__post_init__()
        require_counts(widths=self.widths, head_units=self.head_units)
        require_divisor("embedding_dim", self.embedding_dim, "the last width", self.widths[-1])
        require_choice("attention", self.attention, (True, False))
        require_choice("dtype", self.dtype, DTYPES)
        for name in ("mask_scale", "mask_init_std"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but it has to be positive.")

    @nn.compact
    def __call__(self, mels: jax.Array, train: bool = False) -> jax.Array:
        """Log-mels ``(b, n_mels, n_frames)`` -> fingerprints ``(b, d)`` float32, unit norm."""
        dtype = jnp.dtype(self.dtype)
        x = _conv3x3(self.widths[0], 1, dtype, "conv")(mels[..., None])
        x = nn.relu(batch_norm(train, self.axis_name, dtype, "norm")(x))
        masks = (self.attention, self.mask_scale, self.mask_init_std)
        for number, width in enumerate(self.widths, start=1):
            stride = 1 if number == 1 else 2
            block = ResidualBlock(
                *(width, stride, *masks, dtype, self.axis_name), name=f"block{number}"
            )
            x = block(x, train)
        # Channels first: a slice of the head holds some channels at every mel and frame.
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1).astype(jnp.float32)
        return unit_norm(DivideAndEncode(self.embedding_dim, self.head_units, name="head")(x))


def _conv3x3(width: int, stride: int, dtype: jnp.dtype, name: str) -> nn.Conv:
    # One zero on each side, as published: with SAME a stride of 2 would pad one end alone.
    return nn.Conv(width, (3, 3), (stride, stride), padding=1, dtype=dtype, name=name)
