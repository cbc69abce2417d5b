"""ScaNN: what it finds, what would end the process, and its index on disk."""

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

from fingerprint.searchers import (
    ExactSearcher,
    ScannSearcher,
    ScannSettings,
    SearchError,
    open_searcher,
)
from fingerprint.searchers.scann import settings_for

DIM = 32
N = 2000
needs_scann = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="ScaNN is not installed"
)


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    return load_benchmark("search")


@pytest.fixture(scope="module")
def vectors(benchmark):
    return benchmark.sequence_vectors(N, DIM)


@pytest.fixture(scope="module")
def large_vectors(benchmark):
    return benchmark.sequence_vectors(30_000, 64)


@pytest.fixture(scope="module")
def large_index(large_vectors):
    pytest.importorskip("scann")
    return ScannSearcher.build(large_vectors)


# What it finds.


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


# What would end the process.


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


# The index on disk.


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
