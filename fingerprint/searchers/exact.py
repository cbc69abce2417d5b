"""Exact search: every inner product is computed, block by block."""

import numpy as np

from fingerprint.searchers.contract import Searcher, check_vectors

# One block of scores takes 1024 * 16384 * 4 bytes = 64 MiB at most.
_QUERIES_PER_BLOCK = 1024
_ROWS_PER_BLOCK = 16_384


class ExactSearcher(Searcher):
    """The reference that approximate searchers are measured against, and enough below 20,000 rows.

    Memory stays bounded: the database, which may be memory-mapped and float16, is read in blocks.

    Args:
        vectors: database ``(n, dim)``, float16 or float32; n may be 0.

    Raises:
        SearchError: wrong shape or type, or NaN, infinite or huge values.
    """

    def __init__(self, vectors: np.ndarray):
        check_vectors(vectors)
        self._vectors = vectors
        self.n, self.dim = vectors.shape

    def _nearest(self, queries, k):
        ids = np.zeros((len(queries), 0), np.int64)
        scores = np.zeros((len(queries), 0), np.float32)
        for first_row in range(0, self.n, _ROWS_PER_BLOCK):
            block = np.asarray(self._vectors[first_row : first_row + _ROWS_PER_BLOCK], np.float32)
            block_ids, block_scores = _nearest_in_block(queries, block, k)
            ids = np.concatenate([ids, block_ids + first_row], axis=1)
            scores = np.concatenate([scores, block_scores], axis=1)
            ids, scores = _largest(ids, scores, k)
        # Equal scores stand in the order of their ids, so that results do not depend on blocks.
        order = np.lexsort((ids, -scores), axis=1)
        return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def _nearest_in_block(queries, block, k):
    """Ids within the block ``(m, min(k, len(block)))`` and their scores, in no order."""
    found = []
    for start in range(0, len(queries), _QUERIES_PER_BLOCK):
        scores = queries[start : start + _QUERIES_PER_BLOCK] @ block.T
        ids = np.broadcast_to(np.arange(len(block)), scores.shape)
        found.append(_largest(ids, scores, k))
    ids, scores = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def _largest(ids, scores, k):
    """The columns of the ``k`` largest scores of each row, in no order."""
    n_rest = scores.shape[1] - k
    if n_rest <= 0:
        return ids, scores
    columns = np.argpartition(scores, n_rest, axis=1)[:, n_rest:]
    return np.take_along_axis(ids, columns, 1), np.take_along_axis(scores, columns, 1)
