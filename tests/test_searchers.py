"""What every searcher promises, how one is opened, and exact search; each has a file of its own."""

import builtins
import importlib.util
import inspect
import subprocess
import sys

import numpy as np
import pytest

from fingerprint import searchers
from fingerprint.searchers import (
    KINDS,
    CandidateSearcher,
    ExactSearcher,
    FaissUnavailableError,
    HashBucketSearcher,
    HashBucketSettings,
    HnswSearcher,
    HnswSettings,
    IvfPqSearcher,
    IvfPqSettings,
    LshSearcher,
    ScannSearcher,
    ScannUnavailableError,
    Searcher,
    SearchError,
    index_folder,
    open_searcher,
    random_hyperplanes,
)
from fingerprint.searchers.scann import settings_for

DIM = 32
N = 2000
NEEDED = {"scann": "scann", "ivf_pq": "faiss", "hnsw": "faiss"}


def encode(vectors):
    return random_hyperplanes(vectors.shape[1], 8, seed=0)(vectors)


def hash_buckets(vectors):
    return HashBucketSearcher.build(vectors, encode, HashBucketSettings(candidate_share=0.4))


IMPLEMENTATIONS = {
    "exact": ExactSearcher,
    "scann": ScannSearcher.build,
    "opened": open_searcher,
    "hash_buckets": hash_buckets,
    "lsh": LshSearcher.build,
    # A quarter of the codebooks of that dimension, which take seconds to learn.
    "ivf_pq": lambda vectors: IvfPqSearcher.build(vectors, IvfPqSettings(n_codebooks=8)),
    "hnsw": HnswSearcher.build,
}
# The others may find fewer neighbours than there are.
FINDS_ALL = {"exact", "scann", "opened", "hash_buckets", "ivf_pq"}


def needs(name):
    package = NEEDED.get(name)
    is_missing = package is not None and importlib.util.find_spec(package) is None
    return pytest.mark.skipif(is_missing, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    return load_benchmark("search")


@pytest.fixture(scope="module")
def vectors(benchmark):
    return benchmark.sequence_vectors(N, DIM)


@pytest.fixture(scope="module")
def large_vectors(benchmark):
    return benchmark.sequence_vectors(30_000, 64)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=needs(name)) for name in IMPLEMENTATIONS],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def build(name):
    return IMPLEMENTATIONS[name]


@pytest.fixture(scope="module")
def searcher(build, vectors):
    return build(vectors)


def brute_force(vectors, queries, k):
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, 1)


# The contract, over every implementation.


def test_says_what_it_searches(searcher):
    assert isinstance(searcher, Searcher)
    assert (searcher.n, searcher.dim) == (N, DIM)


@pytest.mark.parametrize("k", [1, 10])
def test_finds_the_nearest(searcher, vectors, benchmark, k):
    queries = benchmark.noised_queries(vectors, 200, cosine=0.9)
    ids, scores = searcher.search(queries, k)
    assert ids.shape == scores.shape == (200, k)
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    expected_ids, _ = brute_force(vectors, queries, k)
    assert (ids[:, 0] == expected_ids[:, 0]).mean() >= 0.99
    assert (np.diff(scores, axis=1) <= 0).all()
    true_scores = np.einsum("md,mkd->mk", queries, vectors[ids])
    np.testing.assert_allclose(scores, true_scores, atol=0.01)


@pytest.mark.parametrize("k", [150, N - 1, N, N + 7])
def test_gives_the_neighbours_that_there_are_and_padding(searcher, name, vectors, k):
    ids, scores = searcher.search(vectors[:3], k)
    assert ids.shape == scores.shape == (3, k)
    n_found = (ids >= 0).sum(axis=1)
    if name in FINDS_ALL:
        assert n_found.tolist() == [min(k, N)] * 3
    for row, found in enumerate(n_found):
        assert 1 <= found == len(set(ids[row, :found])) <= N
        assert (ids[row, found:] == -1).all()
        assert (scores[row, found:] == -np.inf).all()
        assert np.isfinite(scores[row, :found]).all()


