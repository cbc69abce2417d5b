"""Where between two shifts a query begins: the top of a parabola through three scores.

Shifts are an eighth of a segment apart, so that the best one is up to 62 ms off. The score falls
off smoothly on both sides of the truth, and its neighbours were computed anyway: through three
equally spaced scores goes one parabola. On undisturbed audio that leaves a median error of 5 ms,
and embedding the query at four times as many shifts is no more accurate. Reverberation delays
what is heard and with it the place found, which no finer grid corrects.
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
    scores = [_mean_product(step + i, queries, track_vectors) for i in (-1, 0, 1)]
    return (step + vertex(*scores)) / n_shifts


def vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through values at -1, 0 and 1 is largest, at most half a step away.

    0 where it has no maximum, or a value is NaN.
    """
    curvature = before - 2 * at + after
    if not curvature < 0:
        return 0.0
    return float(np.clip((before - after) / (2 * curvature), -0.5, 0.5))


def _mean_product(step: int, queries: np.ndarray, track_vectors: np.ndarray) -> float:
    """Mean inner product of a query that begins ``step`` shifts into the track; NaN outside."""
    n_shifts, n_segments = queries.shape[:2]
    start = -(-step // n_shifts)
    shift = start * n_shifts - step
    first, last = max(0, -start), min(n_segments, len(track_vectors) - start)
    if first >= last:
        return float("nan")
    stored = np.asarray(track_vectors[start + first : start + last], np.float32)
    return float(np.einsum("md,md->", queries[shift, first:last], stored)) / (last - first)
