import numpy as np
import pytest

from fingerprint.errors import ConfigError
from fingerprint.playback_speed import PlaybackSpeed, played_windows
from fingerprint.waveform_bank import WaveformBank

RATE_HZ = 8000
N_HISTORY = 4000
N_SEGMENT = 8000


def bank_of(folder, *waveforms):
    items = ((str(i), np.asarray(wave, np.float32)) for i, wave in enumerate(waveforms))
    return WaveformBank.create(folder, items, RATE_HZ)


def cut(bank, track_ids, starts, fractions, n_history=N_HISTORY, n_segment=N_SEGMENT):
    return played_windows(
        bank,
        np.array(track_ids),
        np.array(starts),
        np.array(fractions),
        n_history=n_history,
        n_segment=n_segment,
    )


@pytest.mark.parametrize("hz", [200, 800, 1600])
@pytest.mark.parametrize("fraction", [-0.1, -0.03, -0.0004, 0.0131, 0.03, 0.1])
def test_tones_are_played_at_their_speed_about_the_middle(tmp_path, hz, fraction):
    """A tone can be told between samples; the bound is that of a cubic's error, w ** 4 / 24 times
    the product of the distances to the four samples, here at most 0.72.
    """

    def tone(position):
        return np.sin(2 * np.pi * hz * position / RATE_HZ)

    bank = bank_of(tmp_path / "tone", tone(np.arange(40_000)))
    window = cut(bank, [0], [15_003], [fraction])
    middle = 15_003 + N_SEGMENT / 2
    offsets = np.arange(-N_HISTORY, N_SEGMENT) - N_SEGMENT / 2
    expected = tone(middle + (1 + fraction) * offsets)
    assert window.shape == (1, N_HISTORY + N_SEGMENT)
    assert window.dtype == np.float32
    bound = (2 * np.pi * hz / RATE_HZ) ** 4 / 24 * 0.72
    np.testing.assert_allclose(window[0], expected, rtol=0, atol=bound + 2e-6)


@pytest.mark.parametrize(("n_history", "n_segment"), [(0, 8000), (333, 1001), (0, 5)])
def test_a_ramp_of_any_length_tells_every_position(tmp_path, n_history, n_segment):
    """A cubic is exact on a straight line, inside the track."""
    bank = bank_of(tmp_path / "ramp", np.arange(20_000) / 20_000)
    fractions = np.array([0.0, 0.07, -0.05, 0.001])
    windows = cut(bank, [0] * 4, [8000] * 4, fractions, n_history, n_segment)
    offsets = np.arange(-n_history, n_segment) - n_segment / 2
    positions = 8000 + n_segment / 2 + (1 + fractions[:, None]) * offsets
    np.testing.assert_allclose(windows, positions / 20_000, atol=2e-6)


def test_rows_at_the_original_speed_are_untouched(tmp_path, rng):
    bank = bank_of(tmp_path / "noise", rng.normal(size=30_000), rng.normal(size=9000))
    windows = cut(bank, [1, 0, 1], [500, 20_000, 1000], [0.0, 0.02, 0.0])
    plain = bank.windows([1, 0, 1], np.array([500, 20_000, 1000]) - N_HISTORY, 12_000)
    np.testing.assert_array_equal(windows[[0, 2]], plain[[0, 2]])
    assert (windows[1] != plain[1]).mean() > 0.9


def test_zeros_stand_outside_the_track(tmp_path):
    bank = bank_of(tmp_path / "ones", np.ones(6000))
    (window,) = cut(bank, [0], [0], [0.05], 100, 8000)
    positions = 4000 + 1.05 * (np.arange(-100, 8000) - 4000)
    inside = (positions > 1) & (positions < 5998)
    outside = (positions < -2) | (positions > 6001)
    np.testing.assert_allclose(window[inside], 1, atol=1e-5)
    assert not window[outside].any()
    assert outside.sum() > 2000


def test_fractions_are_uniform_and_as_frequent_as_the_severity_says():
    speed = PlaybackSpeed(probability=0.8, max_fraction=0.03)
    for severity in (0.0, 0.5, 1.0):
        fractions = speed.draw(20_000, severity, np.random.default_rng(3))
        played = fractions[fractions != 0]
        assert abs(len(played) / 20_000 - 0.8 * severity) < 0.02
        if severity:
            quantiles = np.quantile(played, [0.0, 0.25, 0.5, 0.75, 1.0])
            np.testing.assert_allclose(quantiles, [-0.03, -0.015, 0, 0.015, 0.03], atol=1e-3)


@pytest.mark.parametrize("max_fraction", [-0.01, 0.2])
def test_speeds_far_from_one_are_refused(max_fraction):
    with pytest.raises(ConfigError, match=r"speed\.max_fraction is .* data\.track_speeds"):
        PlaybackSpeed(probability=0.5, max_fraction=max_fraction)