def test_an_empty_batch_has_no_results(searcher):
    ids, scores = searcher.search(np.zeros((0, DIM), np.float32), 5)
    assert ids.shape == scores.shape == (0, 5)


def test_a_query_without_direction_has_no_neighbours(searcher, vectors):
    queries = vectors[:3].copy()
    queries[1] = 0
    ids, scores = searcher.search(queries, 4)
    assert (ids[1] == -1).all() and (scores[1] == -np.inf).all()
    assert ids[[0, 2], 0].tolist() == [0, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_refuses_queries_that_are_no_numbers(searcher, vectors, bad):
    queries = vectors[:3].copy()
    queries[2, 5] = bad
    with pytest.raises(SearchError, match="Query 2 holds"):
        searcher.search(queries, 3)


@pytest.mark.parametrize(
    "queries",
    [
        np.zeros(DIM, np.float32),
        np.zeros((2, DIM + 1), np.float32),
        np.zeros((1, 2, DIM), np.float32),
        np.float32(1),
        [["a"] * DIM],
        None,
    ],
)
def test_refuses_queries_of_another_shape(searcher, queries):
    with pytest.raises(SearchError, match="queries"):
        searcher.search(queries, 3)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_refuses_k_below_one(searcher, vectors, k):
    with pytest.raises(SearchError, match="k is"):
        searcher.search(vectors[:2], k)


def test_takes_other_layouts_of_queries(searcher, vectors):
    expected = searcher.search(vectors[:8:2], 3)
    for queries in [vectors[:8:2].astype(np.float64), np.asfortranarray(vectors[:8:2])]:
        np.testing.assert_array_equal(searcher.search(queries, 3)[0], expected[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_refuses_a_database_that_is_no_numbers(build, vectors, bad):
    broken = vectors.copy()
    broken[1234, 7] = bad
    with pytest.raises(SearchError, match="Row 1234 of the database"):
        build(broken)


@pytest.mark.parametrize(
    "broken",
    [
        np.zeros(DIM, np.float32),
        np.zeros((5, 0), np.float32),
        np.zeros((2, 3, 4), np.float32),
        np.zeros((50, DIM), np.int32),
        np.float32(1),
        None,
    ],
)
def test_refuses_a_database_of_another_shape_or_type(build, broken):
    with pytest.raises(SearchError, match="The database"):
        build(broken)


def test_takes_memory_mapped_halves(build, vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    ids, scores = build(mapped).search(vectors[:50], 1)
    assert ids[:, 0].tolist() == list(range(50))
    np.testing.assert_allclose(scores, 1, atol=0.01)


def test_a_database_of_one_vector_repeated(build, vectors):
    ids, scores = build(np.repeat(vectors[:1], 500, axis=0)).search(vectors[:1], 20)
    assert (ids >= 0).all()
    assert len(set(ids[0])) == 20
    np.testing.assert_allclose(scores, 1, atol=0.01)


def test_answers_the_same_each_time_and_when_built_again(searcher, name, build, vectors, benchmark):
    queries = benchmark.noised_queries(vectors, 50, cosine=0.5)
    expected = searcher.search(queries, 7)
    # Two indexes that ScaNN builds of the same rows may differ.
    for again in (searcher, searcher if name == "scann" else build(vectors)):
        for found, first in zip(again.search(queries, 7), expected, strict=True):
            np.testing.assert_array_equal(found, first)


def test_removed_rows_are_never_returned_again(build, vectors, benchmark):
    searcher = build(vectors)
    queries = benchmark.noised_queries(vectors, 40, cosine=0.9)
    nearest, _ = brute_force(vectors, queries, 30)
    # The best answers of the first ten queries, all at once and one by one.
    searcher.remove(nearest[:10].ravel())
    searcher.remove([int(nearest[0, 0])])
    searcher.remove([])
    ids, scores = searcher.search(queries, 5)
    assert ids.shape == (40, 5)
    removed = np.unique(nearest[:10])
    assert not np.isin(ids, removed).any()
    left = np.setdiff1d(np.arange(N), removed)
    expected = left[brute_force(vectors[left], queries[10:], 1)[0][:, 0]]
    assert (ids[10:, 0] == expected).mean() >= 0.95
    assert (np.diff(scores, axis=1)[np.isfinite(scores[:, 1:])] <= 0).all()


def test_all_rows_removed_leave_no_neighbours(build, vectors):
    searcher = build(vectors)
    searcher.remove(np.arange(1, N))
    ids, scores = searcher.search(vectors[:2], 3)
    assert ids[0].tolist() == [0, -1, -1]
    assert (scores[:, 1:] == -np.inf).all()
    searcher.remove(np.array([0]))
    assert (searcher.search(vectors[:2], 3)[0] == -1).all()


@pytest.mark.parametrize(
    ("ids", "named"),
    [([N], f"Row {N} .* has {N} rows"), ([3, -1], "Row -1"), ([1.0], "float64"), ([[1]], "shape")],
)
def test_refuses_to_remove_what_is_no_row(searcher, ids, named):
    with pytest.raises(SearchError, match=named):
        searcher.remove(ids)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 40])
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in KINDS])
def test_every_kind_takes_small_databases(kind, vectors, n):
    searcher = open_searcher(vectors[:n], kind=kind, encode=encode)
    ids, scores = searcher.search(vectors[:2], 7)
    assert ids.shape == scores.shape == (2, 7)
    assert (ids[:, n:] == -1).all() and (scores[:, n:] == -np.inf).all()
    assert ids[: min(n, 2), 0].tolist() == list(range(min(n, 2)))
    if kind != "lsh":
        assert ((ids >= 0).sum(axis=1) == min(n, 7)).all()


