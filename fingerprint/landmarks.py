"""Landmarks: hashes of pairs of spectrogram peaks (Wang, ISMIR 2003).

A landmark is two peaks near each other in time and frequency: its hash packs the bin of the
first, the bin of the second (or their distance) and the frames between them; its frame is that of
the first. Audio is analysed in chunks whose borders depend on nothing but their position in the
stream, so that an hour-long file needs no more memory than a chunk of it, and gives the same
landmarks however it is cut into blocks.

`landmark_index` finds them again.
"""

from collections.abc import Iterable

import numpy as np

from fingerprint.landmark_peaks import (
    COARSE_STEPS_PER_DB,
    coarse_levels,
    cut_chunks,
    decaying_threshold_peaks,
    high_pass_levels,
    neighbourhood_peaks,
    power_spectrogram,
    prominence,
)
from fingerprint.landmark_settings import PRESETS, LandmarkSettings

__all__ = [
    "PRESETS",
    "LandmarkSettings",
    "extract_landmarks",
    "extract_landmarks_from_blocks",
    "extract_query_landmarks",
]

_FULL_SCALE_INT16 = 32768.0


def extract_landmarks(
    samples: np.ndarray, settings: LandmarkSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of a whole recording.

    Args:
        samples: (n_samples,) mono audio at ``settings.sample_rate_hz``.
        settings: the parameters.

    Returns:
        hashes and frames, (n_landmarks,) uint32 each, by frame, then hash, each pair once; none
        for silence or audio shorter than a frame.
    """
    return extract_landmarks_from_blocks([samples], settings)


def extract_landmarks_from_blocks(
    blocks: Iterable[np.ndarray], settings: LandmarkSettings
) -> tuple[np.ndarray, np.ndarray]:
    """`extract_landmarks` of audio that comes in blocks ``(n_samples,)``, in bounded memory."""
    frames, bins = [], []
    chunks = cut_chunks(blocks, settings.n_fft, settings.hop_length, settings.context_frames)
    for samples, first_frame, kept in chunks:
        chunk_frames, chunk_bins = _find_peaks(samples, settings)
        chunk_frames = chunk_frames + first_frame
        is_kept = (chunk_frames >= kept.start) & (chunk_frames < kept.stop)
        frames.append(chunk_frames[is_kept])
        bins.append(chunk_bins[is_kept])
    return _pair_peaks(np.concatenate(frames), np.concatenate(bins), settings)


def extract_query_landmarks(
    samples: np.ndarray, settings: LandmarkSettings
) -> tuple[np.ndarray, np.ndarray]:
    """`extract_landmarks` of a query, at ``n_query_shifts`` offsets within a hop, merged.

    The frames of a reference and of a query out of its middle do not coincide; one of the offsets
    comes within ``hop_length / (2 * n_query_shifts)`` samples of it (audfprint).
    """
    shifts = np.arange(settings.n_query_shifts) * settings.hop_length // settings.n_query_shifts
    parts = [extract_landmarks(samples[shift:], settings) for shift in shifts]
    return _sorted_unique(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _find_peaks(samples: np.ndarray, settings: LandmarkSettings) -> tuple[np.ndarray, np.ndarray]:
    """Frames and bins of the peaks, (n_peaks,) each, by frame, then bin."""
    # The symmetric Hann window without its zeros, as audfprint has it.
    window = np.hanning(settings.n_fft + 2)[1:-1].astype(np.float32)
    power = power_spectrogram(samples, window, settings.hop_length)
    return _PICKERS[settings.picker](power[:, : settings.n_bins], window, settings)


def _pick_neighbourhood(power, window, settings):
    return _prominent_peaks(coarse_levels(power), COARSE_STEPS_PER_DB, settings)


def _pick_neighbourhood_psd(power, window, settings):
    density = power * (2 * _FULL_SCALE_INT16**2 / (settings.sample_rate_hz * (window**2).sum()))
    density[:, [0, -1]] /= 2  # one-sided: these two bins have no mirror image
    levels = 10 * np.log10(density, out=np.zeros_like(density), where=density > 0)
    frames, bins = _prominent_peaks(levels, 1.0, settings)
    keep = levels[frames, bins] > settings.min_level_db
    return frames[keep], bins[keep]


def _prominent_peaks(levels, steps_per_db, settings):
    frames, bins = neighbourhood_peaks(levels, settings.half_width_frames, settings.half_width_bins)
    rise = prominence(levels, frames, bins, settings.half_width_bins)
    keep = rise >= settings.min_prominence_db * steps_per_db
    return frames[keep], bins[keep]


def _pick_decaying_threshold(power, window, settings):
    decay = 1 - 0.01 * settings.threshold_density * np.sqrt(settings.hop_length / 352.8) / 35
    return decaying_threshold_peaks(
        high_pass_levels(power), decay, settings.threshold_spread_bins, settings.peaks_per_frame
    )


_PICKERS = {
    "neighbourhood": _pick_neighbourhood,
    "neighbourhood_psd": _pick_neighbourhood_psd,
    "decaying_threshold": _pick_decaying_threshold,
}


def _pair_peaks(
    frames: np.ndarray, bins: np.ndarray, settings: LandmarkSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and frames of each peak with the first ``fan_out`` peaks of its target zone.

    All peaks look at their next neighbour at once, then at the one after, until each has its
    landmarks or has come to the end of its zone.
    """
    n_paired = np.zeros(len(frames), np.int64)
    seeking = np.arange(len(frames))
    hashes, starts = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    step = 0
    while len(seeking):
        step += 1
        seeking = seeking[seeking + step < len(frames)]
        seeking = seeking[frames[seeking + step] - frames[seeking] <= settings.max_dt_frames]
        in_zone = frames[seeking + step] - frames[seeking] >= settings.min_dt_frames
        if settings.max_df_bins is not None:
            in_zone &= np.abs(bins[seeking + step] - bins[seeking]) < settings.max_df_bins
        first = seeking[in_zone]
        hashes.append(_pack(frames, bins, first, first + step, settings))
        starts.append(frames[first])
        n_paired[first] += 1
        seeking = seeking[n_paired[seeking] < settings.fan_out]
    return _sorted_unique(np.concatenate(hashes), np.concatenate(starts))


def _pack(frames, bins, first, second, settings) -> np.ndarray:
    """Exact packing of (first bin, second bin, frames between) into uint32."""
    _, second_bits, dt_bits = settings.hash_bits
    second_bins = bins[second]
    if settings.max_df_bins is not None:
        second_bins = second_bins - bins[first] + settings.max_df_bins
    packed = (bins[first] << second_bits) | second_bins
    return ((packed << dt_bits) | (frames[second] - frames[first])).astype(np.uint32)


def _sorted_unique(hashes: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct (hash, frame) pairs by frame, then hash, as uint32."""
    rows = np.unique(frames.astype(np.uint64) << np.uint64(32) | hashes.astype(np.uint64))
    hashes, frames = rows & np.uint64(0xFFFFFFFF), rows >> np.uint64(32)
    return hashes.astype(np.uint32), frames.astype(np.uint32)
