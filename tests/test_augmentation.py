import math

import numpy as np
import pytest
import tensorflow as tf
from fingerprint_configs import nafp
from ml_collections import ConfigDict
from scipy import stats
from scipy.signal import fftconvolve

from fingerprint.augmentation import Degradation, degrade
from fingerprint.augmentation_steps import Ramp
from fingerprint.errors import ConfigError

RATE_HZ = 8000
N_HISTORY = 8000
N_WINDOW = 16000
N_ROWS = 64
SEED = (11, 5)
STEPS = (
    *("white_noise", "background", "gain", "room", "device", "filters"),
    *("equalizer", "compressor", "clipping", "level"),
)


def config_with(**sections):
    """The published chain with every step off but those given."""
    config = nafp.get_config().augmentation
    for name in (*STEPS, "ramp"):
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
    for name in STEPS:
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


def test_snr_comes_in_steps(windows, noise):
    background = {"probability": 1.0, "snr_db": (0.0, 20.0), "snr_step_db": 5.0}
    many = 8
    windows, noise = np.tile(windows, (many, 1)), np.tile(noise, (many, 1))
    added = run(config_with(background=background), windows, noise) - windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    np.testing.assert_allclose(snr_db, 5 * np.round(snr_db / 5), atol=0.01)
    shares = np.bincount(np.round(snr_db / 5).astype(int)) / len(snr_db)
    np.testing.assert_allclose(shares, [0.2] * 5, atol=0.06)


