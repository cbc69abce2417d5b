"""Mel spectrograms on the device, the same function in training and in use; spec-augment, crops.

The front-end of NAFP (Chang et al., arXiv 2010.11910) with its normalisation corrected: level and
floor belong to one segment, so that a fingerprint does not depend on what else is in its batch.
The front-ends of the other published systems are settings of it.
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

MEL_SCALES = ("slaney", "htk")
SCALINGS = ("segment_db", "linear")
POWERS = (1.0, 2.0, 4.0)
CROP_MODES = ("contiguous", "random_bins")

SILENCE = -1.0
"""The lowest value of a log-mel spectrogram: ``dynamic_range_db`` or more below its maximum."""


def silence_level(features: Mapping) -> float:
    """What the spectrograms of a section ``features`` hold where nothing sounds."""
    is_centred = features.get("scaling") == "linear" or features.get("envelope_mels")
    return 0.0 if is_centred else SILENCE


def _hz_to_mel(frequency_hz: float, mel_scale: str) -> float:
    if mel_scale == "htk":
        return 2595.0 * np.log10(1.0 + frequency_hz / 700.0)
    if frequency_hz < _LOG_FROM_HZ:
        return frequency_hz / _LINEAR_HZ_PER_MEL
    return _LOG_FROM_MEL + np.log(frequency_hz / _LOG_FROM_HZ) / _LOG_STEP


def _mel_to_hz(mels: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    logarithmic = _LOG_FROM_HZ * np.exp(_LOG_STEP * (mels - _LOG_FROM_MEL))
    return np.where(mels < _LOG_FROM_MEL, mels * _LINEAR_HZ_PER_MEL, logarithmic)


def _check_choice(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(str, allowed))}.")


@functools.lru_cache(maxsize=16)
def mel_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    f_min_hz: float,
    f_max_hz: float,
    mel_scale: str = "slaney",
) -> np.ndarray:
    """Triangular filters: on Slaney's mel scale of unit area in Hz, on HTK's of unit height.

    Returns:
        ``(n_fft // 2 + 1, n_mels)`` float32, read-only: one column per filter.

    Raises:
        ConfigError: an unknown scale; the band is empty or reaches above half the sample rate.
    """
    _check_choice("features.mel_scale", mel_scale, MEL_SCALES)
    if not 0 <= f_min_hz < f_max_hz <= sample_rate_hz / 2:
        raise ConfigError(
            f"f_min_hz is {f_min_hz} and f_max_hz {f_max_hz}: choose 0 <= f_min_hz < f_max_hz <= "
            f"{sample_rate_hz / 2:g}, half the sample rate."
        )
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1)[:, None]
    ends = _hz_to_mel(f_min_hz, mel_scale), _hz_to_mel(f_max_hz, mel_scale)
    edges_hz = _mel_to_hz(np.linspace(*ends, n_mels + 2), mel_scale)
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if mel_scale == "slaney":
        filters = filters * 2.0 / (high - low)
    filters = filters.astype(np.float32)
    filters.setflags(write=False)
    return filters


def _frames(waveforms: jax.Array, n_fft: int, hop_length: int) -> jax.Array:
    """Windows ``(b, n_frames, n_fft)``, the first centred on sample 0, zeros outside."""
    padded = jnp.pad(waveforms, ((0, 0), (n_fft // 2, n_fft // 2)))
    starts = jnp.arange(0, waveforms.shape[1] + 1, hop_length)
    # One operation: a slice per frame takes XLA seconds to compile, with 2000 frames minutes.
    cut = jax.vmap(jax.lax.dynamic_slice_in_dim, in_axes=(None, 0, None, None), out_axes=1)
    return cut(padded, starts, n_fft, 1)


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
    mel_scale: str = "slaney",
    power: float = 1.0,
    scaling: str = "segment_db",
    envelope_mels: int = 0,
) -> jax.Array:
    """Mel spectrograms, as a rule log-mels in [-1, 1], each relative to its own maximum.

    Magnitude STFT (periodic Hann window, ``n_fft // 2`` zeros on either side) to the ``power``,
    one of ``POWERS``, and mel filters (`mel_filterbank`): the higher the power, the more of a mel
    is its loudest bin, and the less the noise in the others. The scaling "segment_db" then takes
    decibels below the maximum of this segment, clipped at ``-dynamic_range_db`` and scaled so that
    the maximum is +1 and the floor -1: no gain changes the result, and a segment of zeros is -1
    throughout. With "linear" the mels stay as they are, and silence is 0.

    Args:
        waveforms: ``(b, n_samples)`` float32.
        envelope_mels: an odd number of neighbouring mels: their mean over the whole segment is
            subtracted from each, so that silence is 0 and values lie in [-2, 2]. What colours the
            sound smoothly and for longer than a segment, as loudspeakers, phones and rooms do,
            adds to decibels and is taken away by it; harmonics are narrower and stay. 0: none.

    Returns:
        ``(b, n_mels, n_samples // hop_length + 1)`` float32.

    Raises:
        ConfigError: an unknown choice; the band is empty or reaches above half the sample rate.
    """
    _check_choice("features.power", power, POWERS)
    _check_choice("features.scaling", scaling, SCALINGS)
    filters = mel_filterbank(sample_rate_hz, n_fft, n_mels, f_min_hz, f_max_hz, mel_scale)
    in_band = _band(filters)
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(_frames(waveforms, n_fft, hop_length) * window[None, None])
    spectrum = spectrum[:, :, in_band]
    # The square root of the sum: abs() of a complex number guards against overflow, slowly.
    powers = spectrum.real**2 + spectrum.imag**2
    if power == 1.0:
        powers = jnp.sqrt(powers)
    elif power == 4.0:
        powers = jnp.square(powers)
    # On accelerators the default precision would round audio to 10 bits or fewer.
    precision = jax.lax.Precision.HIGHEST
    mels = jnp.einsum("btf,fm->bmt", powers, filters[in_band], precision=precision)
    if scaling == "segment_db":
        mels = _segment_db(mels, dynamic_range_db, 20.0 / power)
    return _without_envelope(mels, envelope_mels) if envelope_mels else mels


def _band(filters: np.ndarray) -> slice:
    """The bins between the first and the last that a filter takes: others only cost time."""
    used = np.flatnonzero(filters.any(axis=1))
    return slice(used[0], used[-1] + 1) if len(used) else slice(None)


def _segment_db(mels: jax.Array, dynamic_range_db: float, db_per_decade: float) -> jax.Array:
    """Mels ``(b, n_mels, n_frames)`` in decibels below their maximum, mapped to [-1, 1]."""
    loudest = jnp.max(mels, axis=(1, 2), keepdims=True)
    relative = mels / jnp.where(loudest > 0, loudest, 1.0)
    floor = 10.0 ** (-dynamic_range_db / db_per_decade)
    decades = jnp.log10(jnp.maximum(relative, floor))
    scaled = 1.0 + decades * (2.0 * db_per_decade / dynamic_range_db)
    return jnp.where(relative > floor, scaled, SILENCE)


def _without_envelope(mels: jax.Array, envelope_mels: int) -> jax.Array:
    """Mels ``(b, n_mels, n_frames)`` less their mean over all frames and neighbouring mels."""
    n_mels = mels.shape[1]
    if envelope_mels < 0 or envelope_mels % 2 == 0:
        raise ConfigError(
            f"features.envelope_mels is {envelope_mels}; choose an odd number of mels, or 0."
        )
    bins = np.arange(n_mels)
    is_near = np.abs(bins[:, None] - bins[None]) <= envelope_mels // 2
    weights = (is_near / is_near.sum(axis=0)).astype(np.float32)
    spectrum = jnp.mean(mels, axis=2)
    envelope = jnp.matmul(spectrum, weights, precision=jax.lax.Precision.HIGHEST)
    return mels - envelope[:, :, None]


def spectrograms(waveforms: jax.Array, config: Mapping) -> jax.Array:
    """What an encoder sees of segments in use: `log_mel`, and the fixed part that `crop` leaves.

    Args:
        waveforms: ``(b, n_samples)`` float32.
        config: A whole configuration, or its ``sample_rate_hz``, ``features`` and ``crop``.

    Returns:
        ``(b, *input_shape(config))`` float32.

    Raises:
        ConfigError: the sections ask for what does not exist.
    """
    mels = log_mel(waveforms, sample_rate_hz=config["sample_rate_hz"], **config["features"])
    section = config.get("crop")
    return mels if section is None else crop(mels[None], **section)[0]


def input_shape(config: Mapping) -> tuple[int, int]:
    """``(n_mels, n_frames)`` that an encoder sees of one segment under this configuration."""
    section = config.get("crop")
    if section is not None:
        return section["n_mels"], section["n_frames"]
    n_samples = SegmentGrid(config["sample_rate_hz"], **config["segment"]).n_samples
    features = config["features"]
    return features["n_mels"], n_samples // features["hop_length"] + 1


def crop(
    mels: jax.Array,
    *,
    key: jax.Array | None = None,
    n_mels: int,
    n_frames: int,
    mode: str,
    shared: bool,
) -> jax.Array:
    """Part of each spectrogram, for encoders that do not see all of it (Woo's triplet network).

    Args:
        mels: ``(roles, b, all_mels, all_frames)``; row i of every role is of one pair.
        key: Draws the part of each row anew, as in training. None takes the same part of
            every row, as in use: the middle, or evenly spaced bins.
        n_mels, n_frames: Shape of the part.
        mode: "contiguous", or "random_bins": as many mels and frames from anywhere, in order.
        shared: All roles of a pair lose the same; otherwise each draws its own part.

    Returns:
        ``(roles, b, n_mels, n_frames)``.

    Raises:
        ConfigError: an unknown mode, or a part larger than the spectrogram.
    """
    _check_choice("crop.mode", mode, CROP_MODES)
    n_roles, n_rows, *lengths = mels.shape
    if n_mels > lengths[0] or n_frames > lengths[1]:
        raise ConfigError(
            f"crop asks for {n_mels} mels and {n_frames} frames, but a segment has {lengths[0]} "
            f"and {lengths[1]}; choose no more than these."
        )
    keys = (None, None) if key is None else jax.random.split(key)
    for axis, (axis_key, length, size) in enumerate(
        zip(keys, lengths, (n_mels, n_frames), strict=True), start=2
    ):
        shape = (1 if shared else n_roles, n_rows, length)
        kept = _kept_positions(axis_key, shape, size, mode)
        kept = jnp.broadcast_to(kept, (n_roles, n_rows, size))
        mels = jnp.take_along_axis(mels, jnp.expand_dims(kept, 5 - axis), axis=axis)
    return mels


def _kept_positions(key, shape: tuple[int, int, int], size: int, mode: str) -> jax.Array:
    """``size`` ascending positions below ``shape[-1]`` for each row: ``(*shape[:-1], size)``."""
    length = shape[-1]
    if mode == "contiguous":
        starts = jnp.full(shape[:-1], (length - size) // 2, jnp.int32)
        if key is not None:
            starts = jax.random.randint(key, shape[:-1], 0, length - size + 1)
        return starts[..., None] + jnp.arange(size)[None, None]
    if key is None:
        centres = ((np.arange(size) + 0.5) * length / size).astype(np.int32)
        return jnp.broadcast_to(centres, (*shape[:-1], size))
    order = jnp.argsort(jax.random.uniform(key, shape), axis=-1)
    return jnp.sort(order[..., :size], axis=-1)


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
    hole_mel_fraction: tuple[float, float],
    hole_frame_fraction: tuple[float, float],
    stripe_bins: tuple[int, int],
    fill: float = SILENCE,
) -> jax.Array:
    """Silence one rectangle and one band of mels, the same ones in the whole batch.

    After Chang et al. (section 2.2) and SpecAugment (Park et al., arXiv 1904.08779).

    Args:
        key: decides whether and where.
        mels: ``(b, n_mels, n_frames)`` from :func:`log_mel`.
        probability: that this batch is changed at all.
        hole_mel_fraction: bounds of the rectangle's height, uniform, as parts of all mels.
        hole_frame_fraction: bounds of its width, likewise, as parts of all frames.
        stripe_bins: bounds (inclusive) of the number of mel bins in the band, which is as wide
            as the segment; (0, 0): no band.
        fill: what is put where something is removed: `silence_level` of the features.

    Returns:
        Same shape and dtype.
    """
    _, n_mels, n_frames = mels.shape
    keys = jax.random.split(key, 6)
    smallest, largest = jnp.asarray([hole_mel_fraction, hole_frame_fraction]).T
    fractions = jax.random.uniform(keys[0], (2,), minval=smallest, maxval=largest)
    height, width = jnp.round(fractions[0] * n_mels), jnp.round(fractions[1] * n_frames)
    hole = _span(keys[1], n_mels, height)[:, None] & _span(keys[2], n_frames, width)[None, :]
    n_bins = jax.random.randint(keys[3], (), stripe_bins[0], stripe_bins[1] + 1)
    stripe = _span(keys[4], n_mels, n_bins.astype(jnp.float32))[:, None]
    removed = (hole | stripe) & jax.random.bernoulli(keys[5], probability)
    return jnp.where(removed[None], jnp.asarray(fill, mels.dtype), mels)
