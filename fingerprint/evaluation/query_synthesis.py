"""From a recipe to the samples of a query."""

import collections
import math

import numpy as np

from fingerprint.audio import read_audio
from fingerprint.babble import babble
from fingerprint.evaluation import degradations
from fingerprint.evaluation.lossy_codecs import Codec, round_trip
from fingerprint.evaluation.query_recipes import Chunk, Reader, Recipe, loop
from fingerprint.evaluation.query_settings import Condition

# Longer than what a resampler or a vocoder makes of the two ends of an excerpt.
_MARGIN_S = 0.1
_CACHE_BYTES = 128 * 2**20
# What is drawn for an excerpt when it is synthesised. Numpy takes [seed, excerpt, 0] for
# [seed, excerpt]: the first stream begins with the numbers that start and noise were drawn from.
_SPEAKER, _MICROPHONE, _VOICES, _BAND = range(4)
# Corners of filters that are drawn.
_LOW_PASS_HZ, _HIGH_PASS_HZ = (2_000.0, 6_000.0), (100.0, 600.0)


class AudioReader:
    """`audio.read_audio` that keeps the files that were read last, as many as ``max_bytes``."""

    def __init__(self, max_bytes: int = _CACHE_BYTES):
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._kept: collections.OrderedDict[tuple[str, int], np.ndarray] = collections.OrderedDict()

    def __call__(self, path: str, sample_rate_hz: int) -> np.ndarray:
        """Samples ``(n,)`` of a file.

        Raises:
            AudioError: the file cannot be read.
        """
        key = (path, sample_rate_hz)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self._kept[key] = samples = read_audio(path, sample_rate_hz)
        self._n_bytes += samples.nbytes
        while self._n_bytes > self._max_bytes and len(self._kept) > 1:
            self._n_bytes -= self._kept.popitem(last=False)[1].nbytes
        return samples


def synthesise(recipe: Recipe, read: Reader) -> np.ndarray:
    """Make a query: the same recipe, files and libraries give the same samples, bit for bit.

    The order is that of sound: the recording played faster or slower, by an uneven loudspeaker;
    noise, then the impulse responses of room and device (the published order, Chang et al., arXiv
    2010.11910); voices near the microphone, its unevenness and band, overdriving; suppression of
    noise, automatic gain, level; and the codec.

    Returns:
        ``(recipe.n_samples,)`` float32 in [-1, 1].

    Raises:
        AudioError: a file cannot be read.
        DegradationError: tempo or pitch are changed without librosa.
    """
    rate_hz, n_history = recipe.sample_rate_hz, recipe.n_history
    margin = max(abs(chunk.offset) for chunk in recipe.chunks)
    n_before = n_history + margin
    track = read(recipe.track, rate_hz)
    music = played(
        track, recipe.start, n_before, recipe.n_samples + margin, rate_hz, recipe.condition
    )
    music = _equalised(music, recipe, _SPEAKER, 1.0)
    recorded, at = [], margin
    for chunk in recipe.chunks:
        first = at + chunk.offset
        own = music[first : first + n_history + chunk.n_samples]
        recorded.append(_record(own, chunk, recipe, read))
        at += chunk.n_samples
    return _transmit(np.concatenate(recorded), recipe)


def played(
    track: np.ndarray,
    start: int,
    n_before: int,
    n_after: int,
    sample_rate_hz: int,
    condition: Condition,
) -> np.ndarray:
    """A track at the speed, tempo and pitch of a condition, around sample ``start`` of it.

    Returns:
        ``(n_before + n_after,)``; sample ``n_before`` is sample ``start`` of the track, and zeros
        stand for what lies outside the track.
    """
    speed, tempo = condition["speed"] or 1.0, condition["tempo"] or 1.0
    semitones = condition["pitch_semitones"] or 0.0
    ratio = speed * tempo
    if ratio == 1.0 and speed == 1.0 and not semitones:
        return excerpt(track, start - n_before, start + n_after)
    margin = round(_MARGIN_S * sample_rate_hz)
    n_earlier = round((n_before + margin) * ratio)
    n_later = math.ceil((n_after + margin) * ratio)
    music = excerpt(track, start - n_earlier, start + n_later)
    if speed != 1.0:
        music = degradations.change_speed(music, sample_rate_hz, speed)
    if tempo != 1.0:
        music = degradations.change_tempo(music, tempo)
    if semitones:
        music = degradations.change_pitch(music, sample_rate_hz, semitones)
    first = round(n_earlier / ratio) - n_before
    return music[first : first + n_before + n_after]


