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
# Folded into the seed, one number per step of the chain.
_BACKGROUND, _GAIN, _ROOM, _DEVICE, _FILTERS, _LEVEL = range(6)


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


@dataclasses.dataclass(frozen=True)
class Background:
    """Noise at an SNR, uniform in ``snr_db``, that holds over the segment without its history."""

    probability: float
    snr_db: tuple[float, float]

    def mix(self, windows, noise, n_history, *, seed, severity, ramp):
        """Add noise ``(b, n)`` to windows ``(b, n)``, but none where it pauses in the segment."""
        chosen, value = _draw(seed, 2, _n_rows(windows))
        low_db, high_db = self.snr_db
        if ramp is not None:
            low_db = ramp.snr_db[0] + severity * (low_db - ramp.snr_db[0])
            high_db = ramp.snr_db[1] + severity * (high_db - ramp.snr_db[1])
        snr_db = low_db + value * (high_db - low_db)
        signal_rms, noise_rms = _rms(windows[:, n_history:]), _rms(noise[:, n_history:])
        heard = noise_rms > _PAUSE_RATIO * _rms(noise)
        scale = tf.math.divide_no_nan(signal_rms, noise_rms) * 10 ** (-snr_db / 20)
        scale = tf.where((chosen < self.probability) & heard, scale, 0.0)
        return windows + scale[:, None] * noise


@dataclasses.dataclass(frozen=True)
class Factor:
    """A factor log-uniform in the range ``factor``."""

    probability: float
    factor: tuple[float, float]

    def scale(self, waveforms, *, seed, normalise):
        """Multiply waveforms ``(b, n)``, brought to a peak of 1 first if ``normalise``."""
        chosen, value = _draw(seed, 2, _n_rows(waveforms))
        factor = _log_uniform(value, self.factor)
        if normalise:
            factor = tf.math.divide_no_nan(factor, tf.reduce_max(tf.abs(waveforms), axis=1))
        return waveforms * tf.where(chosen < self.probability, factor, 1.0)[:, None]


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

    def magnitudes(self, frequencies_hz, n_rows, *, seed, severity):
        """Draw the magnitude responses ``(n_rows, n_frequencies)``."""
        chosen_low, corner_low, slope_low, chosen_high, corner_high, slope_high = _draw(
            seed, 6, n_rows
        )
        octaves = np.log2(np.maximum(frequencies_hz, 1e-6)).astype(np.float32)
        above = octaves - _log2(_log_uniform(corner_low, self.low_pass_hz))[:, None]
        below = _log2(_log_uniform(corner_high, self.high_pass_hz))[:, None] - octaves
        probability = severity * self.probability
        return tf.math.rsqrt(
            (1.0 + self._loss(above, slope_low, chosen_low < probability))
            * (1.0 + self._loss(below, slope_high, chosen_high < probability))
        )

    def _loss(self, octaves, slope, chosen):
        low, high = self.slope_db_per_octave
        order = (low + slope * (high - low)) / _DB_PER_OCTAVE_AND_ORDER
        return tf.where(chosen[:, None], tf.pow(2.0, 2 * order[:, None] * octaves), 0.0)


