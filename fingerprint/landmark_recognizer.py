"""Identification by landmarks: pairs of spectrogram peaks, no training, its own store."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from fingerprint.audio import AudioError, iter_blocks
from fingerprint.errors import FingerprintError
from fingerprint.file_lists import GenerationReport, find_pending, progress_bar
from fingerprint.identification import Identification, Match, Recognizer
from fingerprint.landmark_index import LandmarkIndex, LandmarkIndexError
from fingerprint.landmarks import (
    PRESETS,
    LandmarkSettings,
    extract_landmarks_from_blocks,
    extract_query_landmarks,
)
from fingerprint.store import Store, StoreError

INDEX_FOLDER = "landmarks"
COLUMNS = {"hashes": ("uint32", ()), "frames": ("uint32", ())}


class LandmarkRecognizer(Recognizer):
    """Landmarks of each track as (hash, frame) rows of a store."""

    method = "landmarks"

    def __init__(self, store: Store):
        try:
            self.settings = LandmarkSettings(**store.recognizer["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{store.folder} is damaged, or of another version of the program: its settings "
                f"are not those of landmarks ({error}); build it anew."
            ) from error
        super().__init__(store, self.settings.sample_rate_hz)
        self._index: tuple[str, LandmarkIndex] | None = None

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
        return cls(Store.create(folder, recognizer, COLUMNS))

    @classmethod
    def open(cls, folder: str | Path) -> "LandmarkRecognizer":
        """Open an index.

        Raises:
            StoreError: the folder holds no index, or a damaged one.
        """
        return cls(Store.open(folder))

    def check_model(self, model_folder: str | Path) -> None:
        """See `Recognizer.check_model`; always refuses."""
        raise StoreError(
            f"{self.store.folder} is an index of landmarks, which has no model: leave out the "
            "model, or choose another folder."
        )

    def add_files(self, paths: Iterable[str | Path], *, progress: bool = True) -> GenerationReport:
        """See `Recognizer.add_files`."""
        with self.store.writer() as writer:
            pending, report = find_pending(paths, self.store)
            with progress_bar(len(pending), progress) as bar:
                for path in pending:
                    try:
                        rows, duration_s = self._landmarks(path)
                    except AudioError as error:
                        report.failed.append((path, str(error)))
                    else:
                        writer.add(path, rows, duration_s, os.path.realpath(path))
                        report.added.append(path)
                    bar.update()
        return report

    def _landmarks(self, path: str) -> tuple[dict[str, np.ndarray], float]:
        """The rows of a file, and its length in seconds.

        Raises:
            AudioError: the file cannot be read, or has no landmarks.
        """
        n_samples = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal n_samples
            for block in iter_blocks(path, self.sample_rate_hz):
                n_samples += len(block)
                yield block

        hashes, frames = extract_landmarks_from_blocks(counted(), self.settings)
        if not len(hashes):
            raise AudioError(f"{path} has no spectral peaks that landmarks could be made of.")
        return {"hashes": hashes, "frames": frames}, n_samples / self.sample_rate_hz

    def _identify(self, samples: np.ndarray, top_k: int) -> Identification:
        hashes, frames = extract_query_landmarks(samples, self.settings)
        found = self._open_index().match(
            hashes, frames, top_k, window_frames=self.settings.match_window_frames
        )
        is_match = (
            bool(found)
            and found[0].p_value <= self.settings.max_p_value
            and found[0].n_aligned >= self.settings.min_aligned
        )
        return Identification(
            "match" if is_match else "no_match",
            [
                Match.placed(
                    self.tracks[each.track_index].name,
                    each.n_aligned,
                    each.offset_frames * self.settings.hop_s,
                    len(samples) / self.sample_rate_hz,
                    self.tracks[each.track_index].duration_s,
                )
                for each in found
            ],
        )

    def _open_index(self) -> LandmarkIndex:
        """The index over the present content, built when the content has changed."""
        content = self.store.content_id
        if self._index is None or self._index[0] != content:
            self._index = content, self._load_index() or self._build_index()
        return self._index[1]

    def _load_index(self) -> LandmarkIndex | None:
        folder = self.cache_folder()
        if folder is None or not (folder / INDEX_FOLDER).exists():
            return None
        try:
            return LandmarkIndex.load(folder / INDEX_FOLDER)
        except LandmarkIndexError:
            shutil.rmtree(folder / INDEX_FOLDER, ignore_errors=True)
            return None

    def _build_index(self) -> LandmarkIndex:
        """Sort all landmarks, and keep the result where the folder can be written."""
        index = LandmarkIndex.build(
            self.store.column("hashes"),
            self.store.column("frames"),
            np.array([track.first_row for track in self.tracks]),
            np.array([track.n_rows for track in self.tracks]),
        )
        folder = self.cache_folder()
        if folder is not None:
            with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as new:
                index.save(new)
                # Fails where another process was faster; what that one has kept is the same.
                with contextlib.suppress(OSError):
                    os.rename(new, folder / INDEX_FOLDER)
        return index
