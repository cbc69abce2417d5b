"""What landmarks and spectral hashes have in common: (hash, frame) rows, and an index over them."""

import abc
import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from fingerprint.audio import AudioError, iter_blocks
from fingerprint.file_lists import GenerationReport, find_pending
from fingerprint.identification import Match, Recognizer
from fingerprint.inverted_index import InvertedIndex, InvertedIndexError
from fingerprint.progress import progress_bar
from fingerprint.store import Store, StoreError
from fingerprint.store_format import whole_folder


class FoundTrack(Protocol):
    """What an index says of a track that it found."""

    track_index: int
    offset_frames: int
    p_value: float


class PeakRecognizer(Recognizer):
    """Hashes of spectral peaks as rows of a store; a method says which hashes, and how they match.

    Attributes:
        settings: the parameters, as the store records them.
        columns: dtype and row shape of the hashes and of the frames, in this order.
    """

    columns: ClassVar[dict[str, tuple[str, tuple[int, ...]]]]
    settings_class: ClassVar[type]
    index_class: ClassVar[type[InvertedIndex]]
    # What the rows are called in sentences.
    hashes_name: ClassVar[str]

    def __init__(self, store: Store):
        try:
            self.settings = self.settings_class(**store.recognizer["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{store.folder} is damaged, or of another version of the program: its settings "
                f"are not those of {self.hashes_name} ({error}); build it anew."
            ) from error
        super().__init__(store, self.settings.sample_rate_hz)
        self._index: tuple[str, Any] | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an index.

        Raises:
            StoreError: the folder holds no index, or a damaged one.
        """
        return cls(Store.open(folder))

    def use_model(self, model_folder: str | Path) -> None:
        """See `Recognizer.use_model`; always refuses."""
        raise StoreError(
            f"{self.store.folder} is an index of {self.hashes_name}, which has no model: leave "
            "out the model, or choose another folder."
        )

    def add_files(self, paths: Iterable[str | Path], *, progress: bool = True) -> GenerationReport:
        """See `Recognizer.add_files`."""
        with self.store.writer() as writer:
            pending, report = find_pending(paths, self.store)
            with progress_bar(len(pending), "file", progress) as bar:
                for path in pending:
                    try:
                        rows, duration_s = self.read_rows(path)
                    except AudioError as error:
                        report.failed.append((path, str(error)))
                    else:
                        writer.add(path, rows, duration_s, os.path.realpath(path))
                        report.added.append(path)
                    bar.update()
        return report

    @abc.abstractmethod
    def _extract(self, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Hashes and frames ``(n,)`` of a reference that comes in blocks of audio."""

    def read_rows(self, path: str) -> tuple[dict[str, np.ndarray], float]:
        """The rows of a file, and its length in seconds.

        Raises:
            AudioError: the file cannot be read, or has no peaks.
        """
        n_samples = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal n_samples
            for block in iter_blocks(path, self.sample_rate_hz):
                n_samples += len(block)
                yield block

        hashes, frames = self._extract(counted())
        if not len(hashes):
            raise AudioError(
                f"{path} has no spectral peaks that {self.hashes_name} could be made of."
            )
        rows = dict(zip(self.columns, (hashes, frames), strict=True))
        return rows, n_samples / self.sample_rate_hz

    def _place(self, found: FoundTrack, n_votes: int, min_votes: int, n_samples: int) -> Match:
        """The match of a query of ``n_samples`` with a track that the index found.

        Its confidence is 1 less the p-value, and fewer than ``min_votes`` earn a part of that: a
        p-value is no evidence for what hardly any peaks speak for.
        """
        share = min(1.0, n_votes / min_votes)
        p_value = 1.0 - share + share * min(1.0, found.p_value)
        track = self.tracks[found.track_index]
        start_s = found.offset_frames * self.settings.hop_s
        return Match.placed(
            track.name,
            n_votes,
            1.0 - p_value,
            start_s,
            n_samples / self.sample_rate_hz,
            track.duration_s,
            p_value=p_value,
        )

    def _open_index(self) -> Any:
        """The index over the present content, built when the content has changed."""
        content = self.store.content_id
        if self._index is None or self._index[0] != content:
            self._index = content, self._load_index() or self._build_index()
        return self._index[1]

    def _load_index(self) -> InvertedIndex | None:
        folder = self.cache_folder()
        # Unlike Path.exists, this answers even where the folder may not be looked into.
        if folder is None or not os.path.exists(folder / self.method):
            return None
        try:
            return self.index_class.load(folder / self.method)
        except InvertedIndexError:
            shutil.rmtree(folder / self.method, ignore_errors=True)
            return None

    def _build_index(self) -> InvertedIndex:
        """Sort all rows, and keep the result where that is possible."""
        hashes, frames = map(self.store.column, self.columns)
        index = self.index_class.build(
            hashes,
            frames,
            np.array([track.first_row for track in self.tracks]),
            np.array([track.n_rows for track in self.tracks]),
        )
        folder = self.cache_folder()
        if folder is not None:
            # Whatever fails, the index is complete in memory; where another process was faster,
            # what that one has kept is the same.
            with contextlib.suppress(StoreError), whole_folder(folder / self.method) as new:
                new.mkdir()
                index.save(new)
        return index
