import collections

import numpy as np
import pytest
from alignment_cases import DIM, make_store, unit

from fingerprint import alignment
from fingerprint.alignment import METHODS, align
from fingerprint.searchers import ExactSearcher, SearchError


def all_rows(queries, n):
    """Every row of the store as a candidate of every segment."""
    return np.broadcast_to(np.arange(n), (*queries.shape[:2], n))


def brute_force(queries, vectors, first_rows, n_rows):
    """Best (score, -shift, -start) of each track over every shift and every start with overlap."""
    m = queries.shape[1]
    best = {}
    for track, (first, n) in enumerate(zip(first_rows, n_rows, strict=True)):
        places = []
        for shift, query in enumerate(queries):
            for start in range(1 - m, n):
                inside = [j for j in range(m) if 0 <= start + j < n]
                total = sum(float(query[j] @ vectors[first + start + j]) for j in inside)
                if inside:
                    places.append((total / m, -shift, -start, len(inside)))
        if places:
            best[track] = max(places)
    return best


def ranking_by_hand(method, queries, ids, vectors, first_rows, n_rows):
    """Tracks best first, each as (track, shift, start, votes), by counting one by one."""
    votes, track_votes = collections.Counter(), collections.Counter()
    largest = collections.defaultdict(lambda: -np.inf)
    for shift, segment, neighbour in np.ndindex(ids.shape):
        row = ids[shift, segment, neighbour]
        for track, (first, n) in enumerate(zip(first_rows, n_rows, strict=True)):
            if first <= row < first + n:
                place = (track, shift, int(row - first - segment))
                votes[place] += 1
                track_votes[track] += 1
                product = float(queries[shift, segment] @ vectors[row].astype(np.float32))
                largest[place] = max(largest[place], product)

    def score(place):
        track, shift, start = place
        rows = [j for j in range(queries.shape[1]) if 0 <= start + j < n_rows[track]]
        stored = vectors[[first_rows[track] + start + j for j in rows]].astype(np.float32)
        return float((queries[shift, rows] * stored).sum() / queries.shape[1])

    def key(place):
        before_score = {
            "diagonal": (),
            "vote": (-votes[place],),
            "track_vote": (-track_votes[place[0]], -votes[place]),
            "best_segment": (-largest[place],),
        }
        return *before_score[method], round(-score(place), 5), *place

    best_first = sorted(votes, key=key)
    best = [p for i, p in enumerate(best_first) if p[0] not in {q[0] for q in best_first[:i]}]
    return [(*place, votes[place]) for place in best], [score(place) for place in best]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n_shifts", "m", "k"), [(1, 1, 1), (1, 9, 1), (1, 6, 4), (3, 12, 5)])
def test_each_method_ranks_as_counting_one_by_one_does(rng, method, n_shifts, m, k):
    # Few rows, so that neighbours agree now and then and votes tie often.
    vectors, first_rows, n_rows = make_store(rng, [6, 1, 0, 5, 11])
    for _ in range(5):
        queries = unit(rng.standard_normal((n_shifts, m, DIM)))
        ids = rng.permuted(np.tile(np.arange(-1, 23), (n_shifts, m, 1)), axis=2)[..., :k]
        found = align(queries, ids, vectors, first_rows, n_rows, 4, method)
        expected, scores = ranking_by_hand(method, queries, ids, vectors, first_rows, n_rows)
        assert [(h.track, h.shift, h.start_segment, h.votes) for h in found] == expected
        assert [h.score for h in found] == pytest.approx(scores, abs=1e-5)


def test_votes_of_single_neighbours_are_the_published_consensus(rng):
    """The hash codes' paper: S_m = {i_m + o - m}, whose consensus is the sum of S_m(o) = i_o."""
    vectors, first_rows, n_rows = make_store(rng, [40])
    for _ in range(20):
        nearest = rng.integers(12, 28, 12)
        nearest[[1, 4, 8]] = 13 + np.array([1, 4, 8])
        places = np.arange(12)
        sequences = nearest[:, None] + places - places[:, None]
        consensus = (sequences == nearest).sum(axis=1)
        ids = nearest[None, :, None]
        (best,) = align(vectors[None, :12], ids, vectors, first_rows, n_rows, 1, "vote")
        assert best.start_segment in sequences[consensus == consensus.max(), 0]
        assert best.votes == consensus.max() >= 3


