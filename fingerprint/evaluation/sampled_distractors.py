"""Fingerprints drawn from those of real music, as distractors in a neural index.

For the hashes of landmarks and of spectral peaks there is no such model here.
"""

import itertools
import zlib
from pathlib import Path

import numpy as np

from fingerprint.evaluation.distractors import (
    PREFIX,
    DistractorError,
    HoursBar,
    check_request,
    is_made,
)
from fingerprint.evaluation.fingerprint_sampler import SHARPNESS, FingerprintSampler
from fingerprint.file_lists import GenerationReport
from fingerprint.generate import COLUMN
from fingerprint.store import Store


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
            ``hours`` is not positive or ``seed`` negative.
        SamplerError: there are too few tracks to draw from.
        StoreError: a folder holds no fingerprints, or is being written.
    """
    check_request(hours, seed)
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
                writer.add(name, {COLUMN: rows}, durations[name])
                report.added.append(name)
            bar.add(durations[name])


def sequences_of(store: Store) -> dict[str, np.ndarray]:
    """Fingerprints ``(n_rows, d)`` of each real track of a neural store, by its path."""
    rows = store.column(COLUMN)
    return {
        track.resolved_path or track.name: rows[track.first_row : track.first_row + track.n_rows]
        for track in store.tracks
        if track.n_rows and not is_made(track)
    }


def _fit_id(fit: Store) -> str:
    """Eight hexadecimal digits, others for any other fingerprints to draw from."""
    real = [track.crc32[COLUMN] for track in fit.tracks if not is_made(track)]
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
