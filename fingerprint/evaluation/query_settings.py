"""What queries are made from and what is done to them, checked before anything is synthesised."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fingerprint.audio import find_audio
from fingerprint.errors import FingerprintError
from fingerprint.evaluation.lossy_codecs import Codec
from fingerprint.file_lists import read_manifest

# One value of each of these makes a condition; None stands for "not applied".
CONDITIONS = (
    *("snr_db", "t60_s", "low_pass_hz", "high_pass_hz", "clipped_share", "level_db", "codec"),
    *("speed", "tempo", "pitch_semitones"),
    *("equaliser_db", "band_share", "babble_db", "suppression"),
)
_RANGES = {
    "t60_s": (0.05, 20.0),
    "snr_db": (-60.0, 100.0),
    "clipped_share": (0.0, 0.5),
    "level_db": (-60.0, 0.0),
    "speed": (0.5, 2.0),
    "tempo": (0.5, 2.0),
    "pitch_semitones": (-12.0, 12.0),
    "equaliser_db": (0.0, 20.0),
    "band_share": (0.0, 1.0),
    "babble_db": (-60.0, 100.0),
    "suppression": (0.0, 1.0),
    "room_share": (0.0, 1.0),
    "device_share": (0.0, 1.0),
    "n_noises": (1, 20),
    "n_queries": (1, math.inf),
    "offset_s": (0.0, 0.5),
    "history_s": (0.0, 10.0),
    "sample_rate_hz": (4_000, 192_000),
}
_CHOICES = {"per": ("query", "second"), "reverberate": ("all", "music")}
Condition = dict[str, float | str | None]


class QueryError(FingerprintError):
    """Queries that cannot be made or read as asked, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Where queries are recorded: audio files, and the share of queries that each is used for.

    Noise is in every query when there is any; rooms and devices are drawn independently.
    """

    noises: Sequence[str] = ()
    rooms: Sequence[str] = ()
    devices: Sequence[str] = ()
    room_share: float = 2 / 3
    device_share: float = 1 / 3


@dataclasses.dataclass(frozen=True)
class QuerySettings:
    """What is asked for; folders are read as in `audio_of_kind`.

    Every excerpt is made once under each *condition*, a choice of one value for each of
    `CONDITIONS`: systems and conditions are compared on the same excerpts.

    Attributes:
        unknown: recordings that no index is to hold; as many excerpts again are taken from them.
        n_noises: so many noises at once, equally loud (several speakers are babble).
        per: "query", one recording with one phone in one place; "second", the clip cut into
            seconds with an offset, noise, ratio, room and device of its own each (Chang et al.,
            arXiv 2010.11910, and their code).
        offset_s: largest offset of such a second.
        history_s: seconds before the excerpt (or second) that still ring in the room; 0 as
            published for ``per`` "second", where each second begins with a silent room.
        reverberate: "all", the room over music and noise, or "music", noise near the microphone.
        snr_range_db: draw the ratio uniformly between these, instead of ``snr_db``.
        durations_s: lengths to ask for; queries have the longest, and none of them begins with
            silence for as long as the shortest.
        t60_s: only rooms with a reverberation time within 20 % of this, for every query.
        clipped_share: share of the samples at full scale, by overdriving.
        codec: round trip at the sample rate of the query, "mp3:64" or "opus:16" (kbit/s).
        level_db: peak of the query, relative to full scale.
        equaliser_db: unevenness of loudspeaker and microphone, the standard deviation of their
            gains at half octaves; half of it is the microphone's.
        band_share: share of the queries with a low-pass, and share of them with a high-pass, at
            corners that are drawn for each.
        babble_db: ratio of all else to voices near the microphone, made from the seed.
        suppression: strength of a telephone's gate against steady noise.
    """

    queries_from: str = ""
    kind: str = "music"
    split: str = "test"
    unknown: str | None = None
    unknown_split: str | None = None
    noise: str | None = None
    room_ir: str | None = None
    device_ir: str | None = None
    room_share: float = 2 / 3
    device_share: float = 1 / 3
    n_noises: int = 1
    per: str = "query"
    offset_s: float = 0.2
    history_s: float = 1.0
    reverberate: str = "all"
    gain_control: bool = False
    snr_range_db: tuple[float, float] | None = None
    durations_s: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 6.0, 10.0)
    n_queries: int = 300
    seed: int = 0
    sample_rate_hz: int = 16_000
    snr_db: Sequence[float | None] = (0.0, 5.0, 10.0)
    t60_s: Sequence[float | None] = (None,)
    low_pass_hz: Sequence[float | None] = (None,)
    high_pass_hz: Sequence[float | None] = (None,)
    clipped_share: Sequence[float | None] = (None,)
    level_db: Sequence[float | None] = (None,)
    codec: Sequence[str | None] = (None,)
    speed: Sequence[float | None] = (None,)
    tempo: Sequence[float | None] = (None,)
    pitch_semitones: Sequence[float | None] = (None,)
    equaliser_db: Sequence[float | None] = (None,)
    band_share: Sequence[float | None] = (None,)
    babble_db: Sequence[float | None] = (None,)
    suppression: Sequence[float | None] = (None,)

    def __post_init__(self):
        self._check_values()
        if not self.durations_s or not all(0 < d < math.inf for d in self.durations_s):
            raise QueryError(f"durations_s {self.durations_s} has to hold positive numbers.")
        if self.snr_range_db is not None and not self.snr_range_db[0] <= self.snr_range_db[1]:
            raise QueryError(f"snr_range_db {self.snr_range_db} has to go from low to high.")
        if any(t60_s is not None for t60_s in self.t60_s) and not self.room_ir:
            raise QueryError("t60_s chooses among rooms: give their impulse responses, room_ir.")
        for codec in self.codec:
            if codec is not None:
                Codec.parse(codec).level(self.sample_rate_hz)
        for low_pass_hz, high_pass_hz in itertools.product(self.low_pass_hz, self.high_pass_hz):
            self._check_band(low_pass_hz, high_pass_hz)

    def _check_values(self) -> None:
        for name in CONDITIONS:
            if not getattr(self, name):
                raise QueryError(f"{name} holds no value: give one, or None for not applied.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise QueryError(
                    f"{name} is {getattr(self, name)!r}: choose {' or '.join(allowed)}."
                )
        for name, (low, high) in _RANGES.items():
            for value in _as_sequence(getattr(self, name)):
                if value is not None and not low <= value <= high:
                    raise QueryError(f"{name} {value:g} is not between {low:g} and {high:g}.")

    def _check_band(self, low_pass_hz: float | None, high_pass_hz: float | None) -> None:
        low_hz = 0.0 if high_pass_hz is None else high_pass_hz
        high_hz = self.sample_rate_hz / 2 if low_pass_hz is None else low_pass_hz
        for corner_hz in (low_pass_hz, high_pass_hz):
            if corner_hz is not None and not 0 < corner_hz < self.sample_rate_hz / 2:
                raise QueryError(
                    f"A filter at {corner_hz:g} Hz does nothing to a sample rate of "
                    f"{self.sample_rate_hz} Hz: choose between 0 and {self.sample_rate_hz / 2:g}."
                )
        if low_hz >= high_hz:
            raise QueryError(
                f"Nothing passes a high-pass filter at {low_hz:g} Hz and a low-pass filter at "
                f"{high_hz:g} Hz: choose a band."
            )

    @property
    def n_longest(self) -> int:
        """Samples of a query."""
        return round(max(self.durations_s) * self.sample_rate_hz)

    @property
    def n_shortest(self) -> int:
        """Samples of its shortest beginning that is asked for."""
        return round(min(self.durations_s) * self.sample_rate_hz)

    @property
    def fastest(self) -> float:
        """Seconds of a recording that one second of a query may hold."""
        return max((s or 1.0) * (t or 1.0) for s in self.speed for t in self.tempo)

    def conditions(self, *, with_noise: bool) -> list[Condition]:
        """Every combination of one value each; without noise, or with a range, no ratio."""
        snrs_db = self.snr_db if with_noise and self.snr_range_db is None else (None,)
        values = [snrs_db, *(getattr(self, name) for name in CONDITIONS[1:])]
        return [dict(zip(CONDITIONS, chosen, strict=True)) for chosen in itertools.product(*values)]

    def surroundings(self) -> Surroundings:
        """The files that degrade the queries."""
        noises, rooms, devices = (
            audio_of_kind(getattr(self, kind), kind, self.split) if getattr(self, kind) else ()
            for kind in ("noise", "room_ir", "device_ir")
        )
        return Surroundings(noises, rooms, devices, self.room_share, self.device_share)

    def sources(self) -> Iterator[list[str]]:
        """The recordings to excerpt, and those that no index is to hold where there are any."""
        yield audio_of_kind(self.queries_from, self.kind, self.split)
        if self.unknown:
            yield audio_of_kind(self.unknown, self.kind, self.unknown_split or self.split)


def audio_of_kind(folder: str | Path, kind: str, split: str) -> list[str]:
    """The audio files of a folder, or those of its manifest with this kind and split.

    A manifest is a file ``manifest.csv`` in the folder with the columns ``path`` (relative to the
    folder), ``kind`` and ``split``; a folder without one is taken whole.

    Raises:
        AudioError: the folder does not exist or holds no audio.
        ManifestError: the manifest lacks a column, or no row of it is of this kind and split.
    """
    manifest = Path(folder) / "manifest.csv"
    if manifest.exists():
        return read_manifest(manifest, kind=kind, split=split)
    return find_audio([folder])


def _as_sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)
