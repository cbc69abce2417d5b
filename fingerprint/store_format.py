"""What the files of a store hold, and how they are read and replaced; see ``store``."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fingerprint.errors import FingerprintError

FORMAT = "fingerprint-store"
FORMAT_VERSION = 1

HEADER_FILE, TRACKS_FILE, LOCK_FILE = "store.json", "tracks.jsonl", "writer.lock"
TEMPORARY_HEADER_FILE = HEADER_FILE + ".tmp"
_DATA_FOLDER_PREFIX = "data-"
_DATA_FOLDER = re.compile(f"{_DATA_FOLDER_PREFIX}(0|[1-9][0-9]*)")


class StoreError(FingerprintError):
    """A store that cannot be opened, read or written, in one sentence with its folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One track, the rows ``[first_row, first_row + n_rows)``, and a checksum per column."""

    name: str
    resolved_path: str
    duration_s: float
    first_row: int
    n_rows: int
    crc32: dict[str, int]

    def line(self) -> bytes:
        """This track in the table of tracks."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False).encode("ascii") + b"\n"


@dataclasses.dataclass(frozen=True)
class Header:
    """The content of store.json: up to which lengths the files of which generation count.

    Raises:
        ValueError, TypeError: a field is not what it should be.
    """

    recognizer: dict[str, Any]
    columns: dict[str, tuple[str, tuple[int, ...]]]
    generation: int = 0
    n_rows: int = 0
    n_tracks: int = 0
    tracks_bytes: int = 0
    tracks_sha256: str = hashlib.sha256().hexdigest()

    def __post_init__(self):
        for name, (dtype, row_shape) in self.columns.items():
            if not name.isidentifier():
                raise ValueError(f"the column name {name!r} is not an identifier")
            if np.dtype(dtype).kind not in "fiu":
                raise ValueError(f"the dtype {dtype!r} of column {name} is no number")
            if any(type(size) is not int or size < 1 for size in row_shape):
                raise ValueError(f"the row shape {row_shape} of column {name} is empty")
        counts = (self.generation, self.n_rows, self.n_tracks, self.tracks_bytes)
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError(f"{counts} are no counts")
        if not self.columns or not isinstance(self.recognizer, dict):
            raise ValueError("columns or recognizer are missing")

    def dtype(self, column: str) -> np.dtype:
        """Type of the stored values: little-endian whatever the machine."""
        return np.dtype(self.columns[column][0]).newbyteorder("<")

    def row_bytes(self, column: str) -> int:
        """Bytes of one row."""
        return self.dtype(column).itemsize * math.prod(self.columns[column][1])

    def lengths(self) -> dict[str, int]:
        """Committed bytes of each file of the generation."""
        columns = {f"{name}.bin": self.n_rows * self.row_bytes(name) for name in self.columns}
        return columns | {TRACKS_FILE: self.tracks_bytes}


def data_folder(folder: Path, header: Header) -> Path:
    """Folder of the header's generation."""
    return folder / f"{_DATA_FOLDER_PREFIX}{header.generation}"


