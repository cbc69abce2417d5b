import builtins
import dataclasses
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from fingerprint import searchers
from fingerprint.searchers import (
    ExactSearcher,
    ScannSearcher,
    ScannSettings,
    ScannUnavailableError,
    Searcher,
    SearchError,
    open_searcher,
)
from fingerprint.searchers.scann import settings_for

DIM = 32
N = 2000
needs_scann = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="ScaNN is not installed"
)
IMPLEMENTATIONS = {
    "exact": ExactSearcher,
    "scann": ScannSearcher.build,
    "opened": open_searcher,
}


@pytest.fixture(scope="module")
def benchmark(request):
    path = request.config.rootpath / "benchmarks" / "search.py"
    spec = importlib.util.spec_from_file_location("search_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def vectors(benchmark):
    return benchmark.sequence_vectors(N, DIM)


@pytest.fixture(scope="module")
def large_vectors(benchmark):
    return benchmark.sequence_vectors(30_000, 64)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=needs_scann if name == "scann" else ()) for name in IMPLEMENTATIONS
    ],
)
def build(request):
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(scope="module")
def searcher(build, vectors):
    return build(vectors)


@pytest.fixture(scope="module")
def large_index(large_vectors):
    pytest.importorskip("scann")
    return ScannSearcher.build(large_vectors)


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
def test_gives_all_neighbours_that_there_are(searcher, vectors, k):
    ids, scores = searcher.search(vectors[:3], k)
    assert ids.shape == (3, k)
    found = min(k, N)
    for row in range(3):
        assert len(set(ids[row, :found])) == found
        assert ids[row, :found].min() >= 0
    assert (ids[:, found:] == -1).all()
    assert (scores[:, found:] == -np.inf).all()
    assert np.isfinite(scores[:, :found]).all()


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
    ids, _ = build(np.repeat(vectors[:1], 500, axis=0)).search(vectors[:2], 20)
    assert (ids >= 0).all()
    assert all(len(set(row)) == 20 for row in ids)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("build_small", [ExactSearcher, open_searcher])
def test_small_databases(build_small, vectors, n):
    ids, scores = build_small(vectors[:n]).search(vectors[:2], 7)
    assert ids.shape == scores.shape == (2, 7)
    assert [set(row[:n]) for row in ids] == [set(range(n))] * 2
    assert (ids[:, n:] == -1).all() and (scores[:, n:] == -np.inf).all()


# Exact search.