def test_noise_may_be_as_loud_as_it_was_recorded(windows, noise):
    config = config_with(background={"probability": 1.0, "snr_db": None})
    expected = (windows + noise)[:, N_HISTORY:]
    np.testing.assert_array_equal(run(config, windows, noise), expected)
    config.ramp = ConfigDict({"n_steps": 100, "snr_db": (20.0, 20.0), "offset_s": 0.0})
    shares = [
        (run(config, windows, noise, severity=severity) == expected).all(axis=1).mean()
        for severity in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(shares, [0, 0.5, 1], atol=0.2)
    assert (shares[0], shares[2]) == (0, 1)


def test_white_noise_is_gaussian_at_an_snr_and_needs_no_recordings(windows):
    config = config_with(white_noise={"probability": 1.0, "snr_db": (6.0, 6.0)})
    added = run(config, windows) - windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    np.testing.assert_allclose(snr_db, 6.0, atol=0.01)
    normal = added / rms(added)[:, None]
    assert stats.kstest(normal.ravel()[::7], "norm").pvalue > 0.01
    correlation = np.corrcoef(normal) - np.eye(N_ROWS)
    assert np.abs(correlation).max() < 0.06
    spectrum = np.square(np.abs(np.fft.rfft(normal))).mean(axis=0)
    halves = [half.mean() for half in np.array_split(spectrum, 2)]
    assert abs(halves[0] / halves[1] - 1) < 0.02


def test_background_is_relative_to_what_white_noise_has_left(windows, noise):
    white = {"probability": 1.0, "snr_db": (0.0, 0.0)}
    background = {"probability": 1.0, "snr_db": (0.0, 0.0)}
    whitened = run(config_with(white_noise=white), windows, noise)
    both = run(config_with(white_noise=white, background=background), windows, noise)
    np.testing.assert_allclose(rms(both - whitened), rms(whitened), rtol=1e-3)


def test_white_noise_needs_a_range(windows):
    config = config_with(white_noise={"probability": 1.0, "snr_db": None})
    with pytest.raises(ConfigError, match=r"white_noise\.snr_db is None"):
        run(config, windows)


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


@pytest.mark.parametrize("max_duration_s", [0.075, 1.0, 2.0])
def test_circular_room_stays_within_the_segment(windows, rng, max_duration_s):
    """A sum of shifted segments, rolled; the longest response is longer than the segment."""
    rooms = decaying(rng, 12_000, rng.integers(0, 300, N_ROWS))
    room = {"probability": 1.0, "max_duration_s": max_duration_s, "convolution": "circular"}
    degraded = run(config_with(room=room), windows, None, rooms)
    assert degraded.shape == (N_ROWS, N_WINDOW - N_HISTORY)
    for row in (0, 17, 40):
        segment, direct = windows[row, N_HISTORY:].astype(float), np.argmax(rooms[row])
        response = rooms[row, : direct + round(max_duration_s * RATE_HZ)]
        expected = np.zeros_like(segment)
        for position in np.flatnonzero(response):
            expected += response[position] * np.roll(segment, position - direct)
        np.testing.assert_allclose(degraded[row], expected, atol=2e-5)
    windows[:, :N_HISTORY] = 7.0
    np.testing.assert_array_equal(run(config_with(room=room), windows, None, rooms), degraded)


def test_device_after_a_circular_room_is_linear_and_without_history(windows, rooms, devices):
    room = {"probability": 1.0, "max_duration_s": 1.0, "convolution": "circular"}
    device = {"probability": 1.0, "max_duration_s": 0.25}
    within = run(config_with(room=room), windows, None, rooms)
    degraded = run(config_with(room=room, device=device), windows, None, rooms, devices)
    direct = np.argmax(devices[9])
    expected = fftconvolve(within[9], devices[9])[direct:][:8000]
    np.testing.assert_allclose(degraded[9], expected, atol=1e-5)


@pytest.mark.parametrize("convolution", ["linear", "circular"])
def test_dry_noise_is_added_to_what_the_room_has_made_of_the_music(
    windows, noise, rooms, convolution
):
    background = {"probability": 1.0, "snr_db": (3.0, 3.0)}
    room = {"probability": 1.0, "max_duration_s": 1.0, "convolution": convolution}
    gain = {"probability": 1.0, "factor": (0.5, 0.5)}
    scaled_noise = run(config_with(background=background), windows, noise) - windows[:, N_HISTORY:]
    music_in_room = run(config_with(room=room), windows, rooms=rooms)
    reverberant = run(config_with(background=background, room=room), windows, noise, rooms)
    for probability, expected_share in ((1.0, 1.0), (0.5, 0.5), (0.0, 0.0)):
        config = config_with(
            background=background, gain=gain, room=room | {"dry_noise_probability": probability}
        )
        result = 2 * run(config, windows, noise, rooms)
        is_dry = np.isclose(result, music_in_room + scaled_noise, atol=1e-4).all(axis=1)
        np.testing.assert_allclose(result[~is_dry], reverberant[~is_dry], atol=1e-4)
        assert is_dry.mean() == pytest.approx(expected_share, abs=0.2)


def test_a_room_of_another_convolution_is_refused(windows, rooms):
    config = config_with(room={"probability": 1, "max_duration_s": 1, "convolution": "cyclic"})
    with pytest.raises(ConfigError, match=r"room\.convolution is 'cyclic'"):
        run(config, windows, None, rooms)


def test_each_row_draws_one_set_of_steps(windows, noise, rooms):
    """Noise, reverberation or both, as in the training of Singh's networks, and always a gain."""
    sections = {
        "background": {"probability": 1.0, "snr_db": (0.0, 10.0)},
        "room": {"probability": 1.0, "max_duration_s": 1.0, "convolution": "linear"},
        "gain": {"probability": 1.0, "factor": (0.1, 0.5)},
    }
    sets = (("background",), ("room",), ("background", "room"))
    drawn = run(config_with(**sections, one_of=sets), windows, noise, rooms)
    closest = []
    for steps in sets:
        kept = {name: sections[name] for name in (*steps, "gain")}
        alone = run(config_with(**kept), windows, noise, rooms)
        closest.append(np.abs(drawn - alone).max(axis=1) < 1e-5)
    assert (np.sum(closest, axis=0) == 1).all()
    assert np.mean(closest, axis=1).min() > 0.15


def test_sets_leave_the_probabilities_and_the_ramp_in_force(rng):
    """Half of the rows draw the room, of which half have it at half severity."""
    config = config_with(
        room={"probability": 1.0, "max_duration_s": 1.0, "convolution": "linear"},
        ramp={"n_steps": 100, "snr_db": (20.0, 20.0), "offset_s": 0.0},
        one_of=((), ("room", "level")),
    )
    config.history_s = 0.0
    chain = Degradation(50, np.full((1, 1), 2.0), None, sample_rate_hz=RATE_HZ, **config)
    windows = np.ones((2000, 50), np.float32)
    heights = chain(windows, None, seed=tf.constant(SEED), severity=0.5).numpy()[:, 20]
    assert abs(np.mean(heights > 1.5) - 0.25) < 0.04


@pytest.mark.parametrize(
    ("one_of", "words"),
    [
        ((("background",), ("reverb",)), "one_of names the step 'reverb'; choose among backgr"),
        (("background", "room"), "it holds sets of names"),
    ],
)
def test_sets_of_something_else_than_steps_are_refused(windows, one_of, words):
    with pytest.raises(ConfigError, match=words):
        run(config_with(one_of=one_of), windows)


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


def test_equalizer_interpolates_its_gains_over_log_frequency():
    """With two knots the gain in dB is a straight line over log frequency, and flat outside."""
    section = {"probability": 1.0, "range_db": 9.0, "n_knots": 2, "band_hz": (200.0, 3200.0)}
    config = config_with(equalizer=section)
    gains = {hz: tone_gains_db(config, hz) for hz in (100.0, 200.0, 400.0, 800.0, 3200.0, 3800.0)}
    low, high = gains[200.0], gains[3200.0]
    # Tones at a knot meet the kink there.
    np.testing.assert_allclose(gains[100.0], low, atol=0.3)
    np.testing.assert_allclose(gains[3800.0], high, atol=0.1)
    np.testing.assert_allclose(gains[400.0], low + (high - low) / 4, atol=0.1)
    np.testing.assert_allclose(gains[800.0], (low + high) / 2, atol=0.1)
    for ends in (low, high):
        assert -9.1 < ends.min() < -7.5
        assert 7.5 < ends.max() < 9.1
    assert abs(np.corrcoef(low, high)[0, 1]) < 0.35


def test_equalizer_has_zero_phase_and_multiplies_the_filters():
    click = np.zeros((N_ROWS, N_WINDOW), np.float32)
    click[:, 12_000] = 1
    equalizer = {"probability": 1.0, "range_db": 12.0, "n_knots": 8, "band_hz": (100.0, 4000.0)}
    filters = {
        "probability": 1.0,
        "low_pass_hz": (3000.0, 3000.0),
        "high_pass_hz": (100.0, 100.0),
        "slope_db_per_octave": (12.0, 12.0),
    }
    both = run(config_with(equalizer=equalizer, filters=filters), click)
    np.testing.assert_allclose(both[:, 4000:4400], both[:, 4000:3600:-1], atol=1e-5)
    spectra = [
        np.abs(np.fft.rfft(run(config_with(**sections), click)))
        for sections in ({"equalizer": equalizer}, {"filters": filters})
    ]
    np.testing.assert_allclose(np.abs(np.fft.rfft(both)), spectra[0] * spectra[1], atol=2e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"band_hz": (0.0, 4000.0)}, r"equalizer\.band_hz is \(0\.0, 4000\.0\)"),
        ({"band_hz": (400.0, 100.0)}, r"equalizer\.band_hz is"),
        ({"n_knots": 0}, r"equalizer\.n_knots is 0"),
    ],
)
def test_an_equalizer_that_cannot_be_is_refused(windows, changes, words):
    section = {"probability": 1.0, "range_db": 9.0, "n_knots": 2, "band_hz": (200.0, 3200.0)}
    with pytest.raises(ConfigError, match=words):
        run(config_with(equalizer=section | changes), windows)


