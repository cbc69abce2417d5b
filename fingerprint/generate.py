"""Fingerprints of whole collections: resumable, in bounded memory, on all devices, over processes.

Files are decoded by a thread while the devices work. Segments of one file after the other are
packed into full batches, so that many short files cost no more than a long one, and a track is
committed to the store as soon as its last fingerprint is there. A run that was killed is repeated
with the same files, of which the finished ones are skipped.
"""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tqdm

from fingerprint.audio import AudioError, iter_blocks
from fingerprint.file_lists import (
    GenerationReport,
    ManifestError,
    choose_new,
    find_pending,
    read_manifest,
)
from fingerprint.progress import progress_bar
from fingerprint.read_ahead import iterate_ahead
from fingerprint.reference_segments import reference_segments
from fingerprint.store import Store, StoreError, StoreWriter

if TYPE_CHECKING:
    from fingerprint.model import Fingerprinter

__all__ = [
    "COLUMN",
    "GenerationReport",
    "ManifestError",
    "generate",
    "merge_stores",
    "neural_store",
    "read_manifest",
]

COLUMN = "embeddings"
# Methods whose stores hold these fingerprints; "both" has landmarks of the same tracks besides.
NEURAL_METHODS = ("neural", "both")
# A batch of segments holds no more audio than this (32 MiB): 512 segments of 1 s at 16 kHz, but
# only a dozen of half a minute.
MAX_BATCH_SAMPLES = 2**23
_DECODED_AHEAD = 8


@dataclasses.dataclass
class _OpenTrack:
    """A track on its way: its fingerprints so far, and how many segments still wait for theirs."""

    path: str
    embeddings: list[np.ndarray] = dataclasses.field(default_factory=list)
    n_waiting: int = 0
    duration_s: float | None = None
    failure: str | None = None

    @property
    def is_complete(self) -> bool:
        return self.failure is not None or (self.duration_s is not None and self.n_waiting == 0)


