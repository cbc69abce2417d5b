"""Approximate search with ScaNN: a tree, anisotropic hashing, reordering.

Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization (ICML 2020);
Sun et al., SOAR: Improved Indexing for Approximate Nearest Neighbor Search (NeurIPS 2023).

ScaNN ends or crashes the process for some input (NaN in the database, zero threads, empty
batches of a parallel search) and pads missing neighbours with row 0 at distance NaN. Nothing is
passed on before it has been checked here, and no padding comes out.
"""

import dataclasses
import math
import os
import sys
import threading

import numpy as np

from fingerprint.searchers.contract import Searcher, SearchError, check_vectors
from fingerprint.searchers.index_folder import (
    digest_of_rows,
    read_index_folder,
    write_index_folder,
)

KIND = "scann"
# Anisotropic hashing trains codebooks of this many entries and needs as many rows.
FEWEST_ROWS = 16
_LARGEST_INTEGER = 2**31 - 1
_REORDERED_PER_NEIGHBOUR = 5
_CANDIDATES_PER_NEIGHBOUR = 4
_PRECISIONS = ("float32", "bfloat16", "int8")
_import_lock = threading.Lock()


class ScannUnavailableError(SearchError):
    """ScaNN is not installed, or there is none for this platform."""


@dataclasses.dataclass(frozen=True)
class ScannSettings:
    """How an index is built and searched.

    Attributes:
        leaves: partitions of the database.
        leaves_to_search: partitions that a query looks into; more of them find more and cost more.
        reorder: candidates whose inner products are computed anew from the stored vectors; at
            least five per neighbour asked for are.
        soar_lambda: each vector is stored in a second partition as well, chosen by SOAR with this
            weight (1.5 is common); None: in one only, which finds as much for less time where
            queries are noisy.
        anisotropic_threshold: cosine from which on the error along a vector counts for more.
        dims_per_block: components that share one four-bit code.
        training_sample_size: rows from which partitions and codes are learnt.
        reorder_precision: of the stored vectors: "float32", "bfloat16" or "int8".
        n_threads: threads for batches larger than ``batch_size``.
        batch_size: queries that one thread takes at once.

    Raises:
        SearchError: a value that ScaNN would not survive or could not use.
    """

    leaves: int
    leaves_to_search: int
    reorder: int = 100
    soar_lambda: float | None = None
    anisotropic_threshold: float = 0.2
    dims_per_block: int = 2
    training_sample_size: int = 100_000
    reorder_precision: str = "bfloat16"
    n_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    batch_size: int = 256

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if field.type is int and not (is_integer and 1 <= value <= _LARGEST_INTEGER):
                raise SearchError(f"{field.name} is {value!r}, but ScaNN needs a positive integer.")
        if self.leaves_to_search > self.leaves:
            raise SearchError(
                f"leaves_to_search is {self.leaves_to_search}, but there are {self.leaves} leaves."
            )
        if self.training_sample_size < max(self.leaves, FEWEST_ROWS):
            raise SearchError(
                f"training_sample_size is {self.training_sample_size}, but {self.leaves} leaves "
                f"need a sample of at least {max(self.leaves, FEWEST_ROWS)} rows."
            )
        if self.soar_lambda is not None and not 0 < self.soar_lambda < math.inf:
            raise SearchError(
                f"soar_lambda is {self.soar_lambda!r}, but it has to be positive or None."
            )
        if not 0 <= self.anisotropic_threshold < 1:
            raise SearchError(
                f"anisotropic_threshold is {self.anisotropic_threshold!r}, but it is a cosine "
                "from 0 to below 1."
            )
        if self.reorder_precision not in _PRECISIONS:
            raise SearchError(
                f"reorder_precision is {self.reorder_precision!r}, but it is one of "
                f"{', '.join(_PRECISIONS)}."
            )

    def searching_like(self, other: "ScannSettings") -> "ScannSettings":
        """These settings with those of ``other`` that can change without building anew."""
        names = ("leaves_to_search", "reorder", "n_threads", "batch_size")
        return dataclasses.replace(self, **{name: getattr(other, name) for name in names})


