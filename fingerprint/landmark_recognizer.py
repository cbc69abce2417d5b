"""Identification by landmarks: pairs of spectrogram peaks, no training, its own store."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from fingerprint.calibration import N_RIVALS, gumbel_evidence
from fingerprint.errors import FingerprintError
from fingerprint.identification import Match
from fingerprint.joint_evidence import Places
from fingerprint.landmark_index import Hits, LandmarkIndex, LandmarkMatch
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
# recordings of other music (553 clips). p-values of counts are cautious, and 1 for many a right
# track: they would not do.
_COUNT_LEAD = (0.83, 0.62)
COLUMNS = {"hashes": ("uint32", ()), "frames": ("uint32", ())}


@dataclasses.dataclass(frozen=True)
class LandmarkQuery:
    """A query of ``n_samples``, what of the references its landmarks meet, and the best of it."""

    hits: Hits
    n_samples: int
    found: list[LandmarkMatch]


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
        return self.candidates(self.hear(samples, top_k)), None

    def hear(self, samples: np.ndarray, n_candidates: int) -> LandmarkQuery:
        """Find landmarks of mono audio ``(n,)`` at the recogniser's rate again."""
        index = self._open_index()
        hits = index.hits(*extract_query_landmarks(samples, self.settings))
        found = index.best(hits, n_candidates, self.settings.match_window_frames)
        return LandmarkQuery(hits, len(samples), found)

    def candidates(self, query: LandmarkQuery) -> list[Match]:
        """The tracks that the query may be from, best first."""
        least = self.settings.min_aligned
        return [self._place(each, each.n_aligned, least, query.n_samples) for each in query.found]

    def places(self, query: LandmarkQuery) -> Callable[[str], Places]:
        """Where in other tracks a query may begin.

        Returns:
            A function of a track's name; where that is not in the index, there are no places.
        """
        index, window_frames = self._open_index(), self.settings.match_window_frames

        def places(track: str) -> Places:
            number = self.store.number_of(track)
            if number is None:
                return Places(np.zeros(0), np.zeros(0))
            offsets, counts = index.windows(query.hits, number, window_frames)
            return Places(offsets * self.settings.hop_s, counts)

        return places

    def evidence(self, query: LandmarkQuery) -> Callable[[np.ndarray], np.ndarray]:
        """What counts of landmarks at places of the query say.

        Returns:
            A function of counts ``(n,)``: how far they are beyond those of a wrong track, in powers
            of e. They are judged by their lead over the next five tracks after the best, and where
            there are not so many over the best count that chance would give.
        """
        rivals = [each.n_aligned for each in query.found[1 : 1 + N_RIVALS]]
        if len(rivals) == N_RIVALS:
            typical = statistics.median(rivals)
        else:
            window_frames = self.settings.match_window_frames
            typical = self._open_index().best_by_chance(query.hits, window_frames)

        def evidence(counts: np.ndarray) -> np.ndarray:
            return gumbel_evidence((counts - typical) / max(1.0, typical) ** 0.5, *_COUNT_LEAD)

        return evidence
