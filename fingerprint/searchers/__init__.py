"""Nearest neighbours by inner product: one contract, an exact and a fast implementation."""

import os
import pathlib
import sys

import numpy as np

from fingerprint.searchers.contract import Searcher, SearchError
from fingerprint.searchers.exact import ExactSearcher
from fingerprint.searchers.scann import (
    FEWEST_ROWS,
    ScannSearcher,
    ScannSettings,
    ScannUnavailableError,
)

__all__ = [
    "ExactSearcher",
    "ScannSearcher",
    "ScannSettings",
    "ScannUnavailableError",
    "SearchError",
    "Searcher",
    "open_searcher",
]

KINDS = ("auto", "exact", "scann")

# Below it exact search answers in about a millisecond and is ready at once.
FEWEST_ROWS_FOR_SCANN = 20_000


def open_searcher(
    vectors: np.ndarray,
    cache_folder: str | os.PathLike | None = None,
    settings: ScannSettings | None = None,
    kind: str = "auto",
) -> Searcher:
    """Open the searcher that suits a database.

    Below 20,000 rows, and where ScaNN is not installed, that is exact search. Otherwise it is the
    ScaNN index kept in ``cache_folder`` if it is sound, was built from this database and, where
    settings are given, with them; else one that is built now and kept there. The kind "exact"
    never uses ScaNN, "scann" from the fewest rows on that it can be built with.

    Args:
        vectors: database ``(n, dim)``, float16 or float32, which may be memory-mapped.
        cache_folder: the index is kept in its subfolder ``scann``; None: it is not kept.
        settings: of ScaNN; chosen by ``scann.settings_for`` if None.
        kind: one of `KINDS`.

    Raises:
        SearchError: the database cannot be searched, or the subfolder holds something else.
    """
    if kind not in KINDS:
        raise SearchError(f"The kind of searcher is {kind!r}; choose one of {', '.join(KINDS)}.")
    fewest = FEWEST_ROWS if kind == "scann" else FEWEST_ROWS_FOR_SCANN
    if kind == "exact" or np.ndim(vectors) == 0 or len(vectors) < fewest:
        return ExactSearcher(vectors)
    folder = None if cache_folder is None else pathlib.Path(cache_folder) / "scann"
    try:
        return _load(folder, vectors, settings) or _build(folder, vectors, settings)
    except ScannUnavailableError:
        return ExactSearcher(vectors)


def _load(folder, vectors, settings):
    """The index kept in ``folder``, or None where a new one has to be built."""
    if folder is None or not folder.exists():
        return None
    try:
        return ScannSearcher.load(folder, vectors, settings)
    except ScannUnavailableError:
        raise
    except SearchError as error:
        print(error, file=sys.stderr)
        return None


def _build(folder, vectors, settings):
    print(f"Building the search index of {len(vectors):,} fingerprints ...", file=sys.stderr)
    searcher = ScannSearcher.build(vectors, settings)
    if folder is not None:
        try:
            searcher.save(folder)
        except OSError as error:
            print(f"The search index is not kept: {error}", file=sys.stderr)
    return searcher
