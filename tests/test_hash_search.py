"""Hash buckets and p-stable LSH: the order of probing, what is examined, and the formulas."""

import itertools
import json
import math

import numpy as np
import pytest

from fingerprint.searchers import (
    ExactSearcher,
    HashBucketSearcher,
    HashBucketSettings,
    LshSearcher,
    LshSettings,
    SearchError,
    balance,
    random_hyperplanes,
)
from fingerprint.searchers.hash_codes import buckets_of, principal_directions, probe_order
from fingerprint.searchers.lsh import (
    choose_settings,
    collision_probability,
    settings_for,
)
from fingerprint.searchers.probing import cheapest_changes, concatenated_ranges

DIM = 24
N = 3000
N_BITS = 6


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def vectors(rng):
    return unit(rng.standard_normal((N, DIM), np.float32))


@pytest.fixture
def queries(vectors, rng):
    return unit(vectors[::50] + 0.1 * rng.standard_normal((60, DIM), np.float32))


@pytest.fixture
def encode():
    return random_hyperplanes(DIM, N_BITS, seed=3)


# The order of probing.


def nearness(codes, buckets):
    """s_k = q . c_k / sqrt(K) of buckets ``(m, P)``, with bit b set where c_kb is +1."""
    n_bits = codes.shape[1]
    signs = 2 * (buckets[:, :, None] >> np.arange(n_bits) & 1) - 1
    return np.einsum("mb,mpb->mp", codes.astype(np.float64), signs) / math.sqrt(n_bits)


@pytest.mark.parametrize(("n_bits", "n_probes"), [(1, 2), (5, 7), (8, 256), (10, 100), (16, 1000)])
def test_buckets_are_probed_in_the_order_of_sorting_all_of_them(rng, n_bits, n_probes):
    codes = unit(rng.standard_normal((20, n_bits), np.float32))
    probed = probe_order(codes, n_probes)
    everything = nearness(codes, np.tile(np.arange(2**n_bits), (20, 1)))
    expected = np.argsort(-everything, axis=1, kind="stable")[:, :n_probes]
    assert probed.shape == expected.shape
    np.testing.assert_array_equal(probed, expected)


def test_the_first_bucket_is_the_own_one_and_no_bucket_comes_twice(rng):
    codes = rng.standard_normal((50, 9))
    probed = probe_order(codes, 512)
    np.testing.assert_array_equal(probed[:, 0], buckets_of(codes))
    np.testing.assert_array_equal(np.sort(probed, axis=1), np.tile(np.arange(512), (50, 1)))


def test_a_code_without_preference_probes_each_bucket_once():
    assert sorted(probe_order(np.zeros((1, 4)), 16)[0]) == list(range(16))


def test_bits_are_set_where_components_are_positive():
    assert buckets_of(np.array([[0.5, -1, 2], [-1, -1, -1], [0, 1, 0]])).tolist() == [5, 0, 2]


def test_changes_of_several_options_against_all_combinations(rng):
    costs = np.concatenate([np.zeros((3, 4, 1)), rng.random((3, 4, 2))], axis=2)
    steps = rng.integers(-(10**6), 10**6, (3, 4, 3))
    found = cheapest_changes(costs, steps, 30)
    for i in range(3):
        options = itertools.product(range(3), repeat=4)
        ways = [(sum(costs[i, p, o] for p, o in enumerate(way)), way) for way in options]
        expected = [sum(steps[i, p, o] for p, o in enumerate(way)) for _, way in sorted(ways)]
        assert found[i].tolist() == expected[:30]


def test_blocks_of_queries_are_probed_alike(rng, monkeypatch):
    codes = rng.standard_normal((23, 7))
    expected = probe_order(codes, 20)
    monkeypatch.setattr("fingerprint.searchers.probing._SUMS_PER_BLOCK", 100)
    np.testing.assert_array_equal(probe_order(codes, 20), expected)


