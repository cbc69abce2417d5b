"""Audio that libsndfile does not decode, through FFmpeg: what telephones record (M4A, 3GP, AMR).

FFmpeg also reads formats that lead to other files and to the network: only those below are opened.
What libsndfile decodes is left to it, which tells a damaged file from a whole one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

# Names of FFmpeg's demuxers; some have several.
_FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm"),
    *("aac", "amr", "asf", "caf", "ac3", "ape", "wv"),
)
_OPTIONS = {"format_whitelist": ",".join(_FORMATS)}
# More than what an encoder puts before the first sample.
_LENGTH_TOLERANCE_S = 0.5
# Matroska's: too coarse to add up the lengths of packets.
_COARSE_UNIT_S = 0.001


class ContainerFile:
    """A file that is read from its beginning to its end, as a `soundfile.SoundFile` is.

    Args:
        path: an ordinary file.

    Attributes:
        samplerate: in Hz.
        channels: their number.
        frames: samples of each channel.
        format, subtype, extra_info: of no meaning here.

    Raises:
        SoundFileError: it is of no known format, damaged, or holds no audio.
    """

    format = subtype = extra_info = ""

    def __init__(self, path: str):
        with contextlib.ExitStack() as files, _errors_of_soundfile():
            duration_s = _duration_s(path)
            container, stream = files.enter_context(_opened(path))
            self._blocks = _decoded(container, stream)
            nothing = stream.codec_context.sample_rate, np.zeros((0, 1), np.float32)
            self.samplerate, self._left = next(self._blocks, nothing)
            self._files = files.pop_all()
        self.channels = self._left.shape[1]
        self.frames = round(duration_s * self.samplerate)
        self._position = 0

    def __enter__(self) -> "ContainerFile":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._files.close()

    def tell(self) -> int:
        """How many samples of each channel have been read."""
        return self._position

    def seek(self, frames: int) -> None:
        """Go forward to a sample: what lies before it is decoded and thrown away."""
        scratch = np.empty((self.samplerate, self.channels), np.float32)
        while self._position < frames and len(self.read(scratch[: frames - self._position])):
            pass

    def read(self, out: np.ndarray) -> np.ndarray:
        """Fill ``out``, ``(n, channels)`` float32, and return what of it was filled.

        Raises:
            SoundFileError: the file cannot be decoded from here on.
        """
        n = 0
        while n < len(out) and self._has_more():
            taken = self._left[: len(out) - n]
            out[n : n + len(taken)] = taken
            self._left = self._left[len(taken) :]
            n += len(taken)
        self._position += n
        return out[:n]

    def _has_more(self) -> bool:
        if not len(self._left):
            with _errors_of_soundfile(), contextlib.suppress(StopIteration):
                _, self._left = next(self._blocks)
        return len(self._left) > 0


@contextlib.contextmanager
def _errors_of_soundfile() -> Iterator[None]:
    # Most audio needs nothing of it, and it takes time to load.
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise soundfile.SoundFileRuntimeError(str(error)) from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A container and its first stream of audio; IndexError without one."""
    import av

    # Given a file and not its name, FFmpeg cannot take that for an address.
    with (
        open(path, "rb") as file,
        av.open(file, options=_OPTIONS, metadata_errors="ignore") as container,
    ):
        yield container, container.streams.audio[0]


def _duration_s(path: str) -> float:
    """The audio that packets hold: what a header says is a guess where there is no index.

    Where there is one, and more is missing than an encoder's delay, it is what the header says.
    """
    with _opened(path) as (container, stream):
        unit_s = float(stream.time_base)
        spans = [(e.pts or 0, e.duration or 0) for e in container.demux(stream) if e.size]
        declared_s = unit_s * (stream.duration or 0) if "mov" in container.format.name else 0.0
    if unit_s < _COARSE_UNIT_S:
        # What stands before zero fills the encoder, and no decoder returns it.
        held_s = unit_s * sum(max(0, min(length, start + length)) for start, length in spans)
    else:
        # Packets may not say how long they are: the last one is taken to be as long as others.
        starts = [start for start, _ in spans]
        held_s = unit_s * (starts[-1] + np.median(np.diff(starts)) if starts[1:] else 0)
    return declared_s if held_s < declared_s - _LENGTH_TOLERANCE_S else held_s


def _decoded(container: Any, stream: Any) -> Iterator[tuple[int, np.ndarray]]:
    """The sample rate, and blocks ``(n, channels)``; ValueError where one of these changes."""
    import av

    resampler = av.AudioResampler(format="fltp")
    for frame in container.decode(stream):
        for block in resampler.resample(frame):
            if block.samples:
                yield block.sample_rate, block.to_ndarray().T
