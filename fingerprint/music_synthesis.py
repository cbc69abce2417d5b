"""Music, noise, rooms and devices made from a seed, for places where no recordings are at hand.

Music is tonal, chordal and percussive; the tracks share as much as songs of one genre do, and no
two are the same. The same seed gives the same samples in every process.
"""

import numpy as np
from scipy import signal

from fingerprint import music_score

_PEAK = 0.9
# The random streams that are drawn from one seed.
_SCORE, _SOUND, _NOISE, _ROOM, _DEVICE = range(5)
_LAYER_LEVELS = {"drums": 0.5, "bass": 0.5, "chords": 0.4, "lead": 0.6}
_RELEASE_S = 0.06
# Partials above this part of the sample rate are left out.
_HIGHEST_PARTIAL = 0.45


def synthesize_track(seed: int, duration_s: float = 30.0, sample_rate_hz: int = 8000) -> np.ndarray:
    """Make the music of a seed: the same score at whatever sample rate.

    Returns:
        Samples ``(n_samples,)`` float32 with a peak of 0.9.
    """
    score_rng = np.random.default_rng([_SCORE, seed])
    rng = np.random.default_rng([_SOUND, seed])
    song = music_score.Song.draw(score_rng)
    kit = _drum_kit(rng, sample_rate_hz)
    mix = np.zeros(round(duration_s * sample_rate_hz), np.float32)
    for note in music_score.compose(score_rng, song, duration_s):
        if note.layer == "drums":
            sound = kit[note.pitch]
        else:
            voice, frequency_hz = song.voices[note.layer], song.frequency_hz(note.pitch)
            sound = _tone(rng, voice, frequency_hz, note.duration_s, sample_rate_hz)
        start = round(note.start_s * sample_rate_hz)
        heard = sound[: max(0, len(mix) - start)]
        mix[start : start + len(heard)] += _LAYER_LEVELS[note.layer] * note.velocity * heard
    return _produce(rng, song, mix, sample_rate_hz)


def synthesize_noise(seed: int, duration_s: float, sample_rate_hz: int) -> np.ndarray:
    """Make a background: one to three of coloured noise, a crowd's babble, hum and clatter.

    Returns:
        Samples ``(n_samples,)`` float32 with a peak of 0.9.
    """
    rng = np.random.default_rng([_NOISE, seed])
    n_samples = round(duration_s * sample_rate_hz)
    kinds = rng.permutation(4)[: rng.integers(1, 4)]
    sources = [(_coloured, _babble, _hum, _clatter)[kind] for kind in kinds]
    mix = np.zeros(n_samples)
    for source in sources:
        sound = source(rng, n_samples, sample_rate_hz)
        mix += rng.uniform(0.2, 1.0) * sound / (np.std(sound) + 1e-9)
    return _at_peak(mix)


def synthesize_room(seed: int, t60_s: float, sample_rate_hz: int) -> np.ndarray:
    """Make a room's impulse response: direct path, early reflections, reverberation.

    Args:
        seed: which of the rooms with this reverberation time.
        t60_s: time in which the reverberation falls by 60 dB; low frequencies take a little
            longer, high ones less.
        sample_rate_hz: of the response.

    Returns:
        Samples ``(n_samples,)`` float32; the direct path is sample 0 and the peak, 1.
    """
    rng = np.random.default_rng([_ROOM, seed])
    n_samples = max(2, round(1.1 * t60_s * sample_rate_hz))
    t_s = np.arange(n_samples) / sample_rate_hz
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    frequencies_hz = np.fft.rfftfreq(n_samples, 1 / sample_rate_hz)
    tail = np.zeros(n_samples)
    for low_hz, high_hz, factor in ((0, 500, 1.1), (500, 2000, 1.0), (2000, np.inf, 0.85)):
        band = np.where((frequencies_hz >= low_hz) & (frequencies_hz < high_hz), spectrum, 0)
        tail += np.fft.irfft(band, n_samples) * 10.0 ** (-3.0 * t_s / (factor * t60_s))
    tail *= np.clip(t_s / rng.uniform(0.005, 0.03), 0.0, 1.0)  # it takes a while to build up
    direct_to_reverberant_db = rng.uniform(-2.0, 10.0)
    tail *= 10.0 ** (-direct_to_reverberant_db / 20.0) / (np.linalg.norm(tail) + 1e-9)
    delays_s = rng.uniform(0.001, 0.04, rng.integers(5, 12))
    delays = np.minimum(np.round(delays_s * sample_rate_hz).astype(int), n_samples - 1)
    gains = rng.uniform(0.1, 0.5, len(delays)) * rng.choice([-1, 1], len(delays))
    np.add.at(tail, delays, gains * np.exp(-delays_s / 0.03))
    tail[0] = 0.0
    tail /= max(1.0, 1.05 * np.max(np.abs(tail)))
    tail[0] = 1.0
    return tail.astype(np.float32)


