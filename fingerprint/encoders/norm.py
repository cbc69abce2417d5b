"""Norms: over a whole segment, with a backward pass written for CPU; over a batch, as published."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.separable import resolve_conv_impl

NORM_EPSILON = 1e-5
_SEGMENT_AXES = (1, 2, 3)


def _mean_and_inverse_std(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both ``(b, 1, 1, 1)``, of ``(b, n_mels, n_frames, c)``, in one pass over it."""
    mean = jnp.mean(x, axis=_SEGMENT_AXES, keepdims=True)
    mean_square = jnp.mean(x * x, axis=_SEGMENT_AXES, keepdims=True)
    variance = jnp.maximum(mean_square - mean * mean, 0.0)
    return mean, jax.lax.rsqrt(variance + NORM_EPSILON)


def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Layer norm (Ba et al., arXiv 1607.06450) over mels, frames and channels.

    Args:
        x: ``(b, n_mels, n_frames, c)`` float32.
        scale: ``(n_mels, n_frames, c)`` or ``(1, 1, c)``.
        bias: as ``scale``.

    Returns:
        As ``x``.
    """
    mean, inverse_std = _mean_and_inverse_std(x)
    return (x - mean) * inverse_std * scale[None] + bias[None]


@jax.custom_vjp
def normalize_on_cpu(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """The same as :func:`normalize`; its gradients sum by matrix products.

    XLA's own sums over the batch walk memory in steps of a whole segment, which makes the
    backward pass of the first norms slower than their convolutions.
    """
    return normalize(x, scale, bias)


def _forward(x, scale, bias):
    mean, inverse_std = _mean_and_inverse_std(x)
    return (x - mean) * inverse_std * scale[None] + bias[None], (x, mean, inverse_std, scale)


def _backward(kept, dy):
    x, mean, inverse_std, scale = kept
    normal = (x - mean) * inverse_std
    dbias, segment_dy = _sums(dy, scale)
    dscale, segment_dy_normal = _sums(dy * normal, scale)
    n = x[0].size
    dx = inverse_std * (
        dy * scale[None]
        - segment_dy[:, None, None, None] / n
        - normal * (segment_dy_normal[:, None, None, None] / n)
    )
    return dx, dscale, dbias


def _sums(values: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum over all that share a scale, shaped like it; sum per segment, times the scale: (b,)."""
    b = values.shape[0]
    per_channel = scale.shape[:2] == (1, 1)
    rows = jnp.sum(values, axis=(1, 2)) if per_channel else values.reshape(b, -1)
    over_batch = jnp.ones((1, b), rows.dtype) @ rows
    return over_batch.reshape(scale.shape), rows @ scale.reshape(-1)


normalize_on_cpu.defvjp(_forward, _backward)


class SegmentNorm(nn.Module):
    """Layer norm over one segment, with statistics in float32.

    Attributes:
        affine: "joint" gives every (mel, frame, channel) its scale and bias, "channel" every
            channel.
        conv_impl: as of the convolutions: "taps" takes the backward pass written for CPU.
    """

    affine: str = "joint"
    conv_impl: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``(b, n_mels, n_frames, c)`` -> same shape and dtype."""
        shape = x.shape[1:] if self.affine == "joint" else (1, 1, x.shape[-1])
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        native = resolve_conv_impl(self.conv_impl) == "native"
        apply = normalize if native else normalize_on_cpu
        return apply(x.astype(jnp.float32), scale, bias).astype(x.dtype)


def batch_norm(train: bool, axis_name: str | None, dtype: jnp.dtype, name: str) -> nn.BatchNorm:
    """Batch norm (Ioffe and Szegedy, arXiv 1502.03167), with the decay and epsilon of PyTorch.

    In training its statistics, float32, are those of the batch on all devices of ``axis_name``;
    in use they are the running averages.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=NORM_EPSILON,
        dtype=dtype,
        axis_name=axis_name,
        name=name,
    )
