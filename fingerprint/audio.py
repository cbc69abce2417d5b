"""Any audio file or array -> mono float32 at one sample rate, whole or in bounded blocks.

Channels are averaged, then resampled by a streaming resampler, so that an hour of audio needs no
more memory than a block of it, and one block after the other is the whole file.

A file that ends before its header says (a download that broke off, a full disk) is refused: what
is missing could not be recognised later, and nobody would know. Ogg Vorbis and Opus declare no
length, but are refused without the page that ends them. Streams that say nothing of their end (MP3
without a Xing header, WAV written to a pipe, MP4 in fragments) are read to it; only FLAC without a
length is refused. Of MP3s that were joined end to end only the first one is read, whose header
speaks of itself alone.
"""

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from fingerprint.audio_decoding import (
    FULL_SCALE,
    MIN_SAMPLE_RATE_HZ,
    SILENT_PEAK,
    AudioError,
    check_channels,
    check_values,
    downmix,
    mono_blocks,
    open_audio,
    peak_of,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioError",
    "find_audio",
    "from_array",
    "iter_blocks",
    "read_audio",
    "read_duration_s",
]

AUDIO_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus"}
    | {".rf64", ".w64", ".wav", ".wave"}
    | {".3g2", ".3gp", ".3gpp", ".aac", ".amr", ".awb", ".m4a", ".m4b", ".mka", ".mov", ".mp4"}
    | {".weba", ".webm", ".wma", ".wv"}
)

_SHORTEST_S = 0.001
# soxr's "HQ" takes hardly longer than its lower qualities, and far less than the decoding.
_RESAMPLER_QUALITY = "HQ"
# Longer than the resampler's impulse response, so that an excerpt equals that part of the whole.
_EXCERPT_MARGIN_S = 0.25
_DEFAULT_BLOCK_S = 30.0


