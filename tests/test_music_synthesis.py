"""Synthesised sounds: one for each seed, and what their names say that they are."""

import subprocess
import sys
import time

import librosa
import numpy as np
import pytest

from fingerprint import music_score, music_synthesis

RATE_HZ = 8000


@pytest.fixture(scope="module")
def tracks():
    """Ten tracks of 20 s, ``(10, n_samples)``."""
    return np.array([music_synthesis.synthesize_track(seed, 20.0, RATE_HZ) for seed in range(10)])


def song_of(seed):
    return music_score.Song.draw(np.random.default_rng([music_synthesis._SCORE, seed]))


SOUNDS = {
    "track": lambda seed: music_synthesis.synthesize_track(seed, 2.0, RATE_HZ),
    "noise": lambda seed: music_synthesis.synthesize_noise(seed, 2.0, RATE_HZ),
    "room": lambda seed: music_synthesis.synthesize_room(seed, 0.5, RATE_HZ),
    "device": lambda seed: music_synthesis.synthesize_device(seed, RATE_HZ),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_samples_are_finite_float32_within_full_scale(name):
    for seed in range(20):
        samples = SOUNDS[name](seed)
        assert samples.dtype == np.float32 and samples.ndim == 1
        assert np.isfinite(samples).all()
        assert 0.5 < np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("name", SOUNDS)
def test_seeds_differ(name):
    first, second = SOUNDS[name](1), SOUNDS[name](2)
    n = min(len(first), len(second))
    assert np.abs(first[:n] - second[:n]).max() > 0.01


def test_a_seed_is_the_same_in_another_process():
    code = (
        "import sys, numpy as np; from fingerprint import music_synthesis as m;"
        "sys.stdout.buffer.write(np.concatenate([m.synthesize_track(3, 2.0), "
        "m.synthesize_noise(3, 2.0, 8000), m.synthesize_room(3, 0.5, 8000), "
        "m.synthesize_device(3, 8000)]).tobytes())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    here = np.concatenate([sound(3) for sound in SOUNDS.values()])
    np.testing.assert_array_equal(np.frombuffer(output, np.float32), here)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000])
def test_length_follows_duration_and_rate(rate_hz):
    assert len(music_synthesis.synthesize_track(0, 1.3, rate_hz)) == round(1.3 * rate_hz)
    assert len(music_synthesis.synthesize_noise(0, 1.3, rate_hz)) == round(1.3 * rate_hz)
    assert len(music_synthesis.synthesize_device(0, rate_hz)) == round(0.05 * rate_hz)


def test_other_rates_play_the_same_score():
    """The spectral balance over time, up to 3 kHz, hardly depends on the sample rate."""
    low = music_synthesis.synthesize_track(4, 10.0, 8000)
    high = music_synthesis.synthesize_track(4, 10.0, 16000)
    chromas = [
        librosa.feature.chroma_stft(y=y, sr=rate, n_fft=rate // 4, hop_length=rate // 4, tuning=0.0)
        for y, rate in ((low, 8000), (high, 16000))
    ]
    assert np.corrcoef(chromas[0].ravel(), chromas[1].ravel())[0, 1] > 0.7


def test_no_second_is_silent(tracks):
    """Every whole second is within 35 dB of its track's level, apart from few."""
    seconds = tracks.reshape(len(tracks), -1, RATE_HZ)
    level_db = 10 * np.log10(np.mean(seconds**2, axis=2) / np.mean(tracks**2, axis=1)[:, None])
    assert np.mean(level_db < -35.0) < 0.01


def test_seconds_can_be_told_apart(tracks):
    """Log-mel patterns of different seconds correlate far less than those of equal ones."""
    patterns, labels = [], []
    for label, track in enumerate(tracks):
        power = librosa.feature.melspectrogram(
            y=track, sr=RATE_HZ, n_fft=1024, hop_length=250, n_mels=64, fmin=300
        )
        log_mel = librosa.power_to_db(power, top_db=80.0)
        for second in range(20):
            patterns.append(log_mel[:, 32 * second : 32 * second + 32].ravel())
            labels.append(label)
    correlation = np.corrcoef(patterns)
    same_track = np.equal.outer(labels, labels)
    others = ~np.eye(len(patterns), dtype=bool)
    assert np.median(correlation[same_track & others]) < 0.5
    assert np.median(correlation[~same_track]) < 0.4
    assert correlation[others].max() < 0.95


def test_librosa_hears_the_tempo_that_was_drawn(tracks):
    ratios = []
    for seed, track in enumerate(tracks):
        heard_bpm = librosa.feature.tempo(y=track, sr=RATE_HZ)[0]
        ratios.append(heard_bpm / song_of(seed).tempo_bpm)
    octaves = np.log2(ratios)
    # Half and double tempo are the same to a listener; the estimate is a grid of 4 to 8 %.
    assert np.mean(np.abs(octaves - np.round(octaves)) < np.log2(1.12)) >= 0.8


def test_librosa_hears_the_key_that_was_drawn(tracks):
    """The pitch classes of the scale carry more energy than those between them."""
    heard = []
    for seed, track in enumerate(tracks):
        song = song_of(seed)
        tonic = librosa.hz_to_midi(song.tonic_hz)
        chroma = librosa.feature.chroma_stft(
            y=track, sr=RATE_HZ, n_fft=4096, hop_length=4096, tuning=tonic - round(tonic)
        ).mean(axis=1)
        in_scale = np.isin(np.arange(12), (np.array(song.scale) + round(tonic)) % 12)
        heard.append(chroma[in_scale].mean() > chroma[~in_scale].mean())
    assert np.mean(heard) >= 0.9


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("t60_s", [0.3, 0.6, 1.2])
def test_a_room_reverberates_as_long_as_asked(t60_s, rate_hz):
    for seed in range(5):
        response = music_synthesis.synthesize_room(seed, t60_s, rate_hz).astype(np.float64)
        assert response[0] == np.abs(response).max() == 1.0
        # Schroeder's backward integration, after the early reflections, from -5 to -35 dB.
        energy = np.cumsum(response[rate_hz // 20 :][::-1] ** 2)[::-1]
        decay_db = 10 * np.log10(energy / energy[0])
        fitted = np.flatnonzero((decay_db < -5) & (decay_db > -35))
        slope_db_per_s = np.polyfit(fitted / rate_hz, decay_db[fitted], 1)[0]
        assert -60.0 / slope_db_per_s == pytest.approx(t60_s, rel=0.2)


def test_high_frequencies_die_first():
    energies = []
    for seed in range(5):
        response = music_synthesis.synthesize_room(seed, 0.8, RATE_HZ)
        spectra = np.abs(librosa.stft(response, n_fft=512, hop_length=512)) ** 2
        high_to_low = spectra[140:].sum(axis=0) / spectra[2:30].sum(axis=0)
        energies.append(high_to_low[10] / high_to_low[2])
    assert np.mean(energies) < 0.7


def test_a_device_passes_the_middle_and_not_the_ends():
    for seed in range(10):
        response = music_synthesis.synthesize_device(seed, 16000)
        power = np.abs(np.fft.rfft(response, 16000)) ** 2
        assert power[500:4000].mean() > 10 * power[:20].mean()
        assert power[500:4000].mean() > 5 * power[7900:].mean()


def test_synthesis_is_fast():
    start_s = time.process_time()
    music_synthesis.synthesize_track(11, 30.0, RATE_HZ)
    assert time.process_time() - start_s < 1.0  # about 0.1 s on an idle core
