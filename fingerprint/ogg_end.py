"""Whether an Ogg file is whole: its stream declares no length, but marks its last page.

Pages are those of RFC 3533, section 6: the capture pattern, a header of 27 bytes whose byte 5 has
bit 2 set on the last page of a stream, a table of segment lengths, and the segments.
"""

import os

_PATTERN = b"OggS"
_HEADER_BYTES = 27
_LARGEST_PAGE_BYTES = _HEADER_BYTES + 255 + 255 * 255
_LAST_PAGE = 4


def has_end(path: str) -> bool:
    """Whether one of the last pages of a file is whole and marked as the end of its stream."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * _LARGEST_PAGE_BYTES))
        tail = file.read()
    at = tail.rfind(_PATTERN)
    while at >= 0:
        if _is_whole_last_page(tail[at:]):
            return True
        at = tail.rfind(_PATTERN, 0, at)
    return False


def _is_whole_last_page(page: bytes) -> bool:
    if len(page) < _HEADER_BYTES or not page[5] & _LAST_PAGE:
        return False
    n_segments = page[26]
    lengths = page[_HEADER_BYTES : _HEADER_BYTES + n_segments]
    return len(lengths) == n_segments and len(page) >= _HEADER_BYTES + n_segments + sum(lengths)
