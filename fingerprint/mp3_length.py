"""The length of an MP3 that does not declare it.

libsndfile takes the length of an MP3 from the Xing or VBRI header in its first frame, and never
reads further. Encoders that write to a pipe leave that header out; the length is then guessed from
the bit rate of the first frame, and with a variable bit rate half of the recording may be lost.
Here the frames are counted, and a header that says so is put in front of them.
"""

import io
import mmap

# ISO/IEC 11172-3 and 13818-3, layer III; by the two bits of the version: MPEG 1, 2 and 2.5.
_BIT_RATES_KBPS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")


def with_length(path: str) -> io.RawIOBase | None:
    """An MP3 with the number of its frames in front, or None where it declares one itself."""
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _first_frame(content)
    if start is None:
        return None
    n_bytes = _frame_bytes(content[start : start + 4])
    if any(tag in content[start : start + n_bytes] for tag in _LENGTH_TAGS):
        return None
    return _Prefixed(
        _xing_frame(content[start : start + 4], _count(content, start)), content, start
    )


def _frame_bytes(header: bytes) -> int | None:
    """Size of the layer III frame that starts with these four bytes, or None if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bit_rate, sample_rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or sample_rate == 3:
        return None
    bits_per_s = 1000 * _BIT_RATES_KBPS[version][bit_rate - 1]
    padding = header[2] >> 1 & 1
    bytes_per_slot = 144 if version == 3 else 72
    return bytes_per_slot * bits_per_s // _SAMPLE_RATES_HZ[version][sample_rate] + padding


def _first_frame(content: mmap.mmap) -> int | None:
    """Where the first frame starts that another one follows, after an ID3 tag."""
    at = 0
    if content[:3] == b"ID3":
        at = 10 + sum(
            byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True)
        )
    while (at := content.find(b"\xff", at)) >= 0:
        n_bytes = _frame_bytes(content[at : at + 4])
        if n_bytes and _frame_bytes(content[at + n_bytes : at + n_bytes + 4]):
            return at
        at += 1
    return None


def _count(content: mmap.mmap, at: int) -> int:
    """Number of whole frames from ``at`` on, of the version and sample rate of the first one."""

    def kind(header: bytes) -> tuple[int, int]:
        return header[1] & 0xFE, header[2] & 0x0C

    first = kind(content[at : at + 4])
    n_frames = 0
    while 0 <= at <= len(content) - 4:
        header = content[at : at + 4]
        n_bytes = _frame_bytes(header)
        if n_bytes is None or kind(header) != first:
            at = content.find(b"\xff", at + 1)
        else:
            at += n_bytes
            n_frames += at <= len(content)
    return n_frames


def _xing_frame(header: bytes, n_frames: int) -> bytes:
    """A silent frame that holds nothing but the number of frames that follow it."""
    # No checksum; a bit rate at which the tag fits into the frame whatever the sample rate.
    header = bytes([0xFF, header[1] | 1, 9 << 4 | header[2] & 0x0C, header[3]])
    is_mpeg1, is_mono = header[1] & 0x18 == 0x18, header[3] >> 6 == 3
    n_side_bytes = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    tag = b"Xing" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return (header + bytes(n_side_bytes) + tag).ljust(_frame_bytes(header), b"\0")


class _Prefixed(io.RawIOBase):
    """Some bytes, and after them a mapped file from ``start`` on."""

    def __init__(self, prefix: bytes, content: mmap.mmap, start: int):
        self._prefix, self._content, self._start = prefix, content, start
        self._at = 0

    def readinto(self, buffer) -> int:
        """See ``io.RawIOBase``."""
        if self._at < len(self._prefix):
            chunk = self._prefix[self._at : self._at + len(buffer)]
        else:
            at = self._at - len(self._prefix) + self._start
            chunk = self._content[at : at + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See ``io.RawIOBase``."""
        n_bytes = len(self._prefix) + len(self._content) - self._start
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: n_bytes}[whence]
        return self._at

    def tell(self) -> int:
        """See ``io.RawIOBase``."""
        return self._at
