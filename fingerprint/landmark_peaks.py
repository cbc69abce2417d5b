"""Spectrograms and their peaks, the points that landmarks and spectral hashes are made of.

Two ways from levels to peaks: the highest point of a rectangle, for a whole spectrogram at once,
and the decaying threshold of audfprint, which is a walk in time by its nature. Numpy and scipy
only.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.fft

# Values of the spectrogram that are worked on at once: what fits the cache of one core.
_VALUES_PER_CHUNK = 2**18
# Steps of `coarse_levels`: 128 to an octave of power.
COARSE_STEPS_PER_DB = 128 / (10 * np.log10(2))
# audfprint's own constants (audfprint_analyze.py).
_AUDFPRINT_RANGE = 1e6
_AUDFPRINT_POLE = 0.98
_AUDFPRINT_START_FRAMES = 10


def cut_chunks(
    blocks: Iterable[np.ndarray], n_fft: int, hop_length: int, context_frames: int
) -> Iterator[tuple[np.ndarray, int, range]]:
    """Cut a stream into overlapping chunks, whose borders depend on nothing but their position.

    Args:
        blocks: audio in blocks ``(n_samples,)`` of any lengths.
        n_fft: samples in a frame.
        hop_length: samples from one frame to the next.
        context_frames: frames before and after a chunk that are analysed with it.

    Yields:
        Samples ``(n,)`` float32, the frame that they start at, and the frames that the chunk
        answers for; the last chunk, which may be empty, answers for all frames to its end.
    """
    core = chunk_frames(n_fft, context_frames)
    held, held_frame, core_frame = np.zeros(0, np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, np.asarray(block, np.float32)])
        while True:
            n_frames = core_frame + core + context_frames - held_frame
            n_samples = (n_frames - 1) * hop_length + n_fft
            if len(held) < n_samples:
                break
            yield held[:n_samples], held_frame, range(core_frame, core_frame + core)
            core_frame += core
            next_frame = max(0, core_frame - context_frames)
            held = held[(next_frame - held_frame) * hop_length :]
            held_frame = next_frame
    yield held, held_frame, range(core_frame, core_frame + core + context_frames)


def chunk_frames(n_fft: int, context_frames: int) -> int:
    """Frames whose peaks are sought at once."""
    return max(_VALUES_PER_CHUNK // n_fft, 8 * context_frames)


def power_spectrogram(samples: np.ndarray, window: np.ndarray, hop_length: int) -> np.ndarray:
    """Squared magnitudes of the frames that lie wholly within the audio.

    Args:
        samples: (n_samples,) float32.
        window: (n_fft,) float32.
        hop_length: samples from one frame to the next.

    Returns:
        (n_frames, n_fft // 2 + 1) float32; frame ``t`` starts at sample ``t * hop_length``.
    """
    if len(samples) < len(window):
        return np.zeros((0, len(window) // 2 + 1), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, len(window))[::hop_length]
    spectrum = scipy.fft.rfft(frames * window, workers=1)
    return spectrum.real**2 + spectrum.imag**2


def coarse_levels(power: np.ndarray) -> np.ndarray:
    """Logarithm of float32 powers as int16 of the same shape, 128 steps to an octave.

    The upper half of the bits of a float32 is its exponent and seven bits of its mantissa: a
    monotone logarithm (0.0235 dB a step, at most 0.26 dB off) that costs nothing, takes half the
    memory, and to which a gain by a power of two adds a constant exactly.
    """
    return (power.view(np.int32) >> 16).astype(np.int16)


def high_pass_levels(power: np.ndarray) -> np.ndarray:
    """Log magnitude less its mean, each bin high-passed along time, as audfprint has it.

    Args:
        power: (n_frames, n_bins).

    Returns:
        (n_frames, n_bins) float32, in nepers.
    """
    magnitude = np.sqrt(power)
    loudest = magnitude.max(initial=0.0)
    if loudest == 0:
        return magnitude
    levels = np.log(np.maximum(magnitude, loudest / _AUDFPRINT_RANGE))
    levels -= levels.mean()
    pole = np.array([1, -_AUDFPRINT_POLE], np.float32)
    # Takes a second to load, and only audfprint's peaks need it.
    from scipy.signal import lfilter

    return lfilter(np.array([1, -1], np.float32), pole, levels, axis=0)


def running_maximum(values: np.ndarray, half_width: int, axis: int) -> np.ndarray:
    """Maximum over ``2 * half_width + 1`` neighbours along an axis, in log2 as many passes."""
    width = 2 * half_width + 1
    lowest = np.iinfo(values.dtype).min if values.dtype.kind == "i" else -np.inf
    padding = [(0, 0)] * values.ndim
    padding[axis] = (half_width, half_width)
    maxima = np.moveaxis(np.pad(values, padding, constant_values=lowest), axis, 0)
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        maxima = np.maximum(maxima[:-step], maxima[step:])
        covered += step
    return np.moveaxis(maxima, 0, axis)


def neighbourhood_peaks(
    levels: np.ndarray, half_width_frames: int, half_width_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points that no point of the rectangle around them exceeds.

    A point that equals the one before it, in time or in frequency, is no peak: flat ground, as
    silence, a click and a steady tone make it, has none.

    Args:
        levels: (n_frames, n_bins).
        half_width_frames: reach of the rectangle before and after the point.
        half_width_bins: reach below and above it.

    Returns:
        frames and bins, (n_peaks,) int64 each, ordered by frame, then bin.
    """
    highest = running_maximum(levels, half_width_bins, axis=1)
    highest = running_maximum(highest, half_width_frames, axis=0)
    is_peak = levels == highest
    is_peak[1:] &= levels[1:] > levels[:-1]
    is_peak[:, 1:] &= levels[:, 1:] > levels[:, :-1]
    return np.nonzero(is_peak)


def prominence(
    levels: np.ndarray, frames: np.ndarray, bins: np.ndarray, half_width_bins: int
) -> np.ndarray:
    """How far peaks rise above the lowest of the bins around them in their frame, (n_peaks,)."""
    if len(bins) == 0:
        return np.zeros(0)
    around = bins[:, None] + np.arange(-half_width_bins, half_width_bins + 1)
    around = np.clip(around, 0, levels.shape[1] - 1)
    return levels[frames, bins] - levels[frames[:, None], around].min(axis=1).astype(np.float64)


def decaying_threshold_peaks(
    levels: np.ndarray, decay: float, spread_bins: float, peaks_per_frame: int
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks above a threshold that each peak raises around it and that decays, both ways in time.

    audfprint's picker: forwards, the highest local maxima above the threshold (at most
    ``peaks_per_frame``) are peaks, and each lifts the threshold to a Gaussian of its height;
    backwards, peaks that the same threshold of later ones hides are dropped, and so is a peak
    that follows another in the same bin at once.

    Args:
        levels: (n_frames, n_bins) float32.
        decay: factor of the threshold from frame to frame.
        spread_bins: standard deviation of the Gaussian.
        peaks_per_frame: most peaks that a frame keeps.

    Returns:
        frames and bins, (n_peaks,) int64 each, ordered by frame, then bin.
    """
    n_frames, n_bins = levels.shape
    is_peak = np.zeros(levels.shape, bool)
    if n_frames == 0:
        return np.nonzero(is_peak)
    distance = np.arange(n_bins)[:, None] - np.arange(n_bins)
    spread = np.exp(-0.5 * (distance / spread_bins) ** 2).astype(np.float32)

    threshold = _spread_local_maxima(levels[:_AUDFPRINT_START_FRAMES].max(axis=0), spread)
    local_maxima = _local_maxima(levels)
    for t, row in enumerate(levels):
        bins = np.flatnonzero(local_maxima[t] & (row > threshold))
        for f in bins[np.argsort(-row[bins], kind="stable")][:peaks_per_frame]:
            np.maximum(threshold, row[f] * spread[f], out=threshold)
            is_peak[t, f] = True
        threshold *= decay

    threshold = _spread_local_maxima(levels[-1], spread)
    for t in range(n_frames - 1, -1, -1):
        bins = np.flatnonzero(is_peak[t])
        for f in bins[np.argsort(-levels[t, bins], kind="stable")]:
            if levels[t, f] < threshold[f]:
                is_peak[t, f] = False
                continue
            np.maximum(threshold, levels[t, f] * spread[f], out=threshold)
            is_peak[t + 1 : t + 2, f] = False
        threshold *= decay
    return np.nonzero(is_peak)


def _local_maxima(levels: np.ndarray) -> np.ndarray:
    """Where a bin is higher than the one below and no lower than the one above: (..., n_bins)."""
    is_maximum = np.ones(levels.shape, bool)
    is_maximum[..., 1:] = levels[..., 1:] > levels[..., :-1]
    is_maximum[..., :-1] &= levels[..., :-1] >= levels[..., 1:]
    return is_maximum


def _spread_local_maxima(row: np.ndarray, spread: np.ndarray) -> np.ndarray:
    bins = np.flatnonzero(_local_maxima(row))
    return (row[bins, None] * spread[bins]).max(axis=0, initial=0.0).astype(np.float32)
