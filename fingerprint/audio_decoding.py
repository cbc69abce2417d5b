"""Decoding of audio files into checked mono blocks at their own sample rate; see ``audio``."""

import math
import os
import re
import stat
from collections.abc import Iterator

import numpy as np
import soundfile

from fingerprint import mp3_length, ogg_end
from fingerprint.container_audio import ContainerFile
from fingerprint.errors import FingerprintError

# Decoders overshoot full scale by a little; floats on the scale of 16-bit integers do by far.
_LOUDEST_PEAK = 16.0
# Encoder delay and padding make an MP3 a few frames shorter or longer than its header says.
_LENGTH_TOLERANCE_S = 0.1
# Half a step of 16-bit audio: whatever stays below would be all zeros in a 16-bit file.
SILENT_PEAK = 2.0**-16
_LONGEST_FRAMES = 2**48
_MAX_VALUES_PER_BLOCK = 2**24
MIN_SAMPLE_RATE_HZ = 1000
# Writers to a pipe put this chunk size, or a greater one, where they cannot know the length.
_UNKNOWN_CHUNK_SIZE = 0x7FFF0000
_CUT_CHUNK = re.compile(r"^ *(?:data|SSND) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
# These fit into int16, which libsndfile decodes several times faster than it converts to float.
_INT16_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8"})
Sound = soundfile.SoundFile | ContainerFile
FULL_SCALE = {"int8": 2.0**7, "uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


class AudioError(FingerprintError):
    """Audio that cannot be read or used, in one sentence with its path."""


class _ForwardFile(soundfile.SoundFile):
    """A file that is read on from where it stands.

    After each read soundfile seeks to where it is, if the file lets it. In an MP3, whose frames
    keep some of their bits in the frames before, the next samples would then be wrong.
    """

    def seekable(self) -> bool:
        """False; ``seek`` itself works as ever."""
        return False


def open_audio(path: str) -> Sound:
    """Open a file, with a sentence for each reason why that does not work."""
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # Opening a pipe that nobody writes to would wait for ever.
            raise AudioError(f"{path} is a pipe or a device, not a file: save the audio to a file.")
        # libsndfile has one message for a missing, a forbidden and a foreign file.
        with open(path, "rb") as file:
            if not file.read(1):
                raise AudioError(f"{path} is empty (0 bytes).")
        # As bytes: soundfile refuses names that are not in the encoding of the file system.
        sound = _ForwardFile(os.fsencode(path))
        if sound.format == "MP3" and (with_header := mp3_length.with_length(path)):
            sound.close()
            sound = _ForwardFile(with_header)
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror or error}.") from error
    except (soundfile.SoundFileError, TypeError, ValueError):
        # TypeError: the name ends in .raw, which says nothing about what is in it.
        sound = _open_container(path)
    try:
        _check_header(sound, path)
    except AudioError:
        sound.close()
        raise
    return sound


def _open_container(path: str) -> ContainerFile:
    try:
        return ContainerFile(path)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path} is not an audio file that can be decoded (WAV, FLAC, MP3, Ogg Vorbis, Opus, "
            "M4A, MP4, 3GP, AAC, AMR, WMA), or it is damaged or cut off."
        ) from error


def _check_header(sound: Sound, path: str) -> None:
    if sound.samplerate < MIN_SAMPLE_RATE_HZ:
        raise AudioError(
            f"{path} says that its sample rate is {sound.samplerate} Hz, "
            f"but less than {MIN_SAMPLE_RATE_HZ} Hz is no audio."
        )
    if sound.frames > _LONGEST_FRAMES:
        # libsndfile decodes such a stream, but loses its end.
        raise AudioError(
            f"{path} does not declare its length, as FLAC from a pipe: encode it to a file again."
        )
    if sound.format == "OGG" and not ogg_end.has_end(path):
        raise AudioError(
            f"{path} is truncated: no page of it ends the stream after the {sound.frames} samples "
            "that it holds; fetch it again, or encode what there is anew."
        )
    # libsndfile shortens a chunk that runs over the end of the file and only logs that it did.
    cut = _CUT_CHUNK.search(sound.extra_info)
    if cut:
        declared, present = map(int, cut.groups())
        if present < declared < _UNKNOWN_CHUNK_SIZE:
            raise AudioError(
                f"{path} is truncated: its header declares {declared} bytes of audio, "
                f"but it holds {present}."
            )