def test_ranges_are_concatenated():
    ranges = concatenated_ranges(np.array([5, 2, 9, 0]), np.array([7, 2, 12, 1]))
    assert ranges.tolist() == [5, 6, 9, 10, 11, 0]
    assert concatenated_ranges(np.zeros(0, int), np.zeros(0, int)).tolist() == []


# Hash buckets.


@pytest.mark.parametrize("n_buckets", [1, 5, 64])
def test_the_nearest_buckets_are_examined_and_no_others(vectors, queries, encode, n_buckets):
    searcher = HashBucketSearcher.build(vectors, encode, HashBucketSettings(n_buckets=n_buckets))
    ids, scores, n_examined = searcher.search_counted(queries, 3)
    row_buckets = buckets_of(encode(vectors))
    probed = probe_order(encode(queries), n_buckets)
    for i, query in enumerate(queries):
        candidates = np.flatnonzero(np.isin(row_buckets, probed[i]))
        products = vectors[candidates] @ query
        best = np.argsort(-products)[:3]
        assert n_examined[i] == len(candidates)
        assert ids[i].tolist() == candidates[best].tolist()
        np.testing.assert_allclose(scores[i], products[best], rtol=1e-5)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 1.0])
def test_buckets_are_visited_until_they_hold_the_share(vectors, queries, encode, share):
    settings = HashBucketSettings(candidate_share=share)
    searcher = HashBucketSearcher.build(vectors, encode, settings)
    _, _, n_examined = searcher.search_counted(queries, 1)
    sizes = np.bincount(buckets_of(encode(vectors)), minlength=2**N_BITS)
    for i, order in enumerate(probe_order(encode(queries), 2**N_BITS)):
        held = np.cumsum(sizes[order])
        assert n_examined[i] == held[np.argmax(held >= math.ceil(share * N))]


def test_skewed_buckets_are_searched_further_where_most_are_empty(vectors, queries):
    def skewed(rows):
        codes = random_hyperplanes(DIM, 12, seed=0)(rows)
        codes[:, :8] = 1 + np.abs(codes[:, :8])
        return codes

    searcher = HashBucketSearcher.build(vectors, skewed, HashBucketSettings(candidate_share=0.9))
    assert (searcher.search_counted(queries, 1)[2] >= 0.9 * N).all()


def test_as_many_buckets_are_visited_as_the_neighbours_need(vectors, queries, encode):
    searcher = HashBucketSearcher.build(vectors, encode, HashBucketSettings(n_buckets=1))
    assert (searcher.search(queries, 1000)[0] >= 0).all()
    ids, scores = searcher.search(queries, N)
    expected_ids, expected_scores = ExactSearcher(vectors).search(queries, N)
    np.testing.assert_array_equal(ids[:, :50], expected_ids[:, :50])
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_removed_rows_leave_their_buckets(vectors, queries, encode):
    searcher = HashBucketSearcher.build(vectors, encode, HashBucketSettings(candidate_share=1.0))
    searcher.remove(np.arange(0, N, 2))
    _, _, n_examined = searcher.search_counted(queries, 1)
    assert (n_examined == N // 2).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"candidate_share": 0.1, "n_buckets": 3},
        {"candidate_share": 0.0},
        {"candidate_share": 1.1},
        {"candidate_share": math.nan},
        {"n_buckets": 0},
        {"n_buckets": 2.0},
    ],
)
def test_refuses_settings_of_buckets(settings):
    with pytest.raises(SearchError, match=r"candidate_share|n_buckets"):
        HashBucketSettings(**settings)


@pytest.mark.parametrize(
    ("encode", "named"),
    [
        (lambda rows: rows[:, 0], r"have the shape \(3000,\)"),
        (lambda rows: rows[1:], r"need \(3000, K\)"),
        (lambda rows: np.zeros((len(rows), 21)), "K from 1 to 20"),
        (lambda rows: np.full((len(rows), 4), np.nan), "NaN or Inf"),
    ],
)
def test_refuses_codes_that_name_no_bucket(vectors, encode, named):
    with pytest.raises(SearchError, match=named):
        HashBucketSearcher.build(vectors, encode)


