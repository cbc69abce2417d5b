"""Parameters of landmark fingerprinting, and the published sets of them."""

import dataclasses

from fingerprint.errors import ConfigError

PICKERS = ("neighbourhood", "neighbourhood_psd", "decaying_threshold")

# audfprint's threshold has no end: after this many frames it has decayed to a twelfth.
_THRESHOLD_CONTEXT_FRAMES = 512


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
        min_prominence_db: a peak of a rectangle rises this far above the lowest bin that the
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
        min_aligned: fewer aligned landmarks earn only a part of the confidence that their p-value
            (`landmark_index`) gives.
        max_p_value: what a match needed before whoever asks chose a confidence; indexes record
            it, and the verdict no longer depends on it.

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
    max_p_value: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "hash_bits", tuple(self.hash_bits))
        for name in ("sample_rate_hz", "n_fft", "hop_length", "fan_out", "n_query_shifts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but it has to be at least 1.")
        if self.picker not in PICKERS:
            raise ConfigError(
                f"picker is {self.picker!r}; choose one of {', '.join(sorted(PICKERS))}."
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


# "default" was chosen on noisy and reverberant clips of 1 to 10 s. Denser peaks identify a few
# more of the shortest, at twice the hits per query. The others keep to the published parameters:
# - wang: the paper gives 10 bits to each of f1, f2 and dt, and a fan-out of 10 as its example;
#   rate, frames and neighbourhood are not printed and chosen here.
# - audfprint: audfprint_analyze.py and audfprint_match.py, whose table forgets the hashes beyond
#   100 in a bucket. It calls a match only what has 6 hits at one offset; here the p-value decides.
# - dejavu: fingerprint.py, with peaks of 3 dB of prominence. Its key is the start of a SHA-1 of
#   (f1, f2, dt); the triple fits 32 bits exactly, which is shorter, faster and free of collisions.
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
        max_dt_frames=62,
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
