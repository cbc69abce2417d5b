"""What search costs and finds: every searcher against exact search.

    python benchmarks/search.py                                     # 10,000 and 100,000 rows
    python benchmarks/search.py --sizes 1000000 --searchers scann   # a few minutes and 3 GB

Those of FAISS are left out where it is not installed. Hash buckets are those of random hyperplanes;
`candidates.py` measures learnt codes.

The database is made of sequences, as fingerprints are: tracks lie around the centres of a mixture
and the segments of a track follow each other in an AR(1) process. Neighbours have a cosine of
about 0.76, other segments of a track 0.4, tracks of one cluster 0.2. A query is a segment turned
away by noise until its cosine with it is --cosine. Recall is of what exact search finds. Speeds
are per CPU-second, over all threads, so that other work on the machine changes them little.
"""

import argparse
import importlib.util
import pathlib
import tempfile
import time

import numpy as np

from fingerprint.searchers import (
    CandidateSearcher,
    ExactSearcher,
    HashBucketSearcher,
    HashBucketSettings,
    HnswSearcher,
    IvfPqSearcher,
    LshSearcher,
    ScannSearcher,
    random_hyperplanes,
)

CLUSTER_SHARE, TRACK_SHARE, SEGMENT_SHARE = 0.2, 0.2, 0.6
CORRELATION_OF_NEIGHBOURS = 0.6
SEGMENTS_PER_TRACK = 240
N_CLUSTERS = 200
K = 10
HASH_BITS = 12
# Random hyperplanes need so much of the database for about the recall of the others.
HASH_CANDIDATE_SHARE = 0.2

COLUMNS = (
    "fingerprints",
    "searcher",
    "build, CPU-s",
    "index, MB",
    "one query, ms",
    "queries per CPU-s",
    "recall@1",
    "recall@10",
    "examined",
)


def sequence_vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors ``(n, dim)`` float32, made of tracks of 240 segments."""
    rng = np.random.default_rng(seed)
    n_tracks = -(-n // SEGMENTS_PER_TRACK)
    centres = _unit(rng.standard_normal((N_CLUSTERS, dim), np.float32))
    clusters = centres[rng.integers(N_CLUSTERS, size=n_tracks)]
    tracks = _unit(rng.standard_normal((n_tracks, dim), np.float32))
    common = CLUSTER_SHARE**0.5 * clusters + TRACK_SHARE**0.5 * tracks
    own = rng.standard_normal((n_tracks, dim), np.float32)
    vectors = np.empty((n_tracks, SEGMENTS_PER_TRACK, dim), np.float32)
    for segment in range(SEGMENTS_PER_TRACK):
        vectors[:, segment] = _unit(common + (SEGMENT_SHARE / dim) ** 0.5 * own)
        own *= CORRELATION_OF_NEIGHBOURS
        own += (1 - CORRELATION_OF_NEIGHBOURS**2) ** 0.5 * rng.standard_normal(
            own.shape, np.float32
        )
    return vectors.reshape(-1, dim)[:n]


def noised_queries(vectors: np.ndarray, n_queries: int, cosine: float, seed: int = 1) -> np.ndarray:
    """Unit vectors ``(n_queries, dim)`` at the given cosine from rows of ``vectors``."""
    rng = np.random.default_rng(seed)
    rows = vectors[rng.integers(len(vectors), size=n_queries)]
    noise = rng.standard_normal(rows.shape, np.float32)
    noise -= (noise * rows).sum(1, keepdims=True) * rows
    return np.float32(cosine) * rows + np.float32((1 - cosine**2) ** 0.5) * _unit(noise)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _hash_buckets(vectors):
    encode = random_hyperplanes(vectors.shape[1], HASH_BITS, seed=0)
    settings = HashBucketSettings(candidate_share=HASH_CANDIDATE_SHARE)
    return HashBucketSearcher.build(vectors, encode, settings)


MAKERS = {
    "exact": ExactSearcher,
    "scann": ScannSearcher.build,
    "hash_buckets": _hash_buckets,
    "lsh": LshSearcher.build,
    "ivf_pq": IvfPqSearcher.build,
    "hnsw": HnswSearcher.build,
}


def _available() -> list[str]:
    needed = {"scann": "scann", "ivf_pq": "faiss", "hnsw": "faiss"}
    return [name for name in MAKERS if importlib.util.find_spec(needed.get(name, "numpy"))]


def _bytes_of(searcher, vectors):
    if isinstance(searcher, ExactSearcher):
        return vectors.nbytes
    if isinstance(searcher, LshSearcher):
        return searcher.n_bytes
    with tempfile.TemporaryDirectory() as folder:
        searcher.save(pathlib.Path(folder) / "index")
        return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*"))


def _examined(searcher, queries):
    """Share of the database whose inner products are computed; other searchers do not tell."""
    if isinstance(searcher, ExactSearcher):
        return "1.000"
    if not isinstance(searcher, CandidateSearcher):
        return "-"
    return f"{searcher.search_counted(queries, K)[2].mean() / searcher.n:.3f}"


def measure(make, vectors, queries, truth) -> list[str]:
    """One row of the table, without the size and the name.

    Args:
        make: builds a searcher of the vectors.
        vectors: database ``(n, dim)``.
        queries: ``(n_queries, dim)``.
        truth: ids ``(n_queries, K)`` that exact search finds.
    """
    started_cpu_s = time.process_time()
    searcher = make(vectors)
    build_cpu_s = time.process_time() - started_cpu_s
    searcher.search(queries, K)

    started_cpu_s = time.process_time()
    ids, _ = searcher.search(queries, K)
    queries_per_cpu_s = len(queries) / (time.process_time() - started_cpu_s)
    latencies_s = []
    for query in queries[:100]:
        started_s = time.perf_counter()
        searcher.search(query[None], K)
        latencies_s.append(time.perf_counter() - started_s)
    found = np.mean([len(np.intersect1d(*rows)) / K for rows in zip(ids, truth, strict=True)])
    return [
        f"{build_cpu_s:.1f}",
        f"{_bytes_of(searcher, vectors) / 1e6:.0f}",
        f"{np.median(latencies_s) * 1e3:.2f}",
        f"{queries_per_cpu_s:,.0f}",
        f"{np.mean(ids[:, 0] == truth[:, 0]):.3f}",
        f"{found:.3f}",
        _examined(searcher, queries),
    ]


def main(argv: list[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--cosine", type=float, default=0.6)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--searchers", nargs="+", choices=MAKERS, default=_available())
    arguments = parser.parse_args(argv)

    print(f"| {' | '.join(COLUMNS)} |\n|{' ---: |' * len(COLUMNS)}")
    for n in arguments.sizes:
        vectors = sequence_vectors(n, arguments.dim)
        queries = noised_queries(vectors, arguments.queries, arguments.cosine)
        truth, _ = ExactSearcher(vectors).search(queries, K)
        for name in arguments.searchers:
            row = [f"{n:,}", name, *measure(MAKERS[name], vectors, queries, truth)]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
