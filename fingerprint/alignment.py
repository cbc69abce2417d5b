"""From neighbours of single segments to places in tracks, ordered by one of the published rules.

Segment j of a query whose neighbour is row r proposes that the query starts at row r - j, and each
proposal is scored by the mean inner product along the diagonal, on the stored vectors, as
published with NAFP (Chang et al., arXiv 2010.11910). Here a proposal belongs to one track and
never runs over its borders, and a query may overhang the track at both ends. What the other
systems compare instead of the score decides before it:

    diagonal      nothing: the largest score wins
    vote          segments that propose the same start (Singh et al., arXiv 2210.08624; with one
                  neighbour for each segment the consensus of arXiv 2211.11060)
    track_vote    neighbours that lie in the same track; within it, segments that propose the same
                  start (the code that came with arXiv 2210.08624)
    best_segment  the largest inner product of any single segment (Rice)

Counting tracks first is the weaker rule, also with one neighbour for each segment: stray
neighbours at many places of one track outvote fewer that agree on a place in another.
"""

import dataclasses

import numpy as np

from fingerprint.searchers import SearchError

METHODS = ("diagonal", "vote", "track_vote", "best_segment")

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
        votes: query segments that have a neighbour at this place.
    """

    track: int
    shift: int
    start_segment: int
    score: float
    n_overlapping: int
    votes: int


def align(
    queries: np.ndarray,
    candidate_ids: np.ndarray,
    vectors: np.ndarray,
    first_rows: np.ndarray,
    n_rows: np.ndarray,
    top_k: int,
    method: str = "diagonal",
) -> list[Hypothesis]:
    """Align a sequence of query segments with the tracks that its neighbours lie in.

    Every distinct proposal (shift, track, start) that can still win is scored exactly as long as
    that reads at most ``MAX_SCORED_ROWS`` rows of the store; beyond it only the first by the
    method's own rule, and of those that are equal by it the ones with the most votes.

    Args:
        queries: ``(n_shifts, m, d)``, the same query fingerprinted at several sub-hop shifts.
        candidate_ids: ``(n_shifts, m, k)`` rows of ``vectors``, different ones for each segment;
            -1 (or a row of no track) is no candidate.
        vectors: store ``(n, d)``, float16 or float32, which may be memory-mapped.
        first_rows: ``(n_tracks,)`` first row of each track.
        n_rows: ``(n_tracks,)`` rows of each track; 0 is allowed.
        top_k: tracks to return at most.
        method: one of `METHODS`, what is compared before the score; votes for a track are
            counted over all shifts, votes for a start within one.

    Returns:
        The best hypothesis of each track, best first; ties fall to the larger score, then to the
        earlier track, shift and start.

    Raises:
        SearchError: shapes that do not fit each other, ``top_k`` below 1, or an unknown method.
    """
    if method not in METHODS:
        raise SearchError(f"The alignment is {method!r}; choose one of {', '.join(METHODS)}.")
    first_rows, n_rows = np.asarray(first_rows, np.int64), np.asarray(n_rows, np.int64)
    queries, candidate_ids = np.asarray(queries, np.float32), np.asarray(candidate_ids)
    vectors = np.asarray(vectors)
    check_shapes(queries, vectors, first_rows, n_rows, top_k)
    _check_candidates(queries, candidate_ids)

    proposals, candidates = _proposals(candidate_ids, first_rows, n_rows)
    query_rows = queries.reshape(-1, queries.shape[2])
    proposals.merits = _merits(method, proposals, candidates, query_rows, vectors)
    contenders = proposals.select(_contenders(proposals, queries.shape[1], n_rows))
    return rank(contenders, queries, vectors, first_rows, n_rows, top_k)


def rank(
    contenders: "Proposals",
    queries: np.ndarray,
    vectors: np.ndarray,
    first_rows: np.ndarray,
    n_rows: np.ndarray,
    top_k: int,
) -> list[Hypothesis]:
    """The best contender of each track by merit and score, best first; arguments as of `align`."""
    n_segments = queries.shape[1]
    first_segments, n_overlapping = contenders.overlaps(n_segments, n_rows)
    scores = _score(
        queries.reshape(-1, queries.shape[2]),
        vectors,
        contenders.shifts * n_segments + first_segments,
        first_rows[contenders.tracks] + contenders.starts + first_segments,
        n_overlapping,
    )
    scores /= n_segments
    best_first = np.lexsort(
        (contenders.starts, contenders.shifts, contenders.tracks, -scores, -contenders.merits)
    )
    _, first_of_track = np.unique(contenders.tracks[best_first], return_index=True)
    best = best_first[np.sort(first_of_track)[:top_k]]
    columns = (contenders.tracks, contenders.shifts, contenders.starts, scores)
    columns = (*columns, n_overlapping, contenders.votes)
    # tolist makes Python numbers of numpy's.
    rows = zip(*(column[best].tolist() for column in columns), strict=True)
    return [Hypothesis(*row) for row in rows]


@dataclasses.dataclass
class Proposals:
    """Distinct places, ``(p,)`` each; merits are what the method compares, larger is better."""

    shifts: np.ndarray
    tracks: np.ndarray
    starts: np.ndarray
    votes: np.ndarray
    merits: np.ndarray

    def select(self, which: np.ndarray) -> "Proposals":
        """Those of the given numbers."""
        return Proposals(*(getattr(self, f.name)[which] for f in dataclasses.fields(self)))

    def overlaps(self, n_segments: int, n_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first query segment within the track, and how many are."""
        first_segments = np.maximum(-self.starts, 0)
        ends = np.minimum(n_segments, n_rows[self.tracks] - self.starts)
        return first_segments, ends - first_segments


