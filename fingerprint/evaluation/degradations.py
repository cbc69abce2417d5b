"""What happens to sound between a loudspeaker and a file: pure functions of samples ``(n,)``.

None of them moves the sound in time, so that the second where a query starts stays the truth.
"""

import functools
from collections.abc import Sequence

import numpy as np
import soxr
from scipy import fft, ndimage, signal

from fingerprint.errors import FingerprintError

# Second order, run forwards and backwards: 24 dB per octave, 6 dB at the corner.
_BAND_ORDER = 2
# Of the rounding to 16 bits: what is quieter is the silence of a file, no noise to be amplified.
_SILENT_POWER = 2.0**-30 / 12
_GAIN_BLOCK_S = 0.01
_GAIN_TARGET_DB = -20.0
_LARGEST_GAIN_DB = 30.0
_ATTACK_S, _RELEASE_S = 0.02, 0.5
# An equaliser has a knot every half an octave from here on; its echoes are shorter than this.
_LOWEST_KNOT_HZ, _KNOTS_PER_OCTAVE = 62.5, 2
_EQUALISER_S = 0.25
# Noise suppression: the floor of each band is the lowest level that its smoothed power has around.
_SUPPRESSION_FRAME_S, _SUPPRESSION_HOP_S = 0.032, 0.008
_FLOOR_SEARCH_S, _FLOOR_BIAS, _LEAST_GAIN = 1.5, 1.8, 0.1


class DegradationError(FingerprintError):
    """A degradation that cannot be done as asked, in one sentence."""


def degrade(
    music: np.ndarray,
    noise: np.ndarray | None,
    snr_db: float | None,
    responses: Sequence[np.ndarray | None],
    n_history: int,
) -> np.ndarray:
    """Music ``(n_history + n,)`` as a recording ``(n,)`` with a peak of 1.

    The ratio of music to noise is that of their mean powers over the ``n`` samples after the
    history, before the impulse responses; None among the responses stands for none. Where the
    music or the noise is silent there is no ratio, and no noise either.
    """
    mixed = music
    if noise is not None:
        mixed = mix(music, noise, snr_db, n_history)
    for response in responses:
        if response is not None:
            mixed = convolve_aligned(mixed, response)
    return peak_normalised(mixed[n_history:])


def mix(sound: np.ndarray, noise: np.ndarray, snr_db: float, n_history: int = 0) -> np.ndarray:
    """Sound and noise ``(n,)`` together; the ratio is of the powers after ``n_history`` samples.

    The sound as it is where one of the two is silent, or the noise no louder than the rounding of
    16 bits is.
    """
    powers = [np.mean(np.square(x[n_history:], dtype=np.float64)) for x in (sound, noise)]
    if powers[1] <= _SILENT_POWER:
        return sound
    return sound + noise * np.sqrt(powers[0] / (powers[1] * 10 ** (snr_db / 10)))


def peak_normalised(samples: np.ndarray) -> np.ndarray:
    """The samples as float32 with a peak of 1; silence stays silence."""
    peak = np.max(np.abs(samples))
    return (samples / (peak if peak > 0 else 1.0)).astype(np.float32)