def test_stray_neighbours_outvote_an_agreement_in_another_track_unless_starts_are_counted(rng):
    vectors, first_rows, n_rows = make_store(rng, [30, 30])
    queries = unit(rng.standard_normal((1, 5, DIM)))
    # Segments 0 and 1 agree on start 4 of track 1; the others lie anywhere in track 0.
    ids = np.array([34, 35, 20, 7, 12]).reshape(1, 5, 1)
    by_track = align(queries, ids, vectors, first_rows, n_rows, 2, "track_vote")
    assert [(h.track, h.votes) for h in by_track] == [(0, 1), (1, 2)]
    by_start = align(queries, ids, vectors, first_rows, n_rows, 2, "vote")
    assert [(h.track, h.votes) for h in by_start] == [(1, 2), (0, 1)]
    assert by_start[0].start_segment == 4


def test_the_best_segment_wins_against_a_better_sequence(rng):
    vectors, first_rows, n_rows = make_store(rng, [20, 20])
    queries = unit(vectors[None, 5:9] + 0.3 * unit(rng.standard_normal((1, 4, DIM))))
    vectors[33] = queries[0, 2]
    ids = all_rows(queries, 40)
    sequence, best_segment = (
        align(queries, ids, vectors, first_rows, n_rows, 2, method)
        for method in ("diagonal", "best_segment")
    )
    assert [h.track for h in sequence] == [0, 1]
    assert [(h.track, h.start_segment) for h in best_segment] == [(1, 11), (0, 5)]
    assert best_segment[0].score < best_segment[1].score == sequence[0].score


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n_shifts", [1, 3])
@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_equals_brute_force_over_all_starts_and_shifts(rng, m, n_shifts, dtype):
    vectors, first_rows, n_rows = make_store(rng, [7, 1, 0, 4, 20, 1, 9])
    vectors = vectors.astype(dtype)
    queries = unit(rng.standard_normal((n_shifts, m, DIM)))
    found = align(queries, all_rows(queries, len(vectors)), vectors, first_rows, n_rows, 10)
    expected = brute_force(queries, vectors.astype(np.float32), first_rows, n_rows)
    assert {h.track for h in found} == set(expected)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for hypothesis in found:
        score, shift, start, n_overlapping = expected[hypothesis.track]
        assert hypothesis.score == pytest.approx(score, abs=1e-6)
        assert (hypothesis.shift, hypothesis.start_segment) == (-shift, -start)
        assert hypothesis.n_overlapping == n_overlapping


@pytest.mark.parametrize(
    ("start", "m", "n_overlapping"),
    [(0, 10, 10), (4, 3, 3), (-4, 9, 5), (7, 8, 3), (-2, 15, 10), (9, 5, 1), (-3, 4, 1)],
)
def test_finds_a_planted_sequence_also_where_it_overhangs(rng, start, m, n_overlapping):
    vectors, first_rows, n_rows = make_store(rng, [12, 10, 15])
    queries = 0.1 * unit(rng.standard_normal((4, m, DIM)))
    inside = [j for j in range(m) if 0 <= start + j < 10]
    queries[2, inside] = vectors[first_rows[1] + start + np.array(inside)]
    ids, _ = ExactSearcher(vectors).search(queries.reshape(-1, DIM), 3)
    best = align(queries, ids.reshape(4, m, 3), vectors, first_rows, n_rows, 1)[0]
    assert (best.track, best.shift, best.start_segment) == (1, 2, start)
    assert best.score == pytest.approx(n_overlapping / m)
    assert best.n_overlapping == n_overlapping


def test_inside_a_track_it_is_the_published_search(rng):
    """evaluate of NAFP: unique(I[j] - j), scored by the mean inner product along the diagonal."""
    vectors, first_rows, n_rows = make_store(rng, [300, 300])
    for start in rng.integers(0, 281, 20):
        query = unit(vectors[300 + start : 319 + start] + 0.25 * rng.standard_normal((19, DIM)))
        ids, _ = ExactSearcher(vectors).search(query, 20)
        starts = np.unique(ids - np.arange(19)[:, None])
        starts = starts[(starts >= 0) & (starts + 19 <= len(vectors))]
        scores = [np.mean(np.diag(query @ vectors[s : s + 19].T)) for s in starts]
        best = align(query[None], ids[None], vectors, first_rows, n_rows, 1)[0]
        assert first_rows[best.track] + best.start_segment == starts[np.argmax(scores)]
        assert best.score == pytest.approx(max(scores), abs=1e-6)
        assert best.start_segment == start