def extra_noise(probability, level_db, snr_db=(-6.0, -6.0)):
    return {
        "probability": 1.0,
        "snr_db": snr_db,
        "extra_probability": probability,
        "extra_level_db": level_db,
    }


def test_noise_of_other_rows_joins_in_at_its_level_below_the_snr(windows, noise):
    """What is added is fitted by the noise of every row, which is not equally loud."""
    noise *= np.linspace(0.1, 3, N_ROWS)[:, None].astype(np.float32)
    added = run(config_with(background=extra_noise(1.0, (-3.0, -3.0))), windows, noise)
    added -= windows[:, N_HISTORY:]
    snr_db = 20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(added))
    np.testing.assert_allclose(snr_db, -6.0, atol=0.01)
    equally_loud = (noise / rms(noise)[:, None])[:, N_HISTORY:].astype(float)
    for row in (0, 1, 30):
        shares = np.linalg.lstsq(equally_loud.T, added[row], rcond=None)[0]
        expected = np.zeros(N_ROWS)
        expected[row] = 1
        expected[[row - 1, row - 2]] = 10 ** (-3 / 20)
        np.testing.assert_allclose(shares / shares[row], expected, atol=1e-3)


def test_none_one_or_two_others_join_in(windows, noise):
    noise = np.tile(noise, (4, 1))
    windows = np.tile(windows, (4, 1))
    config = config_with(background=extra_noise(0.5, (-10.0, 5.0)))
    added = run(config, windows, noise) - windows[:, N_HISTORY:]
    ratios_db = []
    for row in range(len(added)):
        basis = noise[[row, row - 1, row - 2], N_HISTORY:].astype(float)
        shares = np.linalg.lstsq(basis.T, added[row], rcond=None)[0]
        levels = shares * rms(basis)
        ratios_db.append(20 * np.log10(np.maximum(np.abs(levels[1:] / levels[0]), 1e-6)))
    ratios_db = np.array(ratios_db)
    heard = ratios_db > -40
    counts = np.bincount(heard.sum(axis=1)) / len(heard)
    np.testing.assert_allclose(counts, [0.25, 0.5, 0.25], atol=0.09)
    assert -10.2 < ratios_db[heard].min() < -9
    assert 4 < ratios_db[heard].max() < 5.2


