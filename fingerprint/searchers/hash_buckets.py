"""Buckets of binary codes, visited in the order of their distance from the query.

Singh et al., Simultaneously Learning Robust Audio Embeddings and Balanced Hash Codes for
Query-by-Example (ICASSP 2023, arXiv 2211.11060): a network gives each fingerprint a code q of K
real numbers whose signs name one of 2^K buckets. The buckets nearest to a query's code are
searched for the largest inner products of the fingerprints.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from fingerprint.searchers.candidates import CandidateSearcher
from fingerprint.searchers.contract import SearchError, check_vectors
from fingerprint.searchers.hash_codes import Encode, buckets_of, probe_order
from fingerprint.searchers.index_folder import (
    digest_of_rows,
    read_index_folder,
    sampled_rows,
    write_index_folder,
)
from fingerprint.searchers.probing import concatenated_ranges

KIND = "hash_buckets"
MOST_BITS = 20
# Codes of unit norm that are this near to zero may change their sign by rounding alone.
ROUNDING = 1e-3
_BUCKETS_FILE = "buckets.npy"
_ROWS_PER_BLOCK = 16_384


@dataclasses.dataclass(frozen=True)
class HashBucketSettings:
    """How much of the database a query looks at.

    Attributes:
        candidate_share: buckets are visited until they hold this share of the database.
        n_buckets: instead, visit this many buckets, empty ones counted (the published way: about
            1,000 of 65,536); set one of the two. In either case further buckets are visited
            until they hold as many rows as neighbours are asked for.

    Raises:
        SearchError: neither or both are set, or they are out of range.
    """

    candidate_share: float | None = None
    n_buckets: int | None = None

    def __post_init__(self):
        share, n_buckets = self.candidate_share, self.n_buckets
        if (share is None) == (n_buckets is None):
            raise SearchError(
                f"candidate_share is {share!r} and n_buckets is {n_buckets!r}, but exactly one of "
                "them has to be set."
            )
        if share is not None and not 0 < share <= 1:
            raise SearchError(f"candidate_share is {share!r}, but it is above 0 and at most 1.")
        if n_buckets is not None and not (isinstance(n_buckets, int) and n_buckets >= 1):
            raise SearchError(f"n_buckets is {n_buckets!r}, but it is an integer of at least 1.")


DEFAULT_SETTINGS = HashBucketSettings(candidate_share=0.05)


class HashBucketSearcher(CandidateSearcher):
    """Rows in buckets by the signs of their codes; make one with ``build`` or ``load``.

    Buckets are visited in the order of s_k = q . c_k / sqrt(K) for sign patterns c_k: flipping
    signs of the query's own pattern costs the sum of the |q_b| that are flipped.

    Attributes:
        n_bits: K.
        settings: how much is searched.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        encode: Encode,
        buckets: np.ndarray,
        n_bits: int,
        settings: HashBucketSettings,
    ):
        super().__init__(vectors)
        self.n_bits = n_bits
        self.settings = settings
        self._encode = encode
        self._buckets = buckets
        self._sort_rows()

    @classmethod
    def build(
        cls, vectors: np.ndarray, encode: Encode, settings: HashBucketSettings | None = None
    ) -> "HashBucketSearcher":
        """Encode a database ``(n, dim)`` of at least one row and sort it into buckets.

        Args:
            vectors: the database, float16 or float32, which may be memory-mapped.
            encode: fingerprints ``(m, dim)`` float32 to codes ``(m, K)``, K at most 20.
            settings: until 5 % of the database are candidates, if None.

        Raises:
            SearchError: no rows, wrong shape or type, NaN, infinite or huge values, or codes that
                are no such array.
        """
        check_vectors(vectors)
        if not len(vectors):
            raise SearchError("The database has no rows to sort into buckets; search it exactly.")
        parts = []
        for start in range(0, len(vectors), _ROWS_PER_BLOCK):
            codes = _codes(encode, vectors[start : start + _ROWS_PER_BLOCK])
            parts.append(buckets_of(codes))
        buckets, n_bits = np.concatenate(parts), codes.shape[1]
        return cls(vectors, encode, buckets, n_bits, settings or DEFAULT_SETTINGS)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the buckets of all rows to ``folder``, replaced as a whole or not at all.

        Raises:
            SearchError: the folder holds something else than an index.
            OSError: it cannot be written.
        """
        description = {
            "n_bits": self.n_bits,
            "settings": dataclasses.asdict(self.settings),
            "database_sha256": digest_of_rows(self._vectors),
        }
        write_index_folder(
            folder, KIND, lambda path: np.save(path / _BUCKETS_FILE, self._buckets), description
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        vectors: np.ndarray,
        encode: Encode,
        settings: HashBucketSettings | None = None,
    ) -> "HashBucketSearcher":
        """Open buckets that ``save`` wrote; some rows are encoded and held against them.

        Raises:
            SearchError: the folder is damaged, foreign, of another format, of another database or
                of other codes.
        """
        description = read_index_folder(folder, KIND)
        try:
            n_bits, digest = int(description["n_bits"]), description["database_sha256"]
            saved = HashBucketSettings(**description["settings"])
            buckets = np.load(pathlib.Path(folder) / _BUCKETS_FILE, allow_pickle=False)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise SearchError(f"{folder} is damaged ({error}); build the index again.") from error
        if digest != digest_of_rows(vectors) or buckets.shape != (len(vectors),):
            raise SearchError(f"The search index {folder} is of another database; build it again.")
        sample = sampled_rows(len(vectors))
        if not _agree(_codes(encode, vectors[sample]), buckets[sample], n_bits):
            raise SearchError(f"The search index {folder} is of other codes; build it again.")
        return cls(vectors, encode, buckets, n_bits, settings or saved)

    def remove(self, ids: np.ndarray) -> None:
        """Never return these rows again; they leave their buckets, and search costs no more.

        Args and errors are those of `Searcher.remove`.
        """
        super().remove(ids)
        self._sort_rows()

    def _sort_rows(self):
        present = np.arange(self.n) if self._removed is None else np.flatnonzero(~self._removed)
        buckets = self._buckets[present]
        self._rows = present[np.argsort(buckets, kind="stable")]
        sizes = np.bincount(buckets, minlength=2**self.n_bits)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes

    def _candidates(self, queries: np.ndarray, k: int) -> Iterator[np.ndarray]:
        for visited in self._visited(_codes(self._encode, queries), k):
            yield self._rows[concatenated_ranges(self._starts[visited], self._ends[visited])]

    def _visited(self, codes, k):
        """For each query the buckets to visit, nearest first."""
        n_all, least = 2**self.n_bits, self.settings.n_buckets or 1
        n_wanted = max(k, math.ceil((self.settings.candidate_share or 0) * self.n))
        visited = [np.zeros(0, np.int64)] * len(codes)
        # Twice what even buckets would take; the few queries that need more are probed again.
        n_probes = min(n_all, max(least, math.ceil(2 * n_all * n_wanted / self.n)))
        waiting = np.arange(len(codes))
        while len(waiting):
            probed = probe_order(codes[waiting], n_probes)
            n_candidates = np.cumsum(self._ends[probed] - self._starts[probed], axis=1)
            n_visited = np.maximum(least, (n_candidates < n_wanted).sum(axis=1) + 1)
            is_enough = (n_visited <= n_probes) | (n_probes == n_all)
            for i in np.flatnonzero(is_enough):
                visited[waiting[i]] = probed[i, : n_visited[i]]
            waiting, n_probes = waiting[~is_enough], min(n_all, 4 * n_probes)
        return visited


def _codes(encode, vectors):
    """Checked codes ``(m, K)`` float32 of fingerprints ``(m, dim)``."""
    codes = np.asarray(encode(np.asarray(vectors, np.float32)))
    if codes.ndim != 2 or len(codes) != len(vectors) or not 1 <= codes.shape[1] <= MOST_BITS:
        raise SearchError(
            f"The codes of {len(vectors)} fingerprints have the shape {codes.shape}, but buckets "
            f"need ({len(vectors)}, K) with K from 1 to {MOST_BITS}."
        )
    if not np.isfinite(codes).all():
        raise SearchError("The codes hold NaN or Inf; check the model that they were made with.")
    return codes.astype(np.float32, copy=False)


def _agree(codes, buckets, n_bits):
    """Whether codes ``(m, K)`` lie in the buckets ``(m,)``, apart from rounding."""
    if codes.shape[1] != n_bits:
        return False
    differing = (buckets_of(codes) ^ buckets)[:, None] >> np.arange(n_bits) & 1
    return bool((np.abs(codes)[differing == 1] < ROUNDING).all())
