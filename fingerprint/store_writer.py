"""Adding tracks to a store and removing them, each in one step; see ``store``."""

import contextlib
import dataclasses
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fingerprint import store_format
from fingerprint.store_format import Header, StoreError, Track

if TYPE_CHECKING:
    from fingerprint.store import Store

_COPY_BYTES = 2**23


class StoreWriter:
    """The one writer of a store; ``Store.writer`` makes it."""

    def __init__(self, store: "Store"):
        self._store = store
        self._files: dict[str, BinaryIO] = {}
        self._show_committed()

    def add(
        self,
        name: str,
        columns: Mapping[str, np.ndarray | Iterable[np.ndarray]],
        duration_s: float,
        resolved_path: str | Path = "",
    ) -> Track:
        """Append one track and commit it.

        Args:
            name: the track's name, unique in the store.
            columns: for each column of the store its rows ``(n_rows, *row_shape)``, or an
                iterable of blocks of rows. Blocks are taken from all columns in turn, so that
                a long track needs no memory for more than a block of each.
            duration_s: the track's length.
            resolved_path: where its audio was read.

        Raises:
            StoreError: the name is taken, or rows do not fit their column. After this or any
                error that the iterables raise the store is as it was.
        """
        if name in self._names:
            raise StoreError(f"{self._store.folder} already holds a track {name!r}.")
        if set(columns) != set(self._store.columns):
            raise StoreError(
                f"Track {name!r} has the columns {sorted(columns)}, but {self._store.folder} "
                f"wants {sorted(self._store.columns)}."
            )
        header = self._store._header
        with self._all_or_nothing():
            n_rows, crc32 = self._append(name, columns)
            path = str(resolved_path)
            track = Track(name, path, float(duration_s), header.n_rows, n_rows, crc32)
            self._files[store_format.TRACKS_FILE].write(track.line())
            for file in self._files.values():
                store_format.flush(file)
            self._sha256.update(track.line())
            header = _counting(header, [track], self._sha256)
            store_format.write_header(self._store.folder, header)
            self._names.add(name)
            self._store.tracks.append(track)
            self._store._show(header, self._store.tracks)
        return track

    def remove(self, names: Iterable[str]) -> int:
        """Remove tracks by name, and return how many they were; the others are copied.

        Raises:
            StoreError: a name is not in the store, or it cannot be written; nothing is removed
                then.
        """
        names = set(names)
        unknown = sorted(names - self._names)
        if unknown:
            raise StoreError(f"{self._store.folder} holds no track {unknown[0]!r}.")
        if not names:
            return 0
        old = self._store._header
        with self._all_or_nothing():
            new = dataclasses.replace(
                Header(old.recognizer, old.columns), generation=old.generation + 1
            )
            data = store_format.make_generation(self._store.folder, new)
            kept = [track for track in self._store.tracks if track.name not in names]
            for column in old.columns:
                self._copy_rows(column, kept, data / f"{column}.bin")
            first_rows = itertools.accumulate((track.n_rows for track in kept), initial=0)
            kept = [
                dataclasses.replace(track, first_row=first_row)
                for track, first_row in zip(kept, first_rows, strict=False)
            ]
            table = b"".join(track.line() for track in kept)
            with open(data / store_format.TRACKS_FILE, "wb") as file:
                file.write(table)
                store_format.flush(file)
            new = _counting(new, kept, hashlib.sha256(table))
            store_format.write_header(self._store.folder, new)
            self._show_committed()
        return len(names)

    def close(self) -> None:
        """Close the files; ``Store.writer`` does."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _append(self, name: str, columns: Mapping) -> tuple[int, dict[str, int]]:
        """Append blocks of all columns in turn; the number of rows, and a CRC-32 per column."""
        n_rows = dict.fromkeys(columns, 0)
        crc32 = dict.fromkeys(columns, 0)
        blocks_of = [[rows] if isinstance(rows, np.ndarray) else rows for rows in columns.values()]
        for blocks in itertools.zip_longest(*blocks_of):
            for column, block in zip(columns, blocks, strict=True):
                if block is not None:
                    block = self._stored(name, column, np.asarray(block))
                    self._files[f"{column}.bin"].write(block)
                    n_rows[column] += len(block)
                    crc32[column] = zlib.crc32(block, crc32[column])
        if len(set(n_rows.values())) > 1:
            raise StoreError(f"The columns of track {name!r} differ in their rows: {n_rows}.")
        return max(n_rows.values()), crc32

    def _stored(self, name: str, column: str, block: np.ndarray) -> np.ndarray:
        """A block as it is stored, or the reason why it cannot be."""
        dtype, row_shape = self._store._header.dtype(column), self._store.columns[column][1]
        said = f"Column {column} of track {name!r}"
        if block.ndim == 0 or block.shape[1:] != row_shape:
            raise StoreError(f"{said} has rows of shape {block.shape[1:]}, not {row_shape}.")
        if not np.can_cast(block.dtype, dtype, "same_kind"):
            raise StoreError(f"{said} is {block.dtype}, which does not fit into {dtype}.")
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(block, dtype)
        if dtype.kind == "f" and not np.isfinite(block).all():
            raise StoreError(f"{said} holds NaN, or values that are infinite as {dtype}.")
        return block

    def _copy_rows(self, column: str, kept: list[Track], path: Path) -> None:
        row_bytes = self._store._header.row_bytes(column)
        source = self._files[f"{column}.bin"]
        with open(path, "wb") as file:
            for track in kept:
                source.seek(track.first_row * row_bytes)
                left = track.n_rows * row_bytes
                while left:
                    left -= file.write(source.read(min(left, _COPY_BYTES)))
            store_format.flush(file)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Whatever goes wrong, go on from what is committed on the disk."""
        with store_format.system_errors_as_sentences(self._store.folder):
            try:
                yield
            except BaseException:
                self._show_committed()
                raise

    def _show_committed(self) -> None:
        """Open the committed files for writing, and cut off or delete what is not committed."""
        self.close()
        folder = self._store.folder
        header = store_format.read_header(folder)
        tracks = store_format.read_tracks(folder, header)
        data = store_format.data_folder(folder, header)
        store_format.delete_other_generations(folder, header)
        for name, length in header.lengths().items():
            file = self._files[name] = open(data / name, "r+b")  # noqa: SIM115
            file.truncate(length)
            file.seek(length)
        self._sha256 = hashlib.sha256(b"".join(track.line() for track in tracks))
        self._names = {track.name for track in tracks}
        self._store._show(header, tracks)


def _counting(header: Header, added: list[Track], sha256) -> Header:
    """The header with tracks more, ``sha256`` being that of the whole table."""
    return dataclasses.replace(
        header,
        n_rows=header.n_rows + sum(track.n_rows for track in added),
        n_tracks=header.n_tracks + len(added),
        tracks_bytes=header.tracks_bytes + sum(len(track.line()) for track in added),
        tracks_sha256=sha256.hexdigest(),
    )
