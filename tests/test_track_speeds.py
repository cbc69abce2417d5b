import json

import numpy as np
import pytest
from scipy.signal import resample_poly

from fingerprint.errors import ConfigError
from fingerprint.track_speeds import check_speeds, open_at_speed
from fingerprint.waveform_bank import BankError, WaveformBank

RATE_HZ = 8000


@pytest.fixture
def tracks(rng):
    """Tones that fade in and out, in an order that is not that of their names."""
    position = np.arange(16_000)
    fades = np.sin(np.pi * position / 16_000) ** 2
    return {
        f"tone {hz}": (12_000 * fades * np.sin(2 * np.pi * hz * position / RATE_HZ)).astype(
            np.int16
        )
        for hz in (700, 300, 1500)
    }


@pytest.fixture
def folder(tmp_path, tracks):
    WaveformBank.create(tmp_path / "waveforms", tracks.items(), RATE_HZ)
    return tmp_path / "waveforms"


@pytest.mark.parametrize(("speed", "up", "down"), [(0.8, 5, 4), (1.25, 4, 5)])
def test_variants_are_the_tracks_resampled(folder, tracks, speed, up, down):
    """Another resampler is the oracle; the tones lie far below either filter's corner."""
    variant = open_at_speed(folder, speed)
    assert variant.names == [f"{name} at speed {speed}" for name in tracks]
    assert variant.lengths.tolist() == [16_000 * up // down] * 3
    assert variant.dtype == np.int16
    assert variant.sample_rate_hz == RATE_HZ
    for row, samples in enumerate(tracks.values()):
        played = variant.windows([row], [0], 16_000 * up // down)[0]
        expected = resample_poly(samples / 32768, up, down)
        np.testing.assert_allclose(played, expected, atol=1e-3)


def test_pitch_rises_with_the_speed(folder):
    played = open_at_speed(folder, 1.19).windows([0], [3000], RATE_HZ)[0]
    assert abs(np.argmax(np.abs(np.fft.rfft(played))) - 1.19 * 700) <= 1


def test_what_would_overflow_is_clipped(tmp_path):
    square = np.where(np.arange(4000) // 20 % 2, 32767, -32768).astype(np.int16)
    WaveformBank.create(tmp_path / "waveforms", [("square", square)], RATE_HZ)
    played = open_at_speed(tmp_path / "waveforms", 0.9).windows([0], [0], 4000)[0]
    # Rounded to the other end of int16 a sample would cost the correlation with its neighbours.
    assert np.abs(np.diff(played)).max() < 1.9
    assert played.max() > 0.99


def test_floats_stay_floats(tmp_path, rng):
    tone = np.sin(np.arange(4000) / 5).astype(np.float32)
    WaveformBank.create(tmp_path / "waveforms", [("tone", tone)], RATE_HZ)
    variant = open_at_speed(tmp_path / "waveforms", 0.5)
    assert variant.dtype == np.float32
    expected = np.sin(np.arange(2000, 6000) / 10)
    np.testing.assert_allclose(variant.windows([0], [2000], 4000)[0], expected, atol=1e-3)


def test_a_variant_is_written_once_and_beside_the_bank(folder, monkeypatch):
    first = open_at_speed(folder, 0.84)
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        "waveforms",
        "waveforms_at_speed_0.84",
    ]

    def no_second_time(*_):
        raise AssertionError("the bank is written again")

    monkeypatch.setattr(WaveformBank, "create", no_second_time)
    again = open_at_speed(folder, 0.84)
    np.testing.assert_array_equal(first.windows([1], [9], 99), again.windows([1], [9], 99))
    assert open_at_speed(folder, 1).names == open_at_speed(folder, 1.0).names
    assert open_at_speed(folder, 1.0).lengths.tolist() == [16_000] * 3


def test_an_interrupted_variant_leaves_nothing_behind(folder, monkeypatch):
    def breaks_off(*_, **__):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr("fingerprint.track_speeds.soxr.resample", breaks_off)
    with pytest.raises(RuntimeError):
        open_at_speed(folder, 0.84)
    assert [path.name for path in folder.parent.iterdir()] == ["waveforms"]


def test_a_damaged_variant_is_refused(folder):
    open_at_speed(folder, 1.09)
    header = folder.with_name("waveforms_at_speed_1.09") / "bank.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": "else"}))
    with pytest.raises(BankError, match=r"speed_1\.09 is not a waveform bank"):
        open_at_speed(folder, 1.09)


@pytest.mark.parametrize("speeds", [(), 1.0, "1.0", (1.0, 0.0), (0.9, -1.1), (1.0, 1), ("1.0",)])
def test_speeds_have_to_be_different_positive_numbers(speeds):
    with pytest.raises(ConfigError, match=r"data\.track_speeds is .* such as \(1\.0, 0\.92"):
        check_speeds(speeds)
    check_speeds((1.0, 0.92, 1.09))