def settings_for(n: int) -> ScannSettings:
    """Choose settings for a database of ``n`` rows.

    About sqrt(n) leaves of sqrt(n) rows, so that choosing leaves costs as much as reading one. A
    tenth of them is searched, but no fewer than 20: ``benchmarks/search.py`` prints what that
    finds and costs.
    """
    leaves = max(1, min(math.isqrt(n), n // 10))
    leaves_to_search = min(leaves, max(20, math.ceil(leaves / 10)))
    return ScannSettings(leaves=leaves, leaves_to_search=leaves_to_search)


class ScannSearcher(Searcher):
    """A ScaNN index; make one with ``build`` or ``load``.

    Scores come from the stored vectors in the precision of the settings: with bfloat16 they are
    within 1 % for unit vectors.
    """

    def __init__(self, index, n: int, dim: int, settings: ScannSettings, database_digest: str):
        index.set_num_threads(settings.n_threads)
        self._index = index
        self._database_digest = database_digest
        self.n = n
        self.dim = dim
        self.settings = settings

    @classmethod
    def build(cls, vectors: np.ndarray, settings: ScannSettings | None = None) -> "ScannSearcher":
        """Index a database ``(n, dim)``, float16 or float32, which may be memory-mapped.

        One index always answers the same, but a second one of the same rows may differ in what it
        overlooks.

        Args:
            vectors: the database; at least 16 rows, and as many as the settings have leaves.
            settings: ``settings_for(n)`` if None.

        Raises:
            SearchError: too few rows, wrong shape or type, NaN, infinite or huge values.
            ScannUnavailableError: ScaNN cannot be imported.
        """
        check_vectors(vectors)
        settings = settings or settings_for(len(vectors))
        if len(vectors) < max(FEWEST_ROWS, settings.leaves):
            raise SearchError(
                f"The database has {len(vectors)} rows, but ScaNN with {settings.leaves} leaves "
                f"needs at least {max(FEWEST_ROWS, settings.leaves)}; search it exactly."
            )
        plan = _plan(np.asarray(vectors, np.float32), settings)
        try:
            index = plan.build()
        except RuntimeError as error:
            raise SearchError(f"ScaNN could not build the index: {error}") from error
        return cls(index, *vectors.shape, settings, digest_of_rows(vectors))

    def _nearest(self, queries, k):
        settings = self.settings
        limits = {
            "final_num_neighbors": k,
            "pre_reorder_num_neighbors": min(
                self.n, max(settings.reorder, _REORDERED_PER_NEIGHBOUR * k)
            ),
            # Enough leaves to hold the neighbours, even if all n are asked for.
            "leaves_to_search": min(
                settings.leaves,
                max(
                    settings.leaves_to_search,
                    math.ceil(settings.leaves * _CANDIDATES_PER_NEIGHBOUR * k / self.n),
                ),
            ),
        }
        if len(queries) > settings.batch_size:
            found = self._index.search_batched_parallel(
                queries, **limits, batch_size=settings.batch_size
            )
        else:
            found = self._index.search_batched(queries, **limits)
        ids, scores = found[0].astype(np.int64), found[1]
        padding = np.isnan(scores)
        ids[padding] = -1
        scores[padding] = -np.inf
        return ids, scores

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index to ``folder``, which is replaced as a whole or not at all.

        Raises:
            SearchError: the folder holds something else than an index.
            OSError: it cannot be written.
        """
        settings = dataclasses.asdict(self.settings)
        del settings["n_threads"]  # of this machine, not of the index
        write_index_folder(
            folder,
            KIND,
            lambda path: self._index.serialize(str(path), relative_path=True),
            {"settings": settings, "database_sha256": self._database_digest},
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        vectors: np.ndarray,
        settings: ScannSettings | None = None,
    ) -> "ScannSearcher":
        """Open an index that ``save`` wrote, for the database that it was built from.

        Args:
            folder: folder of the index; wherever it has been moved to.
            vectors: the database ``(n, dim)``; some of its rows are held against the index.
            settings: those to search with; None: those that were saved.

        Raises:
            SearchError: the folder is damaged, foreign, of another format or of another database,
                or the settings are of an index that is built differently.
            ScannUnavailableError: ScaNN cannot be imported.
        """
        description = read_index_folder(folder, KIND)
        ops, _ = _import_scann()
        try:
            saved = ScannSettings(**description["settings"])
            digest = description["database_sha256"]
        except (KeyError, TypeError) as error:
            raise SearchError(
                f"The manifest of {folder} is damaged ({error}); build it again."
            ) from error
        if digest != digest_of_rows(vectors):
            raise SearchError(f"The search index {folder} is of another database; build it again.")
        if settings is not None and settings != saved.searching_like(settings):
            raise SearchError(
                f"The search index {folder} was built with {saved}, not with {settings}; build it "
                "again."
            )
        try:
            index = ops.load_searcher(str(folder), assets_backcompat_shim=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise SearchError(f"The search index {folder} cannot be loaded: {error}") from error
        return cls(index, *vectors.shape, settings or saved, digest)


def _plan(vectors, settings):
    """A ScaNN builder of float32 ``(n, dim)``; the neighbours it is told are set by each search."""
    ops, builder = _import_scann()
    return (
        ops.builder(vectors, 10, "dot_product")
        .tree(
            settings.leaves,
            settings.leaves_to_search,
            training_sample_size=settings.training_sample_size,
            soar_lambda=settings.soar_lambda,
        )
        .score_ah(
            settings.dims_per_block,
            anisotropic_quantization_threshold=settings.anisotropic_threshold,
            training_sample_size=settings.training_sample_size,
        )
        .reorder(
            settings.reorder,
            quantize=builder.ReorderType[settings.reorder_precision.upper()],
        )
    )


def _import_scann():
    """Import ScaNN without TensorFlow, which it would load for a part that is not used here.

    TensorFlow costs ten seconds and more, and some of its releases cannot live in one process
    with the TensorFlow part of ScaNN.
    """
    with _import_lock:
        missing = object()
        tensorflow = sys.modules.get("tensorflow", missing)
        sys.modules["tensorflow"] = None
        try:
            from scann import scann_ops_pybind
            from scann.scann_ops.py import scann_builder
        except (ImportError, OSError) as error:
            raise ScannUnavailableError(
                f"ScaNN cannot be imported ({error}); install it with `pip install scann` on "
                "Linux, or search exactly."
            ) from error
        finally:
            if tensorflow is missing:
                del sys.modules["tensorflow"]
            else:
                sys.modules["tensorflow"] = tensorflow
        return scann_ops_pybind, scann_builder
