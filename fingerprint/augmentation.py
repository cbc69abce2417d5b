"""Turns clean audio into what a microphone in a room would have heard, a whole batch at a time.

The order is the physical one and is fixed: background noise at an SNR, gain, room, device,
random low-pass and high-pass, level. A window carries ``history_s`` of audio from before the
segment, so that the segment holds the reverberation of its own past (as in NMFP, arXiv
2506.22661); the history is dropped at the end. Time offsets are made where windows are cut.

Every draw is a stateless function of a seed and of the step of the chain, so that switching one
step off leaves the draws of the others as they were.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fingerprint.impulse_responses import ImpulseResponses, fft_length

# Accelerators belong to jax. Tensorflow refuses where an operation of its own has already run.
with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")

# Noise this much softer in the segment than around it is a pause: brought up to the SNR, what
# stands beside the pause would drown everything.
_PAUSE_RATIO = 10 ** (-40 / 20)
# A zero-phase filter rings to either side; after this long the steepest slope at 100 Hz is down
# by 70 dB.
_FILTER_RINGING_S = 0.05
_DB_PER_OCTAVE_AND_ORDER = 20 * math.log10(2)
_BACKGROUND, _GAIN, _ROOM, _DEVICE, _FILTERS, _LEVEL = range(6)
_fold = tf.random.experimental.stateless_fold_in


@dataclasses.dataclass(frozen=True)
class Ramp:
    """How the chain is brought in over the first steps of training.

    At severity 0 the SNR is drawn from ``snr_db``, a replica starts within ``offset_s`` of its
    original and no room, device or filter is applied; after ``n_steps`` all is as configured.
    """

    n_steps: int
    snr_db: tuple[float, float]
    offset_s: float

    def severity(self, step: int) -> float:
        """Severity in [0, 1], growing linearly with the step."""
        return min(1.0, step / self.n_steps) if self.n_steps > 0 else 1.0

    def snr_range_db(self, full_db: tuple[float, float], severity):
        """Range of the SNR at a severity, where ``full_db`` is the range at 1."""
        return [_between(*ends, severity) for ends in zip(self.snr_db, full_db, strict=True)]

    def largest_offset_s(self, full_s: float, severity: float) -> float:
        """Largest offset of a replica at a severity, where ``full_s`` is the one at 1."""
        return _between(self.offset_s, full_s, severity)


@dataclasses.dataclass(frozen=True)
class Background:
    """Noise at an SNR, uniform in ``snr_db``, that holds over the segment without its history."""

    probability: float
    snr_db: tuple[float, float]

    def mix(self, windows, noise, n_history, snr_db, *, seed):
        """Add noise ``(b, n)`` to windows ``(b, n)``, but none where it pauses in the segment."""
        chosen, value = tf.unstack(_draw(seed, 2, windows.shape[0]))
        ratio = 10 ** (-_between(*snr_db, value) / 20)
        signal_rms, noise_rms = _rms(windows[:, n_history:]), _rms(noise[:, n_history:])
        heard = noise_rms > _PAUSE_RATIO * _rms(noise)
        scale = ratio * tf.math.divide_no_nan(signal_rms, noise_rms)
        scale = tf.where((chosen < self.probability) & heard, scale, 0.0)
        return windows + scale[:, None] * noise


@dataclasses.dataclass(frozen=True)
class Factor:
    """A factor log-uniform in the range ``factor``."""

    probability: float
    factor: tuple[float, float]

    def scale(self, waveforms, *, seed, normalise):
        """Multiply waveforms ``(b, n)``, brought to a peak of 1 first if ``normalise``."""
        chosen, value = tf.unstack(_draw(seed, 2, waveforms.shape[0]))
        factor = tf.exp(_between(*map(math.log, self.factor), value))
        if normalise:
            factor = tf.math.divide_no_nan(factor, tf.reduce_max(tf.abs(waveforms), axis=1))
        return waveforms * tf.where(chosen < self.probability, factor, 1.0)[:, None]


@dataclasses.dataclass(frozen=True)
class Response:
    """Convolution with an impulse response, of which ``max_duration_s`` from its peak is kept."""

    probability: float
    max_duration_s: float

    def align(self, responses, sample_rate_hz):
        """Bring responses ``(m, r)`` to a common time zero and cut them."""
        max_samples = max(1, round(self.max_duration_s * sample_rate_hz))
        return ImpulseResponses.align(np.asarray(responses), max_samples)


@dataclasses.dataclass(frozen=True)
class Filters:
    """A low-pass and a high-pass, each drawn on its own with the same probability.

    Corners are log-uniform, slopes uniform. The filters have the Butterworth magnitude
    ``1 / sqrt(1 + (f / corner)^(2 order))``, ``order = slope / 6.02 dB``, and zero phase.
    """

    probability: float
    low_pass_hz: tuple[float, float]
    high_pass_hz: tuple[float, float]
    slope_db_per_octave: tuple[float, float]

    def magnitudes(self, frequencies_hz, draws, severity):
        """Magnitude responses ``(n_rows, n_frequencies)`` from draws ``(6, n_rows)``."""
        # 1 microhertz stands for 0 Hz, whose logarithm could not be multiplied.
        log_frequencies = np.log(np.maximum(frequencies_hz, 1e-6)).astype(np.float32)
        low_pass, high_pass = tf.split(draws[..., None], 2)
        probability = severity * self.probability
        low_pass_loss = self._loss(log_frequencies, self.low_pass_hz, 2, low_pass, probability)
        high_pass_loss = self._loss(log_frequencies, self.high_pass_hz, -2, high_pass, probability)
        return tf.math.rsqrt((1.0 + low_pass_loss) * (1.0 + high_pass_loss))

    def _loss(self, log_frequencies, corners_hz, exponent, draws, probability):
        """``(f / corner) ** (exponent * order)`` (n_rows, n_frequencies), 0 in rows not chosen."""
        chosen, corner, slope = tf.unstack(draws)
        log_corner = _between(*map(math.log, corners_hz), corner)
        order = _between(*self.slope_db_per_octave, slope) / _DB_PER_OCTAVE_AND_ORDER
        # Three times as fast as pow, and the magnitudes are the dearest step of the chain.
        loss = tf.exp(exponent * order * (log_frequencies - log_corner))
        return tf.where(chosen < probability, loss, 0.0)


class Degradation:
    """The chain for windows of one length, with the spectra of all impulse responses at hand.

    Room, device and filters are linear: they are multiplied into one spectrum per window. The
    FFT is so long that nothing wraps around into the segment, so that the convolution is the
    full linear one in every sample that is kept.

    Args:
        n_samples: Length of the windows, history included.
        rooms: ``(n_rooms, r)`` impulse responses, zero-padded; None leaves the step out. Time
            zero is the largest magnitude of each row.
        devices: ``(n_devices, q)``, likewise.
        sample_rate_hz: Sample rate of everything.
        history_s: Seconds of each window before the segment.
        background, gain, room, device, filters, level, ramp: Sections of the configuration. A
            step whose section is None or whose probability is 0 is left out; without a ramp the
            severity is always 1.

    Raises:
        TypeError: a section has an unknown key or lacks one.
    """

    def __init__(
        self,
        n_samples: int,
        rooms: np.ndarray | None,
        devices: np.ndarray | None,
        *,
        sample_rate_hz: int,
        history_s: float,
        background: Mapping | None = None,
        gain: Mapping | None = None,
        room: Mapping | None = None,
        device: Mapping | None = None,
        filters: Mapping | None = None,
        level: Mapping | None = None,
        ramp: Mapping | None = None,
    ):
        self.n_history = round(history_s * sample_rate_hz)
        self.ramp = None if ramp is None else Ramp(**ramp)
        self._n_samples = n_samples
        self._background = _step(Background, background)
        self._gain = _step(Factor, gain)
        self._filters = _step(Filters, filters)
        self._level = _step(Factor, level)
        responses = [
            (number, step.probability, step.align(bank, sample_rate_hz))
            for number, step, bank in (
                (_ROOM, _step(Response, room), rooms),
                (_DEVICE, _step(Response, device), devices),
            )
            if step is not None and bank is not None
        ]
        ringing = round(_FILTER_RINGING_S * sample_rate_hz) if self._filters else 0
        self._n_fft = fft_length(
            n_samples,
            self.n_history,
            ringing + sum(aligned.n_before for _, _, aligned in responses),
            ringing + sum(aligned.n_after for _, _, aligned in responses),
        )
        self._frequencies_hz = np.fft.rfftfreq(self._n_fft, 1 / sample_rate_hz)
        self._convolutions = [
            (number, probability, tf.constant(aligned.spectra(self._n_fft)))
            for number, probability, aligned in responses
        ]

    def __call__(self, windows, backgrounds, *, seed, severity, response_ids=None) -> tf.Tensor:
        """Degrade windows ``(b, n_samples)`` with backgrounds of the same shape.

        Args:
            windows: History and segment of each row.
            backgrounds: Noise for each row; None leaves the step out.
            seed: ``(2,)`` integers; the result is a function of them and of the inputs.
            severity: Scalar in [0, 1], see `Ramp`.
            response_ids: ``(b,)`` the room and the device of each row; None draws them.

        Returns:
            ``(b, n_samples - n_history)`` float32.
        """
        severity = 1.0 if self.ramp is None else tf.cast(severity, tf.float32)
        if self._background and backgrounds is not None:
            snr_db = self._background.snr_db
            if self.ramp is not None:
                snr_db = self.ramp.snr_range_db(snr_db, severity)
            windows = self._background.mix(
                windows, backgrounds, self.n_history, snr_db, seed=_fold(seed, _BACKGROUND)
            )
        if self._gain:
            windows = self._gain.scale(windows, seed=_fold(seed, _GAIN), normalise=False)
        if self._convolutions or self._filters:
            windows = self._convolve(windows, response_ids, seed, severity)
        segments = windows[:, self.n_history :]
        if self._level:
            segments = self._level.scale(segments, seed=_fold(seed, _LEVEL), normalise=True)
        return segments

    def _convolve(self, windows, response_ids, seed, severity):
        n_rows = windows.shape[0]
        spectrum = tf.signal.rfft(windows, [self._n_fft])
        for number, probability, spectra in self._convolutions:
            chosen, value = tf.unstack(_draw(_fold(seed, number), 2, n_rows))
            identity = spectra.shape[0] - 1
            ids = tf.cast(value * identity, tf.int32) if response_ids is None else response_ids
            ids = tf.where(chosen < severity * probability, ids, identity)
            spectrum *= tf.gather(spectra, ids)
        if self._filters:
            draws = _draw(_fold(seed, _FILTERS), 6, n_rows)
            magnitudes = self._filters.magnitudes(self._frequencies_hz, draws, severity)
            spectrum *= tf.cast(magnitudes, tf.complex64)
        return tf.signal.irfft(spectrum, [self._n_fft])[:, : self._n_samples]


def degrade(
    waveforms: np.ndarray,
    backgrounds: np.ndarray | None,
    rooms: np.ndarray | None,
    devices: np.ndarray | None,
    *,
    seed: tf.Tensor,
    severity: float | tf.Tensor,
    sample_rate_hz: int,
    config: Mapping,
) -> tf.Tensor:
    """Run the whole chain with one room and one device given for each row.

    Args:
        waveforms, backgrounds: ``(b, history + n)``; the latter, like the next two, may be None.
        rooms, devices: ``(b, r)`` and ``(b, q)`` impulse responses, zero-padded, not symbolic.
        seed, severity, sample_rate_hz: As for `Degradation`.
        config: The section ``augmentation`` of a configuration.

    Returns:
        ``(b, n)`` float32.
    """
    chain = Degradation(waveforms.shape[1], rooms, devices, sample_rate_hz=sample_rate_hz, **config)
    rows = tf.range(waveforms.shape[0])
    waveforms = tf.convert_to_tensor(waveforms, tf.float32)
    return chain(waveforms, backgrounds, seed=seed, severity=severity, response_ids=rows)


def _step(step_class, section: Mapping | None):
    step = None if section is None else step_class(**section)
    return step if step and step.probability > 0 else None


def _draw(seed, n_draws: int, n_rows: int):
    """Independent draws (n_draws, n_rows), uniform in [0, 1)."""
    return tf.random.stateless_uniform((n_draws, n_rows), seed)


def _between(start, end, fraction):
    return start + fraction * (end - start)


def _rms(waveforms):
    return tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1))
