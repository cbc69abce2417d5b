"""Fingerprints of many tracks on disk: raw columns, a table of tracks, and what has been committed.

    store.json            format, recogniser, columns, and the lengths up to which the rest counts
    data-G/COLUMN.bin     rows of all tracks, raw little-endian, one track after the other
    data-G/tracks.jsonl   one line per track: name, path, duration, its rows and their CRC-32
    derived/CONTENT_ID/   caches made from this content, such as a search index
    writer.lock           locked, and names its process, while somebody writes

Adding appends to the files of generation G, flushes them to the disk, and then replaces store.json
in one step. Killed at any moment, the store is as it was or has the track: readers see nothing
behind the committed lengths, and the next writer cuts it off. Removing copies what stays into
generation G + 1; who has the old one mapped keeps it. Nothing is ever pickled, and nothing is ever
deleted that a store has not made.
"""

import contextlib
import itertools
import json
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint import store_format
from fingerprint.store_format import Header, StoreError, Track
from fingerprint.store_writer import StoreWriter

__all__ = ["Store", "StoreError", "StoreWriter", "Track"]

_BLOCK_BYTES = 2**23
_OPEN_ATTEMPTS = 5
_CONTENT_ID = re.compile("[0-9a-f]{16}")


class Store:
    """A folder of fingerprints, as it was committed when it was opened.

    Attributes:
        folder: where it is.
        tracks: all tracks, in the order of their rows.
    """

    def __init__(self, folder: Path, header: Header, tracks: list[Track]):
        """Use ``Store.create`` or ``Store.open``."""
        self.folder = folder
        self._show(header, tracks)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        recognizer: Mapping[str, Any],
        columns: Mapping[str, tuple[str, tuple[int, ...]]],
    ) -> "Store":
        """Make an empty store in a folder that is new or empty.

        Args:
            folder: is made where it does not exist; it may hold what an interrupted ``create``
                left.
            recognizer: what makes the rows, as JSON: method, identity, settings.
            columns: name -> (dtype such as "float32", shape of one row).

        Raises:
            StoreError: the folder holds a store or anything else, or cannot be written.
        """
        folder = Path(folder)
        # Through JSON, so that the store shows the same now as when it is opened again.
        header = Header(
            json.loads(json.dumps(dict(recognizer))),
            {name: (str(dtype), tuple(shape)) for name, (dtype, shape) in columns.items()},
        )
        with store_format.system_errors_as_sentences(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Before the lock too, which would leave its file in a folder that is not ours.
            _check_vacant(folder)
            with store_format.locked(folder):
                _check_vacant(folder)
                store_format.make_generation(folder, header)
                store_format.write_header(folder, header)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> "Store":
        """Open a store for reading; ``writer`` extends it.

        Raises:
            StoreError: the folder holds no store, a damaged one, or one of a newer format.
        """
        folder = Path(folder)
        for attempt in itertools.count(1):
            header = store_format.read_header(folder)
            try:
                store = cls(folder, header, store_format.read_tracks(folder, header))
                for name in header.columns:
                    store.column(name)
                return store
            except FileNotFoundError as error:
                # Unless it is damaged, a writer has compacted it since its header was read.
                if attempt == _OPEN_ATTEMPTS or store_format.read_header(folder) == header:
                    raise StoreError(
                        f"{folder} is damaged: {error.filename} is missing; build it anew."
                    ) from error

    @property
    def recognizer(self) -> dict[str, Any]:
        """What made the rows: method, identity, settings."""
        return self._header.recognizer

    @property
    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> (dtype, shape of one row)."""
        return self._header.columns

    @property
    def n_rows(self) -> int:
        """Rows of all tracks together."""
        return self._header.n_rows

    @property
    def content_id(self) -> str:
        """Sixteen hexadecimal digits, others for any other content."""
        return self._header.tracks_sha256[:16]

    def number_of(self, track: str) -> int | None:
        """The place of a track among `tracks`, by its name; None if there is none of that name."""
        if self._numbers is None:
            self._numbers = {each.name: number for number, each in enumerate(self.tracks)}
        return self._numbers.get(track)

    def column(self, name: str) -> np.ndarray:
        """Rows of all tracks ``(n_rows, *row_shape)``, read-only and memory-mapped."""
        if name not in self._maps:
            dtype, shape = self._header.dtype(name), (self.n_rows, *self.columns[name][1])
            path = store_format.data_folder(self.folder, self._header) / f"{name}.bin"
            # An empty file cannot be mapped.
            rows = (
                np.memmap(path, dtype, "r", shape=shape) if self.n_rows else np.empty(shape, dtype)
            )
            rows.flags.writeable = False
            self._maps[name] = rows
        return self._maps[name]

    def derived_folder(self) -> Path:
        """Folder for caches of exactly this content; those of earlier contents are deleted.

        What bears no content's name stays: it is somebody else's.

        Raises:
            StoreError: it cannot be made, for example because the store may only be read.
        """
        mine = self.folder / "derived" / self.content_id
        with store_format.system_errors_as_sentences(self.folder):
            mine.mkdir(parents=True, exist_ok=True)
            newest = store_format.read_header(self.folder)
            if newest.tracks_sha256 == self._header.tracks_sha256:
                for other in set(mine.parent.iterdir()) - {mine}:
                    if _CONTENT_ID.fullmatch(other.name):
                        shutil.rmtree(other, ignore_errors=True)
        return mine

    def verify(self) -> None:
        """Read every row and compare it with the checksum of its track.

        Raises:
            StoreError: rows are not what was written.
        """
        for name in self.columns:
            rows = self.column(name)
            step = max(1, _BLOCK_BYTES // self._header.row_bytes(name))
            for track in self.tracks:
                crc32, last = 0, track.first_row + track.n_rows
                for start in range(track.first_row, last, step):
                    crc32 = zlib.crc32(rows[start : min(start + step, last)], crc32)
                if crc32 != track.crc32[name]:
                    raise StoreError(
                        f"{self.folder} is damaged: column {name} of track {track.name!r} is not "
                        "what was written; remove the track and add it again."
                    )

    @contextlib.contextmanager
    def writer(self) -> Iterator[StoreWriter]:
        """Lock the store and extend it; this object then shows what was committed.

        Raises:
            StoreError: another process, or another writer of this one, is writing.
        """
        with contextlib.ExitStack() as stack:
            with store_format.system_errors_as_sentences(self.folder):
                stack.enter_context(store_format.locked(self.folder))
                writer = stack.enter_context(contextlib.closing(StoreWriter(self)))
            yield writer

    def _show(self, header: Header, tracks: list[Track]) -> None:
        self._header, self.tracks = header, tracks
        self._maps: dict[str, np.ndarray] = {}
        self._numbers: dict[str, int] | None = None


def _check_vacant(folder: Path) -> None:
    for path in folder.iterdir():
        if not store_format.is_left_by_creation(path):
            raise StoreError(f"{folder} already holds {path.name}: a new store needs a new folder.")
