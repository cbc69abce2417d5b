import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.errors import ConfigError
from fingerprint.segments import SegmentGrid

NAFP = SegmentGrid(sample_rate_hz=8000, duration_s=1.0, hop_s=0.5)


def test_thirty_seconds_are_fifty_nine_segments():
    assert NAFP.n_segments(30 * 8000) == 59


@pytest.mark.parametrize(
    ("n_audio_samples", "expected"),
    [(0, 0), (1, 1), (7999, 1), (8000, 1), (9999, 1), (10000, 2), (12000, 2), (14000, 3)],
)
def test_a_tail_of_half_a_hop_gets_a_segment(n_audio_samples, expected):
    assert NAFP.n_segments(n_audio_samples) == expected
    assert NAFP.cut(np.ones(n_audio_samples, np.float32)).shape == (expected, 8000)


def test_segments_hold_the_samples_they_say():
    audio = np.arange(21000, dtype=np.float32)
    segments = NAFP.cut(audio)
    for i, segment in enumerate(segments):
        start = round(NAFP.start_s(i) * 8000)
        held = audio[start : start + 8000]
        np.testing.assert_array_equal(segment[: len(held)], held)
        assert not segment[len(held) :].any()


@given(st.lists(st.integers(0, 70), max_size=12))
def test_blocks_are_cut_as_the_whole(block_lengths):
    grid = SegmentGrid(sample_rate_hz=10, duration_s=2.0, hop_s=0.7)
    audio = np.arange(1, sum(block_lengths) + 1, dtype=np.float32)
    blocks = np.split(audio, np.cumsum(block_lengths)[:-1]) if block_lengths else []
    cut = [np.zeros((0, 20), np.float32), *grid.cut_blocks(blocks)]
    np.testing.assert_array_equal(np.concatenate(cut), grid.cut(audio))


@pytest.mark.parametrize("kwargs", [{"hop_s": 0}, {"duration_s": -1.0}, {"hop_s": 1.5}])
def test_impossible_grids_are_refused(kwargs):
    with pytest.raises(ConfigError, match=next(iter(kwargs))):
        SegmentGrid(**({"sample_rate_hz": 8000, "duration_s": 1.0, "hop_s": 0.5} | kwargs))
