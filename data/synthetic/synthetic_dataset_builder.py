"""Music, noise, rooms and devices that the project makes itself, one track per seed."""

import functools

import numpy as np
import tensorflow_datasets as tfds
from fingerprint_data.corpus import KINDS, WAVEFORM_KINDS, Corpus, Track, check_choice
from fingerprint_data.corpus_builder import CorpusBuilder

from fingerprint import music_synthesis
from fingerprint.errors import ConfigError

_T60_S = (0.2, 1.0)


class Builder(CorpusBuilder):
    """Tracks synthesised from consecutive seeds."""

    # To be raised when a seed comes to sound different, so that no old dataset is taken for it.
    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def find(
        root: str | None,
        kind: str = "music",
        n_tracks: int = 100,
        first_seed: int = 0,
        duration_s: float | None = None,
    ) -> Corpus:
        """The tracks of some seeds.

        Args:
            root: not used, as there are no files.
            kind: what to synthesise; rooms have reverberation times of 0.2 to 1 s.
            n_tracks: how many.
            first_seed: seed of the first, the others following; different seeds are different
                tracks, so that training and test data are ranges that do not overlap.
            duration_s: of music and noise (30 s when None); impulse responses have their own.
        """
        del root
        check_choice("kind", kind, KINDS)
        if n_tracks < 1 or first_seed < 0:
            raise ConfigError(
                f"n_tracks is {n_tracks} and first_seed {first_seed}: choose at least one track "
                "and no negative seed."
            )
        if kind in WAVEFORM_KINDS:
            duration_s = 30.0 if duration_s is None else float(duration_s)
            if not duration_s > 0:
                raise ConfigError(f"duration_s is {duration_s}, but it has to be positive.")
        elif duration_s is not None:
            raise ConfigError(f"duration_s is {duration_s}, but the kind {kind!r} has none.")
        tracks = (
            Track(
                name=f"{kind}/{seed:06d}",
                state=f"seed {seed}",
                read=functools.partial(_synthesize, kind, seed, duration_s),
            )
            for seed in range(first_seed, first_seed + n_tracks)
        )
        return Corpus(kind, tuple(tracks))


def _synthesize(kind: str, seed: int, duration_s: float, sample_rate_hz: int) -> np.ndarray:
    if kind == "music":
        return music_synthesis.synthesize_track(seed, duration_s, sample_rate_hz)
    if kind == "noise":
        return music_synthesis.synthesize_noise(seed, duration_s, sample_rate_hz)
    if kind == "device_ir":
        return music_synthesis.synthesize_device(seed, sample_rate_hz)
    t60_s = np.random.default_rng(seed).uniform(*_T60_S)
    return music_synthesis.synthesize_room(seed, t60_s, sample_rate_hz)
