import math

import numpy as np
import pytest
import tensorflow as tf
from fingerprint_configs import nafp
from ml_collections import ConfigDict
from scipy.signal import fftconvolve

from fingerprint.augmentation import Degradation, Ramp, degrade

RATE_HZ = 8000
N_HISTORY = 8000
N_WINDOW = 16000
N_ROWS = 64
SEED = (11, 5)


def config_with(**sections):
    """The published chain with every step off but those given."""
    config = nafp.get_config().augmentation
    for name in ("background", "gain", "room", "device", "filters", "level", "ramp"):
        config[name] = None
    for name, section in sections.items():
        config[name] = ConfigDict(section) if isinstance(section, dict) else section
    return config


def run(config, windows, noise=None, rooms=None, devices=None, *, seed=SEED, severity=1.0):
    return degrade(
        windows,
        noise,
        rooms,
        devices,
        seed=tf.constant(seed, tf.int64),
        severity=severity,
        sample_rate_hz=RATE_HZ,
        config=config,
    ).numpy()


def rms(waveforms):
    return np.sqrt(np.mean(np.square(waveforms.astype(np.float64)), axis=1))


@pytest.fixture
def windows(rng):
    return (0.1 * rng.normal(size=(N_ROWS, N_WINDOW))).astype(np.float32)


@pytest.fixture
def noise(rng):
    """Noise that is four times as loud in the history as in the segment."""
    loudness = np.where(np.arange(N_WINDOW) < N_HISTORY, 0.4, 0.1)
    return (loudness * rng.normal(size=(N_ROWS, N_WINDOW))).astype(np.float32)


def decaying(rng, length, direct):
    tails = np.exp(-4 * np.arange(length) / length)
    responses = 0.3 * rng.uniform(-1, 1, (N_ROWS, length)) * tails
    responses[np.arange(N_ROWS), direct] = 1
    return responses.astype(np.float32)


@pytest.fixture
def rooms(rng):
    return decaying(rng, 5000, rng.integers(0, 300, N_ROWS))


@pytest.fixture
def devices(rng):
    return decaying(rng, 400, rng.integers(0, 30, N_ROWS))


def test_chain_without_steps_drops_the_history(windows):
    np.testing.assert_array_equal(run(config_with(), windows), windows[:, N_HISTORY:])


def test_probability_zero_changes_nothing(windows, noise, rooms, devices):
    config = nafp.get_config().augmentation
    for name in ("background", "gain", "room", "device", "filters", "level"):
        config[name].probability = 0.0
    degraded = run(config, windows, noise, rooms, devices)
    np.testing.assert_array_equal(degraded, windows[:, N_HISTORY:])


def test_snr_holds_over_the_segment(windows, noise):
    config = config_with(background={"probability": 1.0, "snr_db": (3.0, 3.0)})
    added = run(config, windows, noise) - windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    np.testing.assert_allclose(snr_db, 3.0, atol=0.01)
    scale = rms(added) / rms(noise[:, N_HISTORY:])
    np.testing.assert_allclose(added, scale[:, None] * noise[:, N_HISTORY:], atol=1e-6)


def test_snr_is_spread_over_its_range(windows, noise):
    config = config_with(background={"probability": 1.0, "snr_db": (0.0, 10.0)})
    added = run(config, windows, noise) - windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    assert 0 <= snr_db.min() < 1
    assert 9 < snr_db.max() <= 10


@pytest.mark.parametrize(
    ("severity", "expected_db"), [(0.0, (20.0, 20.0)), (0.25, (15.0, 17.5)), (1.0, (0.0, 10.0))]
)
def test_ramp_lowers_the_snr(windows, noise, severity, expected_db):
    config = config_with(
        background={"probability": 1.0, "snr_db": (0.0, 10.0)},
        ramp={"n_steps": 100, "snr_db": (20.0, 20.0), "offset_s": 0.0},
    )
    added = run(config, windows, noise, severity=severity) - windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    spread = expected_db[1] - expected_db[0]
    assert expected_db[0] - 0.01 <= snr_db.min() <= expected_db[0] + 0.1 * spread + 0.01
    assert expected_db[1] - 0.1 * spread - 0.01 <= snr_db.max() <= expected_db[1] + 0.01