def synthesize_device(seed: int, sample_rate_hz: int) -> np.ndarray:
    """Make the impulse response of a loudspeaker or microphone: a band and a few resonances.

    Returns:
        Samples ``(n_samples,)`` float32, 50 ms, with a peak of 1.
    """
    rng = np.random.default_rng([_DEVICE, seed])
    t_s = np.arange(round(0.05 * sample_rate_hz)) / sample_rate_hz
    response = np.zeros(len(t_s))
    response[0] = 1.0
    for _ in range(rng.integers(1, 5)):
        frequency_hz = np.exp(rng.uniform(np.log(200.0), np.log(0.4 * sample_rate_hz)))
        decay_s = rng.uniform(3.0, 12.0) / (np.pi * frequency_hz)
        gain = rng.uniform(0.05, 0.5) * rng.choice([-1, 1])
        response += gain * np.exp(-t_s / decay_s) * np.sin(2 * np.pi * frequency_hz * t_s)
    band_hz = [rng.uniform(60.0, 500.0), rng.uniform(0.3, 0.48) * sample_rate_hz]
    band = signal.butter(
        int(rng.integers(1, 3)), band_hz, "bandpass", fs=sample_rate_hz, output="sos"
    )
    return _at_peak(signal.sosfilt(band, response), 1.0)


def _at_peak(samples: np.ndarray, peak: float = _PEAK) -> np.ndarray:
    return (samples * (peak / max(np.max(np.abs(samples), initial=0.0), 1e-9))).astype(np.float32)


# --- instruments ---


def _tone(
    rng: np.random.Generator,
    voice: music_score.Voice,
    frequency_hz: float,
    duration_s: float,
    sample_rate_hz: int,
) -> np.ndarray:
    """One note, ``(n_samples,)`` float32, with its release after the end."""
    n_samples = round((duration_s + _RELEASE_S) * sample_rate_hz)
    t_s = np.arange(n_samples, dtype=np.float32) / sample_rate_hz
    swing = voice.vibrato_depth / voice.vibrato_hz * np.sin(2 * np.pi * voice.vibrato_hz * t_s)
    sound = np.zeros(n_samples, np.float32)
    for ratio in (1.0, voice.detune)[: 1 + (voice.detune != 1.0)]:
        if voice.kind == "pluck":
            sound += _pluck(rng, voice, ratio * frequency_hz, n_samples, sample_rate_hz)
            continue
        phase = (ratio * frequency_hz * (2 * np.pi * t_s + swing)).astype(np.float32)
        if voice.kind == "fm":
            depth = voice.fm_index * np.exp(-3.0 * t_s)
            sound += np.sin(phase + depth * np.sin(voice.fm_ratio * phase))
        else:
            sound += _partials(voice, phase, frequency_hz, t_s, sample_rate_hz)
    attack = t_s / min(voice.attack_s, 0.5 * duration_s)
    release = 1.0 + (duration_s - t_s) / _RELEASE_S
    return sound * np.clip(np.minimum(attack, release), 0.0, 1.0)


def _partials(
    voice: music_score.Voice,
    phase: np.ndarray,
    frequency_hz: float,
    t_s: np.ndarray,
    sample_rate_hz: int,
) -> np.ndarray:
    """Sum of decaying partials: the imaginary part of a polynomial in one rotating vector."""
    rotation = np.exp(1j * phase - voice.damping_per_s * t_s)
    n_partials = max(1, int(_HIGHEST_PARTIAL * sample_rate_hz / frequency_hz))
    total = np.zeros(len(phase), np.complex64)
    for amplitude in voice.partials[:n_partials][::-1].astype(np.float32):
        total += amplitude
        total *= rotation
    return total.imag


def _pluck(
    rng: np.random.Generator,
    voice: music_score.Voice,
    frequency_hz: float,
    n_samples: int,
    sample_rate_hz: int,
) -> np.ndarray:
    """A string: noise that runs round a damped delay line (Karplus and Strong 1983)."""
    period = sample_rate_hz / frequency_hz
    delay = int(period)
    loss = 10.0 ** (-3.0 / frequency_hz / (4.0 / (1.0 + voice.damping_per_s)))
    loop = np.zeros(delay + 2)
    loop[0] = 1.0
    loop[delay:] -= loss * np.array([1.0 - (period - delay), period - delay])
    burst = np.zeros(n_samples)
    burst[: delay + 1] = rng.uniform(-1.0, 1.0, delay + 1)[:n_samples]
    return signal.lfilter([1.0], loop, burst).astype(np.float32)


def _drum_kit(rng: np.random.Generator, sample_rate_hz: int) -> list[np.ndarray]:
    """The sounds of ``music_score.DRUMS``, 0.3 s each."""
    t_s = np.arange(round(0.3 * sample_rate_hz)) / sample_rate_hz
    sweep = rng.uniform(45.0, 80.0) * t_s + rng.uniform(2.0, 6.0) * (1.0 - np.exp(-40.0 * t_s))
    kick = np.sin(2 * np.pi * sweep) * np.exp(-rng.uniform(8.0, 20.0) * t_s)
    noise = rng.standard_normal((2, len(t_s)))
    body = np.sin(2 * np.pi * rng.uniform(150.0, 260.0) * t_s) * np.exp(-25.0 * t_s)
    snare = 0.5 * body + 0.4 * noise[0] * np.exp(-rng.uniform(12.0, 30.0) * t_s)
    hat = 0.2 * np.diff(noise[1], prepend=0.0) * np.exp(-rng.uniform(25.0, 90.0) * t_s)
    return [sound.astype(np.float32) for sound in (kick, snare, hat)]


