"""The steps of `fingerprint.augmentation`: each turns a batch of waveforms and a seed into another.

A step's ``chance`` says how probable it is in each row, ``()`` or ``(b,)``. Its draws are a
function of its own seed alone, so that none moves when another step is switched off.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fingerprint.errors import ConfigError
from fingerprint.impulse_responses import ImpulseResponses

# Noise this much softer in the segment than around it is a pause: brought up to the SNR, what
# stands beside the pause would drown everything.
_PAUSE_RATIO = 10 ** (-40 / 20)
_DB_PER_OCTAVE_AND_ORDER = 20 * math.log10(2)
CONVOLUTIONS = ("linear", "circular")


@dataclasses.dataclass(frozen=True)
class Ramp:
    """How the chain is brought in over the first steps of training.

    At severity 0 every SNR is drawn from ``snr_db``, a replica starts within ``offset_s`` of its
    original, no room, device or filter is applied and no noise as loud as it was recorded; after
    ``n_steps`` all is as configured.
    """

    n_steps: int
    snr_db: tuple[float, float]
    offset_s: float

    def severity(self, step: int) -> float:
        """Severity in [0, 1], growing linearly with the step."""
        return min(1.0, step / self.n_steps) if self.n_steps > 0 else 1.0

    def snr_range_db(self, full_db: tuple[float, float], severity):
        """Range of the SNR at a severity, where ``full_db`` is the range at 1."""
        return [between(*ends, severity) for ends in zip(self.snr_db, full_db, strict=True)]

    def largest_offset_s(self, full_s: float, severity: float) -> float:
        """Largest offset of a replica at a severity, where ``full_s`` is the one at 1."""
        return between(self.offset_s, full_s, severity)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Sets of steps of which each row draws one, all with equal chance.

    A step that is in some set, but not in the one that a row has drawn, is skipped in that row; a
    step in no set is not concerned.

    Raises:
        ConfigError: on construction, a name that is no step, or names that are in no set.
    """

    sets: Sequence[Sequence[str]]
    known_steps: Sequence[str]

    def __post_init__(self):
        """Refuse unknown names, and a set of names in the place of sets."""
        if isinstance(self.sets, str) or any(isinstance(steps, str) for steps in self.sets):
            raise ConfigError(
                f"augmentation.one_of is {self.sets!r}, but it holds sets of names, such as "
                "(('background',), ('background', 'room'))."
            )
        for name in sorted(self._members):
            if name not in self.known_steps:
                raise ConfigError(
                    f"augmentation.one_of names the step {name!r}; choose among "
                    f"{', '.join(self.known_steps)}."
                )

    @property
    def _members(self) -> set[str]:
        return {name for steps in self.sets for name in steps}

    def drawn(self, n_rows: int, *, seed) -> dict[str, tf.Tensor]:
        """For each step in some set ``(n_rows,)`` float32: 1 where the row has drawn it, else 0."""
        if not self._members:
            return {}
        (value,) = tf.unstack(draw(seed, 1, n_rows))
        numbers = tf.cast(value * len(self.sets), tf.int32)
        return {
            name: tf.gather(tf.constant([float(name in steps) for steps in self.sets]), numbers)
            for name in sorted(self._members)
        }


@dataclasses.dataclass(frozen=True)
class Noise:
    """Noise at an SNR that holds over the segment without its history.

    The SNR is uniform in ``snr_db``, or, with an ``snr_step_db``, one of its lower bound and the
    multiples of the step above that. With an ``snr_db`` of None the noise is as loud as it comes.
    """

    probability: float
    snr_db: tuple[float, float] | None
    snr_step_db: float = 0.0

    def mix(self, windows, noise, n_history, *, chance, ramp, severity, seed):
        """Add noise ``(b, n)`` to windows ``(b, n)``, but none where it pauses in the segment."""
        chosen, value = tf.unstack(draw(seed, 2, windows.shape[0]))
        if self.snr_db is None:
            return windows + tf.where((chosen < severity * chance)[:, None], noise, 0.0)
        range_db = self.snr_db if ramp is None else ramp.snr_range_db(self.snr_db, severity)
        ratio = 10 ** (-self._snr_db(*range_db, value) / 20)
        signal_rms, noise_rms = _rms(windows[:, n_history:]), _rms(noise[:, n_history:])
        heard = noise_rms > _PAUSE_RATIO * _rms(noise)
        scale = ratio * tf.math.divide_no_nan(signal_rms, noise_rms)
        scale = tf.where((chosen < chance) & heard, scale, 0.0)
        return windows + scale[:, None] * noise

    def _snr_db(self, lowest_db, highest_db, value):
        if not self.snr_step_db:
            return between(lowest_db, highest_db, value)
        # A little more than the quotient, which rounding may have left just below a whole number.
        n_steps = tf.floor((highest_db - lowest_db) / self.snr_step_db + 1e-4)
        return lowest_db + self.snr_step_db * tf.floor(value * (n_steps + 1))


