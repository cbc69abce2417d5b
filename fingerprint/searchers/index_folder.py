"""Folders that hold an index: written whole or not at all, and held against digests when read."""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np

from fingerprint.searchers.contract import SearchError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_ROWS_IN_DIGEST = 256


def write_index_folder(
    folder: str | os.PathLike,
    kind: str,
    write_files: Callable[[pathlib.Path], None],
    description: dict,
) -> None:
    """Replace ``folder`` by one with new files and a manifest of their SHA-256 digests.

    Args:
        folder: created with its parents; an index that it already holds is replaced.
        kind: of index; only what asks for this kind can read it.
        write_files: writes the files into the empty folder that it is given; ScaNN and FAISS
            raise RuntimeError where they cannot.
        description: JSON-able; ``read_index_folder`` returns it.

    Raises:
        SearchError: the folder holds something else than an index.
        OSError: it cannot be written.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise SearchError(f"{folder} holds something else than a search index; choose another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        written = work / "new"
        written.mkdir()
        try:
            write_files(written)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        manifest = {
            "format": _format(kind),
            "format_version": FORMAT_VERSION,
            "description": description,
            "files": {path.name: _digest(path) for path in sorted(written.iterdir())},
        }
        (written / MANIFEST).write_text(json.dumps(manifest, indent=1))
        if folder.exists():
            folder.rename(work / "old")
        written.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_index_folder(folder: str | os.PathLike, kind: str) -> dict:
    """Check every file of an index folder of this kind and return its description.

    Raises:
        SearchError: the folder is missing, foreign, damaged, of another format version, or may not
            be read.
    """
    folder = pathlib.Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        found = (manifest["format"], manifest["format_version"])
        description, digests = manifest["description"], dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SearchError(
            f"{folder} holds no search index that can be read; build it again."
        ) from error
    if found != (_format(kind), FORMAT_VERSION):
        raise SearchError(
            f"{folder} holds {found[0]!r} of format version {found[1]!r}, but this program reads "
            f"{_format(kind)!r} of version {FORMAT_VERSION}; build it again."
        )
    try:
        _check_files(folder, digests)
    except OSError as error:
        raise SearchError(f"{folder} cannot be read ({error}); build the index again.") from error
    return description


def _check_files(folder, digests):
    """Refuse a folder of other files than those of these digests by their names."""
    # ScaNN would unpickle a file of a certain name if somebody added it.
    if {path.name for path in folder.iterdir()} != {*digests, MANIFEST}:
        raise SearchError(f"{folder} holds other files than its search index; build it again.")
    for name, digest in digests.items():
        path = folder / name
        if path.suffix == ".pkl" or not path.is_file() or _digest(path) != digest:
            raise SearchError(f"{path} is damaged or foreign; build the index again.")


def digest_of_rows(vectors: np.ndarray) -> str:
    """Digest of the shape and of rows spread evenly over a database ``(n, dim)``."""
    sample = np.ascontiguousarray(vectors[sampled_rows(len(vectors))], np.float32)
    return hashlib.sha256(repr(vectors.shape).encode() + sample.tobytes()).hexdigest()


def sampled_rows(n: int) -> np.ndarray:
    """Numbers of at most 256 rows, spread evenly over ``n``."""
    return np.linspace(0, n - 1, min(n, _ROWS_IN_DIGEST)).astype(np.int64)


def _format(kind):
    return f"fingerprint-{kind}-index"


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