class ImpulseResponses:
    """Impulse responses whose time zero is the direct path, the sample of largest magnitude.

    Args:
        responses: ``(m, r)`` float32, zero-padded.
        max_samples: Samples kept from the direct path on.
        probability: Of a row to be convolved, at full severity.
    """

    def __init__(self, responses: tf.Tensor | np.ndarray, max_samples: int, probability: float):
        self.probability = probability
        self.n_before, n_after = _extent(responses)
        self.n_after = min(n_after, max_samples - 1)
        padded = tf.pad(
            tf.convert_to_tensor(responses, tf.float32), [[0, 0], [self.n_before, self.n_after]]
        )
        first = tf.argmax(tf.abs(responses), axis=1, output_type=tf.int32)
        columns = first[:, None] + tf.range(self.n_before + 1 + self.n_after)
        self._aligned = tf.gather(padded, columns, batch_dims=1)

    def spectra(self, n_fft: int) -> tf.Tensor:
        """Spectra ``(m + 1, n_fft // 2 + 1)``; the last one leaves a waveform as it is."""
        before, after = self._aligned[:, : self.n_before], self._aligned[:, self.n_before :]
        gap = tf.zeros((_n_rows(before), n_fft - self.n_before - 1 - self.n_after))
        spectra = tf.signal.rfft(tf.concat([after, gap, before], axis=1))
        return tf.concat([spectra, tf.ones((1, n_fft // 2 + 1), tf.complex64)], axis=0)


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
        rooms: tf.Tensor | np.ndarray | None,
        devices: tf.Tensor | np.ndarray | None,
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
        responses = {
            _ROOM: _responses(rooms, sample_rate_hz, **(room or {})),
            _DEVICE: _responses(devices, sample_rate_hz, **(device or {})),
        }
        responses = {step: kept for step, kept in responses.items() if kept is not None}
        ringing = round(_FILTER_RINGING_S * sample_rate_hz) if self._filters else 0
        self._n_fft = fft_length(
            n_samples,
            self.n_history,
            ringing + sum(part.n_before for part in responses.values()),
            ringing + sum(part.n_after for part in responses.values()),
        )
        self._frequencies_hz = np.fft.rfftfreq(self._n_fft, 1 / sample_rate_hz)
        self._convolutions = [
            (step, part.probability, part.spectra(self._n_fft)) for step, part in responses.items()
        ]

    def __call__(
        self,
        windows: tf.Tensor,
        backgrounds: tf.Tensor | None,
        *,
        seed: tf.Tensor,
        severity: float | tf.Tensor,
        response_ids: tf.Tensor | None = None,
    ) -> tf.Tensor:
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
            windows = self._background.mix(
                windows,
                backgrounds,
                self.n_history,
                seed=_fold(seed, _BACKGROUND),
                severity=severity,
                ramp=self.ramp,
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
        n_rows = _n_rows(windows)
        spectrum = tf.signal.rfft(windows, [self._n_fft])
        for step, probability, spectra in self._convolutions:
            chosen, value = _draw(_fold(seed, step), 2, n_rows)
            identity = _n_rows(spectra) - 1
            ids = response_ids
            if ids is None:
                ids = tf.cast(value * tf.cast(identity, tf.float32), tf.int32)
            ids = tf.where(chosen < severity * probability, ids, identity)
            spectrum *= tf.gather(spectra, ids)
        if self._filters:
            magnitudes = self._filters.magnitudes(
                self._frequencies_hz, n_rows, seed=_fold(seed, _FILTERS), severity=severity
            )
            spectrum *= tf.cast(magnitudes, tf.complex64)
        return tf.signal.irfft(spectrum, [self._n_fft])[:, : self._n_samples]


def degrade(
    waveforms: tf.Tensor,
    backgrounds: tf.Tensor | None,
    rooms: tf.Tensor | None,
    devices: tf.Tensor | None,
    *,
    seed: tf.Tensor,
    severity: float | tf.Tensor,
    sample_rate_hz: int,
    config: Mapping,
) -> tf.Tensor:
    """Run the whole chain with one room and one device given for each row.

    Args:
        waveforms: ``(b, history + n)`` float32.
        backgrounds: ``(b, history + n)``, or None.
        rooms: ``(b, r)`` impulse responses, or None.
        devices: ``(b, q)`` impulse responses, or None.
        seed: ``(2,)`` integers.
        severity: Scalar in [0, 1]; 1 is the chain as configured.
        sample_rate_hz: Sample rate of everything.
        config: The section ``augmentation`` of a configuration.

    Returns:
        ``(b, n)`` float32.
    """
    chain = Degradation(waveforms.shape[1], rooms, devices, sample_rate_hz=sample_rate_hz, **config)
    rows = tf.range(_n_rows(waveforms))
    return chain(waveforms, backgrounds, seed=seed, severity=severity, response_ids=rows)


def fft_length(n_samples: int, n_history: int, n_before: int, n_after: int) -> int:
    """Shortest fast FFT that convolves a window exactly in all samples after its history.

    The response reaches from ``-n_before`` to ``n_after``. What circular convolution folds back
    from beyond the window's end may fall on the history, which is dropped; what it folds back
    from before the window's start must fall beyond its end.

    Returns:
        An even number with no prime factor above 5.
    """
    needed = n_samples + max(n_before, n_after - n_history)
    length = max(needed, n_before + 1 + n_after)
    length += length % 2
    while not _is_5_smooth(length):
        length += 2
    return length


def _is_5_smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1


def _step(step_class, section: Mapping | None):
    step = None if section is None else step_class(**section)
    return step if step and step.probability > 0 else None


def _responses(
    responses, sample_rate_hz: int, probability: float = 0.0, max_duration_s: float = 0.0
) -> ImpulseResponses | None:
    if responses is None or probability == 0:
        return None
    max_samples = max(1, round(max_duration_s * sample_rate_hz))
    return ImpulseResponses(responses, max_samples, probability)


def _extent(responses) -> tuple[int, int]:
    """Most samples before and after the direct path; the worst case where only shapes are known."""
    known = tf.get_static_value(responses) if tf.is_tensor(responses) else responses
    if known is None:
        return responses.shape[1] - 1, responses.shape[1] - 1
    direct = np.argmax(np.abs(known), axis=1)
    last = known.shape[1] - 1 - np.argmax(known[:, ::-1] != 0, axis=1)
    return int(direct.max()), int(max(0, (last - direct).max()))


def _n_rows(tensor):
    """Rows of a tensor, static where they are known."""
    return tensor.shape[0] if tensor.shape[0] is not None else tf.shape(tensor)[0]


def _fold(seed, number: int):
    return tf.random.experimental.stateless_fold_in(seed, number)


def _draw(seed, n_draws: int, n_rows):
    """``n_draws`` tensors (n_rows,), uniform in [0, 1)."""
    return tf.unstack(tf.random.stateless_uniform((n_draws, n_rows), seed), num=n_draws)


def _log_uniform(value, limits: tuple[float, float]):
    low, high = (math.log(limit) for limit in limits)
    return tf.exp(low + value * (high - low))


def _log2(values):
    return tf.math.log(values) / math.log(2)


def _rms(waveforms):
    return tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1))
