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
# FFmpeg's own decoders of these refuse the frames that telephones send while nobody speaks.
_DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
# How much later than its last packet a file may say that it ends.
_LATE_END_S = 0.5


class ContainerFile:
    """A file that is read from its beginning to its end, as a `soundfile.SoundFile` is.

    It is decoded once to count its samples: clocks of telephones drift, and what headers say of
    streams that pause, begin late or have no index is not how long their audio is.

    Args:
        path: an ordinary file.

    Attributes:
        samplerate: in Hz.
        channels: their number.
        frames: samples of each channel.
        format, subtype, extra_info: of no meaning here.

    Raises:
        SoundFileError: it is of no known format, damaged, cut off, or has no track of audio that
            can be decoded.
    """

    format = subtype = extra_info = ""

    def __init__(self, path: str):
        with contextlib.ExitStack() as files, _errors_of_soundfile():
            with _opened(path) as (container, _):
                _check_whole(container)
            with _opened(path) as (container, stream):
                self.frames = sum(len(block) for _, block in _decoded(container, stream))
            container, stream = files.enter_context(_opened(path))
            self._blocks = _decoded(container, stream)
            nothing = stream.codec_context.sample_rate, np.zeros((0, 1), np.float32)
            self.samplerate, self._left = next(self._blocks, nothing)
            self._files = files.pop_all()
        self.channels = self._left.shape[1]
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
            self._position += len(taken)
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
    except (av.FFmpegError, ValueError) as error:
        raise soundfile.SoundFileRuntimeError(str(error)) from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A container, and its first track of audio that can be decoded; ValueError without one."""
    import av

    # Given a file and not its name, FFmpeg cannot take that for an address.
    with (
        open(path, "rb") as file,
        av.open(file, options=_OPTIONS, metadata_errors="ignore") as container,
    ):
        for stream in container.streams.audio:
            if stream.codec_context is not None:
                yield container, stream
                return
        raise ValueError("no track of audio that can be decoded")


def _check_whole(container: Any) -> None:
    """ValueError where the file ends within a packet, or before it says that it does.

    An index is no witness: packets that were trimmed away are in it, too.
    """
    end_s = 0.0
    for packet in container.demux():
        if packet.is_corrupt:
            raise ValueError("a packet is cut off")
        if packet.size:
            end = (packet.pts or 0) + (packet.duration or 0)
            end_s = max(end_s, float(end * packet.time_base))
    is_timed = "matroska" in container.format.name
    if is_timed and end_s < (container.duration or 0) * 1e-6 - _LATE_END_S:
        raise ValueError("its end is cut off")


def _decoded(container: Any, stream: Any) -> Iterator[tuple[int, np.ndarray]]:
    """The sample rate, and blocks ``(n, channels)``; ValueError where one of these changes."""
    import av

    resampler, decoder, kinds = av.AudioResampler(format="fltp"), _decoder_of(stream), set()
    for packet in container.demux(stream):
        for frame in decoder.decode(packet if packet.size else None):
            kinds.add((frame.sample_rate, frame.layout.name))
            if len(kinds) > 1:
                raise ValueError(f"the kind of audio changes: {kinds}")
            for block in resampler.resample(frame):
                if block.samples:
                    yield block.sample_rate, block.to_ndarray().T


def _decoder_of(stream: Any) -> Any:
    import av

    name = _DECODERS.get(stream.codec_context.name)
    if name is None:
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout = stream.codec_context.sample_rate, "mono"
    return decoder
