"""What an identification says, and the contract of the recognisers that make them."""

import abc
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fingerprint.audio import from_array, read_audio
from fingerprint.errors import FingerprintError
from fingerprint.store import Store, StoreError, Track

if TYPE_CHECKING:
    from fingerprint.file_lists import GenerationReport

# Only this much of a longer query is listened to, which bounds time and memory: far more than
# any verdict needs.
MAX_QUERY_S = 60.0
# One false alarm in a thousand queries from recordings that the index does not hold.
DEFAULT_MIN_CONFIDENCE = 0.999


@dataclasses.dataclass(frozen=True)
class Match:
    """A track that a query may come from, and which part of the one is which part of the other.

    Seconds ``[query_start_s, query_end_s)`` of the query are seconds ``[reference_start_s,
    reference_end_s)`` of the track; the rest of the query lies before the track's beginning or
    after its end. Scores of one recogniser compare with each other, not with those of another.

    Confidences compare: ``confidence`` is 1 less the probability that a query of this length from
    a recording that is *not* in this index gets a best candidate as good as this one; ``p_value``,
    where it is given, is that probability itself, which tells apart what as a confidence is 1.
    ``found_by`` names the methods that found the track, where several were asked.
    """

    track: str
    score: float
    confidence: float
    reference_start_s: float
    reference_end_s: float
    query_start_s: float
    query_end_s: float
    found_by: tuple[str, ...] = ()
    p_value: float | None = None

    @classmethod
    def placed(
        cls,
        track: str,
        score: float,
        confidence: float,
        start_s: float,
        query_duration_s: float,
        track_duration_s: float,
        *,
        p_value: float | None = None,
    ) -> "Match":
        """The match of a query whose beginning falls on second ``start_s`` of the track.

        ``start_s`` is negative for a query that begins before the track does.
        """
        nowhere = cls(track, score, confidence, 0.0, 0.0, 0.0, 0.0, p_value=p_value)
        return nowhere.moved(start_s, query_duration_s, track_duration_s)

    @property
    def start_s(self) -> float:
        """The second of the track on which the query's beginning falls; negative before it."""
        return self.reference_start_s - self.query_start_s

    def moved(self, start_s: float, query_duration_s: float, track_duration_s: float) -> "Match":
        """The same match at another place; arguments as of `placed`."""
        query_start_s = min(max(0.0, -start_s), query_duration_s)
        query_end_s = max(query_start_s, min(query_duration_s, track_duration_s - start_s))
        return dataclasses.replace(
            self,
            reference_start_s=start_s + query_start_s,
            reference_end_s=start_s + query_end_s,
            query_start_s=query_start_s,
            query_end_s=query_end_s,
        )

    def to_dict(self) -> dict[str, str | float | list[str]]:
        """The fields in their order, seconds to the millisecond; ``found_by`` only if filled."""
        seconds = {
            # Adding 0.0 turns the -0.0 that rounding may leave into 0.0.
            name: round(float(getattr(self, name)), 3) + 0.0
            for name in ("reference_start_s", "reference_end_s", "query_start_s", "query_end_s")
        }
        found_by = {"found_by": list(self.found_by)} if self.found_by else {}
        return {
            "track": self.track,
            "score": round(float(self.score), 4),
            "confidence": round(float(self.confidence), 6),
            **seconds,
            **found_by,
        }


@dataclasses.dataclass(frozen=True)
class Identification:
    """The verdict on a query, and the best candidates, best first, whatever the verdict.

    The verdict is "match" when the best candidate's confidence is as high as was asked for;
    ``matches`` is empty when nothing resembles the query at all. ``examined`` is the share of the
    index that each search compared with, where the method counts it.
    """

    verdict: Literal["match", "no_match"]
    matches: list[Match]
    examined: float | None = None

    @property
    def confidence(self) -> float:
        """That of the best candidate, 0 if there is none."""
        return self.matches[0].confidence if self.matches else 0.0

    def to_dict(self) -> dict:
        """``{"verdict": ..., "confidence": ..., "matches": [...]}``, ready for JSON."""
        return {
            "verdict": self.verdict,
            "confidence": round(float(self.confidence), 6),
            "matches": [match.to_dict() for match in self.matches],
        }


