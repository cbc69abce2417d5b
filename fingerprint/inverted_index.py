"""Where each hash occurs in the references: the index that landmarks and spectral hashes share."""

from pathlib import Path
from typing import Self

import numpy as np

from fingerprint.errors import FingerprintError
from fingerprint.searchers.probing import concatenated_ranges

_COLUMNS = ("hashes", "tracks", "frames", "track_frames")


class InvertedIndexError(FingerprintError):
    """Columns or a saved index that do not fit together."""


class InvertedIndex:
    """Reference hashes in sorted order; equal hashes stand by track and frame.

    Attributes:
        hashes: (n,) uint32, sorted.
        tracks: (n,) uint32.
        frames: (n,) uint32.
        track_frames: (n_tracks,) int64, the length of each track in frames.
    """

    def __init__(
        self, hashes: np.ndarray, tracks: np.ndarray, frames: np.ndarray, track_frames: np.ndarray
    ):
        self.hashes = hashes
        self.tracks = tracks
        self.frames = frames
        self.track_frames = track_frames

    @classmethod
    def build(
        cls,
        hashes: np.ndarray,
        frames: np.ndarray,
        first_rows: np.ndarray,
        n_rows: np.ndarray,
    ) -> Self:
        """Sort the rows of a store.

        Args:
            hashes: (n,) uint32.
            frames: (n,) uint32, counted from the start of their track.
            first_rows: (n_tracks,) first row of each track.
            n_rows: (n_tracks,) rows of each track.

        Raises:
            InvertedIndexError: the columns differ in length, or a track lies outside them.
        """
        first_rows = np.asarray(first_rows, np.int64)
        n_rows = np.asarray(n_rows, np.int64)
        if len(hashes) != len(frames) or len(first_rows) != len(n_rows):
            raise InvertedIndexError(
                f"{len(hashes)} hashes with {len(frames)} frames and {len(first_rows)} first rows "
                f"with {len(n_rows)} row counts: give columns of the same length."
            )
        if (
            np.any(first_rows < 0)
            or np.any(n_rows < 0)
            or np.any(first_rows + n_rows > len(hashes))
        ):
            raise InvertedIndexError(
                f"A track lies outside the {len(hashes)} rows: build the index from the "
                "track table that belongs to them."
            )
        tracks = np.repeat(np.arange(len(n_rows), dtype=np.uint32), n_rows)
        rows = concatenated_ranges(first_rows, first_rows + n_rows)
        hashes, frames = np.asarray(hashes, np.uint32)[rows], np.asarray(frames, np.uint32)[rows]
        track_frames = np.zeros(len(n_rows), np.int64)
        np.maximum.at(track_frames, tracks, frames.astype(np.int64) + 1)
        # Hash and row in one number: a plain sort is several times faster than a stable argsort.
        keys = np.sort(
            hashes.astype(np.uint64) << np.uint64(32) | np.arange(len(hashes), dtype=np.uint64)
        )
        order = keys & np.uint64(0xFFFFFFFF)
        return cls(
            (keys >> np.uint64(32)).astype(np.uint32), tracks[order], frames[order], track_frames
        )

    def save(self, folder: str | Path) -> None:
        """Write the arrays into an existing folder, one npy file each.

        Raises:
            OSError: the folder cannot be written.
        """
        for name in _COLUMNS:
            np.save(Path(folder) / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open what `save` wrote, memory-mapped.

        Raises:
            InvertedIndexError: a file is missing, is not an npy file, or does not fit the others.
        """
        try:
            columns = [
                # Unlike np.load, it takes nothing but npy files, and says the same of empty ones.
                np.lib.format.open_memmap(Path(folder) / f"{name}.npy", mode="r")
                for name in _COLUMNS
            ]
        except (OSError, ValueError) as error:
            raise InvertedIndexError(
                f"{folder} holds no index that can be read ({error}); build it again."
            ) from error
        if len({column.shape for column in columns[:3]}) != 1:
            raise InvertedIndexError(
                f"{folder} holds an index whose files differ in length; build it again."
            )
        return cls(*columns)

    def rows_of(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First row and number of rows of each hash, (m,) int64 each."""
        first = np.searchsorted(self.hashes, hashes, side="left")
        return first, np.searchsorted(self.hashes, hashes, side="right") - first
