"""What electronics do to the level of a recording: automatic gain and clipping.

Steps as those of `fingerprint.augmentation_steps`, but not linear: they follow the signal.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from fingerprint.augmentation_steps import between, check_range, draw, rms

_BLOCK_S = 0.025
# An envelope is taken to be at most this much below the mean, so that silence is not blown up.
_LOG_ENVELOPE_FLOOR = -40 / 10 * math.log(10)
# Stands for the power of silence, which has no logarithm.
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Compressor:
    """Gain that follows the envelope: ``(envelope / its mean) ** -strength``.

    The envelope is the root of the power in blocks of 25 ms, smoothed by an exponential of time
    constant ``attack_s``, which is log-uniform in its range; ``strength`` is uniform: 0 does
    nothing, 1 levels the envelope out. Between blocks the gain is interpolated linearly.

    Raises:
        ConfigError: on construction, a range of ``attack_s`` that is not of positive numbers.
    """

    probability: float
    strength: tuple[float, float]
    attack_s: tuple[float, float]

    def __post_init__(self):
        """Refuse time constants that have no logarithm."""
        check_range("compressor.attack_s", self.attack_s)

    def compress(self, windows, n_history: int, *, sample_rate_hz: int, chance, seed):
        """Windows ``(b, n)`` to segments ``(b, n - n_history)``, the past being known."""
        n_rows, n_samples = windows.shape
        chosen, strength, attack = tf.unstack(draw(seed, 3, n_rows))
        strength = tf.where(chosen < chance, between(*self.strength, strength), 0.0)
        attack_s = tf.exp(between(*map(math.log, self.attack_s), attack))
        n_block = round(_BLOCK_S * sample_rate_hz)
        power, mean = _block_power(windows, n_block)
        log_envelope = _log_smoothed(power, attack_s * sample_rate_hz / n_block)
        relative = tf.maximum(log_envelope - tf.math.log(mean + _TINY), _LOG_ENVELOPE_FLOOR)
        gains = tf.exp(-0.5 * strength[:, None] * relative)
        # The gain that a block asks for is reached at its end.
        starts = tf.concat([gains[:, :1], gains[:, :-1]], axis=1)[..., None]
        fractions = np.arange(n_block, dtype=np.float32) / n_block
        gains = starts + (gains[..., None] - starts) * fractions
        gains = tf.reshape(gains, [n_rows, -1])[:, n_history:n_samples]
        return windows[:, n_history:] * gains


@dataclasses.dataclass(frozen=True)
class Clipping:
    """Samples bounded at ``headroom_db``, uniform in its range, above the rms of the segment.

    With ``soft_probability`` the bound is approached smoothly, ``b * tanh(x / b)``, and not cut.
    """

    probability: float
    headroom_db: tuple[float, float]
    soft_probability: float

    def clip(self, segments, *, chance, seed):
        """Clip segments ``(b, n)``."""
        chosen, headroom, soft = tf.unstack(draw(seed, 3, segments.shape[0])[..., None])
        chosen = chosen < tf.reshape(chance, [-1, 1])
        bound = rms(segments)[:, None] * 10 ** (between(*self.headroom_db, headroom) / 20)
        smooth = bound * tf.tanh(segments * tf.math.reciprocal_no_nan(bound))
        bound = tf.where(chosen, bound, np.inf)
        cut = tf.maximum(tf.minimum(segments, bound), -bound)
        return tf.where(chosen & (soft < self.soft_probability), smooth, cut)


def _block_power(windows, n_block: int):
    """Mean power ``(b, n_blocks)`` in blocks, the last maybe shorter, and ``(b, 1)`` over all."""
    n_rows, n_samples = windows.shape
    n_blocks = -(-n_samples // n_block)
    counts = np.full(n_blocks, n_block, np.float32)
    counts[-1] = n_samples - (n_blocks - 1) * n_block
    squares = tf.square(windows)
    if counts[-1] < n_block:
        squares = tf.pad(squares, [(0, 0), (0, n_block - int(counts[-1]))])
    energy = tf.reduce_sum(tf.reshape(squares, [n_rows, n_blocks, n_block]), axis=2)
    return energy / counts, tf.reduce_sum(energy, axis=1, keepdims=True) / n_samples


def _log_smoothed(power, time_constant):
    """Log of the means of the past, weighted by ``exp(-age / time_constant)``; both in blocks."""
    growth = np.arange(power.shape[1], dtype=np.float32) / time_constant[:, None]
    log_sum = tf.math.cumulative_logsumexp(tf.math.log(power + _TINY) + growth, axis=1)
    return log_sum - tf.math.cumulative_logsumexp(growth, axis=1)