def test_a_second_noise_moves_no_other_draw_and_is_ramped(windows, noise):
    alone = run(config_with(background=extra_noise(0.0, (0.0, 0.0), (0.0, 10.0))), windows, noise)
    plain = {"probability": 1.0, "snr_db": (0.0, 10.0)}
    np.testing.assert_array_equal(alone, run(config_with(background=plain), windows, noise))
    snr_db = [
        20 * np.log10(rms(windows[:, N_HISTORY:]) / rms(degraded - windows[:, N_HISTORY:]))
        for degraded in (
            alone,
            run(config_with(background=extra_noise(1.0, (0.0, 0.0), (0.0, 10.0))), windows, noise),
        )
    ]
    np.testing.assert_allclose(*snr_db, atol=0.02)
    ramp = {"n_steps": 9, "snr_db": (0.0, 10.0), "offset_s": 0.0}
    for probability in (0.0, 1.0):
        background = extra_noise(probability, (0.0, 0.0), (0.0, 10.0))
        early = run(config_with(background=background, ramp=ramp), windows, noise, severity=0.0)
        np.testing.assert_array_equal(early, alone)


def test_compressor_raises_what_is_soft_and_lowers_what_is_loud(windows):
    """Noise that is 20 dB softer in its second half, long after the time constant."""
    loudness = np.where(np.arange(N_WINDOW) < 12_000, 1.0, 0.1).astype(np.float32)
    steady = np.sign(windows)
    for strength, left_db in ((0.0, 20.0), (0.5, 10.0), (1.0, 0.0)):
        section = {
            "probability": 1.0,
            "strength": (strength, strength),
            "attack_s": (0.02, 0.02),
        }
        degraded = run(config_with(compressor=section), steady * loudness)
        loud, soft = rms(degraded[:, :4000]), rms(degraded[:, -2000:])
        np.testing.assert_allclose(20 * np.log10(loud / soft), left_db, atol=0.05)
        gains = degraded / (steady * loudness)[:, N_HISTORY:]
        np.testing.assert_allclose(
            gains[:, 0], (12_000 / 16_000 + 0.0025) ** (strength / 2), rtol=1e-3
        )
        assert np.abs(np.diff(gains, axis=1)).max() < 0.02


@pytest.mark.parametrize(("history_s", "n_window"), [(1.0, 16000), (0.3, 9001)])
def test_compressor_follows_the_envelope_as_a_loop_does(rng, history_s, n_window):
    loudness = np.exp(np.cumsum(0.02 * rng.normal(size=(3, n_window)), axis=1))
    windows = (loudness * rng.normal(size=(3, n_window))).astype(np.float32)
    section = {"probability": 1.0, "strength": (0.7, 0.7), "attack_s": (0.1, 0.1)}
    config = config_with(compressor=section)
    config.history_s = history_s
    degraded = run(config, windows)
    n_history = round(history_s * RATE_HZ)
    assert degraded.shape == (3, n_window - n_history)
    for window, got in zip(windows.astype(float), degraded, strict=True):
        total, weight, gains = 0.0, 0.0, []
        for first in range(0, n_window, 200):
            decay = np.exp(-0.025 / 0.1)
            total = decay * total + np.mean(window[first : first + 200] ** 2)
            weight = decay * weight + 1
            relative = max(total / weight / np.mean(window**2), 1e-4)
            gains.append(relative**-0.35)
        # The gain of a block is reached at its end; before the first one it is that of the first.
        ends = [0, *(200 * (block + 1) for block in range(len(gains)))]
        gain = np.interp(np.arange(n_window), ends, [gains[0], *gains])
        np.testing.assert_allclose(got, (gain * window)[n_history:], rtol=2e-3, atol=1e-4)


def test_compressor_leaves_silence_alone(windows):
    windows[0] = 0
    windows[1, 9000:] = 0
    section = {"probability": 1.0, "strength": (1.0, 1.0), "attack_s": (0.05, 0.4)}
    degraded = run(config_with(compressor=section), windows)
    assert not degraded[0].any()
    assert not degraded[1, 1000:].any()
    assert np.isfinite(degraded).all()