@dataclasses.dataclass
class _Candidates:
    """Pairs of a query's and a store's row, ``(c,)`` each, and which proposal they make."""

    query_rows: np.ndarray
    vector_rows: np.ndarray
    proposals: np.ndarray


def _proposals(candidate_ids, first_rows, n_rows) -> tuple[Proposals, _Candidates]:
    """The distinct proposals, whose merits are all alike, and what they were made by."""
    n_shifts, n_segments, n_neighbours = candidate_ids.shape
    rows = candidate_ids.reshape(-1).astype(np.int64)
    # Rows are sought among the tracks that have any, in the order of the store.
    filled = np.flatnonzero(n_rows)
    filled = filled[np.argsort(first_rows[filled], kind="stable")]
    place = np.searchsorted(first_rows[filled], rows, side="right") - 1
    is_inside = place >= 0
    is_inside[is_inside] = rows[is_inside] < (first_rows + n_rows)[filled[place[is_inside]]]
    rows, tracks = rows[is_inside], filled[place[is_inside]]
    query_rows = np.flatnonzero(is_inside) // n_neighbours if n_neighbours else rows
    shifts, segments = np.divmod(query_rows, n_segments)
    starts = rows - first_rows[tracks] - segments
    # One number per proposal; starts begin at 1 - m, so that adding m keeps them positive.
    grid = (n_shifts, max(1, len(n_rows)), n_segments + int(n_rows.max(initial=0)))
    keys = np.ravel_multi_index((shifts, tracks, starts + n_segments), grid)
    keys, proposal_of, votes = np.unique(keys, return_inverse=True, return_counts=True)
    shifts, tracks, starts = np.unravel_index(keys, grid)
    proposals = Proposals(shifts, tracks, starts - n_segments, votes, np.zeros(len(keys)))
    return proposals, _Candidates(query_rows, rows, proposal_of)


def _merits(method, proposals, candidates, queries, vectors) -> np.ndarray:
    """What the method compares before the score, ``(p,)``."""
    if method == "vote":
        return proposals.votes
    if method == "track_vote":
        track_votes = np.bincount(proposals.tracks, weights=proposals.votes)[proposals.tracks]
        return track_votes * (1 + proposals.votes.max(initial=0)) + proposals.votes
    merits = np.zeros(len(proposals.votes))
    if method == "best_segment":
        lengths = np.ones_like(candidates.query_rows)
        products = _score(queries, vectors, candidates.query_rows, candidates.vector_rows, lengths)
        merits[:] = -np.inf
        np.maximum.at(merits, candidates.proposals, products)
    return merits


def _contenders(proposals: Proposals, n_segments: int, n_rows: np.ndarray) -> np.ndarray:
    """Which proposals to score, ascending: the best of their track, as many as may be read."""
    best_of_track = np.full(len(n_rows), -np.inf)
    np.maximum.at(best_of_track, proposals.tracks, proposals.merits)
    contenders = np.flatnonzero(proposals.merits == best_of_track[proposals.tracks])
    chosen = proposals.select(contenders)
    in_order = np.lexsort((-chosen.votes, -chosen.merits))
    n_read = np.cumsum(chosen.overlaps(n_segments, n_rows)[1][in_order])
    fits = (n_read <= MAX_SCORED_ROWS) | (np.arange(len(n_read)) == 0)
    return np.sort(contenders[in_order[fits]])


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


def check_shapes(
    queries: np.ndarray,
    vectors: np.ndarray,
    first_rows: np.ndarray,
    n_rows: np.ndarray,
    top_k: int,
) -> None:
    """Raise SearchError where arguments of an alignment do not fit each other."""
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
    if first_rows.ndim != 1 or first_rows.shape != n_rows.shape:
        raise SearchError(
            f"first_rows has the shape {first_rows.shape} and n_rows {n_rows.shape}, but both "
            "have to be (n_tracks,)."
        )
    if top_k < 1:
        raise SearchError(f"top_k is {top_k}, but it has to be at least 1.")


def _check_candidates(queries, candidate_ids):
    if candidate_ids.ndim != 3 or candidate_ids.shape[:2] != queries.shape[:2]:
        raise SearchError(
            f"The candidates have the shape {candidate_ids.shape}, but it has to begin with "
            f"{queries.shape[:2]}, the shifts and segments of the queries."
        )
