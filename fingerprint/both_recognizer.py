"""Identification by two methods together: a trained network and landmarks, one answer.

They fail on different queries, and what both find at the same place is all the surer; see `fusion`.
What the one names is looked up by the other; see `joint_evidence`.
The layout of such an index is that of `both_store`.
"""

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fingerprint.audio import AudioError, from_array
from fingerprint.both_store import (
    LANDMARKS_FOLDER,
    METHOD,
    open_landmarks,
    remove_from_both,
    remove_unfinished,
)
from fingerprint.file_lists import GenerationReport, find_pending
from fingerprint.fusion import fuse
from fingerprint.identification import Match, Recognizer
from fingerprint.joint_evidence import JointEvidence
from fingerprint.landmark_recognizer import LandmarkRecognizer
from fingerprint.neural_recognizer import NeuralRecognizer
from fingerprint.progress import progress_bar
from fingerprint.store import Store, StoreWriter
from fingerprint.store_format import whole_folder

# Each method names so many candidates: a track may be far from first for both and yet the one on
# which they agree.
N_CANDIDATES = 20
# Landmarks and then fingerprints of so many files: of an interrupted call at most these lack one.
_FILES_AT_ONCE = 16


class BothRecognizer(Recognizer):
    """A neural and a landmark recogniser that hold the same tracks.

    Attributes:
        neural: its store is that of the index.
        landmarks: its places are the finer ones.
    """

    method = METHOD

    def __init__(self, neural: NeuralRecognizer, landmarks: LandmarkRecognizer):
        self.neural, self.landmarks = neural, landmarks
        # What one of them needs not, the other may.
        sample_rate_hz = max(neural.sample_rate_hz, landmarks.sample_rate_hz)
        super().__init__(neural.store, sample_rate_hz)

    @classmethod
    def create(
        cls, folder: str | Path, model_folder: str | Path, *, dtype: str = "float32"
    ) -> "BothRecognizer":
        """Make an empty index with a copy of a model; it appears complete or not at all.

        Raises:
            ModelError: the model folder cannot be used.
            StoreError: the folder is not new or empty, or cannot be written.
        """
        with whole_folder(folder) as new:
            neural = NeuralRecognizer.create(new, model_folder, dtype=dtype, method=METHOD)
            LandmarkRecognizer.create(new / LANDMARKS_FOLDER)
        neural.store = Store.open(folder)
        return cls(neural, LandmarkRecognizer(open_landmarks(neural.store)))

    @classmethod
    def open(cls, folder: str | Path, *, searcher: str = "auto") -> "BothRecognizer":
        """Open an index with the model that lies in it; ``searcher`` is of the fingerprints.

        Raises:
            StoreError, ModelError: the index or its model is damaged or foreign.
        """
        neural = NeuralRecognizer.open(folder, searcher=searcher)
        return cls(neural, LandmarkRecognizer(open_landmarks(neural.store)))

    @property
    def store(self) -> Store:
        """The fingerprints; its tracks are those of the index."""
        return self.neural.store

    @store.setter
    def store(self, store: Store) -> None:
        self.neural.store = store

    @property
    def parts(self) -> tuple[NeuralRecognizer, LandmarkRecognizer]:
        """See `Recognizer.parts`."""
        return self.neural, self.landmarks

    def use_model(self, model_folder: str | Path) -> None:
        """See `Recognizer.use_model`."""
        self.neural.use_model(model_folder)

    def add_files(self, paths: Iterable[str | Path], *, progress: bool = True) -> GenerationReport:
        """See `Recognizer.add_files`; a file is added once both methods have it."""
        with self.landmarks.store.writer() as writer:
            with self.store.writer():
                # Now the store shows what is there, which another process may have changed.
                pending, report = find_pending(paths, self.store)
            # What an interrupted call has begun is finished if it is asked for again, else dropped.
            unfinished = self._with_landmarks() & {(p, os.path.realpath(p)) for p in pending}
            begun = {name for name, _ in unfinished}
            remove_unfinished(self.store, self.landmarks.store, writer, keep=begun)
            with progress_bar(len(pending), "file", progress) as bar:
                for first in range(0, len(pending), _FILES_AT_ONCE):
                    paths_now = pending[first : first + _FILES_AT_ONCE]
                    self._add(paths_now, begun, writer, report)
                    bar.update(len(paths_now))
            remove_unfinished(self.store, self.landmarks.store, writer)
        return report

    def _with_landmarks(self) -> set[tuple[str, str]]:
        return {(track.name, track.resolved_path) for track in self.landmarks.store.tracks}

    def _add(
        self, paths: list[str], begun: set[str], writer: StoreWriter, report: GenerationReport
    ) -> None:
        """Add files to the landmarks, but for those ``begun``, and then to the fingerprints."""
        usable = []
        for path in paths:
            try:
                if path not in begun:
                    rows, duration_s = self.landmarks.read_rows(path)
                    writer.add(path, rows, duration_s, os.path.realpath(path))
            except AudioError as error:
                report.failed.append((path, str(error)))
            else:
                usable.append(path)
        made = self.neural.add_files(usable, progress=False)
        report.added += made.added
        report.failed += made.failed

    def remove(self, tracks: Iterable[str]) -> tuple[list[str], list[str]]:
        """See `Recognizer.remove`."""
        return remove_from_both(self.store, self.landmarks.store, tracks)

    def _identify(self, samples: np.ndarray, top_k: int) -> tuple[list[Match], float | None]:
        n_candidates = max(top_k, N_CANDIDATES)
        neural_query, landmark_query = (
            part.hear(self._at_rate_of(part, samples), n_candidates) for part in self.parts
        )
        joint = JointEvidence(
            functools.cache(self.landmarks.places(landmark_query)),
            self.neural.evidence(neural_query),
            self.landmarks.evidence(landmark_query),
        )
        matches = {
            self.neural.method: self.neural.candidates(neural_query, n_candidates),
            # What the landmarks alone have is unfinished.
            self.landmarks.method: [
                match
                for match in self.landmarks.candidates(landmark_query)
                if self.store.number_of(match.track) is not None
            ],
        }
        found = {
            method: [(match, joint.at(match.track, match.start_s)) for match in own]
            for method, own in matches.items()
        }
        best = fuse(found, sum(track.duration_s for track in self.tracks), top_k)
        query_s = len(samples) / self.sample_rate_hz
        return [self._placed(match, joint, query_s) for match in best], neural_query.examined

    def _placed(self, match: Match, joint: JointEvidence, query_s: float) -> Match:
        """The match at the place that both methods together see, perhaps another repetition."""
        track = self.tracks[self.store.number_of(match.track)]
        return match.moved(joint.start_s(match.track, match.start_s), query_s, track.duration_s)

    def _at_rate_of(self, part: Recognizer, samples: np.ndarray) -> np.ndarray:
        """The query as a method hears it: silence where it hears nothing at its sample rate."""
        try:
            return from_array(samples, self.sample_rate_hz, part.sample_rate_hz)
        except AudioError:
            n_samples = round(len(samples) * part.sample_rate_hz / self.sample_rate_hz)
            return np.zeros(n_samples, np.float32)
