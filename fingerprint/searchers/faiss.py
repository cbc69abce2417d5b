"""Approximate search with FAISS: IVF-PQ as NAFP's published code has it, and HNSW.

Jégou et al., Product Quantization for Nearest Neighbor Search (PAMI 2011); Malkov and Yashunin,
Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World
Graphs (PAMI 2020); Chang et al., Neural Audio Fingerprint (ICASSP 2021) for the settings.

FAISS finds by Euclidean distance, which for rows of unit norm is the order of inner products; the
best rows are ranked anew by the inner products of the stored vectors, so that scores are true.
"""

import abc
import contextlib
import dataclasses
import math
import os
import pathlib
import warnings
from typing import ClassVar

import numpy as np

from fingerprint.searchers.candidates import nearest_of
from fingerprint.searchers.contract import Searcher, SearchError, check_vectors, no_neighbours
from fingerprint.searchers.index_folder import (
    digest_of_rows,
    read_index_folder,
    write_index_folder,
)

# A codebook of 8 bits has 256 entries and needs as many rows to be learnt from.
FEWEST_ROWS = 256
_ROWS_PER_CENTROID = 39  # FAISS warns below it
_RANKED_PER_NEIGHBOUR = 5
_CANDIDATES_PER_NEIGHBOUR = 4
_ROWS_PER_BLOCK = 65_536
_INDEX_FILE = "index.faiss"


class FaissUnavailableError(SearchError):
    """FAISS is not installed."""


@dataclasses.dataclass(frozen=True)
class IvfPqSettings:
    """An inverted file of product-quantised rows; the values of NAFP's code.

    Attributes:
        n_lists: partitions; fewer in a database of less than 39 rows for each.
        n_codebooks: bytes per row; the next smaller divisor of the dimension where this is none.
        lists_to_search: partitions that a query looks into.
        training_sample_size: rows from which partitions and codebooks are learnt. The published
            code allows ten million, but FAISS draws 65,536 of them for 256 lists and entries.
        ranked: rows that are ranked anew by their inner products; at least five per neighbour
            asked for are.

    Raises:
        SearchError: a value that is no integer of at least 1.
    """

    n_lists: int = 256
    n_codebooks: int = 64
    lists_to_search: int = 40
    training_sample_size: int = 100_000
    ranked: int = 100

    SEARCHING: ClassVar = ("lists_to_search", "ranked")

    def __post_init__(self):
        _check_positive_integers(self)


@dataclasses.dataclass(frozen=True)
class HnswSettings:
    """A graph of near rows that is walked towards the query; the values of NAFP's code.

    Attributes:
        n_links: M, links per row and level.
        construction_breadth: efConstruction, rows kept in view while a row is linked.
        search_breadth: efSearch, rows kept in view by a query; at least twice the neighbours
            asked for are.

    Raises:
        SearchError: a value that is no integer of at least 1, or n_links below 2.
    """

    n_links: int = 16
    construction_breadth: int = 80
    search_breadth: int = 100

    SEARCHING: ClassVar = ("search_breadth",)

    def __post_init__(self):
        _check_positive_integers(self)
        if self.n_links < 2:
            raise SearchError("n_links is 1, but a graph needs at least 2 for each row.")


