"""Which cells of a hash table to look into, and in which order: the cheapest changes first."""

import numpy as np

# Partial sums held at once: 2^20 of them take 16 MiB.
_SUMS_PER_BLOCK = 2**20


def cheapest_changes(costs: np.ndarray, steps: np.ndarray, n_changes: int) -> np.ndarray:
    """The cheapest ways to choose one option for each part of a key.

    Choosing costs the sum of the options' costs and moves the key by the sum of their steps. The
    parts are taken in one by one, and of the choices so far the ``n_changes`` cheapest are kept:
    whatever is among the cheapest over all parts is so over the first few of them too, so that
    nothing is lost and the order is that of sorting every combination.

    Args:
        costs: ``(m, n_parts, n_options)``, not negative.
        steps: ``(m, n_parts, n_options)``, integers; sums of unsigned ones wrap around.
        n_changes: at least 1.

    Returns:
        Sums of steps ``(m, min(n_changes, n_options ** n_parts))``, the cheapest first.
    """
    n_options = costs.shape[2]
    block = max(1, _SUMS_PER_BLOCK // (n_options * n_changes))
    found = [
        _cheapest_in_block(costs[start : start + block], steps[start : start + block], n_changes)
        for start in range(0, max(1, len(costs)), block)
    ]
    return np.concatenate(found)


def concatenated_ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """All integers ``(total,)`` of the ranges ``[starts[i], ends[i])``, one after the other."""
    lengths = ends - starts
    first_positions = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - first_positions, lengths)


def _cheapest_in_block(costs, steps, n_changes):
    n_queries, n_parts, _ = costs.shape
    sums = np.zeros((n_queries, 1))
    totals = np.zeros((n_queries, 1), steps.dtype)
    for part in range(n_parts):
        sums = (sums[:, None, :] + costs[:, part, :, None]).reshape(n_queries, -1)
        totals = (totals[:, None, :] + steps[:, part, :, None]).reshape(n_queries, -1)
        if sums.shape[1] > n_changes:
            kept = np.argpartition(sums, n_changes - 1, axis=1)[:, :n_changes]
            sums = np.take_along_axis(sums, kept, 1)
            totals = np.take_along_axis(totals, kept, 1)
    return np.take_along_axis(totals, np.argsort(sums, axis=1, kind="stable"), 1)