def excerpt(track: np.ndarray, first: int, last: int) -> np.ndarray:
    """Samples ``[first, last)`` of a track, zeros where it has none."""
    inside = track[max(0, first) : max(0, last)]
    zeros_before = min(max(0, -first), last - first)
    return np.pad(inside, (zeros_before, last - first - zeros_before - len(inside)))


def _record(music: np.ndarray, chunk: Chunk, recipe: Recipe, read: Reader) -> np.ndarray:
    """A chunk's music ``(n_history + n,)`` with its noise, room and device: ``(n,)``."""
    rate_hz = recipe.sample_rate_hz
    noises = []
    for noise in chunk.noises:
        looped = loop(read(noise.path, rate_hz), len(music))
        noises.append(looped[noise.start : noise.start + len(music)])
    room, device = (path and read(path, rate_hz) for path in (chunk.room, chunk.device))
    if room is not None and recipe.reverberate == "music":
        music, room = degradations.convolve_aligned(music, room), None
    noise = degradations.sum_of_noises(noises)
    return degradations.degrade(music, noise, chunk.snr_db, [room, device], recipe.n_history)


def _transmit(samples: np.ndarray, recipe: Recipe) -> np.ndarray:
    """What microphone, telephone and file make of a recording ``(n,)`` with a peak of 1."""
    rate_hz, condition = recipe.sample_rate_hz, recipe.condition
    samples = _through_microphone(samples, recipe)
    if condition["clipped_share"]:
        samples = degradations.clip_share(samples, condition["clipped_share"])
    if condition.get("suppression"):
        suppressed = degradations.suppress_noise(samples, rate_hz, condition["suppression"])
        samples = degradations.peak_normalised(suppressed)
    if recipe.gain_control:
        samples = degradations.control_gain(samples, rate_hz)
    if condition["level_db"]:
        samples = samples * np.float32(10 ** (condition["level_db"] / 20))
    if condition["codec"] is not None:
        samples = round_trip(samples, rate_hz, Codec.parse(condition["codec"]))
    return samples


def _through_microphone(samples: np.ndarray, recipe: Recipe) -> np.ndarray:
    """With voices near it, and as its frequency response leaves them: ``(n,)`` with a peak of 1."""
    rate_hz, condition = recipe.sample_rate_hz, recipe.condition
    babble_db, changed = condition.get("babble_db"), samples
    if babble_db is not None:
        voices = babble(_rng(recipe, _VOICES), len(samples), rate_hz)
        changed = degradations.mix(changed, voices, babble_db)
    changed = _equalised(changed, recipe, _MICROPHONE, 0.5)
    for low_pass_hz, high_pass_hz in (
        _drawn_band(recipe),
        (condition["low_pass_hz"], condition["high_pass_hz"]),
    ):
        if low_pass_hz is not None or high_pass_hz is not None:
            changed = degradations.limit_band(changed, rate_hz, low_pass_hz, high_pass_hz)
    return samples if changed is samples else degradations.peak_normalised(changed)


def _drawn_band(recipe: Recipe) -> tuple[float | None, float | None]:
    """Corners of the low-pass and the high-pass that were drawn; None where there is none."""
    share = recipe.condition.get("band_share") or 0.0
    rng, nyquist_hz = _rng(recipe, _BAND), recipe.sample_rate_hz / 2
    used, drawn = rng.random(2) < share, rng.random(2)
    corners_hz = [
        math.exp(np.interp(at, (0, 1), np.log(ends)))
        for at, ends in zip(drawn, (_LOW_PASS_HZ, _HIGH_PASS_HZ), strict=True)
    ]
    low_pass_hz, high_pass_hz = (
        hz if is_used and hz < nyquist_hz else None
        for hz, is_used in zip(corners_hz, used, strict=True)
    )
    return low_pass_hz, high_pass_hz


def _equalised(samples: np.ndarray, recipe: Recipe, stream: int, share: float) -> np.ndarray:
    """The samples, through a response that is as uneven as the condition says, times ``share``."""
    # Recipes of earlier versions do not know of it.
    spread_db = recipe.condition.get("equaliser_db")
    if not spread_db:
        return samples
    n_knots = degradations.n_equaliser_knots(recipe.sample_rate_hz)
    gains_db = share * spread_db * _rng(recipe, stream).standard_normal(n_knots)
    return degradations.equalise(samples, recipe.sample_rate_hz, gains_db)


def _rng(recipe: Recipe, stream: int) -> np.random.Generator:
    """The same for all conditions of an excerpt."""
    return np.random.default_rng([recipe.seed, recipe.excerpt, stream])