class FaissSearcher(Searcher):
    """A FAISS index of a database that stays where it is; make one with ``build`` or ``load``.

    Attributes:
        settings: how it was built and is searched.
    """

    KIND: ClassVar[str]
    SETTINGS: ClassVar[type]

    def __init__(self, index, vectors: np.ndarray, settings):
        self._index = index
        self._vectors = vectors
        self.n, self.dim = vectors.shape
        self.settings = settings

    @classmethod
    def build(cls, vectors: np.ndarray, settings=None) -> "FaissSearcher":
        """Index a database ``(n, dim)``, float16 or float32, which may be memory-mapped.

        Args:
            vectors: the database; at least 256 rows.
            settings: those of NAFP's code if None.

        Raises:
            SearchError: too few rows, wrong shape or type, NaN, infinite or huge values.
            FaissUnavailableError: FAISS cannot be imported.
        """
        check_vectors(vectors)
        if len(vectors) < FEWEST_ROWS:
            raise SearchError(
                f"The database has {len(vectors)} rows, but FAISS needs at least {FEWEST_ROWS}; "
                "search it exactly."
            )
        settings, faiss = settings or cls.SETTINGS(), _import_faiss()
        with _one_thread(faiss):
            return cls(cls._make_index(faiss, vectors, settings), vectors, settings)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index to ``folder``, which is replaced as a whole or not at all.

        Raises:
            SearchError: the folder holds something else than an index.
            OSError: it cannot be written.
        """
        write_index_folder(
            folder,
            self.KIND,
            lambda path: _import_faiss().write_index(self._index, str(path / _INDEX_FILE)),
            {
                "settings": dataclasses.asdict(self.settings),
                "database_sha256": digest_of_rows(self._vectors),
            },
        )

    @classmethod
    def load(cls, folder: str | os.PathLike, vectors: np.ndarray, settings=None) -> "FaissSearcher":
        """Open an index that ``save`` wrote, for the database that it was built from.

        Raises:
            SearchError: the folder is damaged, foreign, of another format or of another database,
                or the settings are of an index that is built differently.
            FaissUnavailableError: FAISS cannot be imported.
        """
        description = read_index_folder(folder, cls.KIND)
        faiss = _import_faiss()
        try:
            saved = cls.SETTINGS(**description["settings"])
            digest = description["database_sha256"]
            index = faiss.read_index(str(pathlib.Path(folder) / _INDEX_FILE))
        except (KeyError, TypeError, RuntimeError) as error:
            raise SearchError(f"{folder} is damaged ({error}); build the index again.") from error
        if digest != digest_of_rows(vectors) or (index.ntotal, index.d) != vectors.shape:
            raise SearchError(f"The search index {folder} is of another database; build it again.")
        if settings is not None:
            searching = {name: getattr(settings, name) for name in settings.SEARCHING}
            if dataclasses.replace(saved, **searching) != settings:
                raise SearchError(
                    f"The search index {folder} was built with {saved}, not with {settings}; "
                    "build it again."
                )
        return cls(index, vectors, settings or saved)

    @classmethod
    @abc.abstractmethod
    def _make_index(cls, faiss, vectors, settings):
        """The FAISS index of a checked database."""

    @abc.abstractmethod
    def _found(self, faiss, queries, k):
        """Rows ``(m, n_found >= k)`` near to queries of unit norm; -1 stands for none."""

    def _nearest(self, queries, k):
        unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        ids, scores = no_neighbours(len(queries), k)
        for i, rows in enumerate(self._found(_import_faiss(), unit, k)):
            best = nearest_of(self._vectors, rows[rows >= 0], queries[i], k)
            ids[i, : len(best[0])], scores[i, : len(best[0])] = best
        return ids, scores


class IvfPqSearcher(FaissSearcher):
    """Partitions of the database, with a byte per codebook for each row."""

    KIND = "ivf_pq"
    SETTINGS = IvfPqSettings

    @classmethod
    def _make_index(cls, faiss, vectors, settings):
        n, dim = vectors.shape
        n_lists = max(1, min(settings.n_lists, n // _ROWS_PER_CENTROID))
        n_codebooks = max(m for m in range(1, settings.n_codebooks + 1) if dim % m == 0)
        index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, n_lists, n_codebooks, 8)
        # Small databases are meant: without this FAISS warns on the terminal.
        index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        sample = np.linspace(0, n - 1, min(n, settings.training_sample_size)).astype(np.int64)
        index.train(np.asarray(vectors[sample], np.float32))
        _add(index, vectors)
        return index

    def _found(self, faiss, queries, k):
        n_found = min(self.n, max(self.settings.ranked, _RANKED_PER_NEIGHBOUR * k))
        n_lists = self._index.nlist
        enough = math.ceil(n_lists * _CANDIDATES_PER_NEIGHBOUR * k / self.n)
        n_probed = min(n_lists, max(self.settings.lists_to_search, enough))
        parameters = faiss.SearchParametersIVF(nprobe=n_probed)
        return self._index.search(queries, n_found, params=parameters)[1]


class HnswSearcher(FaissSearcher):
    """A navigable graph; it holds the rows in float32 besides their links."""

    KIND = "hnsw"
    SETTINGS = HnswSettings

    @classmethod
    def _make_index(cls, faiss, vectors, settings):
        index = faiss.IndexHNSWFlat(vectors.shape[1], settings.n_links)
        index.hnsw.efConstruction = settings.construction_breadth
        _add(index, vectors)
        return index

    def _found(self, faiss, queries, k):
        breadth = max(self.settings.search_breadth, 2 * k)
        return self._index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=breadth))[
            1
        ]


def _add(index, vectors):
    for start in range(0, len(vectors), _ROWS_PER_BLOCK):
        index.add(np.asarray(vectors[start : start + _ROWS_PER_BLOCK], np.float32))


@contextlib.contextmanager
def _one_thread(faiss):
    """Threads link the rows of a graph in another order each time, and wait more than they help."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)


def _check_positive_integers(settings):
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
            raise SearchError(f"{field.name} is {value!r}, but it is an integer of at least 1.")


def _import_faiss():
    with warnings.catch_warnings():
        # Of its wrapper code, on some versions of Python.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import faiss
        except (ImportError, OSError) as error:
            raise FaissUnavailableError(
                f"FAISS cannot be imported ({error}); install it with "
                "`pip install 'fingerprint[faiss]'`, or choose another searcher."
            ) from error
    return faiss