def convolve_aligned(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Full linear convolution, cut so that the strongest (direct) path causes no delay, ``(n,)``.

    Without the alignment a response with a pause before its direct path would move the truth.
    """
    direct = int(np.argmax(np.abs(response)))
    return signal.fftconvolve(samples, response)[direct : direct + len(samples)]


def sum_of_noises(noises: Sequence[np.ndarray]) -> np.ndarray | None:
    """Noises ``(n,)`` at once, each equally loud; one alone stays as it is, none is None."""
    if len(noises) < 2:
        return noises[0] if noises else None
    return sum(noise / np.sqrt(np.mean(np.square(noise, dtype=np.float64))) for noise in noises)


def limit_band(
    samples: np.ndarray, sample_rate_hz: int, low_pass_hz: float | None, high_pass_hz: float | None
) -> np.ndarray:
    """Butterworth filters without delay: 24 dB per octave, 6 dB down at the corner."""
    for corner_hz, kind in ((low_pass_hz, "lowpass"), (high_pass_hz, "highpass")):
        if corner_hz is not None:
            sections = signal.butter(_BAND_ORDER, corner_hz, kind, fs=sample_rate_hz, output="sos")
            samples = signal.sosfiltfilt(sections, samples)
    return samples.astype(np.float32)


def equalise(samples: np.ndarray, sample_rate_hz: int, gains_db: np.ndarray) -> np.ndarray:
    """A smooth frequency response of zero phase, as uneven as loudspeakers and phones have it.

    Args:
        samples: ``(n,)``.
        sample_rate_hz: of the samples.
        gains_db: ``(n_equaliser_knots(sample_rate_hz),)`` at half octaves from 62.5 Hz on, with
            straight lines over the logarithm of the frequency between them.
    """
    knots = np.arange(n_equaliser_knots(sample_rate_hz)) / _KNOTS_PER_OCTAVE
    # Zeros for what the response rings with before and after the samples.
    n = fft.next_fast_len(len(samples) + round(_EQUALISER_S * sample_rate_hz), real=True)
    frequencies_hz = np.maximum(fft.rfftfreq(n, 1 / sample_rate_hz), _LOWEST_KNOT_HZ)
    response_db = np.interp(np.log2(frequencies_hz / _LOWEST_KNOT_HZ), knots, gains_db)
    shaped = fft.irfft(fft.rfft(samples, n) * 10 ** (response_db / 20), n)
    return shaped[: len(samples)].astype(np.float32)


def n_equaliser_knots(sample_rate_hz: int) -> int:
    """How many gains `equalise` takes: the last one is at half the sample rate, or just above."""
    n_octaves = np.log2(sample_rate_hz / 2 / _LOWEST_KNOT_HZ)
    return 1 + int(np.ceil(_KNOTS_PER_OCTAVE * n_octaves))


def suppress_noise(samples: np.ndarray, sample_rate_hz: int, strength: float) -> np.ndarray:
    """What a telephone does against steady noise, and with it to music: a gate for each band.

    The floor of a band is the minimum of its smoothed power over 1.5 s (minimum statistics, Martin
    2001); ``strength`` times its magnitude is subtracted, down to a tenth (Boll 1979). What holds
    a tone for long is taken for noise. ``(n,)``, not scaled.
    """
    n_frame, n_hop = (
        round(seconds * sample_rate_hz) for seconds in (_SUPPRESSION_FRAME_S, _SUPPRESSION_HOP_S)
    )
    frames = {"fs": sample_rate_hz, "nperseg": n_frame, "noverlap": n_frame - n_hop}
    spectrum = signal.stft(samples, **frames)[2]
    power = np.square(np.abs(spectrum))
    smoothed = signal.lfilter([0.3], [1, -0.7], power)
    n_around = round(_FLOOR_SEARCH_S / _SUPPRESSION_HOP_S)
    floor = _FLOOR_BIAS * ndimage.minimum_filter1d(smoothed, n_around, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.nan_to_num(1 - strength * np.sqrt(floor / power), neginf=0.0)
    gain = signal.lfilter([0.5], [1, -0.5], np.maximum(gain, _LEAST_GAIN))
    return signal.istft(spectrum * gain, **frames)[1][: len(samples)].astype(np.float32)


def clip_share(samples: np.ndarray, share: float) -> np.ndarray:
    """An overdriven recording: the loudest ``share`` of the samples stands at a full scale of 1."""
    limit = np.quantile(np.abs(samples), 1 - share)
    if limit == 0:
        return samples
    return (np.clip(samples, -limit, limit) / limit).astype(np.float32)


def control_gain(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Automatic gain as of a telephone, with a peak of 1: loud parts fall fast, quiet ones rise.

    The level, measured in blocks of 10 ms, is followed within 20 ms upwards and half a second
    downwards, and brought to one target with at most 30 dB of gain.
    """
    n_block = round(_GAIN_BLOCK_S * sample_rate_hz)
    padded = np.pad(samples, (0, -len(samples) % n_block)).astype(np.float64)
    powers = np.mean(np.square(padded.reshape(-1, n_block)), axis=1)
    levels_db = 10 * np.log10(powers + 1e-12)
    rising, falling = (1 - np.exp(-_GAIN_BLOCK_S / time_s) for time_s in (_ATTACK_S, _RELEASE_S))
    followed_db, level_db = np.empty(len(levels_db)), levels_db[0]
    for i, block_db in enumerate(levels_db):
        level_db += (rising if block_db > level_db else falling) * (block_db - level_db)
        followed_db[i] = level_db
    gains_db = np.minimum(_GAIN_TARGET_DB - followed_db, _LARGEST_GAIN_DB)
    centres = (np.arange(len(gains_db)) + 0.5) * n_block
    gain = 10 ** (np.interp(np.arange(len(samples)), centres, gains_db) / 20)
    return peak_normalised(samples * gain)


def change_speed(samples: np.ndarray, sample_rate_hz: int, factor: float) -> np.ndarray:
    """Played ``factor`` times as fast, tempo and pitch alike, as a turntable does: ``(n / f,)``."""
    return soxr.resample(samples, sample_rate_hz * factor, sample_rate_hz, quality="HQ")


def change_tempo(samples: np.ndarray, factor: float) -> np.ndarray:
    """``factor`` times as fast at the same pitch, by a phase vocoder: ``(n / factor,)``.

    Raises:
        DegradationError: librosa is not installed.
    """
    return _librosa_effects().time_stretch(samples, rate=factor)


def change_pitch(samples: np.ndarray, sample_rate_hz: int, semitones: float) -> np.ndarray:
    """Higher by ``semitones`` at the same tempo, by a phase vocoder: ``(n,)``.

    Raises:
        DegradationError: librosa is not installed.
    """
    return _librosa_effects().pitch_shift(samples, sr=sample_rate_hz, n_steps=semitones)


@functools.cache
def _librosa_effects():
    try:
        from librosa import effects
    except ModuleNotFoundError as error:
        raise DegradationError(
            "A change of tempo or pitch needs the package librosa, which is not installed: run "
            "`pip install librosa`, or change the speed instead."
        ) from error
    return effects
