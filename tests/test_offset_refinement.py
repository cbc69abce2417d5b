import numpy as np
import pytest

from fingerprint.alignment import Hypothesis
from fingerprint.exhaustive_alignment import align_everywhere
from fingerprint.offset_refinement import mean_products, refined_start, vertex

N_SHIFTS = 4
# Radians per hop; without a common period, so that no two places look alike.
FREQUENCIES = 1.6 * np.sqrt(np.array([2, 3, 5, 7, 11, 13, 17, 19]) / 19)


def at_hops(hops):
    """Fingerprints ``(n, d)`` of moments in hops, whose inner products fall off smoothly.

    The inner product of moments t apart is the mean of cos(f * t) over all frequencies f; its
    maximum is at 0, and it is symmetric.
    """
    angles = np.asarray(hops)[:, None] * FREQUENCIES
    vectors = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return (vectors / np.sqrt(len(FREQUENCIES))).astype(np.float32)


def query_at(start, n_segments, n_shifts=N_SHIFTS):
    """A query that begins ``start`` hops into a track, at each shift, ``(n_shifts, m, d)``."""
    return np.stack(
        [at_hops(start + shift / n_shifts + np.arange(n_segments)) for shift in range(n_shifts)]
    )


def aligned(queries, track):
    return align_everywhere(queries, track, np.array([0]), np.array([len(track)]), 1)[0]


@pytest.mark.parametrize(
    ("a", "b", "c", "top"), [(-1.0, 0.0, 0.0, 0.3), (-2.0, 1.0, 5.0, -0.2), (-0.5, 0, 1, 0.0)]
)
def test_the_vertex_of_a_parabola_is_found_exactly(a, b, c, top):
    values = [a * (x - top) ** 2 + c for x in (-1, 0, 1)]
    assert vertex(*values) == pytest.approx(top)
    assert vertex(*values[::-1]) == pytest.approx(-top)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 1.0, 1.0), 0.0),
        ((2.0, 1.0, 2.0), 0.0),
        ((0.0, 1.0, 2.0), 0.0),
        ((0.0, 1.0, 1.9), 0.5),
        ((1.9, 1.0, 0.0), -0.5),
        ((float("nan"), 1.0, 0.5), 0.0),
        ((0.5, 1.0, float("nan")), 0.0),
    ],
)
def test_without_a_maximum_nearby_the_vertex_stays_within_half_a_step(values, expected):
    assert vertex(*values) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n_segments", [1, 5, 12])
@pytest.mark.parametrize("start", [5.0, 5.1, 5.2, 5.37, 5.5, 5.93, 6.06])
def test_the_truth_between_two_shifts_is_found(start, n_segments, dtype):
    track = at_hops(np.arange(40)).astype(dtype)
    queries = query_at(start, n_segments)
    found = aligned(queries, track)
    coarse = found.start_segment - found.shift / N_SHIFTS
    assert abs(coarse - start) <= 0.5 / N_SHIFTS + 1e-6
    assert refined_start(found, queries, track) == pytest.approx(start, abs=0.02)


@pytest.mark.parametrize("start", [-2.7, -0.1, 0.0, 0.1, 36.4])
def test_queries_that_overhang_the_track_are_refined_by_what_overlaps(start):
    track = at_hops(np.arange(40))
    queries = query_at(start, 6)
    found = aligned(queries, track)
    assert refined_start(found, queries, track) == pytest.approx(start, abs=0.3)


def test_where_a_neighbouring_place_has_no_overlap_the_start_stays():
    track = at_hops(np.arange(3))
    queries = query_at(2.0, 1)
    # One shift later it begins in segment 3, which the track does not have.
    found = Hypothesis(0, 0, 2, 1.0, 1, 1)
    assert refined_start(found, queries, track) == pytest.approx(2.0, abs=0.13)
    later = Hypothesis(0, 3, 0, 1.0, 1, 1)
    assert refined_start(later, queries, track) == -0.75


def test_with_a_single_shift_the_start_is_that_of_the_segment():
    track = at_hops(np.arange(20))
    queries = query_at(7.4, 5, n_shifts=1)
    assert refined_start(aligned(queries, track), queries, track) == 7.0


def test_silent_segments_change_nothing():
    track = at_hops(np.arange(40))
    queries = query_at(9.2, 8)
    queries[:, 3:6] = 0.0
    assert refined_start(aligned(queries, track), queries, track) == pytest.approx(9.2, abs=0.02)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mean_products_of_shifts_are_the_scores_of_an_alignment(rng, dtype):
    track = rng.normal(size=(9, 16)).astype(dtype)
    queries = rng.normal(size=(N_SHIFTS, 4, 16)).astype(np.float32)
    steps = np.arange(-4 * N_SHIFTS, 10 * N_SHIFTS)
    expected = []
    for step in steps:
        start = -(-step // N_SHIFTS)
        of_shift = queries[start * N_SHIFTS - step]
        rows = [(of_shift[i], start + i) for i in range(4) if 0 <= start + i < 9]
        expected.append(sum(q @ track[row].astype(np.float32) for q, row in rows) / 4)
    # Of the shifts that a place lies between the better one counts.
    between = mean_products((steps[:-1] + 0.25) / N_SHIFTS, queries, track)
    np.testing.assert_allclose(between, np.maximum(expected[:-1], expected[1:]), atol=1e-5)
    best = aligned(queries, track)
    place = best.start_segment * N_SHIFTS - best.shift
    for near in (place - 0.4, place + 0.4):
        assert mean_products(np.array([near]) / N_SHIFTS, queries, track) == pytest.approx(
            best.score, abs=1e-5
        )
    assert mean_products(np.array([-40.0, 40.0]), queries, track).tolist() == [0.0, 0.0]
