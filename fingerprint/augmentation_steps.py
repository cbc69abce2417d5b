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
CONVOLUTIONS = ("linear", "circular")
# The draws of a step come from the stream of its number here: new ones are appended.
_STREAMS = (
    *("background", "gain", "room", "device", "filters", "level", "white_noise", "one_of"),
    *("equalizer", "extra_noise", "compressor", "clipping", "dry_noise"),
)
STEPS = tuple(name for name in _STREAMS if name not in ("one_of", "extra_noise", "dry_noise"))


@dataclasses.dataclass(frozen=True)
class Ramp:
    """How the chain is brought in over the first steps of training.

    At severity 0 every SNR is drawn from ``snr_db``, a replica starts within ``offset_s`` of its
    original, no room, device, filter, compressor or clipping is applied, no noise as loud as it
    was recorded and no second noise; after ``n_steps`` all is as configured.
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
        signal_rms, noise_rms = rms(windows[:, n_history:]), rms(noise[:, n_history:])
        heard = noise_rms > _PAUSE_RATIO * rms(noise)
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
class Background(Noise):
    """Recorded noise, of which several kinds may be heard at once.

    The noise of the next row, and that of the one after it, is each added with
    ``extra_probability``, at a level uniform in ``extra_level_db`` relative to the row's own. The
    SNR holds for the sum.
    """

    extra_probability: float = 0.0
    extra_level_db: tuple[float, float] = (0.0, 0.0)

    def mix_extra(self, noise, *, severity, seed):
        """Add to noise ``(b, n)`` that of other rows."""
        if not self.extra_probability:
            return noise
        own_rms, mixed = rms(noise), noise
        draws = tf.unstack(draw(seed, 4, noise.shape[0]))
        for shift, chosen, value in ((1, *draws[:2]), (2, *draws[2:])):
            other_rms = tf.roll(own_rms, shift, axis=0)
            ratio = 10 ** (between(*self.extra_level_db, value) / 20)
            scale = ratio * tf.math.divide_no_nan(own_rms, other_rms)
            scale = tf.where(chosen < severity * self.extra_probability, scale, 0.0)
            mixed += scale[:, None] * tf.roll(noise, shift, axis=0)
        return mixed


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
    beginning instead. With ``dry_noise_probability`` the noise of a row arises at the microphone,
    and only the music has been through the room.

    Raises:
        ConfigError: on construction, another convolution.
    """

    convolution: str = "linear"
    dry_noise_probability: float = 0.0

    def __post_init__(self):
        """Refuse what is neither."""
        if self.convolution not in CONVOLUTIONS:
            raise ConfigError(
                f"augmentation.room.convolution is {self.convolution!r}; choose one of "
                f"{', '.join(CONVOLUTIONS)}."
            )


def check_range(name: str, values: tuple[float, float]) -> None:
    """Refuse a range that is not two positive numbers, the smaller first.

    Raises:
        ConfigError: the sentence names the key of the augmentation.
    """
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ConfigError(
            f"augmentation.{name} is {values!r}, but it has to be a range of positive numbers, the "
            "smaller first."
        )


def seed_of(step: str, seed):
    """The seed of a step's own stream of draws."""
    return tf.random.experimental.stateless_fold_in(seed, _STREAMS.index(step))


def draw(seed, n_draws: int, n_rows: int) -> tf.Tensor:
    """Independent draws ``(n_draws, n_rows)``, uniform in [0, 1)."""
    return tf.random.stateless_uniform((n_draws, n_rows), seed)


def between(start, end, fraction):
    """The point that lies at a fraction of the way from start to end."""
    return start + fraction * (end - start)


def rms(waveforms):
    """Root mean squares ``(b,)``."""
    return tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1))
