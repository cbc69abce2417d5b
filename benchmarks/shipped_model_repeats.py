"""Whether a recording repeats what a clip was cut from at the place where the clip was found.

Music that is made of loops has its phrases several times, up to the samples. Which of them a clip
is from nobody can hear, so that a start at another of them is no error of whoever found it.
"""

import functools

import numpy as np
import scipy.signal

from fingerprint.audio import read_audio

RATE_HZ = 8_000
# Of the waveforms: where they differ by noise 6 dB below them, they correlate with that.
SAME_CORRELATION = 0.9


def is_repeated(
    path: str, start_s: float, found_s: float, duration_s: float, tolerance_s: float
) -> bool:
    """Whether ``duration_s`` seconds of a recording stand at two places, up to a small shift.

    Args:
        path: the recording.
        start_s: where they begin.
        found_s: where they may begin, too, up to ``tolerance_s``.
    """
    samples = _recording(path)
    n_samples, reach = round(duration_s * RATE_HZ), round(tolerance_s * RATE_HZ)
    clip = _part(samples, round(start_s * RATE_HZ), n_samples)
    around = _part(samples, round(found_s * RATE_HZ) - reach, n_samples + 2 * reach)
    products = scipy.signal.correlate(around, clip, "valid")
    until = np.concatenate([[0.0], np.cumsum(around**2)])
    energies = (until[n_samples:] - until[:-n_samples]) * np.sum(clip**2)
    loud = energies > 1e-6 * np.sum(clip**2) ** 2
    return bool(np.any(products[loud] >= SAME_CORRELATION * np.sqrt(energies[loud])))


@functools.lru_cache(maxsize=128)
def _recording(path: str) -> np.ndarray:
    return read_audio(path, RATE_HZ)


def _part(samples: np.ndarray, first: int, n_samples: int) -> np.ndarray:
    """Samples from ``first`` on, zeros beyond both ends."""
    before = max(0, -first)
    inside = samples[first + before : max(0, first + n_samples)]
    return np.pad(inside.astype(np.float64), (before, n_samples - before - len(inside)))