def test_silence_and_pauses_in_the_noise_are_left_alone(windows, noise):
    config = config_with(background={"probability": 1.0, "snr_db": (0.0, 0.0)})
    noise[0] = 0
    noise[1, N_HISTORY:] *= 1e-3
    windows[2] = 0
    degraded = run(config, windows, noise)
    np.testing.assert_array_equal(degraded[:2], windows[:2, N_HISTORY:])
    assert not degraded[2].any()
    assert np.isfinite(degraded).all()


def test_gain_is_log_uniform(windows):
    config = config_with(gain={"probability": 1.0, "factor": (0.1, 1.0)})
    factors = rms(run(config, windows)) / rms(windows[:, N_HISTORY:])
    assert 0.1 <= factors.min() < 0.13
    assert 0.8 < factors.max() <= 1.0001
    assert abs(np.log10(factors).mean() + 0.5) < 0.1


def test_level_sets_the_peak(windows):
    windows[5] = 0
    config = config_with(level={"probability": 1.0, "factor": (0.25, 0.5)})
    degraded = run(config, windows)
    peaks = np.abs(np.delete(degraded, 5, axis=0)).max(axis=1)
    assert 0.25 <= peaks.min() < 0.27
    assert 0.47 < peaks.max() <= 0.5001
    assert not degraded[5].any()


@pytest.mark.parametrize(("history_s", "n_window"), [(1.0, 16000), (0.0, 8000), (0.5, 26001)])
def test_room_and_device_are_linear_convolutions(rng, rooms, devices, history_s, n_window):
    windows = rng.normal(size=(N_ROWS, n_window)).astype(np.float32)
    config = config_with(
        room={"probability": 1.0, "max_duration_s": 1.0},
        device={"probability": 1.0, "max_duration_s": 0.25},
    )
    config.history_s = history_s
    degraded = run(config, windows, None, rooms, devices)
    n_history = round(history_s * RATE_HZ)
    for row in range(0, N_ROWS, 7):
        response = fftconvolve(rooms[row].astype(float), devices[row].astype(float))
        direct = np.argmax(rooms[row]) + np.argmax(devices[row])
        expected = fftconvolve(windows[row].astype(float), response)[direct:]
        np.testing.assert_allclose(degraded[row], expected[n_history:n_window], atol=1e-4)


def test_response_is_cut_at_its_longest_duration(windows, rooms):
    config = config_with(room={"probability": 1.0, "max_duration_s": 0.05})
    degraded = run(config, windows, None, rooms)
    direct = np.argmax(rooms[3])
    expected = fftconvolve(windows[3], rooms[3, : direct + 400])[direct:][N_HISTORY:N_WINDOW]
    np.testing.assert_allclose(degraded[3], expected, atol=1e-5)


def test_responses_of_a_bank_are_all_drawn(rng):
    """Four responses that are single taps of different height tell which one was drawn."""
    taps = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    config = config_with(room={"probability": 0.8, "max_duration_s": 1.0})
    windows = np.ones((1000, 100), np.float32)
    config.history_s = 0.0
    chain = Degradation(100, taps, None, sample_rate_hz=RATE_HZ, **config)
    heights = chain(windows, None, seed=tf.constant(SEED), severity=1.0).numpy()[:, 50]
    shares = [np.mean(np.abs(heights - height) < 1e-3) for height in (1, 2, 3, 4)]
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2], atol=0.05)


def tone_gains_db(config, frequency_hz):
    """Gain of each row at a tone that stands alone."""
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(N_WINDOW) / RATE_HZ).astype(np.float32)
    degraded = run(config, np.tile(tone, (N_ROWS, 1)))
    middle = slice(1000, 7000)
    return 20 * np.log10(rms(degraded[:, middle]) / rms(tone[None, N_HISTORY:][:, middle]))


@pytest.mark.parametrize("slope_db", [12.0, 24.0])
@pytest.mark.parametrize("frequency_hz", [150.0, 500.0, 1200.0, 3000.0])
def test_filters_attenuate_as_butterworth_does(slope_db, frequency_hz):
    config = config_with(
        filters={
            "probability": 1.0,
            "low_pass_hz": (2000.0, 2000.0),
            "high_pass_hz": (300.0, 300.0),
            "slope_db_per_octave": (slope_db, slope_db),
        }
    )
    order = slope_db / (20 * math.log10(2))
    expected_db = -10 * math.log10(1 + (frequency_hz / 2000) ** (2 * order)) - 10 * math.log10(
        1 + (300 / frequency_hz) ** (2 * order)
    )
    np.testing.assert_allclose(tone_gains_db(config, frequency_hz), expected_db, atol=0.05)


