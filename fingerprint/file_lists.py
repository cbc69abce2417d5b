"""Which files a run is about: folders, tables and shards, less those that a store has already."""

import csv
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from fingerprint.audio import AudioError, find_audio
from fingerprint.errors import FingerprintError
from fingerprint.store import Store


class ManifestError(FingerprintError):
    """A table of files that cannot be used, in one sentence with its path."""


@dataclasses.dataclass
class GenerationReport:
    """What became of each file, by its path as it was given or found in a folder.

    Attributes:
        added: files that are in the store now.
        skipped: files that were there before.
        failed: files that could not be used, each with a sentence that says why.
    """

    added: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def read_manifest(
    path: str | Path, *, kind: str | None = None, split: str | None = None
) -> list[str]:
    """List the files of a CSV table with a column ``path``, relative to the table's folder.

    Args:
        path: the table; its first line names the columns.
        kind: only rows whose column ``kind`` is this.
        split: only rows whose column ``split`` is this.

    Raises:
        ManifestError: the table cannot be read, lacks a column, or no row is left.
    """
    wanted = {name: value for name, value in (("kind", kind), ("split", split)) if value}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in ("path", *wanted):
                if column not in (table.fieldnames or ()):
                    raise ManifestError(f"{path} has no column {column!r}.")
            rows = [row for row in table if all(row[name] == wanted[name] for name in wanted)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} cannot be read as a CSV table: {error}.") from error
    if not rows:
        which = " and ".join(f"{name} {value!r}" for name, value in wanted.items())
        raise ManifestError(f"{path} has no rows{' of ' + which if which else ''}.")
    if not all(row["path"] for row in rows):
        raise ManifestError(f"{path} has a row without a path: name its file, or drop the row.")
    return [str(Path(path).parent / row["path"]) for row in rows]


def without_audio(paths: Iterable[str | Path]) -> list[tuple[str, str]]:
    """The paths that are missing and the folders without audio, each with a sentence."""
    failed = []
    for path in paths:
        try:
            find_audio([path])
        except AudioError as error:
            failed.append((str(path), str(error)))
    return failed


def find_pending(
    paths: Iterable[str | Path], store: Store, shard: tuple[int, int] = (0, 1)
) -> tuple[list[str], GenerationReport]:
    """List the audio files that a store does not have yet.

    A file is there already when a track has the same resolved path, or the same name and its own
    file is gone (a collection that was moved). The name alone is not enough: another folder's
    "01.flac" is another recording.

    Returns:
        The files to add, and a report of those that are there or cannot be.
    """
    index, n_shards = shard
    if not 0 <= index < n_shards:
        raise FingerprintError(
            f"Shard {index} of {n_shards} does not exist: shards are numbered from 0."
        )
    report = GenerationReport()
    found: dict[str, str] = {}
    for path in paths:
        try:
            found |= {each: os.path.realpath(each) for each in find_audio([path])}
        except AudioError as error:
            report.failed.append((str(path), str(error)))
    mine = dict(list(found.items())[index::n_shards])
    return choose_new(mine, store, report), report


def choose_new(files: dict[str, str], store: Store, report: GenerationReport) -> list[str]:
    """The names of ``files`` (name -> resolved path) that are not in a store, as `find_pending`.

    What becomes of the others is added to the report.
    """
    path_of = {track.name: track.resolved_path for track in store.tracks}
    known_paths = set(path_of.values()) - {""}
    new = []
    for name, path in files.items():
        if path in known_paths or (name in path_of and not os.path.exists(path_of[name])):
            report.skipped.append(name)
        elif name in path_of:
            sentence = (
                f"{name} is already the name of {path_of[name]} in {store.folder}: "
                "give the file by its full path."
            )
            report.failed.append((name, sentence))
        else:
            new.append(name)
            if path:
                known_paths.add(path)
    return new