def _produce(
    rng: np.random.Generator, song: music_score.Song, mix: np.ndarray, sample_rate_hz: int
) -> np.ndarray:
    """Echo, a sweeping filter, a small hall and saturation, as the song has them."""
    delay = round(song.echo_beats * song.beat_s * sample_rate_hz)
    wet = mix.copy()
    for repeat in (1, 2, 3):
        if repeat * delay < len(mix):
            wet[repeat * delay :] += song.echo_gain**repeat * mix[: len(mix) - repeat * delay]
    dull = signal.sosfilt(
        signal.butter(2, rng.uniform(400.0, 1500.0), fs=sample_rate_hz, output="sos"), wet
    )
    t_s = np.arange(len(mix)) / sample_rate_hz
    sweep = np.sin(2 * np.pi * (t_s / rng.uniform(5.0, 20.0) + rng.random()))
    wet += (0.4 + 0.4 * sweep) * (dull - wet)
    hall = synthesize_room(int(rng.integers(2**31)), rng.uniform(0.2, 0.9), sample_rate_hz)
    wet = wet + rng.uniform(0.0, 0.3) * signal.fftconvolve(wet, hall)[: len(mix)]
    drive = rng.uniform(0.5, 2.0) / (3.0 * np.std(wet) + 1e-9)
    return _at_peak(np.tanh(drive * wet))


# --- sources of noise ---


def _knots(rng: np.random.Generator, n_samples: int, rate_hz: float, sample_rate_hz: int):
    """A smooth random curve between 0 and 1, ``(n_samples,)``, with so many knots a second."""
    x = np.arange(n_samples) * (rate_hz / sample_rate_hz)
    values = rng.random(int(n_samples * rate_hz / sample_rate_hz) + 2)
    return np.interp(x, np.arange(len(values)), values)


def _coloured(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    bins = np.maximum(1.0, np.arange(len(spectrum)))
    noise = np.fft.irfft(spectrum / bins ** rng.uniform(0.0, 1.0), n_samples)
    return noise * (0.3 + _knots(rng, n_samples, rng.uniform(0.3, 3.0), sample_rate_hz))


def _babble(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Talkers: pulses at a wandering pitch through vowels that come and go with the syllables."""
    total = np.zeros(n_samples)
    for _ in range(rng.integers(3, 7)):
        pitch_hz = rng.uniform(80.0, 220.0) * (
            0.8 + 0.4 * _knots(rng, n_samples, 3.0, sample_rate_hz)
        )
        phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate_hz
        pulses = np.exp(8.0 * (np.cos(phase) - 1.0)) + 0.05 * rng.standard_normal(n_samples)
        voice = np.zeros(n_samples)
        for _vowel in range(3):
            spoken = pulses
            for low_hz, high_hz in ((300.0, 850.0), (900.0, 2300.0)):
                formant = signal.iirpeak(rng.uniform(low_hz, high_hz), 4.0, fs=sample_rate_hz)
                spoken = 0.3 * spoken + signal.lfilter(*formant, spoken)
            voice += spoken * _knots(rng, n_samples, 5.0, sample_rate_hz) ** 3
        total += rng.uniform(0.2, 1.0) * voice * _knots(rng, n_samples, 1.0, sample_rate_hz)
    return total


def _hum(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    base_hz = rng.choice([50.0, 60.0, rng.uniform(70.0, 200.0)])
    drift = 1.0 + 0.01 * (_knots(rng, n_samples, 0.5, sample_rate_hz) - 0.5)
    phase = 2 * np.pi * np.cumsum(base_hz * drift) / sample_rate_hz
    orders = np.arange(1, 1 + min(20, int(_HIGHEST_PARTIAL * sample_rate_hz / base_hz)))
    amplitudes = rng.random(len(orders)) ** 2 / np.sqrt(orders)
    return sum(a * np.sin(k * phase) for a, k in zip(amplitudes, orders, strict=True))


def _clatter(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Knocks at random times, ringing as dishes or tools do, over a little rustling."""
    knocks = rng.random(n_samples) < rng.uniform(2.0, 20.0) / sample_rate_hz
    t_s = np.arange(round(0.2 * sample_rate_hz)) / sample_rate_hz
    ring = np.zeros(len(t_s))
    for _ in range(rng.integers(3, 8)):
        frequency_hz = rng.uniform(0.03, _HIGHEST_PARTIAL) * sample_rate_hz
        ring += np.sin(2 * np.pi * frequency_hz * t_s) * np.exp(-rng.uniform(15.0, 150.0) * t_s)
    strength = knocks * rng.exponential(1.0, n_samples)
    rustle = 0.02 * rng.standard_normal(n_samples)
    return signal.fftconvolve(strength, ring)[:n_samples] + rustle