@pytest.mark.parametrize("k", [1, 40, 700])
def test_exact_search_is_exact_whatever_the_blocks(vectors, monkeypatch, k):
    monkeypatch.setattr(searchers.exact, "_ROWS_PER_BLOCK", 130)
    monkeypatch.setattr(searchers.exact, "_QUERIES_PER_BLOCK", 7)
    ids, scores = ExactSearcher(vectors).search(vectors[::100], k)
    expected_ids, expected_scores = brute_force(vectors, vectors[::100], k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


# ScaNN: what it finds.


@pytest.mark.parametrize(("cosine", "recall"), [(0.8, 0.995), (0.6, 0.97)])
def test_scann_finds_what_exact_search_finds(large_index, large_vectors, benchmark, cosine, recall):
    queries = benchmark.noised_queries(large_vectors, 500, cosine)
    ids, _ = large_index.search(queries, 10)
    expected, _ = ExactSearcher(large_vectors).search(queries, 10)
    assert (ids[:, 0] == expected[:, 0]).mean() >= recall
    assert np.mean([len(set(a) & set(b)) for a, b in zip(ids, expected, strict=True)]) >= 9


def test_batches_threads_and_single_queries_agree(large_index, large_vectors):
    queries = large_vectors[::70]
    assert len(queries) > large_index.settings.batch_size
    ids, scores = large_index.search(queries, 5)
    single = [large_index.search(query[None], 5) for query in queries[:20]]
    np.testing.assert_array_equal(ids[:20], np.concatenate([found[0] for found in single]))
    results = [None] * 3

    def search(i):
        results[i] = large_index.search(queries, 5)

    threads = [threading.Thread(target=search, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found_ids, found_scores in results:
        np.testing.assert_array_equal(found_ids, ids)
        np.testing.assert_array_equal(found_scores, scores)


def test_neighbours_missing_in_the_searched_leaves_are_no_row(large_index, monkeypatch):
    padded = (np.zeros((2, 3), np.uint32), np.full((2, 3), np.nan, np.float32))
    padded[0][0, 0], padded[1][0, 0] = 17, 0.5

    class Index:
        def search_batched(self, queries, **limits):
            return padded

    monkeypatch.setattr(large_index, "_index", Index())
    ids, scores = large_index.search(np.ones((2, 64), np.float32), 3)
    assert ids.tolist() == [[17, -1, -1], [-1, -1, -1]]
    assert scores.tolist() == [[0.5, -np.inf, -np.inf], [-np.inf] * 3]


@needs_scann
@pytest.mark.parametrize("soar_lambda", [None, 1.5])
@pytest.mark.parametrize("reorder_precision", ["float32", "bfloat16", "int8"])
def test_settings_are_used(vectors, soar_lambda, reorder_precision):
    settings = dataclasses.replace(
        settings_for(N), soar_lambda=soar_lambda, reorder_precision=reorder_precision
    )
    index = ScannSearcher.build(vectors, settings)
    ids, scores = index.search(vectors[:100], N)
    assert (np.sort(ids, axis=1) == np.arange(N)).all()
    np.testing.assert_allclose(scores[:, 0], 1, atol=0.02)


# ScaNN: what would end the process.


@pytest.mark.parametrize(
    "change",
    [
        {name: value}
        for name in ("leaves", "leaves_to_search", "reorder", "n_threads", "batch_size")
        for value in (0, -1, 2.5, True, None, 2**31)
    ]
    + [
        {"leaves_to_search": 11},
        {"training_sample_size": 9},
        {"dims_per_block": 0},
        {"soar_lambda": -1.0},
        {"soar_lambda": np.nan},
        {"anisotropic_threshold": 1.0},
        {"anisotropic_threshold": np.nan},
        {"reorder_precision": "float8"},
    ],
)
def test_refuses_settings_that_scann_does_not_survive(change):
    good = {"leaves": 10, "leaves_to_search": 2}
    ScannSettings(**good)
    with pytest.raises(SearchError, match=next(iter(change))):
        ScannSettings(**(good | change))


@needs_scann
@pytest.mark.parametrize("n", [0, 1, 15, 99])
def test_refuses_fewer_rows_than_leaves(vectors, n):
    settings = ScannSettings(leaves=100, leaves_to_search=5) if n == 99 else None
    with pytest.raises(SearchError, match=f"has {n} rows"):
        ScannSearcher.build(vectors[:n], settings)


@needs_scann
@pytest.mark.parametrize("n", [16, 17, 200])
def test_the_smallest_databases_that_scann_takes(vectors, n):
    ids, _ = ScannSearcher.build(vectors[:n]).search(vectors[:n], 1)
    assert ids[:, 0].tolist() == list(range(n))


@pytest.mark.parametrize("n", [16, 1000, 20_000, 10**6, 10**8])
def test_settings_fit_the_size(n):
    settings = settings_for(n)
    assert 1 <= settings.leaves_to_search <= settings.leaves <= n // 10


# ScaNN: the index on disk.


@pytest.fixture
def index_folder(large_index, tmp_path):
    large_index.save(tmp_path / "index")
    return tmp_path / "index"


def test_a_saved_index_answers_the_same_wherever_it_is_moved(
    large_index, large_vectors, index_folder, tmp_path
):
    moved = index_folder.rename(tmp_path / "moved")
    loaded = ScannSearcher.load(moved, large_vectors)
    assert loaded.settings == large_index.settings
    queries = large_vectors[::50]
    for found, expected in zip(
        loaded.search(queries, 7), large_index.search(queries, 7), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_an_index_is_replaced_as_a_whole(large_index, large_vectors, index_folder, monkeypatch):
    class Broken:
        def serialize(self, folder, relative_path):
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(large_index, "_index", Broken())
        with pytest.raises(OSError, match="no space"):
            large_index.save(index_folder)
    assert [path.name for path in index_folder.parent.iterdir()] == ["index"]
    ScannSearcher.load(index_folder, large_vectors)
    large_index.save(index_folder)
    ScannSearcher.load(index_folder, large_vectors)


def test_another_folder_is_not_overwritten(large_index, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(SearchError, match="something else"):
        large_index.save(tmp_path)
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


def _flip_a_byte(folder):
    path = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _change_manifest(**changes):
    def change(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))

    return change


def _add_pickle(folder):
    with open(folder / "scann_docids.pkl", "wb") as file:
        pickle.dump([0], file)


DAMAGE = {
    "byte flipped": _flip_a_byte,
    "file missing": lambda folder: (folder / "ah_codebook.pb").unlink(),
    "file cut": lambda folder: os.truncate(folder / "serialized_partitioner.pb", 10),
    "assets missing": lambda folder: (folder / "scann_assets.pbtxt").unlink(),
    "pickle added": _add_pickle,
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "manifest no JSON": lambda folder: (folder / "manifest.json").write_text("{"),
    "manifest no object": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "no digests": _change_manifest(files=None),
    "no description": _change_manifest(description={}),
    "bad settings": _change_manifest(description={"settings": {"leaves": 0}}),
    "another format": _change_manifest(format="faiss"),
    "newer": _change_manifest(format_version=2),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_index_is_refused(index_folder, large_vectors, damage):
    damage(index_folder)
    with pytest.raises(SearchError, match=r"\.$"):
        ScannSearcher.load(index_folder, large_vectors)


def test_a_pickle_is_refused_even_if_the_manifest_lists_it(index_folder, large_vectors):
    _add_pickle(index_folder)
    manifest = json.loads((index_folder / "manifest.json").read_text())
    manifest["files"]["scann_docids.pkl"] = "0" * 64
    (index_folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SearchError, match="pkl"):
        ScannSearcher.load(index_folder, large_vectors)


def test_an_index_of_another_database_is_refused(index_folder, large_vectors):
    for other in (large_vectors[:-1], large_vectors[::-1], large_vectors[:, :32]):
        with pytest.raises(SearchError, match="another database"):
            ScannSearcher.load(index_folder, other)


def test_no_index_folder_at_all(tmp_path, large_vectors):
    pytest.importorskip("scann")
    with pytest.raises(SearchError, match="no search index"):
        ScannSearcher.load(tmp_path / "nothing", large_vectors)


# Which searcher is opened.


@pytest.fixture
def builds(monkeypatch):
    """Names of what was built, in place of building ScaNN anew each time."""
    counted = []
    build = ScannSearcher.build.__func__

    def counting(cls, vectors, settings=None):
        counted.append(settings)
        return build(cls, vectors, settings)

    monkeypatch.setattr(ScannSearcher, "build", classmethod(counting))
    return counted


def test_the_size_decides(large_vectors, builds):
    pytest.importorskip("scann")
    assert isinstance(open_searcher(large_vectors[:19_999]), ExactSearcher)
    assert isinstance(open_searcher(large_vectors[:20_000]), ScannSearcher)


def test_a_kind_of_searcher_can_be_asked_for(large_vectors):
    assert isinstance(open_searcher(large_vectors, kind="exact"), ExactSearcher)
    assert isinstance(open_searcher(large_vectors[:16], kind="scann"), ScannSearcher)
    assert isinstance(open_searcher(large_vectors[:15], kind="scann"), ExactSearcher)
    with pytest.raises(SearchError, match="'faiss'; choose one of auto, exact, scann"):
        open_searcher(large_vectors, kind="faiss")


def test_an_index_is_built_once_and_kept(large_vectors, builds, tmp_path, capsys):
    pytest.importorskip("scann")
    first = open_searcher(large_vectors, tmp_path / "cache")
    assert "30,000 fingerprints" in capsys.readouterr().err
    second = open_searcher(large_vectors, tmp_path / "cache")
    assert capsys.readouterr().err == ""
    assert len(builds) == 1
    np.testing.assert_array_equal(
        first.search(large_vectors[:9], 3)[0], second.search(large_vectors[:9], 3)[0]
    )


def test_settings_of_searching_need_no_new_index(large_vectors, index_folder, builds, tmp_path):
    index_folder.rename(tmp_path / "scann")
    saved = settings_for(len(large_vectors))
    settings = dataclasses.replace(saved, leaves_to_search=3, reorder=40)
    assert open_searcher(large_vectors, tmp_path, settings).settings == settings
    assert builds == []
    settings = dataclasses.replace(saved, dims_per_block=4)
    assert open_searcher(large_vectors, tmp_path, settings).settings == settings
    assert builds == [settings]


def test_a_damaged_index_is_built_anew(large_vectors, index_folder, builds, tmp_path, capsys):
    index_folder.rename(tmp_path / "scann")
    _flip_a_byte(tmp_path / "scann")
    open_searcher(large_vectors, tmp_path)
    assert "damaged" in capsys.readouterr().err
    ScannSearcher.load(tmp_path / "scann", large_vectors)


def test_a_cache_that_cannot_be_written_is_no_error(large_vectors, tmp_path, capsys):
    pytest.importorskip("scann")
    (tmp_path / "file").write_text("")
    searcher = open_searcher(large_vectors, tmp_path / "file")
    assert searcher.search(large_vectors[:1], 1)[0] == 0
    assert "not kept" in capsys.readouterr().err


def test_without_scann_search_is_exact(large_vectors, monkeypatch, tmp_path):
    import_module = builtins.__import__

    def without_scann(name, *args, **kwargs):
        if name.split(".")[0] == "scann":
            raise ModuleNotFoundError("No module named 'scann'")
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scann)
    with pytest.raises(ScannUnavailableError, match="pip install scann"):
        ScannSearcher.build(large_vectors)
    assert isinstance(open_searcher(large_vectors, tmp_path), ExactSearcher)


# In processes of their own.


@needs_scann
def test_scann_is_imported_without_tensorflow():
    program = (
        "import sys, numpy as np\n"
        "import fingerprint.searchers as s\n"
        "assert 'scann' not in sys.modules\n"
        "s.ScannSearcher.build(np.eye(64, dtype=np.float32))\n"
        "assert 'scann' in sys.modules and 'tensorflow' not in sys.modules\n"
        "marker = sys.modules['tensorflow'] = object()\n"
        "s.ScannSearcher.build(np.eye(64, dtype=np.float32))\n"
        "assert sys.modules['tensorflow'] is marker\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_benchmark_runs(benchmark, capsys):
    pytest.importorskip("scann")
    benchmark.main(["--sizes", "600", "--dim", "16", "--queries", "20"])
    header, ruler, *rows = capsys.readouterr().out.strip().splitlines()
    assert header.count("|") == ruler.count("|")
    assert [row.split("|")[2].strip() for row in rows][:2] == ["exact", "ScaNN"]
    assert rows[0].split("|")[-3:-1] == [" 1.000 ", " 1.000 "]
