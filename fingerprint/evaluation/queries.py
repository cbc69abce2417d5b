"""Queries from recordings: an excerpt, noise at a signal-to-noise ratio, a room and a device.

Every query is degraded once, as one recording with one phone in one place would be, and then put
to every system alike. `query_sets` keeps queries in a folder, with all that can be done to them.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from fingerprint.evaluation.query_recipes import draw_recipes
from fingerprint.evaluation.query_settings import QuerySettings, Surroundings, audio_of_kind
from fingerprint.evaluation.query_synthesis import AudioReader, synthesise

__all__ = ["Query", "Surroundings", "audio_of_kind", "make_queries"]


@dataclasses.dataclass(frozen=True)
class Query:
    """One degraded excerpt ``samples (n,)`` of the file ``path``, from second ``start_s`` on."""

    path: str
    start_s: float
    snr_db: float | None
    samples: np.ndarray
    sample_rate_hz: int

    def first(self, duration_s: float) -> np.ndarray:
        """The shorter query that this one starts with, ``(duration_s * sample_rate_hz,)``."""
        return self.samples[: round(duration_s * self.sample_rate_hz)]


def make_queries(
    paths: Sequence[str],
    surroundings: Surroundings,
    *,
    n_queries: int,
    durations_s: Sequence[float],
    snrs_db: Sequence[float],
    seed: int,
    sample_rate_hz: int = 16_000,
) -> Iterator[Query]:
    """Synthesise ``n_queries`` queries of the longest duration at each signal-to-noise ratio.

    They are drawn as in `query_recipes.draw_recipes`. Without noise there is one query per
    excerpt, with ``snr_db`` None.

    Yields:
        Queries ordered by their track, so that each file is read once.

    Raises:
        AudioError: a file cannot be read, or is too short for the longest query.
    """
    settings = QuerySettings(
        n_queries=n_queries,
        durations_s=durations_s,
        snr_db=snrs_db,
        seed=seed,
        sample_rate_hz=sample_rate_hz,
    )
    read = AudioReader()
    for recipe in draw_recipes(paths, surroundings, settings, read):
        samples = synthesise(recipe, read)
        (chunk,) = recipe.chunks
        start_s = recipe.start / sample_rate_hz
        yield Query(recipe.track, start_s, chunk.snr_db, samples, sample_rate_hz)
