"""Turns clean audio into what a microphone in a room would have heard, a whole batch at a time.

The order is the physical one and is fixed: white noise, background noise, gain, room, device,
random low-pass and high-pass, equalizer, compressor, clipping, level. An SNR is relative to all
that stands before it. A window carries ``history_s`` of audio from before the segment, so that
the segment holds the reverberation of its own past (as in NMFP, arXiv 2506.22661); the history is
dropped at the end.
Time offsets and other speeds are made where windows are cut.

Every draw is a stateless function of a seed and of the step of the chain, so that switching one
step off leaves the draws of the others as they were.
"""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from fingerprint.augmentation_dynamics import Clipping, Compressor
from fingerprint.augmentation_spectra import (
    Convolutions,
    Equalizer,
    Filters,
    linear_convolutions,
)
from fingerprint.augmentation_steps import (
    STEPS,
    Background,
    Factor,
    Noise,
    OneOf,
    Ramp,
    Response,
    Room,
    draw,
    seed_of,
)
from fingerprint.errors import ConfigError

# Accelerators belong to jax. Tensorflow refuses where an operation of its own has already run.
with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")


class Degradation:
    """The chain for windows of one length, with the spectra of all impulse responses at hand.

    Room, device, filters and equalizer are linear: they are multiplied into one spectrum per
    window. The FFT is so long that nothing wraps around into the segment, so that the convolution
    is the full linear one in every sample that is kept. A room whose convolution is circular comes
    before, on its own: the history is dropped first, and what follows knows none either.

    Args:
        n_samples: Length of the windows, history included.
        rooms: ``(n_rooms, r)`` impulse responses, zero-padded; None leaves the step out. Time
            zero is the largest magnitude of each row.
        devices: ``(n_devices, q)``, likewise.
        sample_rate_hz: Sample rate of everything.
        history_s: Seconds of each window before the segment.
        one_of: Sets of names of steps, of which each row draws one; see `OneOf`.
        white_noise, background, gain, room, device, filters, equalizer, compressor, clipping,
            level, ramp: Sections of the configuration. A step whose section is None or whose
            probability is 0 is left out; without a ramp the severity is always 1.
        speed: Of no effect here: windows are cut at it, see `fingerprint.playback_speed`.

    Raises:
        ConfigError: a choice that does not exist.
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
        one_of: Sequence[Sequence[str]] = (),
        white_noise: Mapping | None = None,
        background: Mapping | None = None,
        gain: Mapping | None = None,
        room: Mapping | None = None,
        device: Mapping | None = None,
        filters: Mapping | None = None,
        equalizer: Mapping | None = None,
        compressor: Mapping | None = None,
        clipping: Mapping | None = None,
        level: Mapping | None = None,
        ramp: Mapping | None = None,
        speed: Mapping | None = None,
    ):
        self.n_history = round(history_s * sample_rate_hz)
        self.ramp = None if ramp is None else Ramp(**ramp)
        self._sample_rate_hz = sample_rate_hz
        self._one_of = OneOf(one_of, STEPS)
        self._white_noise = _step(Noise, white_noise)
        if self._white_noise and self._white_noise.snr_db is None:
            raise ConfigError(
                "augmentation.white_noise.snr_db is None, but generated noise was never recorded "
                "at any level; give a range."
            )
        self._background = _step(Background, background)
        self._gain = _step(Factor, gain)
        self._compressor = _step(Compressor, compressor)
        self._clipping = _step(Clipping, clipping)
        self._level = _step(Factor, level)
        room, device = _step(Room, room), _step(Response, device)
        responses = {
            name: (step.probability, step.align(bank, sample_rate_hz))
            for name, step, bank in (("room", room, rooms), ("device", device, devices))
            if step is not None and bank is not None
        }
        filters = {"filters": _step(Filters, filters), "equalizer": _step(Equalizer, equalizer)}
        self._dry_noise_probability = room.dry_noise_probability if "room" in responses else 0.0
        self._circular_room = None
        if "room" in responses and room.convolution == "circular":
            n_samples -= self.n_history
            alone = {"room": responses.pop("room")}
            self._circular_room = Convolutions(alone, {}, n_samples, n_samples, sample_rate_hz)
        self._convolutions = linear_convolutions(
            responses,
            {name: step for name, step in filters.items() if step},
            n_samples,
            0 if self._circular_room else self.n_history,
            sample_rate_hz,
        )

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
        drawn = self._one_of.drawn(windows.shape[0], seed=seed_of("one_of", seed))
        mixed = self._add_noise(windows, backgrounds, drawn, severity, seed)
        dry = self._dry_noise(mixed - windows, severity, seed)
        windows = mixed
        if self._gain:
            chance = self._gain.probability * drawn.get("gain", 1.0)
            windows, dry = (
                None
                if each is None
                else self._gain.scale(
                    each, chance=chance, seed=seed_of("gain", seed), normalise=False
                )
                for each in (windows, dry)
            )
        n_history = self.n_history
        if self._circular_room:
            windows = self._circular_room(
                windows[:, n_history:],
                None if dry is None else dry[:, n_history:],
                response_ids,
                drawn,
                severity,
                seed,
            )
            n_history, dry = 0, None
        if self._convolutions:
            windows = self._convolutions(windows, dry, response_ids, drawn, severity, seed)
        return self._change_levels(windows, n_history, drawn, severity, seed)

    def _change_levels(self, windows, n_history, drawn, severity, seed):
        if self._compressor:
            segments = self._compressor.compress(
                windows,
                n_history,
                sample_rate_hz=self._sample_rate_hz,
                chance=severity * (self._compressor.probability * drawn.get("compressor", 1.0)),
                seed=seed_of("compressor", seed),
            )
        else:
            segments = windows[:, n_history:]
        if self._clipping:
            chance = severity * (self._clipping.probability * drawn.get("clipping", 1.0))
            segments = self._clipping.clip(segments, chance=chance, seed=seed_of("clipping", seed))
        if self._level:
            chance = self._level.probability * drawn.get("level", 1.0)
            segments = self._level.scale(
                segments, chance=chance, seed=seed_of("level", seed), normalise=True
            )
        return segments

    def _dry_noise(self, noise, severity, seed):
        """The noise that no room reverberates, ``(b, n)``; None if there is never any."""
        if not self._dry_noise_probability:
            return None
        (chosen,) = tf.unstack(draw(seed_of("dry_noise", seed), 1, noise.shape[0]))
        is_dry = chosen < severity * self._dry_noise_probability
        return tf.where(is_dry[:, None], noise, 0.0)

    def _add_noise(self, windows, backgrounds, drawn, severity, seed):
        steps = {}
        if self._white_noise:
            # Samples and SNR from streams that differ.
            samples_seed = tf.random.experimental.stateless_fold_in(seed_of("white_noise", seed), 1)
            white = tf.random.stateless_normal(windows.shape, samples_seed)
            steps["white_noise"] = (self._white_noise, white)
        if self._background and backgrounds is not None:
            noise = self._background.mix_extra(
                backgrounds, severity=severity, seed=seed_of("extra_noise", seed)
            )
            steps["background"] = (self._background, noise)
        for name, (step, noise) in steps.items():
            windows = step.mix(
                windows,
                noise,
                self.n_history,
                chance=step.probability * drawn.get(name, 1.0),
                ramp=self.ramp,
                severity=severity,
                seed=seed_of(name, seed),
            )
        return windows


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