def test_never_runs_over_a_border(rng):
    vectors, first_rows, n_rows = make_store(rng, [8, 8])
    queries = vectors[None, 4:12]
    found = align(queries, all_rows(queries, 16), vectors, first_rows, n_rows, 2)
    assert {(h.track, h.start_segment, h.n_overlapping) for h in found} == {(0, 4, 4), (1, -4, 4)}
    assert [h.score for h in found] == pytest.approx([0.5, 0.5])


def test_of_equal_tracks_the_first_stands_first(rng):
    vectors, first_rows, n_rows = make_store(rng, [5, 5, 5])
    vectors[5:10] = vectors[10:15] = vectors[:5]
    queries = vectors[None, 1:4].repeat(2, 0)
    found = align(queries, all_rows(queries, 15), vectors, first_rows, n_rows, 3)
    assert [(h.track, h.shift, h.start_segment) for h in found] == [(0, 0, 1), (1, 0, 1), (2, 0, 1)]


def test_only_proposed_places_are_scored(rng):
    vectors, first_rows, n_rows = make_store(rng, [10, 10])
    queries = vectors[None, 2:5]
    ids = np.full((1, 3, 2), -1)
    ids[0, 1, 1] = 13
    (only,) = align(queries, ids, vectors, first_rows, n_rows, 5)
    assert (only.track, only.start_segment, only.n_overlapping) == (1, 2, 3)


def test_tracks_may_stand_in_any_order_and_rows_may_belong_to_none(rng):
    vectors, _, _ = make_store(rng, [20])
    queries = vectors[None, 12:15]
    found = align(queries, all_rows(queries, 20), vectors, [11, 0, 0], [5, 0, 8], 5)
    assert (found[0].track, found[0].start_segment) == (0, 1)
    assert {h.track for h in found} == {0, 2}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lengths", [[], [0, 0], [4, 3]])
def test_without_candidates_there_is_no_hypothesis(rng, lengths, method):
    vectors, first_rows, n_rows = make_store(rng, np.array(lengths, int))
    queries = unit(rng.standard_normal((2, 3, DIM)))
    for ids in (np.full((2, 3, 4), -1), np.zeros((2, 3, 0), int)):
        assert align(queries, ids, vectors, first_rows, n_rows, 5, method) == []


def test_a_memory_mapped_store_gives_the_same(rng, tmp_path):
    vectors, first_rows, n_rows = make_store(rng, [30, 40])
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = vectors[None, 33:39]
    ids = all_rows(queries, 70)
    expected = align(queries, ids, vectors, first_rows, n_rows, 2)
    assert align(queries, ids, mapped, first_rows, n_rows, 2) == expected


def test_of_a_long_query_the_places_with_most_votes_are_scored(rng, monkeypatch):
    monkeypatch.setattr(alignment, "MAX_SCORED_ROWS", 2000)
    n_read = []
    score = alignment._score
    monkeypatch.setattr(
        alignment, "_score", lambda *arrays: n_read.append(arrays[-1].sum()) or score(*arrays)
    )
    vectors, first_rows, n_rows = make_store(rng, [200] * 20)
    queries = unit(rng.standard_normal((2, 500, DIM)))
    queries[1, 40:240] = vectors[1000:1200]
    ids = rng.integers(0, len(vectors), (2, 500, 5))
    ids[1, 40:240:10, 3] = np.arange(1000, 1200, 10)
    best = align(queries, ids, vectors, first_rows, n_rows, 3)[0]
    assert (best.track, best.shift, best.start_segment) == (5, 1, -40)
    assert best.score == pytest.approx(200 / 500, abs=1e-6)
    assert 200 <= n_read[0] <= 2000


@pytest.mark.parametrize(
    "change",
    [
        {"queries": np.zeros((3, DIM))},
        {"queries": np.zeros((1, 0, DIM)), "candidate_ids": np.zeros((1, 0, 4), int)},
        {"queries": np.zeros((1, 3, DIM + 1))},
        {"candidate_ids": np.zeros((1, 2, 4), int)},
        {"candidate_ids": np.zeros((1, 3), int)},
        {"vectors": np.zeros(8)},
        {"n_rows": np.array([8, 1])},
        {"top_k": 0},
        {"method": "majority"},
    ],
)
def test_shapes_that_do_not_fit_are_refused(change):
    arguments = {
        "queries": np.zeros((1, 3, DIM)),
        "candidate_ids": np.zeros((1, 3, 4), int),
        "vectors": np.zeros((8, DIM)),
        "first_rows": np.array([0]),
        "n_rows": np.array([8]),
        "top_k": 1,
    }
    with pytest.raises(SearchError, match=r"\.$"):
        align(**(arguments | change))
