"""Spectral hashing: single peaks of the linear spectrogram, whose frequency bin is the whole hash.

Rice's system (report, and code mhrice/Spectral-Hashing-Fingerprinting): the peaks of a recording
are kept in one list of times per frequency bin, and a query is shifted along them until as many of
its peaks as can be coincide. `spectral_hash_index` does the latter.

The published threshold is absolute: a recording that is turned down loses its weakest peaks.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from fingerprint.errors import ConfigError
from fingerprint.landmark_peaks import cut_chunks, neighbourhood_peaks, power_spectrogram


@dataclasses.dataclass(frozen=True)
class SpectralHashSettings:
    """All parameters of spectral hashing; an index records them.

    The defaults are those of the publication, but for whole references. The verdict, of which it
    has none, is ours.

    Attributes:
        sample_rate_hz: rate of the audio that is analysed.
        n_fft: samples in a frame (periodic Hann window, no padding).
        hop_length: samples from one frame to the next.
        min_distance: a peak is the highest point of the square that reaches this far around it,
            in frames and in bins; nearer than this to the border of the spectrogram there are
            none.
        min_magnitude: a peak exceeds this, for audio in [-1, 1].
        reference_duration_s: references are cut to this length, or padded with silence (as
            published: 30); None takes them whole.
        min_votes: fewer votes earn only a part of the confidence that their p-value
            (`spectral_hash_index`) gives.
        max_p_value: what a match needed before whoever asks chose a confidence; indexes record
            it, and the verdict no longer depends on it.

    Raises:
        ConfigError: values that cannot work.
    """

    sample_rate_hz: int = 44100
    n_fft: int = 2048
    hop_length: int = 512
    min_distance: int = 10
    min_magnitude: float = 0.05
    reference_duration_s: float | None = None
    min_votes: int = 5
    max_p_value: float = 0.01

    def __post_init__(self):
        for name in ("sample_rate_hz", "n_fft", "hop_length", "min_distance"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but it has to be at least 1.")
        if self.n_bins <= 2 * self.min_distance:
            raise ConfigError(
                f"min_distance is {self.min_distance}, but all of the {self.n_bins} bins lie that "
                "near to a border: choose a larger n_fft or a smaller distance."
            )
        if self.reference_duration_s is not None and not self.reference_duration_s > 0:
            raise ConfigError(
                f"reference_duration_s is {self.reference_duration_s}: choose a positive number "
                "of seconds, or None for whole references."
            )

    @property
    def hop_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate_hz

    @property
    def n_bins(self) -> int:
        """Bins of the spectrogram."""
        return self.n_fft // 2 + 1

    @property
    def context_frames(self) -> int:
        """Frames before and after a chunk that are analysed with it."""
        return self.min_distance + 1


def extract_peaks(
    samples: np.ndarray, settings: SpectralHashSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of a query or a whole recording.

    Args:
        samples: (n_samples,) mono audio in [-1, 1] at ``settings.sample_rate_hz``.
        settings: the parameters.

    Returns:
        bins (n_peaks,) uint16 and frames (n_peaks,) uint32, by frame, then bin; none for silence
        or audio shorter than ``2 * min_distance + 1`` frames.
    """
    return extract_peaks_from_blocks([samples], settings)


def extract_peaks_from_blocks(
    blocks: Iterable[np.ndarray], settings: SpectralHashSettings
) -> tuple[np.ndarray, np.ndarray]:
    """`extract_peaks` of audio that comes in blocks ``(n_samples,)``, in bounded memory."""
    window = np.hanning(settings.n_fft + 1)[:-1].astype(np.float32)
    bins, frames, n_frames = [], [], 0
    chunks = cut_chunks(blocks, settings.n_fft, settings.hop_length, settings.context_frames)
    for samples, first_frame, kept in chunks:
        power = power_spectrogram(samples, window, settings.hop_length)
        chunk_frames, chunk_bins = neighbourhood_peaks(
            power, settings.min_distance, settings.min_distance
        )
        is_loud = power[chunk_frames, chunk_bins] > settings.min_magnitude**2
        chunk_frames = chunk_frames + first_frame
        is_kept = is_loud & (chunk_frames >= kept.start) & (chunk_frames < kept.stop)
        bins.append(chunk_bins[is_kept])
        frames.append(chunk_frames[is_kept])
        n_frames = first_frame + len(power)
    return _without_border(np.concatenate(bins), np.concatenate(frames), n_frames, settings)


def extract_reference_peaks(
    blocks: Iterable[np.ndarray], settings: SpectralHashSettings
) -> tuple[np.ndarray, np.ndarray]:
    """`extract_peaks_from_blocks` of a reference, brought to ``reference_duration_s`` if set."""
    if settings.reference_duration_s is not None:
        n_samples = round(settings.reference_duration_s * settings.sample_rate_hz)
        blocks = _of_length(blocks, n_samples)
    return extract_peaks_from_blocks(blocks, settings)


def _without_border(bins, frames, n_frames, settings) -> tuple[np.ndarray, np.ndarray]:
    """The peaks whose whole square lies within the spectrogram, in the types of an index."""
    margin = settings.min_distance
    is_inside = (frames >= margin) & (frames < n_frames - margin)
    is_inside &= (bins >= margin) & (bins < settings.n_bins - margin)
    return bins[is_inside].astype(np.uint16), frames[is_inside].astype(np.uint32)


def _of_length(blocks: Iterable[np.ndarray], n_samples: int) -> Iterator[np.ndarray]:
    """The first samples of a stream; where it is shorter, silence after it.

    All of the stream is read, so that a file that is damaged further on is refused nonetheless.
    """
    n_left = n_samples
    for block in blocks:
        if n_left:
            yield block[:n_left]
        n_left = max(0, n_left - len(block))
    if n_left:
        yield np.zeros(n_left, np.float32)
