"""Identification by spectral hashing (Rice): no training, its own store."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fingerprint.identification import Match
from fingerprint.peak_recognizer import PeakRecognizer
from fingerprint.spectral_hash import (
    SpectralHashSettings,
    extract_peaks,
    extract_reference_peaks,
)
from fingerprint.spectral_hash_index import SpectralHashIndex
from fingerprint.store import Store

COLUMNS = {"bins": ("uint16", ()), "frames": ("uint32", ())}


class SpectralHashRecognizer(PeakRecognizer):
    """Spectral peaks of each track as (bin, frame) rows of a store."""

    method = "spectral_hash"
    columns = COLUMNS
    settings_class = SpectralHashSettings
    index_class = SpectralHashIndex
    hashes_name = "spectral hashes"

    @classmethod
    def create(
        cls, folder: str | Path, settings: SpectralHashSettings | None = None
    ) -> "SpectralHashRecognizer":
        """Make an empty index; None stands for the defaults of the settings.

        Raises:
            StoreError: the folder is not new or empty, or cannot be written.
        """
        settings = dataclasses.asdict(settings or SpectralHashSettings())
        recognizer = {"method": cls.method, "settings": settings}
        return cls(Store.create(folder, recognizer, cls.columns))

    def _extract(self, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return extract_reference_peaks(blocks, self.settings)

    def _identify(self, samples: np.ndarray, top_k: int) -> tuple[list[Match], None]:
        bins, frames = extract_peaks(samples, self.settings)
        found = self._open_index().match(bins, frames, top_k)
        least = self.settings.min_votes
        return [self._place(each, each.n_votes, least, len(samples)) for each in found], None
