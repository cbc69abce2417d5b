"""Identification by landmarks: pairs of spectrogram peaks, no training, its own store."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fingerprint.calibration import N_RIVALS, gumbel_evidence
from fingerprint.errors import FingerprintError
from fingerprint.identification import Match
from fingerprint.joint_evidence import Places
from fingerprint.landmark_index import Hits, LandmarkIndex
from fingerprint.landmarks import (
    PRESETS,
    LandmarkSettings,
    extract_landmarks_from_blocks,
    extract_query_landmarks,
)
from fingerprint.peak_recognizer import PeakRecognizer
from fingerprint.store import Store

# Mean and deviation of the lead of the best wrong count over the median of its rivals, in units of
# the square root of that median, as which counts scatter; of 3 to 10 s of noisy music against 60
# recordings of other music (553 clips).
_COUNT_LEAD = (0.83, 0.62)
COLUMNS = {"hashes": ("uint32", ()), "frames": ("uint32", ())}


@dataclasses.dataclass(frozen=True)
class LandmarkQuery:
    """A query of ``n_samples``, and what of the references its landmarks meet."""

    hits: Hits
    n_samples: int


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
        return self.candidates(self.hear(samples), top_k)

    def hear(self, samples: np.ndarray) -> LandmarkQuery:
        """What of the references a query meets; mono audio ``(n,)`` at the recogniser's rate."""
        hits = self._open_index().hits(*extract_query_landmarks(samples, self.settings))
        return LandmarkQuery(hits, len(samples))

    def candidates(self, query: LandmarkQuery, top_k: int) -> tuple[list[Match], None]:
        """What `_identify` returns."""
        found = self._open_index().best(
            query.hits, top_k, window_frames=self.settings.match_window_frames
        )
        least = self.settings.min_aligned
        return [self._place(each, each.n_aligned, least, query.n_samples) for each in found], None

    def places(self, query: LandmarkQuery, track: str) -> Places:
        """Where in a track the query may begin, as far as landmarks tell; nowhere if not in it."""
        number = self.store.number_of(track)
        if number is None:
            return Places(np.zeros(0), np.zeros(0))
        offsets, counts = self._open_index().windows(
            query.hits, number, self.settings.match_window_frames
        )
        return Places(offsets * self.settings.hop_s, counts)

    def evidence(self, candidates: Sequence[Match], counts: np.ndarray) -> np.ndarray:
        """How far counts of landmarks ``(n,)`` are beyond those of a wrong track, in powers of e.

        Judged by the lead over the rivals of the best candidate: p-values of counts are cautious,
        and 1 for many a right track.

        Args:
            candidates: those of the query, best first.
            counts: at any places.
        """
        rivals = [match.score for match in candidates[1 : 1 + N_RIVALS]]
        typical = statistics.median(rivals) if rivals else 0.0
        return gumbel_evidence((counts - typical) / max(1.0, typical) ** 0.5, *_COUNT_LEAD)