def test_time_constants_have_to_be_positive(windows):
    section = {"probability": 1.0, "strength": (1.0, 1.0), "attack_s": (0.0, 0.4)}
    with pytest.raises(ConfigError, match=r"compressor\.attack_s is \(0\.0, 0\.4\)"):
        run(config_with(compressor=section), windows)


def test_hard_clipping_cuts_at_its_headroom(windows):
    windows[0] = 0
    section = {"probability": 1.0, "headroom_db": (3.0, 3.0), "soft_probability": 0.0}
    degraded = run(config_with(clipping=section), windows)
    segments = windows[:, N_HISTORY:]
    bounds = rms(segments)[:, None] * 10 ** (3 / 20)
    np.testing.assert_allclose(degraded, np.clip(segments, -bounds, bounds), rtol=1e-5)
    assert (degraded != segments).any(axis=1).sum() == N_ROWS - 1


def test_soft_clipping_saturates(windows):
    windows[0] = 0
    section = {"probability": 1.0, "headroom_db": (-3.0, -3.0), "soft_probability": 1.0}
    degraded = run(config_with(clipping=section), windows)[1:]
    segments = windows[1:, N_HISTORY:]
    bounds = rms(segments)[:, None] * 10 ** (-3 / 20)
    np.testing.assert_allclose(degraded, bounds * np.tanh(segments / bounds), rtol=1e-4, atol=1e-7)


def test_headroom_is_spread_over_its_range_and_either_clipping_occurs(windows):
    section = {"probability": 0.8, "headroom_db": (0.0, 6.0), "soft_probability": 0.5}
    windows = np.tile(windows, (4, 1))
    degraded = run(config_with(clipping=section), windows)
    segments = windows[:, N_HISTORY:]
    peaks = np.abs(degraded).max(axis=1)
    changed = (degraded != segments).any(axis=1)
    hard = changed & (np.sum(np.abs(degraded) > 0.9999 * peaks[:, None], axis=1) > 20)
    assert abs(changed.mean() - 0.8) < 0.08
    assert abs(hard.sum() / changed.sum() - 0.5) < 0.12
    headroom_db = 20 * np.log10(peaks / rms(segments))[hard]
    assert 0 <= headroom_db.min() < 0.5
    assert 5.5 < headroom_db.max() <= 6.001


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("equalizer", {"range_db": 12.0, "n_knots": 8, "band_hz": (100.0, 4000.0)}),
        ("compressor", {"strength": (0.5, 0.9), "attack_s": (0.05, 0.4)}),
        ("clipping", {"headroom_db": (0.0, 6.0), "soft_probability": 0.5}),
    ],
)
def test_electronics_come_with_the_ramp_and_the_drawn_set(windows, name, section):
    windows[:, 9000:] *= 0.1
    ramp = {"n_steps": 9, "snr_db": (0.0, 10.0), "offset_s": 0.0}
    windows = np.tile(windows, (4, 1))
    for severity, one_of, expected in (
        (0.0, (), 0.0),
        (0.5, (), 0.4),
        (1.0, (), 0.8),
        (1.0, ((name,), ("gain",)), 0.4),
    ):
        config = config_with(**{name: section | {"probability": 0.8}}, ramp=ramp, one_of=one_of)
        degraded = run(config, windows, severity=severity)
        changed = np.abs(degraded - windows[:, N_HISTORY:]).max(axis=1) > 2e-4
        assert abs(changed.mean() - expected) <= (0.09 if expected else 0)


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
    # Sets to draw from and white noise that is never chosen draw from streams of their own.
    config = config_with(background=background, gain=gain, one_of=(("background", "level"),))
    np.testing.assert_array_equal(run(config, windows, noise), both)
    config = config_with(background=background, white_noise=background)
    whitened = run(config_with(white_noise=background), windows)
    snr_db = [
        20 * np.log10(rms(before) / rms(after - before))
        for before, after in (
            (windows[:, N_HISTORY:], mixed),
            (whitened, run(config, windows, noise)),
        )
    ]
    np.testing.assert_allclose(*snr_db, atol=0.02)


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


@pytest.mark.parametrize("section", STEPS)
def test_unknown_keys_are_refused(windows, rooms, section):
    config = nafp.get_config().augmentation
    with config[section].unlocked():
        config[section].probabilty = 0.5
    with pytest.raises(TypeError, match="probabilty"):
        run(config, windows, None, rooms, rooms)