class Recognizer(abc.ABC):
    """An index folder that recordings are added to and queries are put to.

    Attributes:
        method: "neural", "landmarks", "spectral_hash", or "both" of the former.
        store: what the folder holds.
        sample_rate_hz: rate of the audio that the method works on.
    """

    method: ClassVar[str]

    def __init__(self, store: Store, sample_rate_hz: int):
        self.store = store
        self.sample_rate_hz = sample_rate_hz

    @property
    def tracks(self) -> list[Track]:
        """The tracks of the index, in the order in which they were added."""
        return self.store.tracks

    @property
    def parts(self) -> tuple["Recognizer", ...]:
        """The recognisers with a store of their own that this one is made of: itself alone."""
        return (self,)

    @abc.abstractmethod
    def use_model(self, model_folder: str | Path) -> None:
        """Refuse a model other than that of the index; take its hash head, where it has one.

        Raises:
            StoreError: the index was made without a model, or with another one.
            ModelError: the model folder cannot be used.
        """

    @abc.abstractmethod
    def add_files(
        self, paths: Iterable[str | Path], *, progress: bool = True
    ) -> "GenerationReport":
        """Add audio files and the audio files in folders, each committed on its own.

        Files that are already there are skipped; those that cannot be read are reported and do
        not stop the others.

        Returns:
            A report with ``added`` and ``skipped`` paths and ``failed`` (path, sentence) pairs.

        Raises:
            StoreError: another process is writing to the index, or it cannot be written.
        """

    def remove(self, tracks: Iterable[str]) -> tuple[list[str], list[str]]:
        """Remove tracks; the arguments and the result are those of `remove_tracks`."""
        return remove_tracks(self.store, tracks)

    def identify(
        self,
        samples: np.ndarray,
        top_k: int = 5,
        *,
        sample_rate_hz: int | None = None,
        min_confidence: float = DEFAULT_MIN_CONFIDENCE,
    ) -> Identification:
        """Name the tracks that a query may come from, best first.

        Args:
            samples: ``(n,)`` or ``(n, n_channels)``; of more than ``MAX_QUERY_S`` seconds only
                the beginning is used.
            top_k: tracks to name at most.
            sample_rate_hz: the rate of ``samples``; by default the recogniser's own.
            min_confidence: the verdict is "match" if the best candidate's confidence reaches it.

        Raises:
            AudioError: the array is not audio, or silent.
            FingerprintError: ``top_k`` is not positive, or ``min_confidence`` no probability.
        """
        if top_k < 1:
            raise FingerprintError(f"top_k is {top_k}, but it has to be at least 1.")
        if not 0.0 <= min_confidence <= 1.0:
            raise FingerprintError(
                f"min_confidence is {min_confidence}, but it has to be a probability, from 0 to 1."
            )
        rate_hz = self.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        beginning = np.atleast_1d(samples)[: round(MAX_QUERY_S * rate_hz)]
        samples = from_array(beginning, rate_hz, self.sample_rate_hz)
        if not self.store.n_rows:
            return Identification("no_match", [])
        matches, examined = self._identify(samples, top_k)
        is_match = bool(matches) and matches[0].confidence >= min_confidence
        return Identification("match" if is_match else "no_match", matches, examined)

    def identify_file(
        self,
        path: str | Path,
        top_k: int = 5,
        *,
        min_confidence: float = DEFAULT_MIN_CONFIDENCE,
    ) -> Identification:
        """As `identify`, for a file, of which no more than ``MAX_QUERY_S`` seconds are read.

        Raises:
            AudioError: the file cannot be read, or nothing can be heard in its beginning.
        """
        samples = read_audio(path, self.sample_rate_hz, duration_s=MAX_QUERY_S)
        return self.identify(samples, top_k, min_confidence=min_confidence)

    def cache_folder(self) -> Path | None:
        """Where a search index of the present content can be kept; None if nothing can be."""
        try:
            return self.store.derived_folder()
        except StoreError:
            return None

    @abc.abstractmethod
    def _identify(self, samples: np.ndarray, top_k: int) -> tuple[list[Match], float | None]:
        """The candidates of mono audio ``(n,)`` at the recogniser's rate, in an index with rows.

        Returns:
            The matches, best first, and the share of the index that each search compared with
            (None where it is not counted).
        """


def remove_tracks(store: Store, tracks: Iterable[str]) -> tuple[list[str], list[str]]:
    """Remove tracks, named as in the store or by a path to the file they were made from.

    Returns:
        The names that were removed, and the arguments that name no track; the latter do not
        stop the former.

    Raises:
        StoreError: another process is writing to the store, or it cannot be written.
    """
    with store.writer() as writer:
        names = {track.name: track.name for track in store.tracks}
        by_file = {track.resolved_path: track.name for track in store.tracks}
        found = {each: names.get(each) or by_file.get(os.path.realpath(each)) for each in tracks}
        removed = list(dict.fromkeys(name for name in found.values() if name))
        if removed:
            writer.remove(removed)
    return removed, [each for each, name in found.items() if not name]
