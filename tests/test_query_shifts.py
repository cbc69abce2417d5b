import numpy as np
import pytest

from fingerprint.query_shifts import QueryShifts
from fingerprint.segments import SegmentGrid

GRID = SegmentGrid(1000, 1.0, 0.5)


def as_they_are(segments):
    return np.array(segments)


@pytest.mark.parametrize(
    ("n_shifts", "starts"),
    [(1, [0]), (2, [0, 250]), (4, [-125, 0, 125, 250]), (3, [-167, 0, 166])],
)
def test_shifts_share_a_hop_and_half_begin_before_the_query(n_shifts, starts):
    shifts = QueryShifts(GRID, n_shifts)
    assert shifts.starts == starts
    assert shifts.first_s == starts[0] / 1000
    assert starts[-1] - starts[0] < GRID.hop_samples


def test_each_shift_is_cut_where_it_begins(rng):
    shifts = QueryShifts(GRID, 4)
    query = rng.normal(size=2500).astype(np.float32)
    vectors = shifts.embed(query, as_they_are, 10**9)
    assert vectors.shape == (4, 4, 1000)
    # The sample before the first is the second one, and so on: a reflection without the edge.
    reflected = np.concatenate([query[125:0:-1], query, query[-2:-252:-1]])
    for shift, start in enumerate(shifts.starts):
        for i in range(4):
            first = 125 + start + 500 * i
            np.testing.assert_array_equal(vectors[shift, i], reflected[first : first + 1000])


def test_a_short_query_is_filled_with_silence_and_silence_says_nothing(rng):
    shifts = QueryShifts(GRID, 2)
    query = np.concatenate([rng.normal(size=300), np.zeros(1000)]).astype(np.float32)
    vectors = shifts.embed(query[:300], lambda each: np.ones((len(each), 3)), 10**9)
    assert vectors.shape == (2, 1, 3) and vectors.all()
    # The second segments hold nothing but zeros.
    vectors = shifts.embed(query, lambda each: np.ones((len(each), 3)), 10**9)
    assert vectors.any(axis=2).tolist() == [[True, False], [True, False]]


def test_few_segments_at_once_are_the_same(rng):
    shifts = QueryShifts(GRID, 4)
    query = rng.normal(size=4000).astype(np.float32)
    sizes = []

    def counted(segments):
        sizes.append(len(segments))
        return as_they_are(segments)

    expected = shifts.embed(query, as_they_are, 10**9)
    np.testing.assert_array_equal(shifts.embed(query, counted, 9000), expected)
    assert sizes == [8, 8, 8, 4]
    sizes.clear()
    np.testing.assert_array_equal(shifts.embed(query, counted, 1), expected)
    assert sizes == [4] * 7
