import threading

import numpy as np
import pytest
from alignment_cases import DIM, make_store, unit

from fingerprint import exhaustive_alignment
from fingerprint.alignment import align
from fingerprint.exhaustive_alignment import align_everywhere, fits
from fingerprint.searchers import ExactSearcher, SearchError


def brute_force(queries, vectors, first_rows, n_rows):
    """The best of each track, best first: (track, shift, start, overlap), and their scores."""
    m = queries.shape[1]
    best = []
    for track, (first, n) in enumerate(zip(first_rows, n_rows, strict=True)):
        places = []
        for shift, query in enumerate(queries):
            for start in range(1 - m, n):
                inside = [j for j in range(m) if 0 <= start + j < n]
                total = sum(float(query[j] @ vectors[first + start + j]) for j in inside)
                places.append((-total / m, track, shift, start, len(inside)))
        if n:
            best.append(min(places))
    best.sort()
    return [each[1:] for each in best], [-each[0] for each in best]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks that are shorter than tracks, and longer than others, in a small store."""
    monkeypatch.setattr(exhaustive_alignment, "_PLACES_PER_BLOCK", 16)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("n_shifts", "m"), [(1, 1), (3, 1), (1, 2), (4, 5), (2, 23), (1, 40)])
@pytest.mark.parametrize("lengths", [[7, 1, 0, 4, 20, 1, 9], [60], [1] * 40, [0, 3, 0]])
def test_equals_brute_force_over_all_starts_and_shifts(
    rng, small_blocks, lengths, m, n_shifts, dtype
):
    vectors, first_rows, n_rows = make_store(rng, lengths)
    vectors = vectors.astype(dtype)
    queries = unit(rng.standard_normal((n_shifts, m, DIM)))
    found = align_everywhere(queries, vectors, first_rows, n_rows, 100)
    places, scores = brute_force(queries, vectors.astype(np.float32), first_rows, n_rows)
    assert [(h.track, h.shift, h.start_segment, h.n_overlapping) for h in found] == places
    assert [h.score for h in found] == pytest.approx(scores, abs=1e-6)
    assert [h.votes for h in found] == [h.n_overlapping for h in found]
    assert align_everywhere(queries, vectors, first_rows, n_rows, 2) == found[:2]


def test_equals_the_alignment_of_all_rows_as_candidates(rng):
    # Blocks of their real size, and products of more queries than are multiplied at once.
    vectors, first_rows, n_rows = make_store(rng, [3000, 5, 1500, 700])
    queries = unit(rng.standard_normal((4, 300, DIM)))
    queries[2, 30:] = unit(vectors[3100:3370] + 0.2 * rng.standard_normal((270, DIM)))
    found = align_everywhere(queries, vectors, first_rows, n_rows, 2)
    # Candidates of which one is right and the others are anything.
    ids = rng.integers(0, len(vectors), (4, 300, 2))
    ids[2, 30, 0] = 3100
    (best, *_) = align(queries, ids, vectors, first_rows, n_rows, 1)
    assert (best.track, best.start_segment) == (2, 65)
    assert (found[0].track, found[0].shift, found[0].start_segment) == (2, 2, 65)
    assert found[0].score == pytest.approx(best.score, abs=1e-6)
    assert found[0].score > found[1].score


def test_finds_a_sequence_none_of_whose_segments_is_near(rng):
    """Each segment has hundreds of nearer neighbours; their sums are nothing."""
    vectors, first_rows, n_rows = make_store(rng, [400] * 5)
    query = vectors[None, 900:919] + 2.0 * unit(rng.standard_normal((1, 19, DIM)))
    query = unit(query)
    ids, _ = ExactSearcher(vectors).search(query[0], 10)
    assert not (ids == np.arange(900, 919)[:, None]).any(axis=1).all()
    best = align_everywhere(query, vectors, first_rows, n_rows, 1)[0]
    assert (best.track, best.start_segment) == (2, 100)


@pytest.mark.parametrize(
    ("start", "m", "n_overlapping"),
    [(0, 10, 10), (4, 3, 3), (-4, 9, 5), (7, 8, 3), (-2, 15, 10), (9, 5, 1), (-3, 4, 1)],
)
def test_finds_a_planted_sequence_also_where_it_overhangs(rng, start, m, n_overlapping):
    vectors, first_rows, n_rows = make_store(rng, [12, 10, 15])
    queries = 0.1 * unit(rng.standard_normal((4, m, DIM)))
    inside = [j for j in range(m) if 0 <= start + j < 10]
    queries[2, inside] = vectors[first_rows[1] + start + np.array(inside)]
    best = align_everywhere(queries, vectors, first_rows, n_rows, 1)[0]
    assert (best.track, best.shift, best.start_segment) == (1, 2, start)
    assert best.score == pytest.approx(n_overlapping / m, rel=0.2)
    assert best.n_overlapping == n_overlapping


def test_of_equal_tracks_the_first_stands_first(rng, small_blocks):
    # In different places of a block their sums may be rounded differently.
    vectors, first_rows, n_rows = make_store(rng, [13] * 9)
    vectors[:] = np.tile(vectors[:13], (9, 1))
    queries = vectors[None, 2:10].repeat(2, 0)
    found = align_everywhere(queries, vectors, first_rows, n_rows, 9)
    assert [(h.track, h.shift, h.start_segment) for h in found] == [(i, 0, 2) for i in range(9)]


def test_a_store_of_copies_takes_no_long_comparison(rng, monkeypatch):
    monkeypatch.setattr(exhaustive_alignment, "_MAX_CONTENDERS", 50)
    vectors, first_rows, n_rows = make_store(rng, [30] * 40)
    vectors[:] = vectors[0]
    found = align_everywhere(vectors[None, :3], vectors, first_rows, n_rows, 1)
    assert [(h.track, h.start_segment) for h in found] == [(0, 0)]


def test_tracks_may_stand_in_any_order_and_rows_may_belong_to_none(rng):
    vectors, _, _ = make_store(rng, [20])
    queries = vectors[None, 12:15]
    found = align_everywhere(queries, vectors, [11, 0, 0], [5, 0, 8], 5)
    assert (found[0].track, found[0].start_segment) == (0, 1)
    assert {h.track for h in found} == {0, 2}
    # The rows between the tracks are nobody's.
    (_, other) = align_everywhere(vectors[None, 8:11], vectors, [11, 0], [5, 8], 5)
    assert other.score < 0.9


def test_a_memory_mapped_store_gives_the_same(rng, tmp_path):
    vectors, first_rows, n_rows = make_store(rng, [30, 40])
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    arguments = (first_rows, n_rows, 2)
    expected = align_everywhere(vectors[None, 33:39], vectors, *arguments)
    assert align_everywhere(vectors[None, 33:39], mapped, *arguments) == expected


def test_any_number_of_threads_gives_the_same(rng, small_blocks, monkeypatch):
    vectors, first_rows, n_rows = make_store(rng, [90, 41, 77])
    queries = unit(rng.standard_normal((2, 7, DIM)))
    found = []
    for n in (1, 2, 5, None):
        monkeypatch.setattr(exhaustive_alignment.os, "cpu_count", lambda n=n: n)
        found.append(align_everywhere(queries, vectors, first_rows, n_rows, 3))
    assert found[0] == found[1] == found[2] == found[3]
    assert threading.active_count() == 1 or not any(
        "ThreadPoolExecutor" in thread.name for thread in threading.enumerate()
    )


@pytest.mark.parametrize("lengths", [[], [0, 0], [4, 3]])
def test_a_query_of_silence_or_an_empty_store_gives_nothing(lengths):
    n_rows = np.array(lengths, int)
    vectors = np.ones((n_rows.sum(), DIM), np.float32)
    queries = np.full((2, 3, DIM), 0.0 if n_rows.any() else 1.0)
    assert align_everywhere(queries, vectors, np.cumsum(n_rows) - n_rows, n_rows, 5) == []


def test_short_queries_fit_100_hours_and_long_ones_or_larger_stores_do_not():
    hours_100 = np.full(3000, 240)
    assert fits(4, 9, hours_100)
    assert fits(4, 19, hours_100)
    assert not fits(4, 119, hours_100)
    assert fits(4, 119, hours_100[:300])
    assert not fits(4, 1, np.tile(hours_100, 10))
    # Gaps count: sound effects of one segment each.
    assert not fits(1, 40, np.ones(200_000, int))
    assert fits(1, 40, np.zeros(0, int))


@pytest.mark.parametrize(
    "change",
    [
        {"queries": np.ones((3, DIM))},
        {"queries": np.ones((1, 0, DIM))},
        {"queries": np.ones((1, 3, DIM + 1))},
        {"vectors": np.ones(8)},
        {"n_rows": np.array([8, 1])},
        {"top_k": 0},
    ],
)
def test_shapes_that_do_not_fit_are_refused(change):
    arguments = {
        "queries": np.ones((1, 3, DIM)),
        "vectors": np.ones((8, DIM)),
        "first_rows": np.array([0]),
        "n_rows": np.array([8]),
        "top_k": 1,
    }
    with pytest.raises(SearchError, match=r"\.$"):
        align_everywhere(**(arguments | change))
