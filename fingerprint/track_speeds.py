"""Music at other speeds: new tracks for training, made once and kept.

A variant is the whole track resampled, so that pitch and tempo change together as those of a
record do that turns faster. Far from the original speed a fingerprint is another one, hence
variants of one track may be each other's negatives.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr

from fingerprint.errors import ConfigError
from fingerprint.waveform_bank import WaveformBank

_INT16_SCALE = 32768


def check_speeds(speeds: Sequence[float]) -> None:
    """Refuse what are not different positive speeds.

    Raises:
        ConfigError: the sentence names the key of the configuration.
    """
    numbers = isinstance(speeds, list | tuple) and len(speeds) > 0
    numbers = numbers and all(isinstance(speed, int | float) and speed > 0 for speed in speeds)
    if not numbers or len({float(speed) for speed in speeds}) < len(speeds):
        raise ConfigError(
            f"data.track_speeds is {speeds!r}, but it has to hold different positive numbers, such "
            "as (1.0, 0.92, 1.09)."
        )


def open_at_speed(folder: Path, speed: float) -> WaveformBank:
    """The bank in ``folder`` played ``speed`` times as fast, its tracks in the same order.

    It is written beside that bank when it is not there yet. Each name tells the speed.
    """
    bank = WaveformBank.open(folder)
    if speed == 1:
        return bank
    variant = folder.with_name(f"{folder.name}_at_speed_{float(speed)}")
    if variant.exists():
        return WaveformBank.open(variant)
    return WaveformBank.create(variant, _tracks_at_speed(bank, speed), bank.sample_rate_hz)


def _tracks_at_speed(bank: WaveformBank, speed: float) -> Iterator[tuple[str, np.ndarray]]:
    for track, (name, length) in enumerate(zip(bank.names, bank.lengths, strict=True)):
        (samples,) = bank.windows([track], [0], int(length))
        played = soxr.resample(samples, speed, 1.0, quality="HQ")
        if bank.dtype == np.int16:
            played = np.clip(np.round(played * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
        yield f"{name} at speed {float(speed)}", played.astype(bank.dtype)
