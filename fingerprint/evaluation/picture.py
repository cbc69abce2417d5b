"""One match as a picture: a clip below the recording it was found in, on the latter's clock."""

import os
from pathlib import Path

import numpy as np

from fingerprint.audio import read_audio
from fingerprint.generate import COLUMN
from fingerprint.identification import Match
from fingerprint.model import Fingerprinter
from fingerprint.store import Store

CONTEXT_S = 2.0


def segment_similarities(
    fingerprinter: Fingerprinter, store: Store, clip: np.ndarray, match: Match
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How like the matched place, and how like any other track, each segment of a clip is.

    The clip is cut so that its segments fall on those of the reference.

    Args:
        clip: ``(n_samples,)`` at the sample rate of the fingerprinter.
        match: A match of this clip in ``store``.

    Returns:
        ``start_s``, seconds of the reference at which the segments start, the inner products
        with the reference there, and the largest ones with any other track: each ``(n,)``.
    """
    grid = fingerprinter.grid
    start_s = match.start_s
    first = max(0, int(np.ceil(start_s / grid.hop_s - 1e-6)))
    skipped_s = first * grid.hop_s - start_s
    queries = fingerprinter.embed(clip[round(skipped_s * grid.sample_rate_hz) :])
    track = next(track for track in store.tracks if track.name == match.track)
    queries = queries[: track.n_rows - first]
    rows = track.first_row + first + np.arange(len(queries))
    similarity = queries @ np.asarray(store.column(COLUMN), np.float32).T
    aligned = similarity[np.arange(len(queries)), rows]
    similarity[:, track.first_row : track.first_row + track.n_rows] = -np.inf
    return grid.start_s(first + np.arange(len(queries))), aligned, similarity.max(axis=1)


def draw_match(
    picture: str | os.PathLike,
    fingerprinter: Fingerprinter,
    store: Store,
    clip: np.ndarray,
    match: Match,
) -> None:
    """Draw the log-mels of reference and clip under one another, and the similarity below them.

    Args:
        picture: Where to write; the suffix chooses the format (.png, .svg, ...).
        clip: ``(n_samples,)`` at the sample rate of the fingerprinter.
        match: A match of this clip in ``store``, whose track still is the file it was made from.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rate_hz = fingerprinter.sample_rate_hz
    clip_start_s = match.start_s
    shown_s = (max(0.0, clip_start_s - CONTEXT_S), clip_start_s + len(clip) / rate_hz + CONTEXT_S)
    reference = read_audio(match.track, rate_hz, shown_s[0], shown_s[1] - shown_s[0])
    figure, axes = plt.subplots(
        3, 1, figsize=(9, 7), sharex=True, height_ratios=(3, 3, 2), layout="constrained"
    )
    _draw_log_mel(axes[0], fingerprinter, reference, shown_s[0])
    axes[0].set_title(f"reference: {Path(match.track).name}")
    _draw_log_mel(axes[1], fingerprinter, clip, clip_start_s)
    axes[1].set_title(
        f"clip, placed where it was found: from {clip_start_s:.2f} s (score {match.score:.2f})"
    )
    start_s, aligned, elsewhere = segment_similarities(fingerprinter, store, clip, match)
    _draw_hits(axes[2], start_s + fingerprinter.grid.duration_s / 2, aligned, elsewhere)
    axes[2].set_xlim(shown_s)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _draw_log_mel(axes, fingerprinter: Fingerprinter, samples: np.ndarray, start_s: float) -> None:
    from fingerprint.features import log_mel

    config = fingerprinter.config
    mels = log_mel(samples[None], sample_rate_hz=config.sample_rate_hz, **config.features)[0]
    end_s = start_s + len(samples) / config.sample_rate_hz
    # The upper 40 dB: below them a noisy clip shows its noise alone.
    axes.imshow(
        np.asarray(mels),
        origin="lower",
        aspect="auto",
        extent=(start_s, end_s, 0, config.features.n_mels),
        vmin=0.0,
        vmax=1.0,
        cmap="magma",
    )
    axes.set_ylabel("mel bin")


def _draw_hits(axes, centre_s: np.ndarray, aligned: np.ndarray, elsewhere: np.ndarray) -> None:
    hit = aligned > elsewhere
    axes.plot(centre_s, elsewhere, "-", color="0.6", label="best other track")
    axes.plot(centre_s, aligned, "-", color="tab:blue", label="this place of the reference")
    axes.plot(centre_s[hit], aligned[hit], "o", color="tab:green", label="hit")
    axes.plot(centre_s[~hit], aligned[~hit], "x", color="tab:red", label="miss")
    axes.set_ylim(min(0.0, aligned.min(), elsewhere.min()) - 0.05, 1.05)
    axes.set_ylabel("inner product")
    axes.set_xlabel("second of the reference")
    axes.legend(loc="lower right", ncols=4, fontsize="small")
