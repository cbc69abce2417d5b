"""What happens to sound between a loudspeaker and a file: pure functions of samples ``(n,)``.

None of them moves the sound in time, so that the second where a query starts stays the truth.
"""

import functools
from collections.abc import Sequence

import numpy as np
import soxr
from scipy import signal

from fingerprint.errors import FingerprintError

# Second order, run forwards and backwards: 24 dB per octave, 6 dB at the corner.
_BAND_ORDER = 2
_GAIN_BLOCK_S = 0.01
_GAIN_TARGET_DB = -20.0
_LARGEST_GAIN_DB = 30.0
_ATTACK_S, _RELEASE_S = 0.02, 0.5


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
        powers = [np.mean(np.square(x[n_history:], dtype=np.float64)) for x in (music, noise)]
        if powers[1] > 0:
            mixed = music + noise * np.sqrt(powers[0] / (powers[1] * 10 ** (snr_db / 10)))
    for response in responses:
        if response is not None:
            mixed = convolve_aligned(mixed, response)
    return peak_normalised(mixed[n_history:])


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
