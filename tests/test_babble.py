"""Voices for training; what they sound like is tested with the queries that hold them."""

import numpy as np
import pytest

from fingerprint.babble import CLIP_S, open_babble
from fingerprint.errors import ConfigError

RATE_HZ = 4000


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return open_babble(tmp_path_factory.mktemp("babble") / "voices", 3, RATE_HZ)


def clips(bank):
    n_samples = round(CLIP_S * RATE_HZ)
    return bank.windows(np.arange(len(bank)), np.zeros(len(bank), np.int64), n_samples)


def test_clips_differ_and_fill_their_range(bank):
    assert bank.lengths.tolist() == 3 * [round(CLIP_S * RATE_HZ)]
    assert bank.dtype == np.int16
    samples = clips(bank)
    np.testing.assert_allclose(np.abs(samples).max(axis=1), 0.9, atol=1e-3)
    correlation = np.corrcoef(samples)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 0.05


def test_more_voices_leave_fewer_pauses(bank):
    """One voice pauses in a quarter of its syllables; that all of three do is rare."""
    frames = clips(bank).reshape(3, -1, RATE_HZ // 20)
    loudness = np.sqrt(np.mean(frames**2, axis=2))
    silent = (loudness < 0.05 * loudness.max(axis=1, keepdims=True)).mean(axis=1)
    assert silent[0] > 0.08
    assert silent[2] < silent[0] / 2


def test_clips_are_the_same_again_and_made_once(bank, tmp_path):
    again = open_babble(tmp_path / "voices", 2, RATE_HZ)
    np.testing.assert_array_equal(clips(again), clips(bank)[:2])
    # What is there is opened, whatever number is asked for now.
    assert len(open_babble(tmp_path / "voices", 3, RATE_HZ)) == 2


@pytest.mark.parametrize("n_clips", [-1, 1.5, True, "many"])
def test_what_is_no_number_of_clips_is_refused(tmp_path, n_clips):
    with pytest.raises(ConfigError, match=f"babble_clips is {n_clips!r}"):
        open_babble(tmp_path / "voices", n_clips, RATE_HZ)