def test_buckets_need_a_row(vectors, encode):
    with pytest.raises(SearchError, match="no rows"):
        HashBucketSearcher.build(vectors[:0], encode)


@pytest.fixture
def folder(vectors, encode, tmp_path):
    HashBucketSearcher.build(vectors, encode).save(tmp_path / "index")
    return tmp_path / "index"


def test_kept_buckets_are_not_computed_again(vectors, queries, encode, folder):
    n_encoded = []

    def counting(rows):
        n_encoded.append(len(rows))
        return encode(rows)

    loaded = HashBucketSearcher.load(folder, vectors, counting)
    assert sum(n_encoded) <= 256
    expected = HashBucketSearcher.build(vectors, encode).search_counted(queries, 4)
    for found, wanted in zip(loaded.search_counted(queries, 4), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert loaded.settings == HashBucketSearcher.build(vectors, encode).settings


def test_kept_buckets_are_of_this_database_and_these_codes(vectors, encode, folder):
    for other in (vectors[:-1], vectors[::-1]):
        with pytest.raises(SearchError, match="another database"):
            HashBucketSearcher.load(folder, other, encode)
    for n_bits, seed in ((N_BITS, 4), (N_BITS + 1, 3)):
        with pytest.raises(SearchError, match="other codes"):
            HashBucketSearcher.load(folder, vectors, random_hyperplanes(DIM, n_bits, seed))


def test_kept_buckets_survive_rounding(vectors, encode, folder):
    shifted = encode(vectors)
    nearest_zero = np.abs(shifted).min()
    assert nearest_zero < 1e-4

    def rounded(rows):
        return encode(rows) - 1.01 * nearest_zero

    HashBucketSearcher.load(folder, vectors, rounded)


def test_damaged_buckets_are_refused(vectors, encode, folder):
    content = bytearray((folder / "buckets.npy").read_bytes())
    content[-1] ^= 1
    (folder / "buckets.npy").write_bytes(content)
    with pytest.raises(SearchError, match="damaged"):
        HashBucketSearcher.load(folder, vectors, encode)


# Balance.


def test_even_buckets_are_balanced():
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    found = balance(np.repeat(signs, 5, axis=0))
    assert (found.entropy_share, found.share_in_tolerance) == (1.0, 1.0)


def test_the_balance_of_uneven_buckets_by_hand():
    # Sizes 4, 2, 1, 1 of 8: rho = 1, 2, 3, 3 against K = 2; entropy = 1.75 bits.
    codes = np.repeat([[-1, -1], [1, -1], [-1, 1], [1, 1]], [4, 2, 1, 1], axis=0)
    assert balance(codes).entropy_share == pytest.approx(1.75 / 2)
    assert balance(codes).share_in_tolerance == 1.0
    assert balance(codes, tolerance_bits=0.5).share_in_tolerance == 0.25


def test_codes_in_one_bucket_have_no_entropy():
    found = balance(np.ones((10, 3)))
    assert (found.entropy_share, found.share_in_tolerance) == (0.0, 0.0)


def test_principal_directions_halve_the_rows_and_see_only_the_strongest_axes(rng):
    scales = np.array([5.0, 3.0, 0.1, 0.1])
    axes = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    rows = (rng.standard_normal((4001, 4)) * scales + [4.0, 0, 0, 0]) @ axes
    encode = principal_directions(rows.astype(np.float32), 2, seed=0)
    codes = encode(rows.astype(np.float32))
    assert np.abs((codes > 0).mean(axis=0) - 0.5).max() < 1e-3
    np.testing.assert_allclose(np.cov(codes.T), np.eye(2), atol=0.01)
    aside = encode((rows + 100 * axes[2]).astype(np.float32))
    assert np.abs(aside - codes).max() < 100 * 0.02


def test_random_hyperplanes_separate_by_the_angle(rng):
    # Two vectors at an angle a differ in each bit with the probability a / pi (Charikar).
    first, other = np.eye(2, 5, dtype=np.float32)
    angle = 0.7
    second = np.cos(angle) * first + np.sin(angle) * other
    sides = random_hyperplanes(5, 20_000, seed=1)(np.stack([first, second]).astype(np.float32)) > 0
    assert (sides[0] != sides[1]).mean() == pytest.approx(angle / np.pi, abs=0.01)


# p-stable LSH.


@pytest.mark.parametrize(("distance", "width"), [(0.5, 1.0), (1.0, 1.0), (1.3, 4.0), (2.0, 0.7)])
def test_the_collision_probability_agrees_with_monte_carlo(rng, distance, width):
    n = 200_000
    point = rng.standard_normal(n)  # a . v of some v of norm 1
    moved = point + distance * rng.standard_normal(n)
    offset = rng.uniform(0, width, n)
    same = np.floor((point + offset) / width) == np.floor((moved + offset) / width)
    assert collision_probability(distance, width) == pytest.approx(same.mean(), abs=0.01)


def found_probability(distance, settings):
    """That a row at ``distance`` shares a cell in one of L tables, 1 - (1 - p^k)^L."""
    same_key = collision_probability(distance, settings.width) ** settings.n_projections
    return 1 - (1 - same_key) ** settings.n_tables


def test_the_index_finds_as_many_as_the_formula_says(rng):
    distance, settings = 0.6, LshSettings(n_projections=6, n_tables=5, width=1.5)
    vectors = unit(rng.standard_normal((400, DIM), np.float32))
    cosine = 1 - distance**2 / 2
    across = rng.standard_normal(vectors.shape, np.float32)
    across = unit(across - (across * vectors).sum(1, keepdims=True) * vectors)
    queries = cosine * vectors + math.sqrt(1 - cosine**2) * across
    found = []
    for seed in range(20):
        searcher = LshSearcher.build(vectors, LshSettings(6, 5, 1.5, seed=seed))
        ids, _ = searcher.search(queries, 400)
        found.append((ids == np.arange(400)[:, None]).any(axis=1).mean())
    assert np.mean(found) == pytest.approx(found_probability(distance, settings), abs=0.02)


def test_candidates_share_a_cell_in_some_table(vectors, queries):
    settings = LshSettings(n_projections=4, n_tables=3, width=1.0, seed=7)
    _, _, n_examined = LshSearcher.build(vectors, settings).search_counted(queries, 1)
    rng = np.random.default_rng(7)
    directions = rng.standard_normal((DIM, 12), np.float32)
    offsets = rng.uniform(0, 1.0, 12)
    rows, points = (np.floor(each @ directions + offsets) for each in (vectors, queries))
    for i, point in enumerate(points):
        same = (rows == point).reshape(N, 3, 4).all(axis=2).any(axis=1)
        assert n_examined[i] == same.sum()


def test_more_probes_find_more_in_the_nearest_cells(vectors, queries):
    def counted(n_probes):
        settings = LshSettings(5, 2, 0.8, n_probes=n_probes)
        ids, _, n_examined = LshSearcher.build(vectors, settings).search_counted(queries, 1)
        return (ids[:, 0] == np.arange(0, N, 50)).mean(), n_examined.mean()

    (few, examined_few), (more, examined_more), (most, examined_most) = map(counted, (1, 8, 243))
    assert few < more < most
    assert examined_few < examined_more < examined_most
    # The first probes are worth more than the later ones, per candidate.
    assert (more - few) / (examined_more - examined_few) > (most - more) / (
        examined_most - examined_more
    )


def test_the_norm_of_a_query_does_not_matter(vectors, queries):
    searcher = LshSearcher.build(vectors)
    np.testing.assert_array_equal(
        searcher.search(queries, 2)[0], searcher.search(7 * queries, 2)[0]
    )


@pytest.mark.parametrize("wanted_recall", [0.5, 0.9, 0.99])
def test_chosen_settings_reach_the_recall_with_fewer_candidates(rng, wanted_recall):
    near, far = rng.uniform(0.3, 0.9, 100), rng.uniform(1.2, 1.5, 200)
    chosen = choose_settings(near, far, wanted_recall)
    assert found_probability(near, chosen).mean() >= wanted_recall
    cost = found_probability(far, chosen).mean()
    for k, n_tables, width in itertools.product((1, 2, 4, 8, 16), (1, 4, 16), (0.3, 0.6, 1.2, 2.4)):
        other = LshSettings(k, n_tables, width)
        if found_probability(near, other).mean() >= wanted_recall:
            assert cost <= found_probability(far, other).mean() * 1.05


def test_default_settings_find_what_they_promise(vectors):
    settings = settings_for(vectors)
    assert found_probability(math.sqrt(2 - 2 * 0.7), settings) >= 0.9


@pytest.mark.parametrize(
    "arguments",
    [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [1.0], 1.0), ([1.0], [1.0], math.nan)],
)
def test_refuses_what_no_settings_can_be_chosen_from(arguments):
    with pytest.raises(SearchError, match=r"distances|wanted_recall"):
        choose_settings(*arguments)


