"""Convolutions over three neighbours along one axis, in two formulations with the same parameters.

XLA's strided 1x3 and 3x1 convolutions are fast on accelerators; on CPU their backward pass is
several times slower than the matrix products into which a convolution can be taken apart.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_SIZE = 3
CONV_IMPLS = ("auto", "native", "taps")


def conv_native(x: jax.Array, kernel: jax.Array, *, axis: int, stride: int) -> jax.Array:
    """One ``lax.conv_general_dilated``; arguments and result as of :func:`conv_taps`."""
    other = 3 - axis
    return jax.lax.conv_general_dilated(
        x,
        jnp.expand_dims(kernel, other - 1),
        window_strides=(stride, 1) if axis == 1 else (1, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def conv_taps(x: jax.Array, kernel: jax.Array, *, axis: int, stride: int) -> jax.Array:
    """The sum of one matrix product per kernel tap.

    Args:
        x: ``(b, n_mels, n_frames, c_in)``.
        kernel: ``(3, c_in, c_out)``.
        axis: 1 convolves over mels, 2 over frames; SAME padding.
        stride: along that axis.

    Returns:
        ``(b, n_mels', n_frames', c_out)``.
    """
    n_out = -(-x.shape[axis] // stride)
    missing = max(0, (n_out - 1) * stride + KERNEL_SIZE - x.shape[axis])
    padding = [(0, 0)] * 4
    padding[axis] = (missing // 2, missing - missing // 2)
    padded = jnp.pad(x, padding)
    last = (n_out - 1) * stride + 1
    taps = (
        jax.lax.slice_in_dim(padded, tap, tap + last, stride, axis) @ kernel[tap]
        for tap in range(KERNEL_SIZE)
    )
    return sum(taps)


def resolve_conv_impl(conv_impl: str) -> str:
    """The formulation for the device that jax computes on: "auto" is "taps" on CPU."""
    if conv_impl != "auto":
        return conv_impl
    return "taps" if jax.default_backend() == "cpu" else "native"


class AxisConv(nn.Module):
    """Convolution over three neighbours along one axis: Glorot-uniform, zero bias, SAME padding.

    Attributes:
        features: channels of the result.
        axis: 1 convolves over mels, 2 over frames.
        stride: along that axis.
        dtype: of the computation; the parameters are float32.
        conv_impl: "native", "taps", or "auto" for the faster one on this device.
    """

    features: int
    axis: int
    stride: int
    dtype: jnp.dtype = jnp.float32
    conv_impl: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``(b, n_mels, n_frames, c_in)`` -> ``(b, n_mels', n_frames', features)``."""
        shape = (KERNEL_SIZE, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        convolve = conv_native if resolve_conv_impl(self.conv_impl) == "native" else conv_taps
        y = convolve(
            x.astype(self.dtype), kernel.astype(self.dtype), axis=self.axis, stride=self.stride
        )
        return y + bias.astype(self.dtype)[None, None, None]
