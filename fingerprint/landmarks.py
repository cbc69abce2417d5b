"""Landmarks: hashes of pairs of spectrogram peaks (Wang, ISMIR 2003), and their parameters.

A landmark is two peaks near each other in time and frequency: its hash packs the bin of the
first, the bin of the second (or their distance) and the frames between them; its frame is that of
the first. Audio is analysed in chunks whose borders depend on nothing but their position in the
stream, so that an hour-long file needs no more memory than a chunk of it, and gives the same
landmarks however it is cut into blocks.

`landmark_index` finds them again.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from fingerprint.errors import ConfigError
from fingerprint.landmark_peaks import (
    coarse_levels,
    decaying_threshold_peaks,
    high_pass_levels,
    neighbourhood_peaks,
    power_spectrogram,
    prominence,
)

# Values of the spectrogram that are worked on at once: what fits the cache of one core.
_VALUES_PER_CHUNK = 2**18
# audfprint's threshold has no end: after this many frames it has decayed to a twelfth.
_THRESHOLD_CONTEXT_FRAMES = 512
_COARSE_STEPS_PER_DB = 128 / (10 * np.log10(2))
_FULL_SCALE_INT16 = 32768.0


@dataclasses.dataclass(frozen=True)
class LandmarkSettings:
    """All parameters of landmark fingerprinting; an index records them.

    Attributes:
        sample_rate_hz: rate of the audio that is analysed.
        n_fft: samples in a frame (Hann window).
        hop_length: samples from one frame to the next.
        picker: "neighbourhood" (highest point of a rectangle), "neighbourhood_psd" (the same on
            the power density of 16-bit samples in dB, zeros kept 0, as Dejavu), or
            "decaying_threshold" (audfprint).
        half_width_frames: reach of the rectangle in time, for the neighbourhood pickers.
        half_width_bins: its reach in frequency.
        min_prominence_db: a peak of "neighbourhood" rises this far above the lowest bin that the
            rectangle has in the peak's frame: clicks, whose spectra are flat, have no peaks.
        min_level_db: what a peak of "neighbourhood_psd" exceeds. It is absolute: such landmarks
            depend on the gain.
        threshold_density: audfprint's "density", which sets how fast its threshold decays.
        threshold_spread_bins: standard deviation of the Gaussian that a peak lifts it to.
        peaks_per_frame: most peaks of a frame, for "decaying_threshold".
        fan_out: most landmarks that start at one peak.
        max_df_bins: the second peak is less than this many bins away; None: any bin.
        min_dt_frames: least distance of the two peaks in time.
        max_dt_frames: greatest distance.
        hash_bits: bits for the first bin, the second bin (relative to the first if ``max_df_bins``
            is set), and the distance in time; 32 in all at most.
        n_query_shifts: a query is analysed at this many offsets of a fraction of a hop, so that
            its frames come near those of the reference.
        match_window_frames: hits this far from an offset count for it.
        min_aligned: a match has at least this many aligned landmarks.

    Raises:
        ConfigError: values that cannot work together.
    """

    sample_rate_hz: int = 8000
    n_fft: int = 1024
    hop_length: int = 256
    picker: str = "neighbourhood"
    half_width_frames: int = 4
    half_width_bins: int = 8
    min_prominence_db: float = 3.0
    min_level_db: float = 10.0
    threshold_density: float = 20.0
    threshold_spread_bins: float = 30.0
    peaks_per_frame: int = 5
    fan_out: int = 4
    max_df_bins: int | None = 32
    min_dt_frames: int = 2
    max_dt_frames: int = 63
    hash_bits: tuple[int, int, int] = (9, 6, 6)
    n_query_shifts: int = 4
    match_window_frames: int = 2
    min_aligned: int = 5

    def __post_init__(self):
        object.__setattr__(self, "hash_bits", tuple(self.hash_bits))
        for name in ("sample_rate_hz", "n_fft", "hop_length", "fan_out", "n_query_shifts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but it has to be at least 1.")
        if self.picker not in _PICKERS:
            raise ConfigError(
                f"picker is {self.picker!r}; choose one of {', '.join(sorted(_PICKERS))}."
            )
        if not 0 <= self.min_dt_frames <= self.max_dt_frames:
            raise ConfigError(
                f"min_dt_frames is {self.min_dt_frames} and max_dt_frames {self.max_dt_frames}: "
                "choose 0 <= min_dt_frames <= max_dt_frames."
            )
        second = self.n_bins if self.max_df_bins is None else 2 * self.max_df_bins
        needed = [(n - 1).bit_length() for n in (self.n_bins, second, self.max_dt_frames + 1)]
        if sum(self.hash_bits) > 32 or any(
            bits < least for bits, least in zip(self.hash_bits, needed, strict=True)
        ):
            raise ConfigError(
                f"hash_bits is {self.hash_bits}, but bins and distances need {tuple(needed)} bits "
                "and a hash has 32: choose a smaller n_fft or target zone."
            )

    @property
    def hop_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate_hz

    @property
    def n_bins(self) -> int:
        """Bins in which peaks are sought: the Nyquist bin is left out, but for Dejavu."""
        return self.n_fft // 2 + (self.picker == "neighbourhood_psd")

    @property
    def context_frames(self) -> int:
        """Frames before and after a chunk that are analysed with it."""
        if self.picker == "decaying_threshold":
            return _THRESHOLD_CONTEXT_FRAMES
        return self.half_width_frames + 1

    @property
    def chunk_frames(self) -> int:
        """Frames whose peaks are sought at once."""
        return max(_VALUES_PER_CHUNK // self.n_fft, 8 * self.context_frames)


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
    for samples, first_frame, kept in _cut_chunks(blocks, settings):
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


def _cut_chunks(
    blocks: Iterable[np.ndarray], settings: LandmarkSettings
) -> Iterator[tuple[np.ndarray, int, range]]:
    """Overlapping chunks of audio, the frame each starts at, and the frames it answers for."""
    core, context, hop = settings.chunk_frames, settings.context_frames, settings.hop_length
    held, held_frame, core_frame = np.zeros(0, np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, np.asarray(block, np.float32)])
        while True:
            n_frames = core_frame + core + context - held_frame
            n_samples = (n_frames - 1) * hop + settings.n_fft
            if len(held) < n_samples:
                break
            yield held[:n_samples], held_frame, range(core_frame, core_frame + core)
            core_frame += core
            next_frame = max(0, core_frame - context)
            held = held[(next_frame - held_frame) * hop :]
            held_frame = next_frame
    yield held, held_frame, range(core_frame, core_frame + core + context)


def _find_peaks(samples: np.ndarray, settings: LandmarkSettings) -> tuple[np.ndarray, np.ndarray]:
    """Frames and bins of the peaks, (n_peaks,) each, by frame, then bin."""
    # The symmetric Hann window without its zeros, as audfprint has it.
    window = np.hanning(settings.n_fft + 2)[1:-1].astype(np.float32)
    power = power_spectrogram(samples, window, settings.hop_length)
    return _PICKERS[settings.picker](power[:, : settings.n_bins], window, settings)


def _pick_neighbourhood(power, window, settings):
    levels = coarse_levels(power)
    frames, bins = neighbourhood_peaks(levels, settings.half_width_frames, settings.half_width_bins)
    rise = prominence(levels, frames, bins, settings.half_width_bins)
    keep = rise >= settings.min_prominence_db * _COARSE_STEPS_PER_DB
    return frames[keep], bins[keep]


def _pick_neighbourhood_psd(power, window, settings):
    density = power * (2 * _FULL_SCALE_INT16**2 / (settings.sample_rate_hz * (window**2).sum()))
    density[:, [0, -1]] /= 2  # one-sided: these two bins have no mirror image
    levels = 10 * np.log10(density, out=np.zeros_like(density), where=density > 0)
    frames, bins = neighbourhood_peaks(levels, settings.half_width_frames, settings.half_width_bins)
    keep = levels[frames, bins] > settings.min_level_db
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
    return (rows & np.uint64(0xFFFFFFFF)).astype(np.uint32), (rows >> np.uint64(32)).astype(
        np.uint32
    )


# "default" is what did best, of those that meet the speed goals, on noisy and reverberant
# queries of 1 to 10 s. The others keep to the published parameters:
# - wang: the paper gives 10 bits to each of f1, f2 and dt, and a fan-out of 10 as its example;
#   rate, frames and neighbourhood are not printed and chosen here.
# - audfprint: audfprint_analyze.py and audfprint_match.py.
# - dejavu: fingerprint.py. Its key is the start of a SHA-1 of (f1, f2, dt); the triple fits 32
#   bits exactly, which is shorter, faster and free of collisions.
PRESETS: dict[str, LandmarkSettings] = {
    "default": LandmarkSettings(),
    "wang": LandmarkSettings(
        n_fft=2048,
        half_width_frames=8,
        half_width_bins=32,
        fan_out=10,
        max_df_bins=None,
        min_dt_frames=1,
        hash_bits=(10, 10, 10),
        n_query_shifts=1,
        match_window_frames=1,
    ),
    "audfprint": LandmarkSettings(
        sample_rate_hz=11025,
        n_fft=512,
        picker="decaying_threshold",
        fan_out=3,
        max_df_bins=31,
        hash_bits=(8, 6, 6),
    ),
    "dejavu": LandmarkSettings(
        sample_rate_hz=44100,
        n_fft=4096,
        hop_length=2048,
        picker="neighbourhood_psd",
        half_width_frames=10,
        half_width_bins=10,
        max_df_bins=None,
        min_dt_frames=0,
        max_dt_frames=200,
        hash_bits=(12, 12, 8),
        n_query_shifts=1,
        match_window_frames=0,
    ),
}
