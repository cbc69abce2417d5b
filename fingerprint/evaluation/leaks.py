"""Does the same audio occur where it must not? Compared by content, not by name.

A track that was trained on, or that lies in the database twice, makes figures better or worse than
they are: 24 duplicates among 100 thousand tracks once cost NAFP 5 to 6 points. All files become
landmarks, and excerpts of each are looked up among all others; copies are found whatever they are
called, with another codec, level or cut. A change of speed hides a copy.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fingerprint.errors import FingerprintError
from fingerprint.landmark_index import LandmarkIndex
from fingerprint.landmark_settings import LandmarkSettings
from fingerprint.progress import progress_bar
from fingerprint.recognizer import create_or_open
from fingerprint.store import Store, Track

# Pairs of roles whose audio has to differ; within the last three a track may occur once only.
MUST_DIFFER = (
    ("training", "references"),
    ("training", "distractors"),
    ("training", "unknown"),
    ("references", "distractors"),
    ("references", "unknown"),
    ("distractors", "unknown"),
    ("references", "references"),
    ("distractors", "distractors"),
    ("unknown", "unknown"),
)
ROLES = ("training", "references", "distractors", "unknown")
EXCERPT_S = 10.0
EXCERPTS_PER_TRACK = 3
# Copies through a lossy codec share half of their landmarks or more, different recordings of this
# field's test material hardly ever a tenth.
FEWEST_SHARED = 0.25
_NEIGHBOURS = 10


class LeakError(FingerprintError):
    """Roles or files that cannot be compared."""


@dataclasses.dataclass(frozen=True)
class SharedAudio:
    """An excerpt of one file that another file holds as well.

    Attributes:
        role: what the first file is used for.
        path: the first file.
        second_s: where the excerpt begins in it.
        other_role: what the other file is used for.
        other_path: the other file.
        other_second_s: where the excerpt begins there.
        share: share of the landmarks of the excerpt that were found there.
    """

    role: str
    path: str
    second_s: float
    other_role: str
    other_path: str
    other_second_s: float
    share: float

    def sentence(self) -> str:
        """What is wrong, for people."""
        return (
            f"{self.path} ({self.role}) holds from second {self.second_s:.1f} on what "
            f"{self.other_path} ({self.other_role}) holds from second {self.other_second_s:.1f} "
            f"on: {self.share:.0%} of {EXCERPT_S:g} s agree."
        )


@dataclasses.dataclass(frozen=True)
class LeakReport:
    """What was compared, and what occurs where it must not.

    Attributes:
        n_files: files compared, by role.
        unreadable: files that could not be compared, each with a sentence.
        leaks: the pairs of files, the most alike first; each pair once.
    """

    n_files: dict[str, int]
    unreadable: list[tuple[str, str]]
    leaks: list[SharedAudio]

    @property
    def is_clean(self) -> bool:
        """True when all files were compared and nothing was found."""
        return not self.leaks and not self.unreadable

    def to_dict(self) -> dict:
        """The report as JSON-able values."""
        return {"clean": self.is_clean} | dataclasses.asdict(self)


def check_leaks(
    roles: Mapping[str, Sequence[str | Path]], work_dir: str | Path, *, progress: bool = True
) -> LeakReport:
    """Compare the files of all roles by content.

    Args:
        roles: the files of each role, which is one of `ROLES`.
        work_dir: folder for the landmarks of the files, which another check goes on from; it is
            made where there is none.
        progress: show what is being done on standard error.

    Raises:
        LeakError: an unknown role, or no file at all.
        FingerprintError: the folder holds something else.
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise LeakError(f"There is no role {unknown[0]!r}; choose one of {', '.join(ROLES)}.")
    files = [(role, str(path)) for role, paths in roles.items() for path in paths]
    if not files:
        raise LeakError("No file was given: name the audio of two roles at least.")
    recognizer = create_or_open(work_dir, method="landmarks")
    report = recognizer.add_files(dict.fromkeys(path for _, path in files), progress=progress)
    roles_of: dict[str, set[str]] = {}
    path_of = {os.path.realpath(path): path for _, path in reversed(files)}
    for role, path in files:
        roles_of.setdefault(os.path.realpath(path), set()).add(role)
    shared = itertools.chain(
        _same_file(roles_of, path_of),
        _same_content(recognizer.store, recognizer.settings, roles_of, path_of, progress),
    )
    return LeakReport(
        {role: len(paths) for role, paths in roles.items()},
        report.failed,
        _each_pair_once(shared),
    )


