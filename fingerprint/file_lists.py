"""Which files a run is about: folders, tables and shards, less those that a store has already."""

import csv
import dataclasses
import functools
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from fingerprint.audio import AudioError, find_audio, read_duration_s
from fingerprint.errors import FingerprintError
from fingerprint.store import Store, Track

# A file may fall so much short of the length that its header declares.
_SAME_LENGTH_S = 0.1


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

    A file is there already when a track has the same resolved path. So is one that was moved: the
    file of a track of the same name, or of the only track of the same file name, is gone and was
    as long. The name alone is not enough: another folder's "01.flac" is another recording.

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


def choose_new(
    files: dict[str, str],
    store: Store,
    report: GenerationReport,
    durations_s: Mapping[str, float] | None = None,
) -> list[str]:
    """The names of ``files`` (name -> resolved path) that are not in a store, as `find_pending`.

    What becomes of the others is added to the report. With ``durations_s``, by name, the files
    need not be within reach; nothing can then be said to have been moved to another name.
    """
    held = _HeldTracks(store)
    new = []
    for name, path in files.items():
        if path in held.paths:
            report.skipped.append(name)
            continue
        try:
            if durations_s is None:
                was_moved = held.has_moved_to(name, path)
            else:
                was_moved = held.has_lost(name, durations_s[name])
        except AudioError as error:
            report.failed.append((name, str(error)))
            continue
        if was_moved:
            report.skipped.append(name)
        elif name in held.by_name:
            report.failed.append((name, held.why_taken(name, path)))
        else:
            new.append(name)
            if path:
                held.paths.add(path)
    return new


class _HeldTracks:
    """The tracks of a store, as files are compared with them.

    Attributes:
        paths: the resolved paths of their files.
        by_name: the tracks themselves.
    """

    def __init__(self, store: Store):
        self._folder = store.folder
        self.by_name = {track.name: track for track in store.tracks}
        self.paths = {track.resolved_path for track in store.tracks} - {""}
        self._by_file_name: dict[str, list[Track]] = defaultdict(list)
        for track in store.tracks:
            self._by_file_name[os.path.basename(track.resolved_path)].append(track)
        self._exists = functools.cache(os.path.exists)

    def has_lost(self, name: str, duration_s: float) -> bool:
        """Whether the file of the track of this name is gone, and was as long.

        Tracks that were never a file, such as derived ones, are what their name says.
        """
        track = self.by_name.get(name)
        return track is not None and self._is_lost(track) and _is_as_long(track, duration_s)

    def has_moved_to(self, name: str, path: str) -> bool:
        """Whether a file is one that a track was made of when it lay elsewhere.

        Each file is judged on its own, so that one that is asked for again gets the same answer.

        Raises:
            AudioError: the length of the file cannot be read.
        """
        lost = [t for t in self._by_file_name[os.path.basename(path)] if self._is_lost(t)]
        namesake = self.by_name.get(name)
        # Opening a file takes far longer than all else here.
        if not lost and (namesake is None or not self._is_lost(namesake)):
            return False
        duration_s = read_duration_s(name)
        if self.has_lost(name, duration_s):
            return True
        return sum(_is_as_long(track, duration_s) for track in lost) == 1

    def why_taken(self, name: str, path: str) -> str:
        """The sentence for another recording of a name that a track has."""
        track = self.by_name[name]
        is_gone = track.resolved_path and self._is_lost(track)
        gone = ", which is gone and was of another length," if is_gone else ""
        full = f"give the file by its full path, {path}, or " if path not in ("", name) else ""
        command = shlex.join(["fingerprint", "remove", str(self._folder), name])
        return (
            f"{name} is already the name of {track.resolved_path or 'a track'}{gone} in "
            f"{self._folder}: {full}remove the old one with `{command}`."
        )

    def _is_lost(self, track: Track) -> bool:
        return not self._exists(track.resolved_path)


def _is_as_long(track: Track, duration_s: float) -> bool:
    return abs(track.duration_s - duration_s) <= _SAME_LENGTH_S
