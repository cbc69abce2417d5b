"""The linear steps of `fingerprint.augmentation`, all multiplied into one spectrum per window."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fingerprint.augmentation_steps import between, check_range, draw, seed_of
from fingerprint.errors import ConfigError
from fingerprint.impulse_responses import ImpulseResponses, fft_length

# A zero-phase filter rings to either side; after this long the steepest slope at 100 Hz is down
# by 70 dB.
_FILTER_RINGING_S = 0.05
_DB_PER_OCTAVE_AND_ORDER = 20 * math.log10(2)
_NEPER_PER_DB = math.log(10) / 20


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


@dataclasses.dataclass(frozen=True)
class Equalizer:
    """A smooth frequency response of zero phase, such as loudspeakers and phones have.

    Gains uniform within ``range_db`` of 0 dB stand at ``n_knots`` frequencies, evenly spaced in
    the logarithm over ``band_hz``; they are interpolated linearly there and constant outside.

    Raises:
        ConfigError: on construction, a band that is not one or no knot.
    """

    probability: float
    range_db: float
    n_knots: int
    band_hz: tuple[float, float]

    def __post_init__(self):
        """Refuse what has no logarithm or no gain."""
        check_range("equalizer.band_hz", self.band_hz)
        if self.n_knots < 1:
            raise ConfigError(
                f"augmentation.equalizer.n_knots is {self.n_knots!r}; give it at least 1."
            )

    def magnitudes(self, frequencies_hz, n_rows: int, *, chance, seed):
        """Magnitude responses ``(n_rows, n_frequencies)``."""
        chosen, gains = tf.split(draw(seed, 1 + self.n_knots, n_rows), [1, self.n_knots])
        gains_db = between(-self.range_db, self.range_db, tf.transpose(gains))
        gains_db = tf.where(tf.transpose(chosen) < tf.reshape(chance, [-1, 1]), gains_db, 0.0)
        knots = np.linspace(*np.log(self.band_hz), self.n_knots)
        log_frequencies = np.log(np.maximum(frequencies_hz, 1e-6))
        shares = [np.interp(log_frequencies, knots, one) for one in np.eye(self.n_knots)]
        return tf.exp(gains_db @ (_NEPER_PER_DB * np.array(shares)).astype(np.float32))


class Convolutions:
    """Responses and filters multiplied into one spectrum of ``n_fft`` samples per window.

    Args:
        responses: For each step its probability and its impulse responses.
        filters: For each step what gives its magnitudes.
        n_samples: Length of the windows, and of what is returned.
    """

    def __init__(
        self,
        responses: Mapping[str, tuple[float, ImpulseResponses]],
        filters: Mapping[str, Filters | Equalizer],
        n_samples: int,
        n_fft: int,
        sample_rate_hz: int,
    ):
        self._n_samples, self._n_fft = n_samples, n_fft
        self._filters = dict(filters)
        self._frequencies_hz = np.fft.rfftfreq(n_fft, 1 / sample_rate_hz)
        self._responses = {
            name: (probability, tf.constant(aligned.spectra(n_fft)))
            for name, (probability, aligned) in responses.items()
        }

    def __call__(self, windows, dry, response_ids, drawn, severity, seed):
        """Convolve windows ``(b, n_samples)``; ``drawn`` is that of `OneOf`.

        ``dry`` is the part of the windows that the room leaves as it is, or None.
        """
        n_rows = windows.shape[0]
        in_room = windows if dry is None else windows - dry
        spectrum = tf.signal.rfft(in_room, [self._n_fft])
        for name, (probability, spectra) in self._responses.items():
            chosen, value = tf.unstack(draw(seed_of(name, seed), 2, n_rows))
            identity = spectra.shape[0] - 1
            ids = tf.cast(value * identity, tf.int32) if response_ids is None else response_ids
            chance = severity * (probability * drawn.get(name, 1.0))
            spectrum *= tf.gather(spectra, tf.where(chosen < chance, ids, identity))
            if name == "room" and dry is not None:
                spectrum += tf.signal.rfft(dry, [self._n_fft])
        magnitudes = [
            step.magnitudes(
                self._frequencies_hz,
                n_rows,
                chance=severity * (step.probability * drawn.get(name, 1.0)),
                seed=seed_of(name, seed),
            )
            for name, step in self._filters.items()
        ]
        if magnitudes:
            spectrum *= tf.cast(math.prod(magnitudes), tf.complex64)
        return tf.signal.irfft(spectrum, [self._n_fft])[:, : self._n_samples]


def linear_convolutions(
    responses: Mapping[str, tuple[float, ImpulseResponses]],
    filters: Mapping[str, Filters | Equalizer],
    n_samples: int,
    n_history: int,
    sample_rate_hz: int,
) -> Convolutions | None:
    """The convolutions with an FFT that keeps them linear after the history; None if none is on."""
    if not responses and not filters:
        return None
    ringing = round(_FILTER_RINGING_S * sample_rate_hz) if filters else 0
    aligned = [bank for _, bank in responses.values()]
    n_fft = fft_length(
        n_samples,
        n_history,
        ringing + sum(bank.n_before for bank in aligned),
        ringing + sum(bank.n_after for bank in aligned),
    )
    return Convolutions(responses, filters, n_samples, n_fft, sample_rate_hz)
