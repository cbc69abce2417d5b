"""From neighbours of single segments to places in tracks, scored on whole sequences.

The sequence search published with NAFP (Chang et al., arXiv 2010.11910): segment j of a query
whose neighbour is row r proposes that the query starts at row r - j, and each proposal is scored
by the mean inner product along the diagonal, on the stored vectors. Here a proposal belongs to
one track and never runs over its borders, and a query may overhang the track at both ends.
"""

import dataclasses

import numpy as np

from fingerprint.searchers import SearchError

# Rows of the store that are read to score one query: a quarter of a second's work. Queries of up
# to 100 segments stay below it with four shifts and 20 neighbours, so that nothing is left out.
MAX_SCORED_ROWS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A place that a query may come from.

    Attributes:
        track: index into the track table.
        shift: which sub-hop shift of the query fits.
        start_segment: segment of the track that the first query segment falls on; negative where
            the query begins before the track does.
        score: sum of the inner products of the aligned segments, divided by the number of query
            segments; segments beyond the ends of the track count 0.
        n_overlapping: query segments within the track.
    """

    track: int
    shift: int
    start_segment: int
    score: float
    n_overlapping: int


def align(
    queries: np.ndarray,
    candidate_ids: np.ndarray,
    vectors: np.ndarray,
    first_rows: np.ndarray,
    n_rows: np.ndarray,
    top_k: int,
) -> list[Hypothesis]:
    """Align a sequence of query segments with the tracks that its neighbours lie in.

    Every distinct proposal (shift, track, start) is scored exactly as long as that reads at most
    ``MAX_SCORED_ROWS`` rows of the store. Of a longer query the proposals with the most votes,
    i.e. made by the most of its segments, are scored until that number is reached.

    Args:
        queries: ``(n_shifts, m, d)``, the same query fingerprinted at several sub-hop shifts.
        candidate_ids: ``(n_shifts, m, k)`` rows of ``vectors``; -1 (or a row of no track) is no
            candidate.
        vectors: store ``(n, d)``, float16 or float32, which may be memory-mapped.
        first_rows: ``(n_tracks,)`` first row of each track.
        n_rows: ``(n_tracks,)`` rows of each track; 0 is allowed.
        top_k: tracks to return at most.

    Returns:
        The best hypothesis of each track, best first.

    Raises:
        SearchError: shapes that do not fit each other, or ``top_k`` below 1.
    """
    first_rows, n_rows = np.asarray(first_rows, np.int64), np.asarray(n_rows, np.int64)
    queries, candidate_ids = np.asarray(queries, np.float32), np.asarray(candidate_ids)
    _check_shapes(queries, candidate_ids, vectors, first_rows, n_rows, top_k)
    shifts, tracks, starts, votes = _proposals(candidate_ids, first_rows, n_rows)
    first_segments = np.maximum(-starts, 0)
    n_overlapping = np.minimum(queries.shape[1], n_rows[tracks] - starts) - first_segments

    by_votes = np.argsort(-votes, kind="stable")
    n_read = np.cumsum(n_overlapping[by_votes])
    kept = np.sort(by_votes[(n_read <= MAX_SCORED_ROWS) | (np.arange(len(n_read)) == 0)])
    shifts, tracks, starts = shifts[kept], tracks[kept], starts[kept]
    first_segments, n_overlapping = first_segments[kept], n_overlapping[kept]

    scores = _score(
        queries.reshape(-1, queries.shape[2]),
        np.asarray(vectors),
        shifts * queries.shape[1] + first_segments,
        first_rows[tracks] + starts + first_segments,
        n_overlapping,
    )
    scores /= queries.shape[1]
    best_first = np.lexsort((starts, shifts, tracks, -scores))
    _, first_of_track = np.unique(tracks[best_first], return_index=True)
    return [
        Hypothesis(int(tracks[i]), int(shifts[i]), int(starts[i]), float(scores[i]), int(n))
        for i, n in ((i, n_overlapping[i]) for i in best_first[np.sort(first_of_track)[:top_k]])
    ]


def _proposals(candidate_ids, first_rows, n_rows):
    """Distinct proposals: shifts, tracks, starts within the track, votes; each ``(p,)``."""
    shifts, segments, _ = np.indices(candidate_ids.shape, np.int64).reshape(3, -1)
    rows = candidate_ids.reshape(-1).astype(np.int64)
    filled = np.flatnonzero(n_rows)
    if not len(filled):
        return (np.zeros(0, np.int64),) * 4
    filled = filled[np.argsort(first_rows[filled], kind="stable")]
    place = np.searchsorted(first_rows[filled], rows, side="right") - 1
    tracks = filled[np.maximum(place, 0)]
    is_inside = (place >= 0) & (rows < first_rows[tracks] + n_rows[tracks])
    shifts, segments, tracks = shifts[is_inside], segments[is_inside], tracks[is_inside]
    starts = rows[is_inside] - first_rows[tracks] - segments
    # One number per proposal; starts begin at 1 - m, so that adding m keeps them positive.
    n_segments = candidate_ids.shape[1]
    grid = (len(candidate_ids), len(n_rows), n_segments + int(n_rows.max()))
    keys = np.ravel_multi_index((shifts, tracks, starts + n_segments), grid)
    keys, votes = np.unique(keys, return_counts=True)
    shifts, tracks, starts = np.unravel_index(keys, grid)
    return shifts, tracks, starts - n_segments, votes


def _score(queries, vectors, query_rows, vector_rows, lengths):
    """Sums of inner products along diagonals ``(p,)``.

    Diagonal i pairs ``lengths[i]`` successive rows of ``queries`` from ``query_rows[i]`` on with
    those of ``vectors`` from ``vector_rows[i]`` on. Both are contiguous in memory, so that one
    product of two long vectors each, without copies, is faster than gathering all rows at once.
    """
    scores = np.empty(len(lengths))
    places = zip(query_rows.tolist(), vector_rows.tolist(), lengths.tolist(), strict=True)
    for i, (query_row, vector_row, length) in enumerate(places):
        asked = queries[query_row : query_row + length].reshape(-1)
        stored = vectors[vector_row : vector_row + length].reshape(-1)
        scores[i] = asked @ stored.astype(np.float32, copy=False)
    return scores


def _check_shapes(queries, candidate_ids, vectors, first_rows, n_rows, top_k):
    if queries.ndim != 3 or 0 in queries.shape or vectors.ndim != 2:
        raise SearchError(
            f"The queries have the shape {queries.shape} and the store {vectors.shape}, but they "
            "have to be (n_shifts, m, d) and (n, d), and not empty queries."
        )
    if queries.shape[2] != vectors.shape[1]:
        raise SearchError(
            f"The queries have {queries.shape[2]} dimensions and the store has "
            f"{vectors.shape[1]}; use the model that the store was made with."
        )
    if candidate_ids.ndim != 3 or candidate_ids.shape[:2] != queries.shape[:2]:
        raise SearchError(
            f"The candidates have the shape {candidate_ids.shape}, but it has to begin with "
            f"{queries.shape[:2]}, the shifts and segments of the queries."
        )
    if first_rows.ndim != 1 or first_rows.shape != n_rows.shape:
        raise SearchError(
            f"first_rows has the shape {first_rows.shape} and n_rows {n_rows.shape}, but both "
            "have to be (n_tracks,)."
        )
    if top_k < 1:
        raise SearchError(f"top_k is {top_k}, but it has to be at least 1.")
