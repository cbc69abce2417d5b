"""Nearest neighbours by inner product: one contract, an exact and several fast implementations."""

import os
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from fingerprint.searchers import faiss, scann
from fingerprint.searchers.candidates import CandidateSearcher
from fingerprint.searchers.contract import Searcher, SearchError
from fingerprint.searchers.exact import ExactSearcher
from fingerprint.searchers.faiss import (
    FaissUnavailableError,
    HnswSearcher,
    HnswSettings,
    IvfPqSearcher,
    IvfPqSettings,
)
from fingerprint.searchers.hash_buckets import HashBucketSearcher, HashBucketSettings
from fingerprint.searchers.hash_codes import Encode, balance, random_hyperplanes
from fingerprint.searchers.lsh import LshSearcher, LshSettings
from fingerprint.searchers.scann import ScannSearcher, ScannSettings, ScannUnavailableError

__all__ = [
    "KINDS",
    "CandidateSearcher",
    "ExactSearcher",
    "FaissUnavailableError",
    "HashBucketSearcher",
    "HashBucketSettings",
    "HnswSearcher",
    "HnswSettings",
    "IvfPqSearcher",
    "IvfPqSettings",
    "LshSearcher",
    "LshSettings",
    "ScannSearcher",
    "ScannSettings",
    "ScannUnavailableError",
    "SearchError",
    "Searcher",
    "Settings",
    "balance",
    "open_searcher",
    "random_hyperplanes",
]

# Below it exact search answers in about a millisecond and is ready at once.
FEWEST_ROWS_FOR_SCANN = 20_000

Settings = ScannSettings | HashBucketSettings | LshSettings | IvfPqSettings | HnswSettings


class _Kind(NamedTuple):
    """A searcher that is built: from how many rows on, with which settings, and from what."""

    searcher: type[Searcher]
    settings: type
    fewest_rows: int
    is_kept: bool = True
    needs_encode: bool = False


_BUILT = {
    "scann": _Kind(ScannSearcher, ScannSettings, scann.FEWEST_ROWS),
    "hash_buckets": _Kind(HashBucketSearcher, HashBucketSettings, 1, needs_encode=True),
    "lsh": _Kind(LshSearcher, LshSettings, 1, is_kept=False),
    "ivf_pq": _Kind(IvfPqSearcher, IvfPqSettings, faiss.FEWEST_ROWS),
    "hnsw": _Kind(HnswSearcher, HnswSettings, faiss.FEWEST_ROWS),
}
KINDS = ("auto", "exact", *_BUILT)


def open_searcher(
    vectors: np.ndarray,
    cache_folder: str | os.PathLike | None = None,
    settings: Settings | None = None,
    kind: str = "auto",
    encode: Encode | None = None,
) -> Searcher:
    """Open a searcher of a database, of the kind asked for or of the one that suits it.

    "auto" is exact search below 20,000 rows, and where ScaNN is not installed, and ScaNN from there
    on. Every other kind is exact, too, for databases that are too small to build it from, and
    "scann" where that is not installed. An index is kept in ``cache_folder`` and opened again if it
    is sound, was built from this database and, where settings are given, with them. One that cannot
    be kept serves all the same, and standard error says why it is not kept.

    Args:
        vectors: database ``(n, dim)``, float16 or float32, which may be memory-mapped.
        cache_folder: the index is kept in its subfolder of the kind's name; None: it is not kept.
        settings: of the kind ("auto": of ScaNN, "exact" has none); by default chosen to suit.
        kind: one of `KINDS`.
        encode: for "hash_buckets": fingerprints ``(m, dim)`` to codes ``(m, n_bits)``.

    Raises:
        SearchError: the database cannot be searched, the settings are of another kind, or hash
            buckets are asked for without codes.
        FaissUnavailableError: FAISS is needed and not installed.
    """
    if kind not in KINDS:
        raise SearchError(f"The kind of searcher is {kind!r}; choose one of {', '.join(KINDS)}.")
    is_exact = kind == "exact"
    name = "scann" if kind in ("auto", "exact") else kind
    chosen = _BUILT[name]
    fewest_rows = FEWEST_ROWS_FOR_SCANN if kind == "auto" else chosen.fewest_rows
    if chosen.needs_encode and encode is None:
        raise SearchError(
            "Hash buckets need codes, but this model has no hash head; train one, or choose "
            "another searcher."
        )
    if not (is_exact or settings is None or isinstance(settings, chosen.settings)):
        raise SearchError(
            f"The searcher {kind!r} takes {chosen.settings.__name__}, not {settings!r}."
        )
    if is_exact or np.ndim(vectors) == 0 or len(vectors) < fewest_rows:
        return ExactSearcher(vectors)
    arguments = (vectors, encode) if chosen.needs_encode else (vectors,)
    is_kept = chosen.is_kept and cache_folder is not None
    folder = pathlib.Path(cache_folder) / name if is_kept else None
    try:
        return _load(folder, chosen.searcher, arguments, settings) or _build(
            folder, chosen.searcher, arguments, settings
        )
    except ScannUnavailableError:
        return ExactSearcher(vectors)


def _load(folder, searcher_class, arguments, settings):
    """The index kept in ``folder``, or None where a new one has to be built."""
    # Unlike Path.exists, this answers even where the folder may not be looked into.
    if folder is None or not os.path.exists(folder):
        return None
    try:
        return searcher_class.load(folder, *arguments, settings)
    except (ScannUnavailableError, FaissUnavailableError):
        raise
    except SearchError as error:
        print(error, file=sys.stderr)
        return None


def _build(folder, searcher_class, arguments, settings):
    print(f"Building the search index of {len(arguments[0]):,} fingerprints ...", file=sys.stderr)
    searcher = searcher_class.build(*arguments, settings)
    if folder is not None:
        try:
            searcher.save(folder)
        except (OSError, SearchError) as error:
            print(f"The search index is not kept: {error}", file=sys.stderr)
    return searcher
