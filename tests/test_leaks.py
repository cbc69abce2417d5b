"""Planted copies are found whatever was done to the file; different recordings are not."""

import numpy as np
import pytest
import soundfile

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.leaks import LeakError, check_leaks
from fingerprint.music_synthesis import synthesize_track

RATE_HZ = 16_000
DURATION_S = 25.0


@pytest.fixture(scope="module")
def music():
    return {seed: synthesize_track(seed, DURATION_S, RATE_HZ) for seed in range(6)}


@pytest.fixture
def write(tmp_path, music):
    def write(name, seed, edit=lambda samples: samples):
        path = tmp_path / name
        soundfile.write(path, edit(music[seed]), RATE_HZ)
        return str(path)

    return write


def test_different_recordings_are_clean(write, tmp_path):
    roles = {
        "training": [write("a.wav", 0), write("b.wav", 1)],
        "references": [write("c.wav", 2), write("d.wav", 3)],
    }
    report = check_leaks(roles, tmp_path / "work", progress=False)
    assert report.is_clean
    assert report.n_files == {"training": 2, "references": 2}
    assert report.to_dict()["clean"] is True


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_a_copy_is_named_with_its_place_after_cut_gain_and_codec(write, tmp_path, suffix):
    first_s = 3.2
    training = [write("a.wav", 0), write("b.wav", 1)]
    copy = write(f"renamed.{suffix}", 1, lambda x: 0.3 * x[round(first_s * RATE_HZ) :])
    roles = {"training": training, "references": [copy, write("c.wav", 2)]}
    report = check_leaks(roles, tmp_path / "work", progress=False)
    assert not report.is_clean
    (leak,) = report.leaks
    paths = {leak.role: (leak.path, leak.second_s)}
    paths[leak.other_role] = (leak.other_path, leak.other_second_s)
    assert paths["training"][0] == training[1]
    assert paths["references"][0] == copy
    # The codec's own delay is below a tenth of a second.
    assert paths["training"][1] - paths["references"][1] == pytest.approx(first_s, abs=0.1)
    assert leak.share > 0.4
    assert copy in leak.sentence()


def test_a_track_twice_in_the_database_is_named(write, tmp_path):
    references = [write("a.wav", 0), write("again.flac", 0), write("b.wav", 1)]
    report = check_leaks({"references": references}, tmp_path / "work", progress=False)
    (leak,) = report.leaks
    assert {leak.path, leak.other_path} == set(references[:2])


def test_what_may_be_shared_is_no_leak(write, tmp_path):
    training = [write("a.wav", 0), write("copy.wav", 0)]
    assert check_leaks({"training": training}, tmp_path / "work", progress=False).is_clean


def test_one_file_in_two_roles_is_a_leak(write, tmp_path):
    path = write("a.wav", 0)
    report = check_leaks({"training": [path], "unknown": [path]}, tmp_path / "w", progress=False)
    assert [(leak.path, leak.share) for leak in report.leaks] == [(path, 1.0)]


def test_a_short_copy_is_found(write, tmp_path):
    part = write("part.wav", 2, lambda x: x[10 * RATE_HZ : 16 * RATE_HZ])
    whole = write("a.wav", 2)
    roles = {"references": [whole], "unknown": [part, write("b.wav", 3)]}
    report = check_leaks(roles, tmp_path / "work", progress=False)
    assert [{leak.path, leak.other_path} for leak in report.leaks] == [
        {part, roles["references"][0]}
    ]


def test_files_that_cannot_be_compared_are_not_called_clean(write, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    report = check_leaks(
        {"training": [write("a.wav", 0)], "references": [broken]}, tmp_path / "w", progress=False
    )
    assert not report.is_clean
    assert report.unreadable[0][0] == str(broken)


def test_a_second_check_goes_on_from_the_first(write, tmp_path):
    roles = {"training": [write("a.wav", 0)]}
    check_leaks(roles, tmp_path / "work", progress=False)
    roles["references"] = [write("copy.wav", 0, lambda x: 0.5 * x)]
    assert len(check_leaks(roles, tmp_path / "work", progress=False).leaks) == 1
    # What an earlier check has compared is no part of this one.
    roles = {"references": [write("b.wav", 1)]}
    assert check_leaks(roles, tmp_path / "work", progress=False).is_clean


def test_bad_roles_are_refused(tmp_path):
    with pytest.raises(LeakError, match="no role 'trainig'"):
        check_leaks({"trainig": ["a.wav"]}, tmp_path / "work")
    with pytest.raises(LeakError, match="No file"):
        check_leaks({"training": []}, tmp_path / "work")
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "a.npy", np.zeros(3))
    with pytest.raises(FingerprintError, match="other"):
        check_leaks({"training": ["a.wav"]}, tmp_path / "other")
