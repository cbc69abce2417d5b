"""Babble: voices made from a seed, for places where no recordings of people are at hand.

A voice is a buzz whose pitch wanders, and breath, heard through three formants that change from
syllable to syllable, with pauses: nobody says anything, but pitch, spectrum and rhythm are those
of speech (source and filter: Fant, Acoustic Theory of Speech Production, 1960).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import signal

from fingerprint.errors import ConfigError
from fingerprint.waveform_bank import WaveformBank

N_VOICES = 6
CLIP_S = 20.0
_MOST_VOICES = 8
_CLIP_PEAK = 0.9
_FRAME_S = 0.032
_PITCHES_HZ = (85.0, 230.0)
_SYLLABLES_S = (0.12, 0.3)
# Lowest and highest frequency, and bandwidth, of each formant.
_FORMANTS_HZ = ((250.0, 850.0, 90.0), (850.0, 2400.0, 120.0), (2400.0, 3400.0, 180.0))
_PAUSE_SHARE = 0.25
_UNVOICED_SHARE = 0.3
_BREATH = 0.1


def babble(
    rng: np.random.Generator, n_samples: int, sample_rate_hz: int, n_voices: int = N_VOICES
) -> np.ndarray:
    """People who talk at once, each as loud: ``(n_samples,)``."""
    voices = [voice(rng, n_samples, sample_rate_hz) for _ in range(n_voices)]
    return sum(each / np.sqrt(np.mean(np.square(each))) for each in voices)


def open_babble(folder: Path, n_clips: int, sample_rate_hz: int) -> WaveformBank:
    """Clips of ``CLIP_S`` seconds, of one to eight voices each, for training.

    They are made when ``folder`` is not there yet; clip i is always the same.

    Raises:
        ConfigError: no number of clips.
    """
    if isinstance(n_clips, bool) or not isinstance(n_clips, int) or n_clips < 1:
        raise ConfigError(f"data.babble_clips is {n_clips!r}; choose a number of clips, or 0.")
    if folder.exists():
        return WaveformBank.open(folder)
    return WaveformBank.create(folder, _clips(n_clips, sample_rate_hz), sample_rate_hz)


def _clips(n_clips: int, sample_rate_hz: int) -> Iterator[tuple[str, np.ndarray]]:
    for clip in range(n_clips):
        n_voices = 1 + clip % _MOST_VOICES
        samples = babble(
            np.random.default_rng([clip]), round(CLIP_S * sample_rate_hz), sample_rate_hz, n_voices
        )
        samples *= _CLIP_PEAK * np.iinfo(np.int16).max / np.abs(samples).max()
        yield f"babble {clip} of {n_voices}", np.round(samples).astype(np.int16)


def voice(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """One of them: ``(n_samples,)``, of any level."""
    n_frame = round(_FRAME_S * sample_rate_hz)
    starts_s = _syllables(rng, n_samples / sample_rate_hz)
    buzz = _buzz(rng, starts_s, np.arange(n_samples) / sample_rate_hz)
    hiss = rng.standard_normal(n_samples)
    frequencies_hz, times_s, buzzes = signal.stft(buzz, sample_rate_hz, nperseg=n_frame)
    hisses = signal.stft(hiss, sample_rate_hz, nperseg=n_frame)[2]
    is_unvoiced = rng.random(len(starts_s)) < _UNVOICED_SHARE
    of_frame = np.searchsorted(starts_s, times_s, side="right") - 1
    sources = np.where(is_unvoiced[of_frame], hisses, buzzes + _BREATH * hisses)
    levels = rng.uniform(0.4, 1.0, len(starts_s)) * (rng.random(len(starts_s)) >= _PAUSE_SHARE)
    # Somebody speaks: a voice that pauses all along would have no level to be scaled by.
    levels[0] = 1.0
    envelope = _vocal_tract(rng, starts_s, times_s, frequencies_hz) * levels[of_frame]
    return signal.istft(sources * envelope, sample_rate_hz, nperseg=n_frame)[1][:n_samples]


def _syllables(rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """The seconds at which syllables start."""
    lengths_s = rng.uniform(*_SYLLABLES_S, int(duration_s / _SYLLABLES_S[0]) + 2)
    starts_s = np.concatenate([[0.0], np.cumsum(lengths_s)])
    return starts_s[starts_s <= duration_s]


def _buzz(rng: np.random.Generator, starts_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """The vocal folds: a saw tooth whose pitch wanders by a fifth or so around the speaker's."""
    pitch_hz = np.exp(rng.uniform(*np.log(_PITCHES_HZ)))
    wander = np.interp(times_s, starts_s, 0.15 * rng.standard_normal(len(starts_s)))
    step_s = times_s[1] if len(times_s) > 1 else 0.0
    return signal.sawtooth(2 * np.pi * np.cumsum(pitch_hz * np.exp(wander)) * step_s)


def _vocal_tract(
    rng: np.random.Generator, starts_s: np.ndarray, times_s: np.ndarray, frequencies_hz: np.ndarray
) -> np.ndarray:
    """Gains ``(n_frequencies, n_frames)``: formants that glide from syllable to syllable."""
    gains = np.zeros((len(frequencies_hz), len(times_s)))
    for low_hz, high_hz, width_hz in _FORMANTS_HZ:
        targets_hz = rng.uniform(low_hz, high_hz, len(starts_s))
        centres_hz = np.interp(times_s, starts_s, targets_hz)
        gains += 1 / (1 + ((frequencies_hz[:, None] - centres_hz) / width_hz) ** 2)
    return gains
