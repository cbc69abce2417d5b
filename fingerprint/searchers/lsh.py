"""Locality-sensitive hashing with p-stable distributions.

Datar et al., Locality-Sensitive Hashing Scheme Based on p-Stable Distributions (SoCG 2004), for the
Euclidean distance; several cells per table are visited in the order of Lv et al., Multi-Probe LSH
(VLDB 2007).
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from fingerprint.searchers.candidates import CandidateSearcher
from fingerprint.searchers.contract import SearchError
from fingerprint.searchers.index_folder import sampled_rows
from fingerprint.searchers.probing import cheapest_changes, concatenated_ranges

# What `settings_for` aims at; unit vectors of that cosine are sqrt(2 - 2 cosine) apart.
WANTED_RECALL = 0.9
NEIGHBOUR_COSINE = 0.7
MOST_PROJECTIONS = 32
# In units of the neighbours' distance.
_WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
_ROWS_PER_BLOCK = 16_384
# Rows that are marked and looked through in the time that one takes to be sorted.
_MARKED_PER_SORTED = 100
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclasses.dataclass(frozen=True)
class LshSettings:
    """The hash functions of an index.

    Attributes:
        n_projections: k, whose cells together are the key of a table.
        n_tables: L, of which each may find a neighbour.
        width: w of a cell, in the unit of the vectors.
        n_probes: cells of each table that are visited, 1 for the query's own alone.
        seed: of the projections.

    Raises:
        SearchError: a number below its least value.
    """

    n_projections: int
    n_tables: int
    width: float
    n_probes: int = 1
    seed: int = 0

    def __post_init__(self):
        for name in ("n_projections", "n_tables", "n_probes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SearchError(f"{name} is {value!r}, but it is an integer of at least 1.")
        if not 0 < self.width < math.inf:
            raise SearchError(f"width is {self.width!r}, but it is a positive number.")


class LshSearcher(CandidateSearcher):
    """L tables of cells of k projections; a query examines the rows that share a cell with it.

    A query may have fewer candidates than neighbours are asked for, even none; the rest is
    padding. Queries are scaled to unit norm before they are hashed, which changes no order of
    inner products; rows should have unit norm, so that near means a large inner product. The
    index stays in memory, ``n_bytes``. Make one with ``build``.

    Attributes:
        settings: how rows are hashed.
        n_bytes: memory of the tables, ``16 * n_tables * n``.
    """

    @classmethod
    def build(cls, vectors: np.ndarray, settings: LshSettings | None = None) -> "LshSearcher":
        """Hash a database ``(n >= 1, dim)``, float16 or float32, which may be memory-mapped.

        That takes seconds for a million rows, so that there is no need to keep the index.

        Args:
            vectors: the database.
            settings: ``settings_for(vectors)`` if None.

        Raises:
            SearchError: wrong shape or type, or NaN, infinite or huge values.
        """
        return cls(vectors, settings)

    def __init__(self, vectors: np.ndarray, settings: LshSettings | None):
        super().__init__(vectors)
        self.settings = settings = settings or settings_for(vectors)
        rng = np.random.default_rng(settings.seed)
        shape = settings.n_tables, settings.n_projections
        self._directions = rng.standard_normal((self.dim, math.prod(shape)), np.float32)
        self._offsets = rng.uniform(0, settings.width, shape)
        # A key is a random combination of its cells modulo 2^64: among fewer than 2^32 keys two
        # are hardly ever equal by chance, and a step to a neighbouring cell adds a constant.
        self._multipliers = rng.integers(2**64, size=shape, dtype=np.uint64)
        keys = np.empty((settings.n_tables, self.n), np.uint64)
        for start in range(0, self.n, _ROWS_PER_BLOCK):
            block = np.asarray(vectors[start : start + _ROWS_PER_BLOCK], np.float32)
            keys[:, start : start + len(block)] = self._keys(np.floor(self._project(block))).T
        self._rows = np.argsort(keys, axis=1, kind="stable")
        self._sorted_keys = np.take_along_axis(keys, self._rows, 1)
        self.n_bytes = self._rows.nbytes + self._sorted_keys.nbytes

    def _project(self, vectors):
        """Positions on each projection in cells, ``(m, n_tables, n_projections)``."""
        projected = (vectors @ self._directions).reshape(len(vectors), *self._offsets.shape)
        return (projected + self._offsets) / self.settings.width

    def _keys(self, cells):
        """Keys ``(m, n_tables)`` uint64 of whole numbers ``(m, n_tables, n_projections)``."""
        return (cells.astype(np.int64).astype(np.uint64) * self._multipliers).sum(axis=2)

    def _candidates(self, queries: np.ndarray, k: int) -> Iterator[np.ndarray]:
        del k
        unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        for start in range(0, len(unit), _ROWS_PER_BLOCK):
            probes = self._probes(self._project(unit[start : start + _ROWS_PER_BLOCK]))
            ends = np.empty((2, *probes.shape), np.int64)
            for table, keys in enumerate(self._sorted_keys):
                ends[0, :, table] = np.searchsorted(keys, probes[:, table], "left")
                ends[1, :, table] = np.searchsorted(keys, probes[:, table], "right")
            ends += (np.arange(len(self._rows)) * self.n)[:, None]
            for first, last in zip(*ends.reshape(2, len(probes), -1), strict=True):
                yield _distinct(self._rows.ravel()[concatenated_ranges(first, last)], self.n)

    def _probes(self, positions):
        """Keys of the cells to visit ``(m, n_tables, n_probes)``, the query's own first.

        Moving to a neighbouring cell costs the square of the distance to it.
        """
        cells = np.floor(positions)
        within = positions - cells
        home = self._keys(cells)[:, :, None]
        if self.settings.n_probes == 1:
            return home
        costs = np.stack([np.zeros_like(within), within**2, (1 - within) ** 2], axis=3)
        up = np.broadcast_to(self._multipliers, positions.shape)
        steps = np.stack([np.zeros_like(up), np.uint64(0) - up, up], axis=3)
        changes = cheapest_changes(
            costs.reshape(-1, *costs.shape[2:]),
            steps.reshape(-1, *steps.shape[2:]),
            self.settings.n_probes,
        )
        return home + changes.reshape(*home.shape[:2], -1)


def collision_probability(distance: np.ndarray, width: float) -> np.ndarray:
    """That one projection puts two points at ``distance > 0`` into the same cell (Datar, eq. 1)."""
    ratio = width / np.asarray(distance, np.float64)
    beside = 1 - np.exp(-(ratio**2) / 2)
    return _erf(ratio / math.sqrt(2)) - math.sqrt(2 / math.pi) / ratio * beside


def choose_settings(
    neighbour_distances: np.ndarray,
    other_distances: np.ndarray,
    wanted_recall: float = WANTED_RECALL,
    most_tables: int = 16,
) -> LshSettings:
    """The settings that reach a recall with the fewest candidates, both expected by the formula.

    Args:
        neighbour_distances: ``(n,)`` of queries to what they should find, held out; or one.
        other_distances: ``(n,)`` of queries to rows drawn at random.
        wanted_recall: the mean probability that such a neighbour is a candidate.
        most_tables: more tables reach the recall with fewer candidates and take more memory.

    Raises:
        SearchError: a recall that no settings reach, or a distance that is not positive.
    """
    near = np.atleast_1d(np.asarray(neighbour_distances, np.float64))
    far = np.atleast_1d(np.asarray(other_distances, np.float64))
    if not (len(near) and len(far) and (near > 0).all() and (far > 0).all()):
        raise SearchError("Settings are chosen from positive distances, at least one of each.")
    if not 0 < wanted_recall < 1:
        raise SearchError(f"wanted_recall is {wanted_recall!r}, but it lies between 0 and 1.")
    best = None
    for width in np.median(near) * np.array(_WIDTHS):
        p_near, p_far = (collision_probability(each, width) for each in (near, far))
        for n_projections in range(1, MOST_PROJECTIONS + 1):
            n_tables = _fewest_tables(p_near**n_projections, wanted_recall, most_tables)
            if n_tables is None:
                break
            share = np.mean(_in_some_table(p_far**n_projections, n_tables))
            if best is None or share < best[0]:
                best = share, LshSettings(n_projections, n_tables, float(width))
    if best is None:
        raise SearchError(
            f"{most_tables} tables cannot reach a recall of {wanted_recall}; allow more."
        )
    return best[1]


def settings_for(vectors: np.ndarray) -> LshSettings:
    """Settings for 90 % of the neighbours at a cosine of 0.7, among rows of unit norm.

    How far other rows are is estimated from pairs of a sample.
    """
    sample = np.asarray(vectors[sampled_rows(len(vectors))], np.float32)
    pairs = np.linalg.norm(sample[:, None] - sample, axis=2)[np.triu_indices(len(sample), 1)]
    others = pairs[pairs > 0]
    if not len(others):
        others = np.array([math.sqrt(2)])
    return choose_settings(
        math.sqrt(2 - 2 * NEIGHBOUR_COSINE), others[:: max(1, len(others) // 999)]
    )


def _distinct(rows, n):
    """The rows ``(m,)`` of ``n`` without repetition, sorted; many of them by marking each."""
    if _MARKED_PER_SORTED * len(rows) < n:
        return np.unique(rows)
    marks = np.zeros(n, bool)
    marks[rows] = True
    return np.flatnonzero(marks)


def _fewest_tables(same_key, wanted_recall, most_tables):
    """The fewest tables with that mean recall, or None; ``same_key (n,)`` is of one table."""
    for n_tables in range(1, most_tables + 1):
        if np.mean(_in_some_table(same_key, n_tables)) >= wanted_recall:
            return n_tables
    return None


def _in_some_table(same_key, n_tables):
    """Probability of a common cell in one of L tables, from that in a single one."""
    return 1 - (1 - same_key) ** n_tables