def read_audio(
    path: str | Path, sample_rate_hz: int, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Read a file, or an excerpt of it, as mono audio.

    Args:
        path: a file that libsndfile decodes, or FFmpeg, see `container_audio`.
        sample_rate_hz: the rate to resample to.
        start_s: where the excerpt starts.
        duration_s: its length; it is shorter where the file ends. None: up to the end.

    Returns:
        Samples ``(n_samples,)`` float32 in [-1, 1]; an excerpt holds the samples of the whole.

    Raises:
        AudioError: the file cannot be read, or nothing in it (or in the excerpt) can be used.
    """
    path = str(path)
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise AudioError(
            f"start_s {start_s} and duration_s {duration_s} are no excerpt of {path}: "
            "choose a start of at least 0 and a positive duration."
        )
    # At whole seconds the samples of both rates coincide, so that excerpt and whole are in phase.
    first_s = max(0, math.floor(start_s - _EXCERPT_MARGIN_S))
    start = round((start_s - first_s) * sample_rate_hz)
    stop = None if duration_s is None else start + round(duration_s * sample_rate_hz)
    with open_audio(path) as sound:
        whole_s = sound.frames / sound.samplerate
        if start_s > 0 and start_s >= whole_s:
            raise AudioError(
                f"{path} ends after {whole_s:.2f} s, before the excerpt that starts at {start_s} s."
            )
        last_s = math.inf if stop is None else first_s + stop / sample_rate_hz + _EXCERPT_MARGIN_S
        blocks = mono_blocks(sound, path, _DEFAULT_BLOCK_S, first_s, last_s)
        samples = _collect(blocks, sound.samplerate, sample_rate_hz)[start:stop]
    end_s = whole_s if duration_s is None else min(whole_s, start_s + duration_s)
    excerpt_s = None if (start_s, end_s) == (0, whole_s) else (start_s, end_s)
    _check_usable(path, len(samples), peak_of(samples), sample_rate_hz, excerpt_s)
    return samples


def iter_blocks(
    path: str | Path, sample_rate_hz: int, block_s: float = _DEFAULT_BLOCK_S
) -> Iterator[np.ndarray]:
    """Read a file block by block in bounded memory; one after the other they are ``read_audio``.

    Args:
        path: a file that libsndfile decodes, or FFmpeg, see `container_audio`.
        sample_rate_hz: the rate to resample to.
        block_s: seconds of audio that are held at once.

    Yields:
        Samples ``(n_samples,)`` float32 in [-1, 1]; n varies from block to block.

    Raises:
        AudioError: as ``read_audio``, as soon as it can be known; that a file is silent or ends
            too early is known at its end.
    """
    path = str(path)
    n_samples, peak = 0, 0.0
    with open_audio(path) as sound:
        blocks = mono_blocks(sound, path, block_s, 0, math.inf)
        for block in _resample(blocks, sound.samplerate, sample_rate_hz):
            n_samples += len(block)
            peak = max(peak, peak_of(block))
            yield block
    _check_usable(path, n_samples, peak, sample_rate_hz)


def read_duration_s(path: str | Path) -> float:
    """Length of a file in seconds as far as it is known without decoding.

    What ``iter_blocks`` yields of a file that it does not refuse is shorter by 0.1 s at most.

    Raises:
        AudioError: the file cannot be opened, or its header shows that it cannot be used.
    """
    with open_audio(str(path)) as sound:
        return sound.frames / sound.samplerate


def from_array(samples: np.ndarray, sample_rate_hz: int, target_sample_rate_hz: int) -> np.ndarray:
    """Bring audio that is already in memory into the form that ``read_audio`` returns.

    Args:
        samples: ``(n,)`` or ``(n, n_channels)``: float in [-1, 1], or int8, uint8, int16 or
            int32 on their full scale.
        sample_rate_hz: the rate of ``samples``.
        target_sample_rate_hz: the rate to resample to.

    Returns:
        Samples ``(n_samples,)`` float32 in [-1, 1].

    Raises:
        AudioError: the array or a rate is not audio, or nothing in it can be used.
    """
    name = "the array"
    samples = np.asarray(samples)
    for rate in (sample_rate_hz, target_sample_rate_hz):
        if not rate >= MIN_SAMPLE_RATE_HZ or rate % 1:
            raise AudioError(
                f"A sample rate of {rate!r} Hz is not a whole number of at least "
                f"{MIN_SAMPLE_RATE_HZ}."
            )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > len(samples) > 0):
        raise AudioError(
            f"Audio in an array has the shape (n_samples,) or (n_samples, n_channels), "
            f"not {samples.shape}."
        )
    if not (samples.dtype.kind == "f" or samples.dtype.name in FULL_SCALE):
        raise AudioError(
            f"Audio in an array is float, or one of {', '.join(FULL_SCALE)}, not {samples.dtype}."
        )
    channels = samples if samples.ndim == 2 else samples[:, None]
    mono = downmix(channels)
    check_values(mono, name, 0.0, int(sample_rate_hz))
    check_channels(channels, mono, name)
    result = _collect([mono], int(sample_rate_hz), int(target_sample_rate_hz))
    _check_usable(name, len(result), peak_of(result), target_sample_rate_hz)
    return result


def find_audio(paths: Iterable[str | Path]) -> list[str]:
    """List audio files: files as they are given, folders walked in sorted order.

    A file is taken whatever its name; in folders the suffix decides, and hidden files are left
    out. Links to folders are followed, after all others and into each folder once. A folder that
    may not be read is listed itself, so that whoever opens what is listed finds out. Every path
    appears once, where it was first met.

    Raises:
        AudioError: a path does not exist or cannot be reached, or a folder holds no audio.
    """
    found: dict[str, None] = {}
    for path in map(Path, paths):
        if _is_folder(path):
            inside = _walk(path)
            if not inside:
                raise AudioError(
                    f"{path} holds no audio files (looked for {', '.join(sorted(AUDIO_SUFFIXES))})."
                )
            found.update(dict.fromkeys(inside))
        else:
            found[str(path)] = None
    return list(found)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(f"{path} does not exist.") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be reached: {error.strerror}.") from error


def _walk(folder: Path) -> list[str]:
    found: list[str] = []
    walked: set[str] = set()
    waiting = [str(folder)]
    # Links wait until the end, so that no file gets another path because a link leads to it too.
    while waiting:
        top = waiting.pop(0)
        if os.path.realpath(top) in walked:
            continue
        for parent, folders, files in os.walk(top, onerror=lambda e: found.append(e.filename)):
            walked.add(os.path.realpath(parent))
            paths = {name: os.path.join(parent, name) for name in sorted(folders)}
            waiting += filter(os.path.islink, paths.values())
            folders[:] = [n for n, path in paths.items() if os.path.realpath(path) not in walked]
            found.extend(str(Path(parent, name)) for name in sorted(files) if _is_audio(name))
    return found


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")


def _resample(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    """Resample a stream; blocks of at least one sample, clipped to [-1, 1]."""
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=_RESAMPLER_QUALITY)
    resampled = map(stream.resample_chunk, blocks) if from_hz != to_hz else blocks
    for block in resampled:
        if len(block):
            yield np.clip(block, -1.0, 1.0)
    tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(tail):
        yield np.clip(tail, -1.0, 1.0)


def _collect(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *_resample(blocks, from_hz, to_hz)])


def _check_usable(
    name: str,
    n_samples: int,
    peak: float,
    sample_rate_hz: int,
    excerpt_s: tuple[float, float] | None = None,
) -> None:
    if n_samples == 0:
        raise AudioError(f"{name} holds no audio.")
    if n_samples < _SHORTEST_S * sample_rate_hz:
        raise AudioError(
            f"{name} holds less than {1000 * _SHORTEST_S:g} ms of audio ({n_samples} samples at "
            f"{sample_rate_hz} Hz)."
        )
    if peak < SILENT_PEAK and excerpt_s is None:
        raise AudioError(f"{name} is silent at {sample_rate_hz} Hz: there is nothing to recognise.")
    if peak < SILENT_PEAK:
        start_s, end_s = excerpt_s
        which = f"Seconds {start_s:g} to {end_s:g}" if start_s else f"The first {end_s:g} s"
        raise AudioError(
            f"{which} of {name} are silent at {sample_rate_hz} Hz: cut out a part of it in which "
            "something can be heard."
        )
