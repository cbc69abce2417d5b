"""Tracks in an index that are never the right answer, and make it as large as a real one.

A distractor's name begins with ``distractor:``, so that sizes can be told apart. It comes from

    audio         any audio that the references do not hold
    derived       the same, faster or slower by 3 to 5 semitones, which no recogniser tolerates
    synthesised   music made from a seed
    sampled       fingerprints drawn from those of real music, see `FingerprintSampler`

The first three are audio (`audio_distractors`) and go into an index of any method; sampled ones
(`sampled_distractors`) need a neural index. All but the first are the same for the same seed, and a
call that was interrupted goes on where it stopped.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from fingerprint.errors import FingerprintError
from fingerprint.progress import progress_bar
from fingerprint.recognizer import remove_from_index
from fingerprint.store import Store, Track

PREFIX = "distractor:"


class DistractorError(FingerprintError):
    """Distractors that cannot be made as asked, in one sentence."""


def is_distractor(track: Track) -> bool:
    """Whether a track is never the right answer."""
    return track.name.startswith(PREFIX)


def is_made(track: Track) -> bool:
    """Whether a distractor is no recording: those have a path."""
    return is_distractor(track) and not track.resolved_path


def count_roles(tracks: Iterable[Track]) -> dict[str, dict[str, float]]:
    """Tracks, seconds and rows of "references" and "distractors"."""
    counts = {
        role: {"tracks": 0, "duration_s": 0.0, "rows": 0} for role in ("references", "distractors")
    }
    for track in tracks:
        count = counts["distractors" if is_distractor(track) else "references"]
        count["tracks"] += 1
        count["duration_s"] += track.duration_s
        count["rows"] += track.n_rows
    return counts


def remove_distractors(index_dir: str | Path) -> int:
    """Remove all distractors of an index, and return how many they were."""
    names = [track.name for track in Store.open(index_dir).tracks if is_distractor(track)]
    return len(remove_from_index(index_dir, names)[0])


class HoursBar:
    """Hours that are there, with a bar on standard error that is rarely redrawn in a log file.

    Attributes:
        done_h: so many.
    """

    def __init__(self, hours: float, show: bool):
        self.done_h = 0.0
        self._wanted_h = hours
        shown = "{l_bar}{bar}| {n:.1f}/{total:.1f} h [{elapsed}<{remaining}]"
        self._bar = progress_bar(hours, "h", show, bar_format=shown)

    def __enter__(self) -> "HoursBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def is_full(self) -> bool:
        """Whether there are as many as wanted."""
        return self.done_h >= self._wanted_h

    def add(self, seconds: float) -> None:
        """Count a track; one that failed is taken back by its negative length."""
        shown_h = min(self.done_h, self._wanted_h)
        self.done_h += seconds / 3600
        # The last track goes beyond what is wanted, which the bar would warn of.
        self._bar.update(min(self.done_h, self._wanted_h) - shown_h)


def check_request(hours: float, seed: int) -> None:
    """Raise DistractorError unless ``hours`` is an amount of distractors, and ``seed`` a seed."""
    if not 0 < hours < math.inf:
        raise DistractorError(f"{hours:g} hours are no amount of distractors: give more than 0.")
    if seed < 0:
        raise DistractorError(f"The seed is {seed}, but seeds are whole numbers from 0 on.")