@dataclasses.dataclass(frozen=True)
class Factor:
    """A factor log-uniform in the range ``factor``."""

    probability: float
    factor: tuple[float, float]

    def scale(self, waveforms, *, chance, seed, normalise):
        """Multiply waveforms ``(b, n)``, brought to a peak of 1 first if ``normalise``."""
        chosen, value = tf.unstack(draw(seed, 2, waveforms.shape[0]))
        factor = tf.exp(between(*map(math.log, self.factor), value))
        if normalise:
            factor = tf.math.divide_no_nan(factor, tf.reduce_max(tf.abs(waveforms), axis=1))
        return waveforms * tf.where(chosen < chance, factor, 1.0)[:, None]


@dataclasses.dataclass(frozen=True)
class Response:
    """Convolution with an impulse response, of which ``max_duration_s`` from its peak is kept."""

    probability: float
    max_duration_s: float

    def align(self, responses, sample_rate_hz) -> ImpulseResponses:
        """Bring responses ``(m, r)`` to a common time zero and cut them."""
        max_samples = max(1, round(self.max_duration_s * sample_rate_hz))
        return ImpulseResponses.align(np.asarray(responses), max_samples)


@dataclasses.dataclass(frozen=True)
class Room(Response):
    """The response of a room, by the full "linear" convolution or one "circular" in the segment.

    The circular one is that of NAFP's published code: a product of two spectra as long as the
    segment. The room then knows no audio from before the segment, whose end reverberates in its
    beginning instead.

    Raises:
        ConfigError: on construction, another convolution.
    """

    convolution: str = "linear"

    def __post_init__(self):
        """Refuse what is neither."""
        if self.convolution not in CONVOLUTIONS:
            raise ConfigError(
                f"augmentation.room.convolution is {self.convolution!r}; choose one of "
                f"{', '.join(CONVOLUTIONS)}."
            )


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

    def magnitudes(self, frequencies_hz, n_rows: int, *, chance, seed):
        """Magnitude responses ``(n_rows, n_frequencies)``."""
        # 1 microhertz stands for 0 Hz, whose logarithm could not be multiplied.
        log_frequencies = np.log(np.maximum(frequencies_hz, 1e-6)).astype(np.float32)
        low_pass, high_pass = tf.split(draw(seed, 6, n_rows)[..., None], 2)
        chance = tf.reshape(chance, [-1, 1])
        low_pass_loss = self._loss(log_frequencies, self.low_pass_hz, 2, low_pass, chance)
        high_pass_loss = self._loss(log_frequencies, self.high_pass_hz, -2, high_pass, chance)
        return tf.math.rsqrt((1.0 + low_pass_loss) * (1.0 + high_pass_loss))

    def _loss(self, log_frequencies, corners_hz, exponent, draws, chance):
        """``(f / corner) ** (exponent * order)`` (n_rows, n_frequencies), 0 in rows not chosen."""
        chosen, corner, slope = tf.unstack(draws)
        log_corner = between(*map(math.log, corners_hz), corner)
        order = between(*self.slope_db_per_octave, slope) / _DB_PER_OCTAVE_AND_ORDER
        # Three times as fast as pow, and the magnitudes are the dearest step of the chain.
        loss = tf.exp(exponent * order * (log_frequencies - log_corner))
        return tf.where(chosen < chance, loss, 0.0)


def draw(seed, n_draws: int, n_rows: int) -> tf.Tensor:
    """Independent draws ``(n_draws, n_rows)``, uniform in [0, 1)."""
    return tf.random.stateless_uniform((n_draws, n_rows), seed)


def between(start, end, fraction):
    """The point that lies at a fraction of the way from start to end."""
    return start + fraction * (end - start)


def _rms(waveforms):
    return tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1))