def read_header(folder: Path) -> Header:
    """Read store.json.

    Raises:
        StoreError: the folder holds no store, a damaged one, or one of a newer format.
    """
    try:
        content = json.loads((folder / HEADER_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{folder} holds no fingerprints: it has no {HEADER_FILE}.") from error
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise StoreError(
            f"{folder} is damaged: {HEADER_FILE} is not JSON; build it anew."
        ) from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise StoreError(f"{folder} holds a {HEADER_FILE} of another program, no fingerprints.")
    version = content.pop("format_version", None)
    if type(version) is int and version > FORMAT_VERSION:
        raise StoreError(
            f"{folder} has format version {version}, but this version of the program reads up to "
            f"{FORMAT_VERSION}: update it."
        )
    try:
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version!r}")
        columns = {name: (dtype, tuple(row)) for name, (dtype, row) in content["columns"].items()}
        return Header(**(content | {"columns": columns}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{folder} is damaged: {HEADER_FILE} is not what was written ({error}); build it anew."
        ) from error


def write_header(folder: Path, header: Header) -> None:
    """Replace store.json in one step: this commits whatever it counts."""
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(header)}
    temporary = folder / TEMPORARY_HEADER_FILE
    with open(temporary, "wb") as file:
        file.write(json.dumps(content, indent=1).encode("ascii"))
        flush(file)
    os.replace(temporary, folder / HEADER_FILE)
    flush_folder(folder)


def read_tracks(folder: Path, header: Header) -> list[Track]:
    """Read the table of tracks, and compare the lengths of all files with the header.

    Raises:
        StoreError: a file is shorter than was committed, or the table is damaged.
        FileNotFoundError: a file is missing.
    """
    data = data_folder(folder, header)
    for name, length in header.lengths().items():
        present = (data / name).stat().st_size
        if present < length:
            raise StoreError(
                f"{folder} is damaged: {name} holds {present} of {length} bytes; build it anew."
            )
    with open(data / TRACKS_FILE, "rb") as file:
        table = file.read(header.tracks_bytes)
    damaged = f"{folder} is damaged: {TRACKS_FILE} is not what was written; build it anew."
    if hashlib.sha256(table).hexdigest() != header.tracks_sha256:
        raise StoreError(damaged)
    tracks = [Track(**json.loads(line)) for line in table.splitlines()]
    if len(tracks) != header.n_tracks or sum(t.n_rows for t in tracks) != header.n_rows:
        raise StoreError(damaged)
    return tracks


def make_generation(folder: Path, header: Header) -> Path:
    """Make the folder of a generation with empty files, whatever an interrupted creation left.

    Raises:
        StoreError: there is a folder of that name which is not the store's.
    """
    data = data_folder(folder, header)
    if is_left_by_creation(data):
        shutil.rmtree(data)
    try:
        data.mkdir()
    except FileExistsError as error:
        raise StoreError(
            f"{data} holds what is not the index's, which needs that name: move it elsewhere."
        ) from error
    for name in header.lengths():
        (data / name).touch()
    flush_folder(data)
    flush_folder(folder)
    return data


def is_left_by_creation(path: Path) -> bool:
    """Whether this in the folder of a new store is no more than an interrupted creation leaves."""
    if path.name in (LOCK_FILE, TEMPORARY_HEADER_FILE):
        return path.is_file()
    if path.name != f"{_DATA_FOLDER_PREFIX}0" or not path.is_dir() or path.is_symlink():
        return False
    return all(
        (each.name == TRACKS_FILE or each.suffix == ".bin")
        and each.is_file()
        and not each.stat().st_size
        for each in path.iterdir()
    )


def delete_other_generations(folder: Path, header: Header) -> None:
    """Delete the generations that earlier and interrupted writers left.

    A folder that only has the name of one, but other files in it, is somebody else's and stays.
    """
    for data in folder.iterdir():
        if _DATA_FOLDER.fullmatch(data.name) and data != data_folder(folder, header):
            # Who may not delete it can still write, and a later writer tries again.
            with contextlib.suppress(OSError):
                if {path.name for path in data.iterdir()} <= header.lengths().keys():
                    shutil.rmtree(data)


def flush(file: BinaryIO) -> None:
    """Wait until the disk has what was written."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the writer's lock; the system releases it when the process ends, however it ends.

    Raises:
        StoreError: somebody else holds it.
    """
    with open(folder / LOCK_FILE, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StoreError(
                f"{folder} is being written by process {file.read() or 'unknown'}: "
                "wait until it has finished."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes its place once that is done: complete or not at all.

    Raises:
        StoreError: the place is taken, cannot be written, or is no place of its own, as ``..``.
    """
    folder = Path(folder)
    with system_errors_as_sentences(folder):
        # Who stands in a folder would be left standing in the one that was replaced.
        if folder.name in ("", "..") or (folder.exists() and folder.samefile(Path.cwd())):
            raise StoreError(
                f"{folder} cannot become an index: name a new folder, such as "
                f"{folder / 'songs.index'}."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{folder.name}.new-"
        ) as parent:
            new = Path(parent) / folder.name
            yield new
            try:
                # Succeeds on a folder only if that is empty.
                os.rename(new, folder)
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot become an index ({error.strerror}): choose a new folder."
                ) from error


@contextlib.contextmanager
def system_errors_as_sentences(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a StoreError that names the folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}.") from error