@pytest.mark.parametrize("name", ["hash_buckets", "lsh"])
def test_says_how_much_it_examined(name, vectors, benchmark):
    searcher = IMPLEMENTATIONS[name](vectors)
    queries = benchmark.noised_queries(vectors, 30, cosine=0.8)
    queries[4] = 0
    ids, scores, n_examined = searcher.search_counted(queries, 5)
    assert isinstance(searcher, CandidateSearcher)
    assert (n_examined.dtype, n_examined.shape) == (np.int64, (30,))
    assert n_examined[4] == 0
    assert n_examined[5:].min() >= 5 and n_examined.max() <= N
    for found, expected in zip((ids, scores), searcher.search(queries, 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    searcher.remove(ids[0])
    assert searcher.search_counted(queries[:1], N)[2][0] <= N - 5


# Exact search.


@pytest.mark.parametrize("k", [1, 40, 700])
def test_exact_search_is_exact_whatever_the_blocks(vectors, monkeypatch, k):
    monkeypatch.setattr(searchers.exact, "_ROWS_PER_BLOCK", 130)
    monkeypatch.setattr(searchers.exact, "_QUERIES_PER_BLOCK", 7)
    ids, scores = ExactSearcher(vectors).search(vectors[::100], k)
    expected_ids, expected_scores = brute_force(vectors, vectors[::100], k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


# Which searcher is opened.


def test_the_size_decides(large_vectors):
    pytest.importorskip("scann")
    assert isinstance(open_searcher(large_vectors[:19_999]), ExactSearcher)
    assert isinstance(open_searcher(large_vectors[:20_000]), ScannSearcher)


@pytest.mark.parametrize(
    ("kind", "settings", "expected", "fewest"),
    [
        pytest.param(kind, settings, expected, fewest, marks=needs(kind), id=kind)
        for kind, settings, expected, fewest in [
            ("scann", None, ScannSearcher, 16),
            ("hash_buckets", None, HashBucketSearcher, 1),
            ("lsh", None, LshSearcher, 1),
            ("ivf_pq", IvfPqSettings(n_codebooks=2), IvfPqSearcher, 256),
            ("hnsw", None, HnswSearcher, 256),
        ]
    ],
)
def test_a_kind_of_searcher_can_be_asked_for(vectors, kind, settings, expected, fewest):
    def opened(n):
        return type(open_searcher(vectors[:n], settings=settings, kind=kind, encode=encode))

    assert opened(fewest) is expected
    assert opened(fewest - 1) is ExactSearcher


def test_exact_search_can_be_asked_for(large_vectors):
    assert isinstance(open_searcher(large_vectors, kind="exact"), ExactSearcher)


def test_refuses_a_kind_that_there_is_not(vectors):
    with pytest.raises(SearchError, match=f"'faiss'; choose one of {', '.join(KINDS)}"):
        open_searcher(vectors, kind="faiss")


def test_hash_buckets_need_codes(vectors):
    with pytest.raises(SearchError, match="no hash head"):
        open_searcher(vectors, kind="hash_buckets")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])
def test_refuses_settings_of_another_kind(vectors, kind):
    wrong = HnswSettings() if kind != "hnsw" else HashBucketSettings(n_buckets=1)
    with pytest.raises(SearchError, match=f"{kind!r} takes .*Settings, not"):
        open_searcher(vectors, settings=wrong, kind=kind, encode=encode)


@pytest.mark.parametrize(
    ("kind", "settings", "searcher_class"),
    [
        pytest.param("scann", settings_for(N), ScannSearcher, marks=needs("scann")),
        ("hash_buckets", HashBucketSettings(n_buckets=9), HashBucketSearcher),
        pytest.param("ivf_pq", IvfPqSettings(n_codebooks=2), IvfPqSearcher, marks=needs("ivf_pq")),
        pytest.param("hnsw", HnswSettings(), HnswSearcher, marks=needs("hnsw")),
    ],
)
def test_an_index_is_built_once_and_kept(
    vectors, kind, settings, searcher_class, tmp_path, capsys, monkeypatch
):
    first = open_searcher(vectors, tmp_path / "cache", settings, kind, encode)
    assert "2,000 fingerprints" in capsys.readouterr().err
    monkeypatch.setattr(searcher_class, "build", None)
    second = open_searcher(vectors, tmp_path / "cache", settings, kind, encode)
    assert capsys.readouterr().err == ""
    assert second.settings == settings
    for found, expected in zip(
        second.search(vectors[:9], 3), first.search(vectors[:9], 3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_an_index_of_another_kind_is_not_read(vectors, tmp_path):
    hash_buckets(vectors).save(tmp_path / "scann")
    with pytest.raises(SearchError, match="'fingerprint-hash_buckets-index'"):
        ScannSearcher.load(tmp_path / "scann", vectors)


def test_a_cache_that_cannot_be_written_is_no_error(vectors, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    searcher = open_searcher(vectors, tmp_path / "file", kind="hash_buckets", encode=encode)
    assert searcher.search(vectors[:1], 1)[0] == 0
    assert "not kept" in capsys.readouterr().err


KEPT = {
    "scann": searchers.scann,
    "hash_buckets": searchers.hash_buckets,
    "ivf_pq": searchers.faiss,
    "hnsw": searchers.faiss,
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in KEPT])
def test_a_cache_that_vanishes_while_it_is_written_is_no_error(
    vectors, kind, tmp_path, capsys, monkeypatch
):
    write = index_folder.write_index_folder

    def into_a_lost_folder(folder, kind, write_files, description):
        def lose_and_write(path):
            path.rmdir()
            write_files(path)

        write(folder, kind, lose_and_write, description)

    monkeypatch.setattr(KEPT[kind], "write_index_folder", into_a_lost_folder)
    settings = IvfPqSettings(n_codebooks=2) if kind == "ivf_pq" else None
    searcher = open_searcher(vectors, tmp_path, settings, kind, encode)
    assert searcher.search(vectors[:1], 1)[0] == 0
    assert "not kept" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_cache_of_something_else_is_no_error(vectors, tmp_path, capsys):
    (tmp_path / "hash_buckets").mkdir()
    (tmp_path / "hash_buckets" / "diary.txt").write_text("dear diary")
    searcher = open_searcher(vectors, tmp_path, kind="hash_buckets", encode=encode)
    assert searcher.search(vectors[:1], 1)[0] == 0
    assert "not kept: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["hash_buckets", "diary.txt"]


def test_a_cache_that_may_not_be_read_is_no_error(vectors, tmp_path, capsys, monkeypatch):
    hash_buckets(vectors).save(tmp_path / "hash_buckets")

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(index_folder, "_digest", forbidden)
    searcher = open_searcher(vectors, tmp_path, kind="hash_buckets", encode=encode)
    assert searcher.search(vectors[:1], 1)[0] == 0
    assert "cannot be read" in capsys.readouterr().err


def without(monkeypatch, package):
    import_module = builtins.__import__

    def importing(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_without_scann_search_is_exact(large_vectors, monkeypatch, tmp_path):
    without(monkeypatch, "scann")
    with pytest.raises(ScannUnavailableError, match="pip install scann"):
        ScannSearcher.build(large_vectors)
    assert isinstance(open_searcher(large_vectors, tmp_path), ExactSearcher)


@pytest.mark.parametrize("kind", ["ivf_pq", "hnsw"])
def test_without_faiss_a_sentence_says_how_to_get_it(vectors, monkeypatch, tmp_path, kind):
    without(monkeypatch, "faiss")
    with pytest.raises(FaissUnavailableError, match=r"pip install 'fingerprint\[faiss\]'"):
        open_searcher(vectors, tmp_path, kind=kind)


# FAISS.


def test_faiss_is_imported_only_when_it_is_needed():
    program = (
        "import sys, numpy as np\n"
        "import fingerprint.searchers as s\n"
        "s.open_searcher(np.eye(64, dtype=np.float32), kind='hnsw')\n"
        "assert 'faiss' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@needs("hnsw")
def test_settings_of_searching_need_no_new_graph(vectors, tmp_path):
    HnswSearcher.build(vectors).save(tmp_path / "index")
    settings = HnswSettings(search_breadth=33)
    assert HnswSearcher.load(tmp_path / "index", vectors, settings).settings == settings
    with pytest.raises(SearchError, match="build it again"):
        HnswSearcher.load(tmp_path / "index", vectors, HnswSettings(n_links=8))
    for other in (vectors[:-1], vectors[::-1]):
        with pytest.raises(SearchError, match="another database"):
            HnswSearcher.load(tmp_path / "index", other)


@needs("ivf_pq")
def test_a_damaged_index_is_refused(vectors, tmp_path):
    IvfPqSearcher.build(vectors, IvfPqSettings(n_codebooks=2)).save(tmp_path / "index")
    content = bytearray((tmp_path / "index" / "index.faiss").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "index" / "index.faiss").write_bytes(content)
    with pytest.raises(SearchError, match="damaged"):
        IvfPqSearcher.load(tmp_path / "index", vectors)


@needs("ivf_pq")
def test_scores_of_ivf_pq_are_true_inner_products(vectors, benchmark):
    queries = 3 * benchmark.noised_queries(vectors, 20, cosine=0.6)
    searcher = IvfPqSearcher.build(vectors, IvfPqSettings(n_codebooks=2))
    ids, scores = searcher.search(queries, 5)
    np.testing.assert_allclose(scores, np.einsum("md,mkd->mk", queries, vectors[ids]), rtol=1e-4)


@pytest.mark.parametrize("settings", [IvfPqSettings, HnswSettings])
@pytest.mark.parametrize("bad", [0, -1, 2.5, True, None, 2**31])
def test_faiss_is_spared_settings_that_are_no_numbers(settings, bad):
    for name in inspect.signature(settings).parameters:
        with pytest.raises(SearchError, match=name):
            settings(**{name: bad})


# The benchmark.


def test_the_benchmark_runs(benchmark, capsys):
    benchmark.main(
        ["--sizes", "600", "--dim", "16", "--queries", "20", "--searchers", "exact", "lsh"]
    )
    header, ruler, *rows = capsys.readouterr().out.strip().splitlines()
    assert header.count("|") == ruler.count("|") == rows[0].count("|")
    assert [row.split("|")[2].strip() for row in rows] == ["exact", "lsh"]
    assert rows[0].split("|")[-4:-1] == [" 1.000 ", " 1.000 ", " 1.000 "]
