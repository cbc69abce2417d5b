"""Round trips through lossy codecs, MP3 and Opus, with the delay that they cause taken out."""

import dataclasses
import functools
import io

import numpy as np
import soundfile
from scipy import signal

from fingerprint.evaluation.degradations import DegradationError

# libsndfile takes a compression level from 0 to 1 and makes a bit rate of it, linearly between
# the least and the greatest; MP3 then takes the nearest bit rate that the standard has.
_MP3_RATES_HZ = {
    (8_000, 11_025, 12_000): (8, 16, 24, 32, 40, 48, 56, 64),
    (16_000, 22_050, 24_000): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32_000, 44_100, 48_000): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
_OPUS_KBIT_S = (6, 256)
# libsndfile refuses level 1 for MP3.
_GREATEST_LEVEL = 0.9999
_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III", "CONSTANT"), "opus": ("OGG", "OPUS", None)}


@dataclasses.dataclass(frozen=True)
class Codec:
    """A codec "mp3" or "opus" at a bit rate, written "mp3:64"."""

    name: str
    kbit_s: int

    @classmethod
    def parse(cls, text: str) -> "Codec":
        """Read "mp3:64".

        Raises:
            DegradationError: this names no codec.
        """
        name, _, kbit_s = text.partition(":")
        if name not in _FORMATS or not kbit_s.isdecimal():
            raise DegradationError(
                f"{text!r} names no codec: write mp3 or opus, a colon and the kbit/s, as mp3:64."
            )
        return cls(name, int(kbit_s))

    def level(self, sample_rate_hz: int) -> float:
        """libsndfile's compression level for this bit rate.

        Raises:
            DegradationError: the codec has no such bit rate at this sample rate.
        """
        low, *_, high = rates = self._bit_rates(sample_rate_hz)
        known = self.kbit_s in rates if self.name == "mp3" else low <= self.kbit_s <= high
        if not known:
            listed = ", ".join(map(str, rates)) if self.name == "mp3" else f"{low} to {high}"
            raise DegradationError(
                f"{self.name} at {sample_rate_hz} Hz has no {self.kbit_s} kbit/s: choose {listed}."
            )
        return min((high - self.kbit_s) / (high - low), _GREATEST_LEVEL)

    def _bit_rates(self, sample_rate_hz: int) -> tuple[int, ...]:
        if self.name == "opus" and sample_rate_hz in _OPUS_RATES_HZ:
            return _OPUS_KBIT_S
        for sample_rates_hz, bit_rates in _MP3_RATES_HZ.items():
            if self.name == "mp3" and sample_rate_hz in sample_rates_hz:
                return bit_rates
        raise DegradationError(
            f"{self.name} does not know the sample rate {sample_rate_hz} Hz: make the queries at "
            "16000 Hz."
        )


def round_trip(samples: np.ndarray, sample_rate_hz: int, codec: Codec) -> np.ndarray:
    """Encode and decode ``(n,)`` float32 at its own sample rate, aligned: ``(n,)``, peak <= 1.

    Raises:
        DegradationError: the codec cannot do this sample rate or bit rate.
    """
    delay = codec_delay(sample_rate_hz, codec)
    decoded = _coded(samples, sample_rate_hz, codec)[delay : delay + len(samples)]
    decoded = np.pad(decoded, (0, len(samples) - len(decoded)))
    return decoded / max(np.float32(1), np.max(np.abs(decoded)))


@functools.cache
def codec_delay(sample_rate_hz: int, codec: Codec) -> int:
    """Samples by which a round trip delays the sound, measured on a second of noise.

    It depends on the version of the libraries, and on whether the encoder's note of its own
    delay fits into a frame, which it does not at low bit rates.
    """
    # Codecs keep the waveform of low frequencies even where they replace the high ones.
    sections = signal.butter(2, 0.2, output="sos")
    noise = np.random.default_rng(0).uniform(-1, 1, sample_rate_hz)
    noise = (0.5 * signal.sosfilt(sections, noise)).astype(np.float32)
    decoded = _coded(noise, sample_rate_hz, codec)
    correlation = signal.correlate(decoded, noise, method="fft")
    return max(0, int(np.argmax(correlation)) - (len(noise) - 1))


def _coded(samples: np.ndarray, sample_rate_hz: int, codec: Codec) -> np.ndarray:
    file_format, subtype, mode = _FORMATS[codec.name]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate_hz, 1, subtype, format=file_format,
        compression_level=codec.level(sample_rate_hz), bitrate_mode=mode,
    ) as encoder:  # fmt: skip
        encoder.write(samples)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]