def mono_blocks(
    sound: Sound, path: str, block_s: float, first_s: int, last_s: float
) -> Iterator[np.ndarray]:
    """Decode [first_s, last_s) of a file into checked mono blocks ``(n,)`` at its own rate."""
    rate = sound.samplerate
    is_heard = is_cancelled = False
    for start, block in _decode(sound, path, block_s, first_s, last_s):
        mono = downmix(block)
        check_values(mono, path, start / rate, rate)
        is_heard = is_heard or peak_of(mono) >= SILENT_PEAK
        is_cancelled = is_cancelled or (not is_heard and _one_is_heard(block))
        yield mono
    if is_cancelled and not is_heard:
        raise _cancelled(path)


def _decode(
    sound: Sound, path: str, block_s: float, first_s: int, last_s: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Where each block starts, and its samples ``(n, n_channels)`` until the next one is asked."""
    rate = sound.samplerate
    first = first_s * rate
    last = math.ceil(min(last_s * rate, sound.frames))
    n_frames = max(1, min(round(block_s * rate), _MAX_VALUES_PER_BLOCK // sound.channels))
    dtype = "int16" if sound.subtype in _INT16_SUBTYPES else "float32"
    buffer = np.empty((min(n_frames, max(1, last - first)), sound.channels), dtype)
    position = first
    try:
        if first:
            sound.seek(first)
        while position < last:
            block = sound.read(out=buffer[: last - position])
            if not len(block):
                break
            yield position, block
            position += len(block)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path} is truncated or damaged: it declares {sound.frames / rate:.2f} s of audio, "
            f"but decoding breaks off after {sound.tell() / rate:.2f} s."
        ) from error
    if position < last - _LENGTH_TOLERANCE_S * rate:
        raise AudioError(
            f"{path} is truncated: it declares {sound.frames / rate:.2f} s of audio, "
            f"but ends after {position / rate:.2f} s."
        )


def downmix(samples: np.ndarray) -> np.ndarray:
    """Mean over the channels of ``(n, n_channels)``, as a new float32 array ``(n,)``."""
    full_scale = FULL_SCALE.get(samples.dtype.name, 1.0)
    if samples.dtype == np.uint8:
        samples = samples.astype(np.int16) - 128
    # Adding columns is ten times as fast as numpy's mean over so short an axis, and a matrix
    # product would spread over all cores. What is not finite is found afterwards.
    with np.errstate(invalid="ignore", over="ignore"):
        mono = samples[:, 0].astype(np.float32)
        for channel in range(1, samples.shape[1]):
            mono += samples[:, channel]
        mono *= np.float32(1 / (full_scale * samples.shape[1]))
    return mono


def check_channels(samples: np.ndarray, mono: np.ndarray, name: str) -> None:
    """Raise AudioError where ``(n, n_channels)`` can be heard, but not their mean ``(n,)``."""
    if peak_of(mono) < SILENT_PEAK and _one_is_heard(samples):
        raise _cancelled(name)


def _one_is_heard(samples: np.ndarray) -> bool:
    channels = range(samples.shape[1])
    return any(peak_of(downmix(samples[:, [channel]])) >= SILENT_PEAK for channel in channels)


def _cancelled(name: str) -> AudioError:
    return AudioError(
        f"The channels of {name} cancel each other out, so that their mean is silent: give one of "
        "them alone."
    )


def check_values(mono: np.ndarray, name: str, start_s: float, rate: int) -> None:
    """Raise AudioError where samples ``(n,)`` that start at ``start_s`` cannot be audio."""
    peak = peak_of(mono)
    if not np.isfinite(peak):
        at_s = start_s + int(np.argmin(np.isfinite(mono))) / rate
        raise AudioError(f"{name} holds NaN or infinite samples, the first at {at_s:.3f} s.")
    if peak > _LOUDEST_PEAK:
        raise AudioError(
            f"{name} peaks at {peak:.0f}, but floating-point audio lies between -1 and 1: "
            "divide it by its full scale."
        )


def peak_of(samples: np.ndarray) -> float:
    """Largest magnitude, 0 where there are no samples."""
    return np.abs(samples).max(initial=0.0)