def generate(
    paths: Iterable[str | Path],
    fingerprinter: "Fingerprinter",
    store: Store,
    *,
    progress: bool = True,
    segments_per_batch: int = 512,
    shard: tuple[int, int] = (0, 1),
) -> GenerationReport:
    """Fingerprint files and the audio files in folders, and add them to a store.

    Segments are cut by the model's ``config.reference``; the duration that is kept with a track is
    that of the recording itself. Files that ``find_pending`` knows are skipped; files that cannot
    be used are reported, and the others go on.

    Args:
        paths: files and folders.
        fingerprinter: turns segments into fingerprints.
        store: made by ``neural_store`` for a model of the same identity.
        progress: show files done and time left on standard error.
        segments_per_batch: segments that the fingerprinter is given at once, fewer if they are
            long.
        shard: (i, n): only every n-th file from the i-th on, so that n processes, each with a
            store of its own, share one list of files.

    Raises:
        StoreError: the store is of another model, is being written, or cannot be written.
    """
    _check_identity(store, fingerprinter)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(store.writer())
        pending, report = find_pending(paths, store, shard)
        bar = stack.enter_context(progress_bar(len(pending), "file", progress))
        fitting = max(1, MAX_BATCH_SAMPLES // fingerprinter.grid.n_samples)
        batch = _Batch(fingerprinter, min(segments_per_batch, fitting))
        decoded = iterate_ahead(_decode(pending, fingerprinter), _DECODED_AHEAD)
        underway: collections.deque[_OpenTrack] = collections.deque()
        for track, segments in stack.enter_context(contextlib.closing(decoded)):
            if segments is None:
                underway.append(track)
            else:
                batch.push(track, segments)
            _commit_complete(underway, writer, report, bar)
        batch.embed()
        _commit_complete(underway, writer, report, bar)
    return report


def neural_store(
    folder: str | Path,
    fingerprinter: "Fingerprinter",
    dtype: str | None = None,
    *,
    method: str = "neural",
) -> Store:
    """Open the store in a folder, or create one, for fingerprints of a model.

    Args:
        folder: a store, or a folder that ``Store.create`` accepts.
        fingerprinter: the model.
        dtype: "float32" or "float16"; None: that of the store, or "float32" in a new one.
        method: one of ``NEURAL_METHODS`` for a new store.

    Raises:
        StoreError: the folder holds something else, or fingerprints of another model or dtype.
    """
    if not (Path(folder) / "store.json").exists():
        unusual = {name: value for name, value in fingerprinter.config.reference.items() if value}
        recognizer = {
            "method": method,
            "identity": fingerprinter.identity,
            "settings": dataclasses.asdict(fingerprinter.grid) | unusual,
        }
        columns = {COLUMN: (dtype or "float32", (fingerprinter.embedding_dim,))}
        return Store.create(folder, recognizer, columns)
    store = Store.open(folder)
    _check_identity(store, fingerprinter)
    stored_dtype = store.columns[COLUMN][0]
    if dtype not in (None, stored_dtype):
        raise StoreError(f"{folder} holds {stored_dtype} and not {dtype}: choose a new folder.")
    return store


def merge_stores(sources: Iterable[Store], target: Store) -> GenerationReport:
    """Add all tracks of some stores to another one, such as those of the shards of a run.

    Tracks that the target has are skipped, so that a merge that was killed is simply repeated.
    The report speaks of tracks by name.

    Raises:
        StoreError: a source has another recogniser or other columns than the target, or the
            target is of both methods, whose landmarks would be missing.
    """
    if target.recognizer.get("method") == "both":
        raise StoreError(
            f"{target.folder} is an index of the method 'both', which cannot be merged into: add "
            "the audio files to it."
        )
    report = GenerationReport()
    with target.writer() as writer:
        for source in sources:
            if (source.recognizer, source.columns) != (target.recognizer, target.columns):
                raise StoreError(
                    f"{source.folder} and {target.folder} were made by different models or "
                    "settings: their fingerprints cannot be merged."
                )
            files = {track.name: track.resolved_path for track in source.tracks}
            durations_s = {track.name: track.duration_s for track in source.tracks}
            new = set(choose_new(files, target, report, durations_s))
            for track in source.tracks:
                if track.name not in new:
                    continue
                rows = slice(track.first_row, track.first_row + track.n_rows)
                columns = {name: source.column(name)[rows] for name in source.columns}
                writer.add(track.name, columns, track.duration_s, track.resolved_path)
                report.added.append(track.name)
    return report


class _Batch:
    """Packs segments of many tracks into full batches, and hands out their fingerprints."""

    def __init__(self, fingerprinter: "Fingerprinter", size: int):
        self._fingerprinter = fingerprinter
        self._segments = np.empty((size, fingerprinter.grid.n_samples), np.float32)
        self._owners: list[tuple[_OpenTrack, int]] = []
        self._n_filled = 0

    def push(self, track: _OpenTrack, segments: np.ndarray) -> None:
        """Take segments ``(n, n_samples)``, and embed whenever the batch is full."""
        while len(segments):
            n = min(len(segments), len(self._segments) - self._n_filled)
            self._segments[self._n_filled : self._n_filled + n] = segments[:n]
            self._owners.append((track, n))
            track.n_waiting += n
            self._n_filled += n
            segments = segments[n:]
            if self._n_filled == len(self._segments):
                self.embed()

    def embed(self) -> None:
        """Fingerprint what is there, the last, partial batch included."""
        if not self._n_filled:
            return
        embeddings = self._fingerprinter.embed_segments(self._segments[: self._n_filled])
        start = 0
        for track, n in self._owners:
            track.embeddings.append(embeddings[start : start + n])
            track.n_waiting -= n
            start += n
        self._owners, self._n_filled = [], 0


def _decode(
    paths: list[str], fingerprinter: "Fingerprinter"
) -> Iterator[tuple[_OpenTrack, np.ndarray | None]]:
    """Segments ``(n, n_samples)`` of each file, block by block, and None where it has ended."""
    for path in paths:
        track = _OpenTrack(path)
        n_samples = 0

        def counted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            nonlocal n_samples
            for block in blocks:
                n_samples += len(block)
                yield block

        try:
            blocks = counted(iter_blocks(path, fingerprinter.sample_rate_hz))
            rules = fingerprinter.config.reference
            for segments in reference_segments(blocks, fingerprinter.grid, path, **rules):
                yield track, segments
            track.duration_s = n_samples / fingerprinter.sample_rate_hz
        except AudioError as error:
            track.failure = str(error)
        yield track, None


def _commit_complete(
    underway: collections.deque[_OpenTrack],
    writer: StoreWriter,
    report: GenerationReport,
    bar: tqdm.tqdm,
) -> None:
    """Commit the first tracks underway, up to one that still waits for fingerprints."""
    while underway and underway[0].is_complete:
        track = underway.popleft()
        if track.failure is not None:
            report.failed.append((track.path, track.failure))
        else:
            embeddings = {COLUMN: track.embeddings}
            writer.add(track.path, embeddings, track.duration_s, os.path.realpath(track.path))
            report.added.append(track.path)
        bar.update()


def _check_identity(store: Store, fingerprinter: "Fingerprinter") -> None:
    made_by = store.recognizer.get("identity")
    if store.recognizer.get("method") not in NEURAL_METHODS or made_by != fingerprinter.identity:
        raise StoreError(
            f"{store.folder} was made by {store.recognizer.get('method')} {made_by or ''}, not by "
            f"the model {fingerprinter.identity}: their fingerprints do not compare; use that "
            "model or a new folder."
        )
