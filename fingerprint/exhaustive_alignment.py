"""Alignment without neighbours: every start in every track is scored, at every shift.

A query that is buried in noise may have no segment whose true neighbour is among the nearest few,
while the sum along the true diagonal is still the largest of all (in the search of NAFP, Chang et
al., arXiv 2010.11910, the former decides what is summed). Computing all sums is one matrix product
of the query with the store, whose columns are added with a lag; for 100 hours of fingerprints it
takes less than the search for neighbours saves.

Tracks are laid out with gaps of zeros between them, one segment shorter than the query, so that
every place in the layout is one start in one track, overhanging ends included. The product is
computed block by block in the cache, of float16 stores as well as of float32.
"""

import dataclasses
import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fingerprint.alignment import Hypothesis, Proposals, check_shapes, rank

# Bounds of what is aligned in this way. Products: 720,000 rows with 10 s of query at four shifts,
# a quarter of a second on two cores. Places: their scores take 4 bytes for each shift.
MAX_PRODUCTS = 60_000_000
MAX_PLACES = 1_500_000

_PLACES_PER_BLOCK = 2048
# OpenBLAS computes a product on the thread that asks for it only if it has at most 2**18 terms;
# threads of its own wait for each other, which on a busy machine takes ten times as long.
_MAX_TERMS = 2**18
_ROWS_PER_PRODUCT = 32
# More would wait for memory.
_MAX_THREADS = 8
# Far above the rounding of a score, which depends on where in a block its rows are.
_TOLERANCE = 1e-5
# Places of equal score in one query, as in a store of copies, that are compared exactly.
_MAX_CONTENDERS = 10_000