@pytest.mark.parametrize(
    "change", [{"n_projections": 0}, {"n_tables": True}, {"n_probes": 1.5}, {"width": 0.0}]
)
def test_refuses_settings_of_lsh(change):
    good = {"n_projections": 3, "n_tables": 2, "width": 1.0}
    with pytest.raises(SearchError, match=next(iter(change))):
        LshSettings(**(good | change))


# The benchmark of candidates.


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    return load_benchmark("candidates")


def test_the_curve_is_what_the_searcher_finds_and_examines(benchmark, vectors, queries, encode):
    nearest = ExactSearcher(vectors).search(queries, 1)[0][:, 0]
    curve = benchmark.bucket_curve(encode(vectors), encode(queries), nearest)
    for n_buckets in (1, 4, 20, 64):
        settings = HashBucketSettings(n_buckets=n_buckets)
        searcher = HashBucketSearcher.build(vectors, encode, settings)
        ids, _, n_examined = searcher.search_counted(queries, 1)
        assert curve.recall[n_buckets - 1] == pytest.approx((ids[:, 0] == nearest).mean())
        assert curve.examined[n_buckets - 1] == pytest.approx(n_examined.mean() / N)


def test_shares_at_a_recall_lie_between_the_points(benchmark):
    curve = benchmark.Curve(np.array([0.2, 0.6, 1.0]), np.array([0.1, 0.3, 1.0]))
    assert curve.examined_at(0.4) == pytest.approx(0.2)
    assert math.isnan(curve.examined_at(0.1))


