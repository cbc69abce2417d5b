"""Log-mel spectrograms on the device, the same function in training and in use, and spec-augment.

The front-end of NAFP (Chang et al., arXiv 2010.11910) with its normalisation corrected: level and
floor belong to one segment, so that a fingerprint does not depend on what else is in its batch.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fingerprint.errors import ConfigError
from fingerprint.segments import SegmentGrid

# Slaney's mel scale: linear to 1 kHz (200/3 Hz per mel), then 27 mels per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_FROM_HZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0

SILENCE = -1.0
"""The lowest value of a log-mel spectrogram: ``dynamic_range_db`` or more below its maximum."""


def _hz_to_mel(frequency_hz: float) -> float:
    if frequency_hz < _LOG_FROM_HZ:
        return frequency_hz / _LINEAR_HZ_PER_MEL
    return _LOG_FROM_MEL + np.log(frequency_hz / _LOG_FROM_HZ) / _LOG_STEP


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    logarithmic = _LOG_FROM_HZ * np.exp(_LOG_STEP * (mels - _LOG_FROM_MEL))
    return np.where(mels < _LOG_FROM_MEL, mels * _LINEAR_HZ_PER_MEL, logarithmic)


@functools.lru_cache(maxsize=16)
def mel_filterbank(
    sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float
) -> np.ndarray:
    """Triangular filters on Slaney's mel scale, each of unit area in Hz.

    Returns:
        ``(n_fft // 2 + 1, n_mels)`` float32, read-only: one column per filter.

    Raises:
        ConfigError: the band is empty or reaches above half the sample rate.
    """
    if not 0 <= f_min_hz < f_max_hz <= sample_rate_hz / 2:
        raise ConfigError(
            f"f_min_hz is {f_min_hz} and f_max_hz {f_max_hz}: choose 0 <= f_min_hz < f_max_hz <= "
            f"{sample_rate_hz / 2:g}, half the sample rate."
        )
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1)[:, None]
    edges_hz = _mel_to_hz(np.linspace(_hz_to_mel(f_min_hz), _hz_to_mel(f_max_hz), n_mels + 2))
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters = (triangles * 2.0 / (high - low)).astype(np.float32)
    filters.setflags(write=False)
    return filters


def _frames(waveforms: jax.Array, n_fft: int, hop_length: int) -> jax.Array:
    """Windows ``(b, n_frames, n_fft)``, the first centred on sample 0, zeros outside."""
    padded = jnp.pad(waveforms, ((0, 0), (n_fft // 2, n_fft // 2)))
    starts = range(0, waveforms.shape[1] + 1, hop_length)
    return jnp.stack([padded[:, start : start + n_fft] for start in starts], axis=1)


def log_mel(
    waveforms: jax.Array,
    *,
    sample_rate_hz: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    f_min_hz: float,
    f_max_hz: float,
    dynamic_range_db: float,
) -> jax.Array:
    """Log-mel spectrograms in [-1, 1], each relative to its own maximum.

    Magnitude STFT (periodic Hann window, ``n_fft // 2`` zeros on either side), mel filters, then
    20 log10 relative to the maximum of this segment, clipped at ``-dynamic_range_db`` and scaled
    so that the maximum is +1 and the floor -1. No gain changes the result. A segment of zeros is
    -1 throughout.

    Args:
        waveforms: ``(b, n_samples)`` float32.

    Returns:
        ``(b, n_mels, n_samples // hop_length + 1)`` float32.

    Raises:
        ConfigError: the band is empty or reaches above half the sample rate.
    """
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(_frames(waveforms, n_fft, hop_length) * window[None, None])
    # The square root of the sum: abs() of a complex number guards against overflow, slowly.
    magnitude = jnp.sqrt(spectrum.real**2 + spectrum.imag**2)
    filters = mel_filterbank(sample_rate_hz, n_fft, n_mels, f_min_hz, f_max_hz)
    # On accelerators the default precision would round audio to 10 bits or fewer.
    mels = jnp.einsum("btf,fm->bmt", magnitude, filters, precision=jax.lax.Precision.HIGHEST)
    loudest = jnp.max(mels, axis=(1, 2), keepdims=True)
    relative = mels / jnp.where(loudest > 0, loudest, 1.0)
    floor = 10.0 ** (-dynamic_range_db / 20.0)
    scaled = 1.0 + jnp.log10(jnp.maximum(relative, floor)) * (40.0 / dynamic_range_db)
    return jnp.where(relative > floor, scaled, SILENCE)


def input_shape(config: Mapping) -> tuple[int, int]:
    """``(n_mels, n_frames)`` that an encoder sees of one segment under this configuration."""
    n_samples = SegmentGrid(config["sample_rate_hz"], **config["segment"]).n_samples
    features = config["features"]
    return features["n_mels"], n_samples // features["hop_length"] + 1


def _span(key: jax.Array, length: int, size: jax.Array) -> jax.Array:
    """True ``(length,)`` on ``size`` neighbours at a uniform place."""
    start = jnp.floor(jax.random.uniform(key) * (length - size + 1))
    position = jnp.arange(length, dtype=jnp.float32)
    return (position >= start) & (position < start + size)


def spec_augment(
    key: jax.Array,
    mels: jax.Array,
    *,
    probability: float,
    hole_fraction: tuple[float, float],
    stripe_bins: tuple[int, int],
) -> jax.Array:
    """Silence one rectangle and one band of mels, the same ones in the whole batch.

    After Chang et al. (section 2.2) and SpecAugment (Park et al., arXiv 1904.08779).

    Args:
        key: decides whether and where.
        mels: ``(b, n_mels, n_frames)`` from :func:`log_mel`.
        probability: that this batch is changed at all.
        hole_fraction: bounds of the rectangle's height and width, each uniform, as parts of the
            axes.
        stripe_bins: bounds (inclusive) of the number of mel bins in the band, which is as wide
            as the segment.

    Returns:
        Same shape and dtype; what is removed is -1, silence.
    """
    _, n_mels, n_frames = mels.shape
    keys = jax.random.split(key, 6)
    fractions = jax.random.uniform(keys[0], (2,), minval=hole_fraction[0], maxval=hole_fraction[1])
    height, width = jnp.round(fractions[0] * n_mels), jnp.round(fractions[1] * n_frames)
    hole = _span(keys[1], n_mels, height)[:, None] & _span(keys[2], n_frames, width)[None, :]
    n_bins = jax.random.randint(keys[3], (), stripe_bins[0], stripe_bins[1] + 1)
    stripe = _span(keys[4], n_mels, n_bins.astype(jnp.float32))[:, None]
    removed = (hole | stripe) & jax.random.bernoulli(keys[5], probability)
    return jnp.where(removed[None], jnp.asarray(SILENCE, mels.dtype), mels)
