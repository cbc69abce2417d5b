"""Convolutions over three neighbours along one axis, in two formulations with the same parameters.

XLA's strided 1x3 and 3x1 convolutions are fast on accelerators. On CPU the matrix products into
which such a convolution can be taken apart are several times faster, and more so backwards.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_SIZE = 3
CONV_IMPLS = ("auto", "native", "taps")


def conv_native(x: jax.Array, kernel: jax.Array, axis: int, stride: int) -> jax.Array:
    """One ``lax.conv_general_dilated``; arguments and result as of :func:`conv_taps`."""
    return jax.lax.conv_general_dilated(
        x,
        jnp.expand_dims(kernel, 2 - axis),
        window_strides=(stride, 1) if axis == 1 else (1, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@dataclasses.dataclass(frozen=True)
class _Taps:
    """Where the taps of a SAME convolution fall on ``n_in`` values of ``axis``."""

    axis: int
    stride: int
    n_in: int

    @property
    def n_out(self) -> int:
        return -(-self.n_in // self.stride)

    @property
    def n_before(self) -> int:
        return max(0, (self.n_out - 1) * self.stride + KERNEL_SIZE - self.n_in) // 2

    @property
    def reach(self) -> int:
        """Distance that one tap travels over the input, both ends counted."""
        return (self.n_out - 1) * self.stride + 1

    @property
    def used(self) -> list[int]:
        """Taps that see more than padding: short inputs spare the products of the others."""
        end = self.n_before + self.n_in
        return [t for t in range(KERNEL_SIZE) if t < end and t + self.reach > self.n_before]

    def neighbours(self, x: jax.Array) -> list[jax.Array]:
        """For each used tap the input values that it sees, each ``(..., n_out, ..., c)``."""
        n_after = max(0, KERNEL_SIZE - 1 + self.reach - self.n_before - self.n_in)
        padded = self.pad(x, self.n_before, n_after)
        return [
            jax.lax.slice_in_dim(padded, tap, tap + self.reach, self.stride, self.axis)
            for tap in self.used
        ]

    def scatter(self, per_tap: list[jax.Array]) -> jax.Array:
        """The transpose of :meth:`neighbours`: every value back to its place, sums where they meet.

        Values are interleaved rather than spread with zeros and added, which costs XLA on CPU
        more than the products.
        """
        phases = []
        n_rows = self.n_out + (KERNEL_SIZE - 1) // self.stride
        for phase in range(self.stride):
            shifted = [
                self.pad(values, tap // self.stride, n_rows - self.n_out - tap // self.stride)
                for tap, values in zip(self.used, per_tap, strict=True)
                if tap % self.stride == phase
            ]
            phases.append(sum(shifted[1:], shifted[0]) if shifted else None)
        empty = jnp.zeros_like(next(phase for phase in phases if phase is not None))
        rows = jnp.stack([empty if p is None else p for p in phases], axis=self.axis + 1)
        shape = list(per_tap[0].shape)
        shape[self.axis] = n_rows * self.stride
        first = self.n_before
        return jax.lax.slice_in_dim(rows.reshape(shape), first, first + self.n_in, 1, self.axis)

    def pad(self, x: jax.Array, n_before: int, n_after: int) -> jax.Array:
        """Zeros before and after, along the axis."""
        widths = [(0, 0)] * x.ndim
        widths[self.axis] = (n_before, n_after)
        return jnp.pad(x, widths)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_taps(x: jax.Array, kernel: jax.Array, axis: int, stride: int) -> jax.Array:
    """The sum of one matrix product per kernel tap, with gradients made of such products too.

    Args:
        x: ``(b, n_mels, n_frames, c_in)``.
        kernel: ``(3, c_in, c_out)``.
        axis: 1 convolves over mels, 2 over frames; SAME padding.
        stride: 1 or 2, along that axis.

    Returns:
        ``(b, n_mels', n_frames', c_out)``.
    """
    taps = _Taps(axis, stride, x.shape[axis])
    neighbours = taps.neighbours(x)
    if x.shape[-1] == 1:
        # One product of three columns: a single column makes no matrix product.
        return jnp.concatenate(neighbours, axis=-1) @ kernel[jnp.array(taps.used), 0]
    return sum(values @ kernel[tap] for tap, values in zip(taps.used, neighbours, strict=True))


def _forward(x, kernel, axis, stride):
    return conv_taps(x, kernel, axis, stride), (x, kernel)


def _backward(axis, stride, kept, dy):
    x, kernel = kept
    taps = _Taps(axis, stride, x.shape[axis])
    # Without the barrier XLA fuses whatever dy was computed from into a transposed copy of it,
    # which takes many times as long as the products.
    dy = jax.lax.optimization_barrier(dy)
    dx = taps.scatter([dy @ kernel[tap].T for tap in taps.used])
    neighbours = taps.neighbours(x)
    if x.shape[-1] == 1:
        neighbours = [jnp.concatenate(neighbours, axis=-1)]
    rows = dy.reshape(-1, dy.shape[-1])
    used = [values.reshape(-1, values.shape[-1]).T @ rows for values in neighbours]
    if x.shape[-1] == 1:
        used = list(used[0][:, None])
    unused = jnp.zeros(kernel.shape[1:], kernel.dtype)
    by_tap = dict(zip(taps.used, used, strict=True))
    return dx, jnp.stack([by_tap.get(tap, unused) for tap in range(KERNEL_SIZE)])


conv_taps.defvjp(_forward, _backward)


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
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.axis, self.stride)
        return y + bias.astype(self.dtype)[None, None, None]
