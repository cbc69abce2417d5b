"""How a recording becomes the segments of an index, by `config.reference`.

By default they are those of the grid. One published system pads every recording with silence to
one length and cuts its segments at random places; both are done here as the audio streams by.
"""

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from fingerprint.segments import SegmentGrid


def reference_segments(
    blocks: Iterable[np.ndarray],
    grid: SegmentGrid,
    path: str,
    *,
    pad_to_s: float = 0.0,
    start_jitter_s: float = 0.0,
) -> Iterator[np.ndarray]:
    """Cut the audio of one recording, in memory bounded by its blocks.

    Jitter does not change the number of segments; the last one may end in up to
    ``start_jitter_s`` of silence.

    Args:
        blocks: the audio, ``(n_samples,)`` each.
        grid: length and hop of the segments.
        path: the name of this file alone decides on the jitter, so that it is the same in every
            folder and however many recordings come before.
        pad_to_s: seconds that shorter recordings are padded to.
        start_jitter_s: each segment begins up to this much later than on the grid.

    Yields:
        Segments ``(n, grid.n_samples)``, n varying with the blocks.
    """
    blocks = _padded(blocks, round(pad_to_s * grid.sample_rate_hz), grid.n_samples)
    jitter_samples = round(start_jitter_s * grid.sample_rate_hz)
    if not jitter_samples:
        yield from grid.cut_blocks(blocks)
        return
    rng = np.random.default_rng(zlib.crc32(os.fsencode(os.path.basename(path))))
    # As many windows as the grid has segments, each longer by the jitter.
    window_s = (grid.n_samples + jitter_samples) / grid.sample_rate_hz
    windows_of = SegmentGrid(grid.sample_rate_hz, window_s, grid.hop_s)
    silence = np.zeros(jitter_samples, np.float32)
    for windows in windows_of.cut_blocks(itertools.chain(blocks, [silence])):
        delays = rng.integers(0, jitter_samples, len(windows), endpoint=True)
        places = np.lib.stride_tricks.sliding_window_view(windows, grid.n_samples, axis=1)
        yield places[np.arange(len(windows)), delays]


def _padded(
    blocks: Iterable[np.ndarray], n_samples: int, block_samples: int
) -> Iterator[np.ndarray]:
    """The blocks, and as much silence as they lack, a block at a time."""
    n_missing = n_samples
    for block in blocks:
        n_missing -= len(block)
        yield block
    while n_missing > 0:
        yield np.zeros(min(n_missing, block_samples), np.float32)
        n_missing -= block_samples
