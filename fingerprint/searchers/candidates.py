"""Search of a few candidates per query, whose exact inner products decide."""

import abc
from collections.abc import Iterator

import numpy as np

from fingerprint.searchers.contract import Searcher, check_vectors, no_neighbours


class CandidateSearcher(Searcher):
    """Looks up candidate rows of each query and computes the inner products of those alone.

    What it costs is what it examines, which `search_counted` tells; published comparisons of hash
    codes are of the examined fraction at equal recall. Removed rows are not examined.

    Args:
        vectors: database ``(n, dim)``, float16 or float32, which may be memory-mapped; its rows
            are read as they are examined.

    Raises:
        SearchError: wrong shape or type, or NaN, infinite or huge values.
    """

    def __init__(self, vectors: np.ndarray):
        check_vectors(vectors)
        self._vectors = vectors
        self.n, self.dim = vectors.shape

    def search_counted(
        self, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `search`, with the number of rows whose inner products were computed.

        Returns:
            ids ``(m, k)`` int64, scores ``(m, k)`` float32 and n_examined ``(m,)`` int64.
        """
        queries, directed = self._check(queries, k)
        ids, scores = no_neighbours(len(queries), k)
        n_examined = np.zeros(len(queries), np.int64)
        if self.n and len(directed):
            n_found = min(k, self.n)
            ids[directed, :n_found], scores[directed, :n_found], n_examined[directed] = (
                self._nearest_counted(queries[directed], n_found)
            )
        return ids, scores, n_examined

    @abc.abstractmethod
    def _candidates(self, queries: np.ndarray, k: int) -> Iterator[np.ndarray]:
        """Distinct rows ``(n_candidates,)`` for each query, of which the k nearest are wanted."""

    def _nearest(self, queries, k):
        ids, scores, _ = self._nearest_counted(queries, k)
        return ids, scores

    def _nearest_counted(self, queries, k):
        ids, scores = no_neighbours(len(queries), k)
        n_examined = np.zeros(len(queries), np.int64)
        for i, rows in enumerate(self._candidates(queries, k)):
            if self._removed is not None:
                rows = rows[~self._removed[rows]]
            found_ids, found_scores = nearest_of(self._vectors, rows, queries[i], k)
            ids[i, : len(found_ids)], scores[i, : len(found_ids)] = found_ids, found_scores
            n_examined[i] = len(rows)
        return ids, scores, n_examined


def nearest_of(
    vectors: np.ndarray, rows: np.ndarray, query: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows with the largest inner products among those named, best first.

    Args:
        vectors: database ``(n, dim)``.
        rows: ``(n_candidates,)``, distinct.
        query: ``(dim,)`` float32.
        k: at least 1.

    Returns:
        ids and scores ``(min(k, n_candidates),)``; equal scores stand in the order of their ids.
    """
    # A product by BLAS would wake its threads, which costs more than so few rows.
    scores = np.einsum("nd,d->n", np.asarray(vectors[rows], np.float32), query)
    if len(rows) > k:
        best = np.argpartition(scores, len(rows) - k)[-k:]
        rows, scores = rows[best], scores[best]
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]