def _same_file(
    roles_of: Mapping[str, set[str]], path_of: Mapping[str, str]
) -> Iterator[SharedAudio]:
    for real_path, roles in roles_of.items():
        path = path_of[real_path]
        for role, other in itertools.combinations(sorted(roles), 2):
            if _must_differ(role, other):
                yield SharedAudio(role, path, 0.0, other, path, 0.0, 1.0)


def _same_content(
    store: Store,
    settings: LandmarkSettings,
    roles_of: Mapping[str, set[str]],
    path_of: Mapping[str, str],
    progress: bool,
) -> Iterator[SharedAudio]:
    """Look excerpts of each track up among all; the landmarks themselves are the queries."""
    tracks = store.tracks
    bounds = np.array([(track.first_row, track.n_rows) for track in tracks])
    index = LandmarkIndex.build(store.column("hashes"), store.column("frames"), *bounds.T)
    bar = progress_bar(len(tracks), "track", progress, iterable=tracks)
    for number, track in enumerate(bar):
        for start_s, hashes, frames in _excerpts(store, track, settings.hop_s):
            for match in index.match(hashes, frames, top_k=_NEIGHBOURS):
                other, share = tracks[match.track_index], match.n_aligned / len(hashes)
                if match.track_index == number or share < FEWEST_SHARED:
                    continue
                for role, other_role in _forbidden(
                    roles_of.get(track.resolved_path, ()), roles_of.get(other.resolved_path, ())
                ):
                    yield SharedAudio(
                        role,
                        path_of[track.resolved_path],
                        start_s,
                        other_role,
                        path_of[other.resolved_path],
                        match.offset_frames * settings.hop_s,
                        min(1.0, share),
                    )


def _excerpts(
    store: Store, track: Track, hop_s: float
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Start, hashes and frames (from the start on) of excerpts of a track at even distances."""
    rows = slice(track.first_row, track.first_row + track.n_rows)
    hashes = np.asarray(store.column("hashes")[rows])
    frames = np.asarray(store.column("frames")[rows], np.int64)
    room_s = max(0.0, track.duration_s - EXCERPT_S)
    n_excerpts = EXCERPTS_PER_TRACK if room_s > EXCERPT_S else 1
    for start_s in room_s * np.arange(1, n_excerpts + 1) / (n_excerpts + 1):
        own = frames - round(start_s / hop_s)
        inside = (own >= 0) & (own < EXCERPT_S / hop_s)
        if inside.any():
            yield float(start_s), hashes[inside], own[inside].astype(np.uint32)


def _forbidden(roles: Iterable[str], others: Iterable[str]) -> Iterator[tuple[str, str]]:
    for role, other in itertools.product(sorted(roles), sorted(others)):
        if _must_differ(role, other):
            yield role, other


def _must_differ(role: str, other: str) -> bool:
    return (role, other) in MUST_DIFFER or (other, role) in MUST_DIFFER


def _each_pair_once(shared: Iterator[SharedAudio]) -> list[SharedAudio]:
    """The most alike excerpt of each pair of files and roles, in either order."""
    best: dict[frozenset, SharedAudio] = {}
    for each in shared:
        pair = frozenset([(each.role, each.path), (each.other_role, each.other_path)])
        if pair not in best or each.share > best[pair].share:
            best[pair] = each
    return sorted(best.values(), key=lambda each: (-each.share, each.path, each.other_path))
