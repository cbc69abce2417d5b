"""Recipes: everything that was drawn for a query, so that it can be synthesised again."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fingerprint.audio import AudioError
from fingerprint.evaluation.query_settings import (
    Condition,
    QueryError,
    QuerySettings,
    Surroundings,
)
from fingerprint.evaluation.reverberation import reverberation_time_s

# An excerpt this far below the level of its track has nothing in it that could be identified.
SILENCE_DB = -50.0
MAX_DRAWS = 50
T60_TOLERANCE = 0.2
# Reads a file as samples (n,) at a sample rate, as `audio.read_audio`.
Reader = Callable[[str, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class NoiseExcerpt:
    """Noise from sample ``start`` of a file on, which is repeated where it is too short."""

    path: str
    start: int


@dataclasses.dataclass(frozen=True)
class Chunk:
    """``n_samples`` of a query that are degraded alike: a second of it, or all of it.

    ``offset`` is the number of samples by which its music comes later in the recording than the
    truth says.
    """

    n_samples: int
    offset: int
    noises: tuple[NoiseExcerpt, ...]
    snr_db: float | None
    room: str | None
    device: str | None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one query is made; lengths and positions are samples at ``sample_rate_hz``.

    Attributes:
        id: its number among all queries as six digits or more.
        excerpt: number of the excerpt, which it shares with the same excerpt's other conditions.
        track: path of the recording, excerpted from sample ``start`` on.
        t60_s: reverberation times of the rooms of its chunks.
        condition: what was asked for, see `query_settings.CONDITIONS`.
    """

    id: str
    excerpt: int
    track: str
    start: int
    sample_rate_hz: int
    n_history: int
    reverberate: str
    gain_control: bool
    chunks: tuple[Chunk, ...]
    t60_s: tuple[float | None, ...]
    condition: Condition
    seed: int

    @property
    def n_samples(self) -> int:
        """Length of the query."""
        return sum(chunk.n_samples for chunk in self.chunks)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Recipe":
        """The inverse of ``dataclasses.asdict``, also by way of JSON."""
        chunks = tuple(
            Chunk(**(chunk | {"noises": tuple(NoiseExcerpt(**n) for n in chunk["noises"])}))
            for chunk in fields["chunks"]
        )
        return cls(**(fields | {"chunks": chunks, "t60_s": tuple(fields["t60_s"])}))

    def with_paths(self, change: Callable[[str], str]) -> "Recipe":
        """The same recipe with every path changed."""
        chunks = tuple(
            dataclasses.replace(
                chunk,
                noises=tuple(NoiseExcerpt(change(n.path), n.start) for n in chunk.noises),
                room=chunk.room and change(chunk.room),
                device=chunk.device and change(chunk.device),
            )
            for chunk in self.chunks
        )
        return dataclasses.replace(self, track=change(self.track), chunks=chunks)

    def paths(self) -> list[str]:
        """Every file that is needed to synthesise the query."""
        found = []
        self.with_paths(lambda path: found.append(path) or path)
        return list(dict.fromkeys(found))


def draw_recipes(
    paths: Sequence[str],
    surroundings: Surroundings,
    settings: QuerySettings,
    read: Reader,
    first_excerpt: int = 0,
) -> Iterator[Recipe]:
    """Draw ``settings.n_queries`` excerpts of ``paths``, each under every condition.

    The tracks take turns in a random order and the start is uniform within the track. The same
    excerpt, noise, room and device serve every condition (another room where the condition names
    a reverberation time), and excerpt ``i`` depends on ``settings.seed`` and ``i`` alone.

    Args:
        first_excerpt: number of the first one; numbers and ids go on from there.

    Yields:
        Recipes ordered by their track, so that each file is read once.

    Raises:
        AudioError: a file cannot be read, or is too short for the longest query.
        QueryError: no room has the reverberation time of a condition.
    """
    draw = _Draw(surroundings, settings, read)
    conditions = settings.conditions(with_noise=bool(surroundings.noises))
    order = np.random.default_rng(settings.seed).permutation(len(paths))
    turns = sorted(range(settings.n_queries), key=lambda i: (order[i % len(order)], i))
    for i in turns:
        path = paths[order[i % len(order)]]
        excerpt = first_excerpt + i
        start, chunks = draw.excerpt(path, np.random.default_rng([settings.seed, i]))
        for number, condition in enumerate(conditions, excerpt * len(conditions)):
            made = [draw.under(condition, chunk) for chunk in chunks]
            yield Recipe(
                id=f"{number:06d}",
                excerpt=excerpt,
                track=path,
                start=start,
                sample_rate_hz=settings.sample_rate_hz,
                n_history=draw.n_history,
                reverberate=settings.reverberate,
                gain_control=settings.gain_control,
                chunks=tuple(made),
                t60_s=tuple(chunk.room and draw.t60_s(chunk.room) for chunk in made),
                condition=condition,
                seed=settings.seed,
            )


@dataclasses.dataclass(frozen=True)
class _DrawnChunk:
    """A chunk before the condition is known, which decides about ratio and room."""

    n_samples: int
    offset: int
    noises: tuple[NoiseExcerpt, ...]
    drawn_snr_db: float | None
    room_used: bool
    room_choice: float
    device: str | None