def test_codes_are_compared_at_equal_recall(benchmark, vectors, queries, encode, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    nearest = ExactSearcher(vectors).search(queries, 1)[0][:, 0]
    found = benchmark.Queries(queries, np.arange(60), nearest, np.arange(60) % 3 > 0)
    benchmark.report(vectors, found, encode, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "nearest is right" in printed and "of the buckets within a factor of two" in printed
    content = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert (content["n_rows"], content["n_segments"], content["n_right"]) == (N, 60, 40)
    assert set(content["curves"]["all segments"]) == {
        benchmark.LEARNT,
        benchmark.HYPERPLANES,
        benchmark.PRINCIPAL,
        benchmark.P_STABLE,
    }
    assert (tmp_path / "out" / "candidates.png").stat().st_size > 1000


def test_settings_are_chosen_on_other_recordings(benchmark, vectors, queries, encode, monkeypatch):
    """Two conditions of each of thirty recordings, one row after the other."""
    seen = {}
    monkeypatch.setattr(
        benchmark,
        "p_stable_curve",
        lambda _, held_out, measured: seen.update(chosen=held_out, measured=measured),
    )
    recordings, conditions = np.repeat(np.arange(30), 2), np.tile([0, 1], 30)
    benchmark.compare(
        vectors, benchmark.Queries(queries, recordings, conditions, recordings >= 0), encode
    )
    chosen, measured = seen["chosen"], seen["measured"]
    assert not set(chosen.recording) & set(measured.recording)
    # The stand-in for the nearest rows tells which condition a segment is of.
    assert set(chosen.nearest) == set(measured.nearest) == {0, 1}
