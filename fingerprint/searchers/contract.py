"""What every searcher promises, and the checks that they share."""

import abc

import numpy as np

from fingerprint.errors import FingerprintError

# Far above any fingerprint and far below the values whose squares overflow float32, which make
# ScaNN abort the process.
LARGEST_COMPONENT = 1e6
SMALLEST_NORM = 1e-6
_ROWS_PER_CHECK = 65_536


class SearchError(FingerprintError):
    """A database, a query, a setting or an index folder that cannot be searched."""


class Searcher(abc.ABC):
    """Finds the rows of a database ``(n, dim)`` with the largest inner product.

    Attributes:
        n: rows of the database, removed ones included.
        dim: components of each row.
    """

    n: int
    dim: int
    # Which rows are removed, (n,) bool; None as long as none is.
    _removed: np.ndarray | None = None

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the ``k`` nearest rows of each query, best first.

        A query without direction (all zero) has no neighbours. Neighbours that do not exist have
        the id -1 and the score -inf; they stand last.

        Args:
            queries: ``(m, dim)``, converted to float32; m may be 0.
            k: neighbours per query, at least 1; it may exceed n.

        Returns:
            ids ``(m, k)`` int64 and scores (inner products) ``(m, k)`` float32.

        Raises:
            SearchError: wrong shape or type, NaN, infinite or huge values, or k below 1.
        """
        queries, directed = self._check(queries, k)
        ids, scores = no_neighbours(len(queries), k)
        n_found = min(k, self.n)
        if n_found and len(directed):
            ids[directed, :n_found], scores[directed, :n_found] = self._nearest_present(
                queries[directed], n_found
            )
        return ids, scores

    def remove(self, ids: np.ndarray) -> None:
        """Never return these rows again; removing a row twice is harmless.

        The rows stay in the index and keep their numbers and their memory. A query among whose k
        nearest are removed rows is searched again for twice as many neighbours, and so on: this
        costs nothing where few rows are removed and a few times as much where many are; then
        build a new index of the rows that are left.

        Args:
            ids: numbers of rows ``(m,)``, from 0 to n - 1.

        Raises:
            SearchError: they are no integers, or there are no such rows.
        """
        ids = np.atleast_1d(np.asarray(ids))
        if not ids.size:
            return
        if not np.issubdtype(ids.dtype, np.integer) or ids.ndim != 1:
            raise SearchError(
                f"The rows to remove are {ids.dtype} of shape {ids.shape}, but they are named by "
                "their numbers, a list of integers."
            )
        missing = ids[(ids < 0) | (ids >= self.n)]
        if len(missing):
            raise SearchError(
                f"Row {missing[0]} cannot be removed: the database has {self.n} rows, numbered "
                "from 0."
            )
        if self._removed is None:
            self._removed = np.zeros(self.n, bool)
        self._removed[ids] = True

    @abc.abstractmethod
    def _nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Search for checked queries ``(m >= 1, dim)``, where 1 <= k <= n, removed rows or not."""

    def _check(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The queries ``(m, dim)`` float32, and the numbers of those that have a direction."""
        check_neighbours(k)
        queries = _check_queries(queries, self.dim)
        return queries, np.flatnonzero(np.linalg.norm(queries, axis=1) >= SMALLEST_NORM)

    def _nearest_present(self, queries, k):
        """As `_nearest`, but without removed rows."""
        if self._removed is None:
            return self._nearest(queries, k)
        ids, scores = no_neighbours(len(queries), k)
        unanswered, n_fetched = np.arange(len(queries)), k
        while len(unanswered):
            found_ids, found_scores = self._nearest(queries[unanswered], n_fetched)
            is_removed = (found_ids >= 0) & self._removed[found_ids]
            found_ids[is_removed], found_scores[is_removed] = -1, -np.inf
            present_first = np.argsort(found_ids < 0, axis=1, kind="stable")[:, :k]
            ids[unanswered] = np.take_along_axis(found_ids, present_first, 1)
            scores[unanswered] = np.take_along_axis(found_scores, present_first, 1)
            if n_fetched == self.n:
                break
            crowded_out = is_removed.any(axis=1) & (ids[unanswered, -1] < 0)
            unanswered, n_fetched = unanswered[crowded_out], min(self.n, 2 * n_fetched)
        return ids, scores


def no_neighbours(n_queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores ``(n_queries, k)`` of neighbours that do not exist."""
    return np.full((n_queries, k), -1, np.int64), np.full((n_queries, k), -np.inf, np.float32)


def check_neighbours(k: int) -> None:
    """Raise SearchError unless ``k`` is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SearchError(f"k is {k!r}, but a search needs an integer of at least 1.")


def check_vectors(vectors: np.ndarray) -> None:
    """Raise SearchError unless ``vectors`` is a searchable database ``(n, dim)``.

    It is read in blocks, so that a memory-mapped array stays on disk.
    """
    if getattr(vectors, "ndim", None) != 2 or vectors.shape[1] == 0:
        raise SearchError(
            f"The database has the shape {getattr(vectors, 'shape', None)}, but it has to be an "
            "array (n, dim) with one fingerprint per row."
        )
    if not np.issubdtype(vectors.dtype, np.floating):
        raise SearchError(
            f"The database holds {vectors.dtype}, but fingerprints are float16 or float32."
        )
    for start in range(0, len(vectors), _ROWS_PER_CHECK):
        block = np.asarray(vectors[start : start + _ROWS_PER_CHECK], np.float32)
        if not _is_searchable(block):
            row = next(i for i, vector in enumerate(block) if not _is_searchable(vector))
            raise SearchError(
                f"Row {start + row} of the database holds NaN, infinite or huge values; "
                "fingerprint the recording again or remove it."
            )


def _check_queries(queries: np.ndarray, dim: int) -> np.ndarray:
    try:
        queries = np.ascontiguousarray(queries, np.float32)
    except (TypeError, ValueError) as error:
        raise SearchError(f"The queries are not an array of numbers ({error}).") from error
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise SearchError(
            f"The queries have the shape {queries.shape}, but this database takes (m, {dim})."
        )
    if len(queries) and not _is_searchable(queries):
        row = next(i for i, query in enumerate(queries) if not _is_searchable(query))
        raise SearchError(
            f"Query {row} holds NaN, infinite or huge values; check the audio and the model that "
            "it was made from."
        )
    return queries


def _is_searchable(values: np.ndarray) -> bool:
    # NaN fails both comparisons.
    return bool(values.max() <= LARGEST_COMPONENT and values.min() >= -LARGEST_COMPONENT)
