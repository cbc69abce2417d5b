"""Identification by landmarks: pairs of spectrogram peaks, no training, its own store."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fingerprint.errors import FingerprintError
from fingerprint.identification import Match
from fingerprint.landmark_index import LandmarkIndex
from fingerprint.landmarks import (
    PRESETS,
    LandmarkSettings,
    extract_landmarks_from_blocks,
    extract_query_landmarks,
)
from fingerprint.peak_recognizer import PeakRecognizer
from fingerprint.store import Store

COLUMNS = {"hashes": ("uint32", ()), "frames": ("uint32", ())}


class LandmarkRecognizer(PeakRecognizer):
    """Landmarks of each track as (hash, frame) rows of a store."""

    method = "landmarks"
    columns = COLUMNS
    settings_class = LandmarkSettings
    index_class = LandmarkIndex
    hashes_name = "landmarks"

    @classmethod
    def create(cls, folder: str | Path, *, preset: str = "default") -> "LandmarkRecognizer":
        """Make an empty index.

        Raises:
            FingerprintError: no such preset.
            StoreError: the folder is not new or empty, or cannot be written.
        """
        if preset not in PRESETS:
            raise FingerprintError(
                f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}."
            )
        settings = dataclasses.asdict(PRESETS[preset])
        recognizer = {"method": cls.method, "preset": preset, "settings": settings}
        return cls(Store.create(folder, recognizer, cls.columns))

    def _extract(self, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return extract_landmarks_from_blocks(blocks, self.settings)

    def _identify(self, samples: np.ndarray, top_k: int) -> tuple[list[Match], None]:
        hashes, frames = extract_query_landmarks(samples, self.settings)
        found = self._open_index().match(
            hashes, frames, top_k, window_frames=self.settings.match_window_frames
        )
        least = self.settings.min_aligned
        return [self._place(each, each.n_aligned, least, len(samples)) for each in found], None