def fits(n_shifts: int, n_segments: int, n_rows: np.ndarray) -> bool:
    """Whether a query is short enough for tracks of ``n_rows (n_tracks,)`` rows."""
    n_places = int(np.sum(n_rows)) + np.count_nonzero(n_rows) * (n_segments - 1)
    return n_places <= min(MAX_PLACES, MAX_PRODUCTS // (n_shifts * n_segments))


def align_everywhere(
    queries: np.ndarray,
    vectors: np.ndarray,
    first_rows: np.ndarray,
    n_rows: np.ndarray,
    top_k: int,
) -> list[Hypothesis]:
    """As `alignment.align` by "diagonal" with every row a candidate of every segment.

    Memory is that of one score for each place and shift. Whoever calls it asks `fits` before.

    Args:
        queries: ``(n_shifts, m, d)``; segments of zeros match nothing.
        vectors: store ``(n, d)``, float16 or float32, which may be memory-mapped.
        first_rows: ``(n_tracks,)`` first row of each track.
        n_rows: ``(n_tracks,)`` rows of each track; 0 is allowed.
        top_k: tracks to return at most.

    Returns:
        The best hypothesis of each track, best first, in the order of `alignment.align`; ``votes``
        are all overlapping segments. Nothing for a query of zeros.

    Raises:
        SearchError: shapes that do not fit each other, or ``top_k`` below 1.
    """
    first_rows, n_rows = np.asarray(first_rows, np.int64), np.asarray(n_rows, np.int64)
    queries, vectors = np.asarray(queries, np.float32), np.asarray(vectors)
    check_shapes(queries, vectors, first_rows, n_rows, top_k)
    if not n_rows.any() or not queries.any():
        return []
    layout = _Layout.of(first_rows, n_rows, queries.shape[1] - 1)
    sums = _diagonal_sums(queries, vectors, layout)
    contenders = _contenders(sums, layout, top_k, _TOLERANCE * queries.shape[1])
    _, contenders.votes = contenders.overlaps(queries.shape[1], n_rows)
    return rank(contenders, queries, vectors, first_rows, n_rows, top_k)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Tracks one after the other, each with ``gap`` places before it; ``gap`` more at the end.

    Attributes:
        tracks: ``(t,)`` those that have rows, in the order of the store.
        begins: ``(t,)`` the first place of each track's gap.
        rows: ``(r,)`` the row of the store of each row here.
        places: ``(r,)`` where it lies, ascending.
        gap: places between tracks.
        n_places: starts of queries, in all.
    """

    tracks: np.ndarray
    begins: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    gap: int
    n_places: int

    @classmethod
    def of(cls, first_rows: np.ndarray, n_rows: np.ndarray, gap: int) -> "_Layout":
        tracks = np.flatnonzero(n_rows)
        tracks = tracks[np.argsort(first_rows[tracks], kind="stable")]
        lengths = n_rows[tracks]
        n_before = np.cumsum(lengths) - lengths
        begins = n_before + gap * np.arange(len(tracks))
        of_row = np.arange(lengths.sum())
        rows = of_row + np.repeat(first_rows[tracks] - n_before, lengths)
        places = of_row + np.repeat(begins + gap - n_before, lengths)
        return cls(tracks, begins, rows, places, gap, int(begins[-1] + gap + lengths[-1]))

    def copy(self, vectors: np.ndarray, first_place: int, block: np.ndarray) -> None:
        """Fill a block ``(n, d)`` with the rows from a place on, and with zeros between them."""
        block.fill(0.0)
        inside = slice(*np.searchsorted(self.places, (first_place, first_place + len(block))))
        rows = self.rows[inside]
        if not len(rows):
            return
        # As long as no rows belong to no track, reading a range saves a copy.
        is_range = (np.diff(rows) == 1).all()
        stored = vectors[rows[0] : rows[-1] + 1] if is_range else vectors[rows]
        block[self.places[inside] - first_place] = stored


def _diagonal_sums(queries: np.ndarray, vectors: np.ndarray, layout: _Layout) -> np.ndarray:
    """Sums of inner products of a query that starts at each place, ``(n_shifts, n_places)``."""
    sums = np.zeros((len(queries), layout.n_places), np.float32)
    starts = range(0, layout.n_places, _PLACES_PER_BLOCK)
    n_threads = min(os.cpu_count() or 1, len(starts), _MAX_THREADS)
    work = functools.partial(_sum_blocks, queries, vectors, layout, sums)
    if n_threads == 1:
        work(starts)
        return sums
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(work, [starts[i::n_threads] for i in range(n_threads)]))
    return sums


def _sum_blocks(queries, vectors, layout, sums, starts) -> None:
    """Fill ``sums`` from each of the given places on, a block each."""
    n_shifts, n_segments, dim = queries.shape
    n_rows = -(-(_PLACES_PER_BLOCK + layout.gap) // _ROWS_PER_PRODUCT) * _ROWS_PER_PRODUCT
    block = np.empty((n_rows, dim), np.float32)
    products = np.empty((n_shifts, n_segments, n_rows), np.float32)
    for start in starts:
        layout.copy(vectors, start, block)
        _multiply(queries.reshape(-1, dim), block, products.reshape(-1, n_rows))
        block_sums = sums[:, start : start + _PLACES_PER_BLOCK]
        for segment in range(n_segments):
            block_sums += products[:, segment, segment : segment + block_sums.shape[1]]


def _multiply(queries: np.ndarray, rows: np.ndarray, products: np.ndarray) -> None:
    """``products (q, n) = queries (q, d) @ rows.T``, n a multiple of 32, on this thread alone."""
    dim = rows.shape[1]
    few_rows = rows.reshape(-1, _ROWS_PER_PRODUCT, dim).transpose(0, 2, 1)
    out = products.reshape(len(queries), -1, _ROWS_PER_PRODUCT).transpose(1, 0, 2)
    step = max(1, _MAX_TERMS // (_ROWS_PER_PRODUCT * dim))
    for first in range(0, len(queries), step):
        np.matmul(queries[first : first + step], few_rows, out=out[:, first : first + step])


def _contenders(sums: np.ndarray, layout: _Layout, top_k: int, tolerance: float) -> Proposals:
    """The places that may be the best ones of the best tracks, given how sums are rounded."""
    best_of_place = sums.max(axis=0)
    best_of_track = np.maximum.reduceat(best_of_place, layout.begins)
    k = min(top_k, len(best_of_track))
    needed = np.partition(best_of_track, -k)[-k] - tolerance
    ends = np.append(layout.begins[1:], layout.n_places)
    shifts, tracks, starts = [], [], []
    n_found = 0
    for i in np.argsort(-best_of_track, kind="stable"):
        if best_of_track[i] < needed or n_found > _MAX_CONTENDERS:
            break
        of_track = sums[:, layout.begins[i] : ends[i]]
        track_shifts, places = np.nonzero(of_track >= best_of_track[i] - tolerance)
        shifts.append(track_shifts)
        starts.append(places - layout.gap)
        tracks.append(np.full(len(places), layout.tracks[i]))
        n_found += len(places)
    shifts, tracks, starts = map(np.concatenate, (shifts, tracks, starts))
    return Proposals(shifts, tracks, starts, np.zeros_like(starts), np.zeros(len(starts)))
