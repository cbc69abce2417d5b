"""Where between two shifts a query begins: the top of a parabola through three scores.

Shifts are an eighth of a segment apart, so that the best one is up to 62 ms off. The score falls
off smoothly on both sides of the truth, and its neighbours were computed anyway: through three
equally spaced scores goes one parabola. On undisturbed audio that leaves a median error of 5 ms,
and embedding the query at four times as many shifts is no more accurate. Reverberation delays
what is heard and with it the place found, which no finer grid corrects.

What an alignment has found is refined so; places that another method names are scored here, too.
"""

import numpy as np

from fingerprint.alignment import Hypothesis


def refined_start(hypothesis: Hypothesis, queries: np.ndarray, track_vectors: np.ndarray) -> float:
    """The place in the track where the query begins, in hops; negative before its beginning.

    With a single shift, whose neighbours are whole hops away, it is the start that was found.

    Args:
        hypothesis: a place found by an alignment.
        queries: ``(n_shifts, m, d)``, shifts equally spaced within a hop.
        track_vectors: ``(n_rows, d)`` of the hypothesis' track, float16 or float32.
    """
    n_shifts = len(queries)
    # A query that was shifted by s begins s before the row that its first segment falls on.
    step = hypothesis.start_segment * n_shifts - hypothesis.shift
    if n_shifts == 1:
        return float(step)
    products = [_products(step + i, queries, track_vectors) for i in (-1, 0, 1)]
    means = [each.mean() if len(each) else np.nan for each in products]
    return (step + vertex(*means)) / n_shifts


def mean_products(starts: np.ndarray, queries: np.ndarray, track_vectors: np.ndarray) -> np.ndarray:
    """The scores that hypotheses of other places in the track would have.

    Args:
        starts: ``(n,)`` hops of the track at which the query would begin; of the two shifts that
            such a place lies between the better one counts.
        queries: ``(n_shifts, m, d)``, shifts equally spaced within a hop.
        track_vectors: ``(n_rows, d)``, float16 or float32.

    Returns:
        ``(n,)`` means of the m inner products, which are 0 beyond the ends of the track.
    """
    before = np.floor(np.asarray(starts, np.float64) * len(queries)).astype(np.int64)
    steps, places = np.unique([before, before + 1], return_inverse=True)
    products = [_products(int(step), queries, track_vectors).sum() for step in steps]
    return np.array(products)[places.reshape(2, -1)].max(axis=0) / queries.shape[1]


def vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through values at -1, 0 and 1 is largest, at most half a step away.

    0 where it has no maximum, or a value is NaN.
    """
    curvature = before - 2 * at + after
    if not curvature < 0:
        return 0.0
    return float(np.clip((before - after) / (2 * curvature), -0.5, 0.5))


def _products(step: int, queries: np.ndarray, track_vectors: np.ndarray) -> np.ndarray:
    """Inner products of a query that begins ``step`` shifts into the track; none outside."""
    n_shifts, n_segments = queries.shape[:2]
    start = -(-step // n_shifts)
    shift = start * n_shifts - step
    first, last = max(0, -start), min(n_segments, len(track_vectors) - start)
    if first >= last:
        return np.zeros(0)
    stored = np.asarray(track_vectors[start + first : start + last], np.float32)
    return np.einsum("md,md->m", queries[shift, first:last], stored)
