import json

import numpy as np
import pytest

from fingerprint.errors import ConfigError
from fingerprint.waveform_bank import BankError, WaveformBank, split_validation

RATE_HZ = 8000


@pytest.fixture
def tracks(rng):
    lengths = (5000, 1, 777, 12000)
    return {
        f"track {i}": rng.integers(-32768, 32768, n, dtype=np.int16) for i, n in enumerate(lengths)
    }


@pytest.fixture
def bank(tmp_path, tracks):
    return WaveformBank.create(tmp_path / "bank", tracks.items(), RATE_HZ)


def padded_window(track, start, n_samples):
    """The oracle: far more zeros than needed on either side, then one slice."""
    zeros = np.zeros(40_000, track.dtype)
    return np.concatenate([zeros, track, zeros])[40_000 + start :][:n_samples]


def test_reopened_bank_knows_its_tracks(bank, tmp_path, tracks):
    reopened = WaveformBank.open(tmp_path / "bank")
    assert reopened.names == list(tracks)
    assert reopened.lengths.tolist() == [5000, 1, 777, 12000]
    assert reopened.dtype == np.int16
    assert reopened.sample_rate_hz == RATE_HZ
    assert len(reopened) == 4


@pytest.mark.parametrize("n_samples", [1, 500, 15_000])
def test_windows_are_zero_outside_the_track(bank, tracks, rng, n_samples):
    track_ids = rng.integers(0, 4, 200)
    starts = rng.integers(-16_000, 16_000, 200)
    arrays = list(tracks.values())
    expected = [
        padded_window(arrays[track], start, n_samples) / 32768
        for track, start in zip(track_ids, starts, strict=True)
    ]
    windows = bank.windows(track_ids, starts, n_samples)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows, np.array(expected, np.float32))
    assert np.abs(windows).max() > 0


def test_windows_wrap_around_on_request(bank, tracks):
    windows = bank.windows([2, 2, 0], [700, -3, 10], 2000, wrap=True)
    short = np.tile(tracks["track 2"], 9)
    np.testing.assert_array_equal(windows[0] * 32768, short[700:2700])
    np.testing.assert_array_equal(windows[1] * 32768, short[777 - 3 : 777 - 3 + 2000])
    np.testing.assert_array_equal(windows[2] * 32768, tracks["track 0"][10:2010])


def test_float_samples_are_kept_as_they_are(tmp_path, rng):
    response = rng.normal(size=100).astype(np.float32)
    bank = WaveformBank.create(tmp_path / "floats", [("room", response)], RATE_HZ)
    np.testing.assert_array_equal(bank.windows([0], [0], 100)[0], response)


def test_subset_renumbers_tracks_and_shares_the_samples(bank, tracks):
    subset = bank.subset([3, 0])
    assert subset.names == ["track 3", "track 0"]
    assert subset.lengths.tolist() == [12000, 5000]
    np.testing.assert_array_equal(subset.windows([1], [4], 50)[0] * 32768, tracks["track 0"][4:54])


def test_joined_banks_share_their_samples(bank, tmp_path, tracks):
    more = {name + " again": track[:40] for name, track in tracks.items()}
    other = WaveformBank.create(tmp_path / "other", more.items(), RATE_HZ)
    joined = WaveformBank.joined([bank.subset([3]), other, bank.subset([2])])
    assert joined.names == ["track 3", *more, "track 2"]
    assert joined.lengths.tolist() == [12000, 40, 1, 40, 40, 777]
    assert (joined.dtype, joined.sample_rate_hz) == (np.int16, RATE_HZ)
    windows = joined.windows([5, 0, 4], [7, 100, 30], 20) * 32768
    np.testing.assert_array_equal(windows[0], tracks["track 2"][7:27])
    np.testing.assert_array_equal(windows[1], tracks["track 3"][100:120])
    np.testing.assert_array_equal(windows[2], padded_window(more["track 3 again"], 30, 20))


def test_banks_that_do_not_fit_are_not_joined(bank, tmp_path):
    with pytest.raises(BankError, match="'track 0' occurs twice"):
        WaveformBank.joined([bank, bank])
    for dtype, rate_hz in ((np.float32, RATE_HZ), (np.int16, 16_000)):
        name = f"{np.dtype(dtype)} {rate_hz}"
        other = WaveformBank.create(tmp_path / name, [(name, np.ones(5, dtype))], rate_hz)
        with pytest.raises(BankError, match=r"Banks of int16 at 8000 Hz, .* cannot be joined"):
            WaveformBank.joined([bank, other])


def test_failed_creation_leaves_nothing_behind(tmp_path, tracks):
    def breaks_off():
        yield from tracks.items()
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        WaveformBank.create(tmp_path / "bank", breaks_off(), RATE_HZ)
    assert list(tmp_path.iterdir()) == []


def test_bank_completed_by_another_process_is_kept(tmp_path, tracks):
    def overtaken():
        WaveformBank.create(tmp_path / "bank", tracks.items(), RATE_HZ)
        yield "late", np.ones(3, np.int16)

    bank = WaveformBank.create(tmp_path / "bank", overtaken(), RATE_HZ)
    assert bank.names == list(tracks)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "no track"),
        ([("a", np.ones(0, np.int16))], "'a' has samples of shape"),
        ([("a", np.ones((2, 3), np.int16))], "'a' has samples of shape"),
        ([("a", np.ones(2, np.int16)), ("b", np.ones(2, np.float32))], "'b' has float32"),
        ([("a", np.ones(2))], "float64"),
        ([("a", np.ones(2, np.int16))] * 2, "'a' occurs twice"),
    ],
)
def test_bad_tracks_are_refused(tmp_path, items, message):
    with pytest.raises(BankError, match=message):
        WaveformBank.create(tmp_path / "bank", items, RATE_HZ)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(bank, tmp_path, tracks):
    with pytest.raises(BankError, match="exists already"):
        WaveformBank.create(tmp_path / "bank", tracks.items(), RATE_HZ)


def truncate_samples(folder):
    content = (folder / "samples.bin").read_bytes()
    (folder / "samples.bin").write_bytes(content[:-2])


def raise_version(folder):
    header = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(header | {"format_version": 99}))


def remove_header(folder):
    (folder / "bank.json").unlink()


@pytest.mark.parametrize("damage", [truncate_samples, raise_version, remove_header])
def test_damaged_bank_is_refused(bank, tmp_path, damage):
    damage(tmp_path / "bank")
    with pytest.raises(BankError, match="not a waveform bank"):
        WaveformBank.open(tmp_path / "bank")


def test_validation_tracks_depend_on_the_names_alone(rng):
    names = [f"{i}.wav" for i in range(100)]
    train, validation = split_validation(names, 20)
    assert sorted([*train, *validation]) == list(range(100))
    assert len(validation) == 20
    order = rng.permutation(100)
    _, shuffled = split_validation([names[i] for i in order], 20)
    assert {names[order[i]] for i in shuffled} == {names[i] for i in validation}


def test_a_new_track_moves_at_most_one_other():
    names = [f"{i}.wav" for i in range(100)]
    before = {names[i] for i in split_validation(names, 20)[1]}
    names = ["new.wav", *names]
    after = {names[i] for i in split_validation(names, 20)[1]}
    assert len(before - after) <= 1


@pytest.mark.parametrize("n_validation", [3, -1])
def test_validation_may_not_take_every_track(n_validation):
    with pytest.raises(ConfigError, match=str(n_validation)):
        split_validation(["a", "b", "c"], n_validation)
