"""Tracks in an index that are never the right answer, and make it as large as a real one.

A distractor's name begins with ``distractor:``, so that sizes can be told apart. It comes from

    audio         any audio that the references do not hold
    derived       the same, faster or slower by 3 to 5 semitones, which no recogniser tolerates
    synthesised   music made from a seed
    sampled       fingerprints drawn from those of real music, see `FingerprintSampler`

The first three are audio, see `audio_distractors`, and go into an index of any method. Sampled
fingerprints need a neural index; for the hashes of peaks there is no such model here. All but the
first are the same for the same seed, and a call that was interrupted goes on where it stopped.
"""

import itertools
import math
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tqdm

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.fingerprint_sampler import SHARPNESS, FingerprintSampler
from fingerprint.file_lists import GenerationReport
from fingerprint.store import Store, Track

PREFIX = "distractor:"
SOURCES = ("audio", "derived", "synthesised", "sampled")
# The column of a neural index; importing it from `generate` would load jax for every index.
_EMBEDDINGS = "embeddings"


class DistractorError(FingerprintError):
    """Distractors that cannot be made as asked, in one sentence."""


def is_distractor(track: Track) -> bool:
    """Whether a track is never the right answer."""
    return track.name.startswith(PREFIX)


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
    store = Store.open(index_dir)
    with store.writer() as writer:
        return writer.remove([track.name for track in store.tracks if is_distractor(track)])


def add_sampled(
    index_dir: str | Path,
    fit_dir: str | Path,
    hours: float,
    *,
    seed: int = 0,
    sharpness: float = SHARPNESS,
    progress: bool = True,
) -> GenerationReport:
    """Add fingerprints drawn from those of real music to a neural index.

    Args:
        index_dir: the index.
        fit_dir: store or index of real music, fingerprinted with the same model; what was
            derived, synthesised or sampled does not count. It may be the index itself, but rows
            drawn from references lie nearer to them than those of other music.
        hours: how much the index is to hold of this fit and seed.
        seed: of the draws.
        sharpness: as of `FingerprintSampler`.
        progress: show the hours on standard error.

    Raises:
        DistractorError: one of the two is not neural, or they are of different models; or
            ``hours`` is not positive.
        SamplerError: there are too few tracks to draw from.
        StoreError: a folder holds no fingerprints, or is being written.
    """
    check_hours(hours)
    store, fit = Store.open(index_dir), Store.open(fit_dir)
    _check_same_model(store, fit)
    sampler = FingerprintSampler(list(sequences_of(fit).values()), sharpness)
    settings = store.recognizer["settings"]
    origin = f"{PREFIX}sampled/{_fit_id(fit)}-{sharpness:g}-{seed}"
    durations = {track.name: track.duration_s for track in store.tracks}
    report = GenerationReport()
    with store.writer() as writer, HoursBar(hours, progress) as bar:
        for number in itertools.count():
            if bar.is_full:
                return report
            name = f"{origin}/{number:06d}"
            if name in durations:
                report.skipped.append(name)
            else:
                rows = sampler.draw(np.random.default_rng([seed, number]))
                durations[name] = settings["hop_s"] * (len(rows) - 1) + settings["duration_s"]
                writer.add(name, {_EMBEDDINGS: rows}, durations[name])
                report.added.append(name)
            bar.add(durations[name])


def sequences_of(store: Store) -> dict[str, np.ndarray]:
    """Fingerprints ``(n_rows, d)`` of each track of a neural store that is real, by its path."""
    rows = store.column(_EMBEDDINGS)
    return {
        track.resolved_path or track.name: rows[track.first_row : track.first_row + track.n_rows]
        for track in store.tracks
        if not _is_made(track)
    }


class HoursBar:
    """Hours that are there, with a bar on standard error that is rarely redrawn in a log file.

    Attributes:
        done_h: so many.
    """

    def __init__(self, hours: float, show: bool):
        self.done_h = 0.0
        self._wanted_h = hours
        self._bar = tqdm.tqdm(
            total=hours, unit="h", disable=not show, file=sys.stderr,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} h [{elapsed}<{remaining}]",
        )  # fmt: skip

    def __enter__(self) -> "HoursBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def is_full(self) -> bool:
        """Whether there are as many as wanted."""
        return self.done_h >= self._wanted_h

    def add(self, seconds: float) -> None:
        """Count a track."""
        self.done_h += seconds / 3600
        self._bar.update(seconds / 3600)


def check_hours(hours: float) -> None:
    """Raise DistractorError unless ``hours`` is an amount of distractors."""
    if not 0 < hours < math.inf:
        raise DistractorError(f"{hours:g} hours are no amount of distractors: give more than 0.")


def _is_made(track: Track) -> bool:
    """Whether a distractor is no recording: those have a path."""
    return is_distractor(track) and not track.resolved_path


def _fit_id(fit: Store) -> str:
    """Eight hexadecimal digits, others for any other fingerprints to draw from."""
    real = [track.crc32[_EMBEDDINGS] for track in fit.tracks if not _is_made(track)]
    return f"{zlib.crc32(repr(real).encode()):08x}"


def _check_same_model(store: Store, fit: Store) -> None:
    for each in (store, fit):
        method = each.recognizer.get("method")
        if method != "neural":
            raise DistractorError(
                f"{each.folder} is an index of the method {method!r}, but fingerprints are sampled "
                "for neural indexes only: choose audio, derived or synthesised distractors."
            )
    own, other = store.recognizer.get("identity"), fit.recognizer.get("identity")
    if own != other:
        raise DistractorError(
            f"{store.folder} was made with the model {own}, but {fit.folder} with {other}: their "
            "fingerprints do not compare; fingerprint the music to sample from with the former."
        )