def test_low_pass_and_high_pass_are_drawn_apart():
    filters = {
        "probability": 0.5,
        "low_pass_hz": (1000.0, 1000.0),
        "high_pass_hz": (1000.0, 1000.0),
        "slope_db_per_octave": (24.0, 24.0),
    }
    config = config_with(filters=filters)
    low_passed = tone_gains_db(config, 3000.0) < -20
    high_passed = tone_gains_db(config, 300.0) < -20
    for chosen in (
        low_passed & high_passed,
        low_passed & ~high_passed,
        ~low_passed & high_passed,
        ~low_passed & ~high_passed,
    ):
        assert 0.1 < chosen.mean() < 0.4


def test_ramp_starts_without_room_device_and_filters(windows, rooms, devices):
    config = nafp.get_config().augmentation
    for name in ("background", "gain", "level"):
        config[name] = None
    shares = []
    for severity in (0.0, 0.5, 1.0):
        degraded = run(config, windows, None, rooms, devices, severity=severity)
        changed = np.abs(degraded - windows[:, N_HISTORY:]).max(axis=1) > 1e-3
        shares.append(changed.mean())
    assert shares[0] == 0
    for share, severity in zip(shares[1:], (0.5, 1.0), strict=True):
        untouched = (1 - 0.8 * severity) * (1 - 0.5 * severity) * (1 - 0.4 * severity) ** 2
        assert abs(share - (1 - untouched)) < 0.15


def test_switching_a_step_off_keeps_the_draws_of_the_others(windows, noise):
    background = {"probability": 1.0, "snr_db": (0.0, 10.0)}
    gain = {"probability": 1.0, "factor": (0.1, 1.0)}
    both = run(config_with(background=background, gain=gain), windows, noise)
    mixed = run(config_with(background=background), windows, noise)
    factors = run(config_with(gain=gain), windows) / windows[:, N_HISTORY:]
    np.testing.assert_allclose(both, mixed * factors, rtol=1e-3, atol=1e-6)


def test_seed_alone_decides(windows, noise, rooms, devices):
    config = nafp.get_config().augmentation
    tf.random.set_seed(1)
    first = run(config, windows, noise, rooms, devices)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, run(config, windows, noise, rooms, devices))
    assert (first != run(config, windows, noise, rooms, devices, seed=(11, 6))).any()


def test_whole_chain_on_queries_of_ten_seconds(rng, rooms, devices):
    windows = rng.normal(size=(4, 88000)).astype(np.float32)
    noise = rng.normal(size=(4, 88000)).astype(np.float32)
    degraded = run(nafp.get_config().augmentation, windows, noise, rooms[:4], devices[:4])
    assert degraded.shape == (4, 80000)
    assert degraded.dtype == np.float32
    peaks = np.abs(degraded).max(axis=1)
    assert ((peaks >= 0.1) & (peaks <= 1.0001)).all()


@pytest.mark.parametrize(
    ("n_steps", "expected"), [(100, [0.0, 0.5, 1.0, 1.0]), (0, [1.0, 1.0, 1.0, 1.0])]
)
def test_severity_grows_with_the_step(n_steps, expected):
    ramp = Ramp(n_steps=n_steps, snr_db=(25.0, 35.0), offset_s=0.025)
    assert [ramp.severity(step) for step in (0, 50, 100, 1000)] == expected
    assert ramp.largest_offset_s(0.2, 0.0) == 0.025
    assert ramp.largest_offset_s(0.2, 1.0) == pytest.approx(0.2)


@pytest.mark.parametrize("section", ["background", "gain", "room", "device", "filters", "level"])
def test_unknown_keys_are_refused(windows, rooms, section):
    config = nafp.get_config().augmentation
    with config[section].unlocked():
        config[section].probabilty = 0.5
    with pytest.raises(TypeError, match="probabilty"):
        run(config, windows, None, rooms, rooms)