class _Draw:
    """Draws excerpts and chunks; the order of the draws is part of what a seed means."""

    def __init__(self, surroundings: Surroundings, settings: QuerySettings, read: Reader):
        self.surroundings = surroundings
        self.settings = settings
        self.read = lambda path: read(path, settings.sample_rate_hz)
        self.n_history = round(settings.history_s * settings.sample_rate_hz)
        self._t60_s: dict[str, float | None] = {}

    def excerpt(self, path: str, rng: np.random.Generator) -> tuple[int, list[_DrawnChunk]]:
        """A start in a track, and the chunks of the query from there on."""
        track, n_longest = self.read(path), self.settings.n_longest
        # As much of the recording as the query holds where it is played the fastest.
        fastest = self.settings.fastest
        n_shortest, n_held = (round(n * fastest) for n in (self.settings.n_shortest, n_longest))
        start = draw_start(track, n_shortest, n_held, rng, path)
        if self.settings.per == "query":
            return start, [self._chunk(n_longest, (0, 0), rng)]
        n_second, chunks = self.settings.sample_rate_hz, []
        for first in range(0, n_longest, n_second):
            n = min(n_second, n_longest - first)
            # The offset stays within the track.
            end = start + round((first + n) * fastest)
            chunks.append(self._chunk(n, (-(start + first), len(track) - end), rng))
        return start, chunks

    def under(self, condition: Condition, chunk: _DrawnChunk) -> Chunk:
        """The chunk under a condition."""
        rooms, used = self.surroundings.rooms, chunk.room_used
        if condition["t60_s"] is not None:
            rooms, used = self._rooms_like(condition["t60_s"]), True
        room = rooms[int(chunk.room_choice * len(rooms))] if rooms and used else None
        snr_db = condition["snr_db"] if chunk.drawn_snr_db is None else chunk.drawn_snr_db
        noises = () if snr_db is None else chunk.noises
        return Chunk(chunk.n_samples, chunk.offset, noises, snr_db, room, chunk.device)

    def _chunk(
        self, n_samples: int, offsets: tuple[int, int], rng: np.random.Generator
    ) -> _DrawnChunk:
        settings, offset = self.settings, 0
        if settings.per == "second":
            largest = round(settings.offset_s * settings.sample_rate_hz)
            offset = int(np.clip(rng.integers(-largest, largest + 1), *offsets))
        n_noises = settings.n_noises if self.surroundings.noises else 0
        noises = tuple(self._noise(self.n_history + n_samples, rng) for _ in range(n_noises))
        room_used, room_choice = rng.random() < self.surroundings.room_share, rng.random()
        device_used, choice = rng.random() < self.surroundings.device_share, rng.random()
        devices = self.surroundings.devices
        device = devices[int(choice * len(devices))] if devices and device_used else None
        drawn_snr_db = None
        if settings.snr_range_db is not None and noises:
            drawn_snr_db = float(rng.uniform(*settings.snr_range_db))
        return _DrawnChunk(n_samples, offset, noises, drawn_snr_db, room_used, room_choice, device)

    def _noise(self, n: int, rng: np.random.Generator) -> NoiseExcerpt:
        paths = self.surroundings.noises
        path = paths[rng.integers(len(paths))]
        looped = loop(self.read(path), n)
        return NoiseExcerpt(path, draw_start(looped, n, n, rng, path))

    def t60_s(self, room: str) -> float | None:
        """The reverberation time of a room, measured once."""
        if room not in self._t60_s:
            t60_s = reverberation_time_s(self.read(room), self.settings.sample_rate_hz)
            self._t60_s[room] = None if t60_s is None else round(t60_s, 3)
        return self._t60_s[room]

    def _rooms_like(self, t60_s: float) -> list[str]:
        times_s = {room: self.t60_s(room) for room in self.surroundings.rooms}
        known = {room: own_s for room, own_s in times_s.items() if own_s is not None}
        rooms = [r for r, own_s in known.items() if abs(own_s - t60_s) <= T60_TOLERANCE * t60_s]
        if not rooms:
            listed = ", ".join(f"{own_s:.2g}" for own_s in sorted(known.values()))
            raise QueryError(
                f"No room has a reverberation time within {T60_TOLERANCE:.0%} of {t60_s:g} s: "
                f"there are {listed or 'none that can be measured'}; ask for other times (t60_s), "
                "or give more rooms."
            )
        return rooms


def draw_start(
    track: np.ndarray, n_shortest: int, n_longest: int, rng: np.random.Generator, path: str
) -> int:
    """A uniformly random start at which even the shortest query holds some sound.

    Raises:
        AudioError: the track is shorter than ``n_longest``, or nearly all of it is silent.
    """
    if len(track) < n_longest:
        raise AudioError(f"{path} is shorter than the longest query; ask for shorter queries.")
    threshold = np.mean(np.square(track)) * 10 ** (SILENCE_DB / 10)
    for _ in range(MAX_DRAWS):
        start = int(rng.integers(len(track) - n_longest + 1))
        if np.mean(np.square(track[start : start + n_shortest])) > threshold:
            return start
    raise AudioError(f"{path} is silent nearly everywhere; leave it out of the queries.")


def loop(samples: np.ndarray, n: int) -> np.ndarray:
    """The samples, repeated where there are fewer than ``n`` of them."""
    return samples if len(samples) >= n else np.resize(samples, n)
