"""Many waveforms in one memory-mapped file, from which windows are cut without decoding anything.

A bank is a folder: ``samples.bin`` (all tracks one after the other, int16 or float32 of the
machine's byte order), ``offsets.npy`` (n_tracks + 1 int64 sample positions) and ``bank.json``
(format, sample rate, sample type, track names).
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fingerprint.errors import ConfigError, FingerprintError

FORMAT = "fingerprint waveform bank"
FORMAT_VERSION = 1
_DTYPES = ("int16", "float32")
_INT16_SCALE = np.float32(1 / 32768)


class BankError(FingerprintError):
    """A waveform bank that cannot be written or read."""


class WaveformBank:
    """Tracks at one sample rate, whose samples stay on disk until a window asks for them.

    Args:
        tracks: Samples of each track, of which ``lengths`` count.

    Attributes:
        names: Unique names, one per track.
        lengths: ``(n_tracks,)`` int64, samples in each track.
        dtype: Type of the stored samples, int16 or float32.
        sample_rate_hz: Sample rate of every track.
    """

    def __init__(
        self,
        tracks: Sequence[np.ndarray],
        names: Sequence[str],
        lengths: np.ndarray,
        dtype: np.dtype,
        sample_rate_hz: int,
    ):
        self.names = list(names)
        self.lengths = lengths
        self.dtype = dtype
        self.sample_rate_hz = sample_rate_hz
        self._tracks = list(tracks)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        items: Iterable[tuple[str, np.ndarray]],
        sample_rate_hz: int,
    ) -> "WaveformBank":
        """Write tracks ``(name, samples (n,))`` one by one and open the result.

        The folder appears only when it is complete. If another process completes the same folder
        first, that one is kept.

        Raises:
            BankError: the folder exists already, there is no track, a track is empty, a name
                occurs twice, or the samples are neither all int16 nor all float32.
        """
        folder = Path(folder)
        if folder.exists():
            raise BankError(f"{folder} exists already; remove it or choose another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(unfinished, items, sample_rate_hz)
            unfinished.chmod(0o755)
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> "WaveformBank":
        """Open a bank for reading; the samples are mapped, not read.

        Raises:
            BankError: the folder is not a bank of this format version, or it is damaged.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / "bank.json").read_text("utf-8"))
            if (header["format"], header["format_version"]) != (FORMAT, FORMAT_VERSION):
                raise ValueError(f"its format is {header['format']} {header['format_version']}")
            if header["byte_order"] != sys.byteorder:
                raise ValueError(f"its byte order is {header['byte_order']}")
            offsets = np.load(folder / "offsets.npy", allow_pickle=False)
            samples = np.memmap(folder / "samples.bin", header["dtype"], mode="r")
            if len(offsets) != len(header["names"]) + 1 or offsets[-1] != len(samples):
                raise ValueError("its files do not belong together")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BankError(
                f"{folder} is not a waveform bank that can be read ({error}); remove the folder so "
                "that it is written anew."
            ) from error
        # Views of a plain array: slicing the subclass costs as much as copying the slice.
        tracks = np.split(np.asarray(samples), offsets[1:-1])
        return cls(
            tracks, header["names"], np.diff(offsets), samples.dtype, header["sample_rate_hz"]
        )

    @classmethod
    def joined(cls, banks: Sequence["WaveformBank"]) -> "WaveformBank":
        """All tracks of all banks, one bank after the other; samples are shared.

        Raises:
            BankError: sample rates or types differ, or a name occurs twice.
        """
        names = [name for bank in banks for name in bank.names]
        _check_unique(names)
        if len({(bank.dtype, bank.sample_rate_hz) for bank in banks}) != 1:
            raise BankError(
                "Banks of "
                + ", ".join(f"{bank.dtype} at {bank.sample_rate_hz} Hz" for bank in banks)
                + " cannot be joined; give banks of one type and one sample rate."
            )
        return cls(
            [track for bank in banks for track in bank._tracks],
            names,
            np.concatenate([bank.lengths for bank in banks]),
            banks[0].dtype,
            banks[0].sample_rate_hz,
        )

    def subset(self, track_ids: np.ndarray) -> "WaveformBank":
        """The bank of these tracks, renumbered from 0 in the order given; samples are shared."""
        track_ids = np.asarray(track_ids, np.int64)
        return WaveformBank(
            [self._tracks[i] for i in track_ids],
            [self.names[i] for i in track_ids],
            self.lengths[track_ids],
            self.dtype,
            self.sample_rate_hz,
        )

    def windows(
        self, track_ids: np.ndarray, starts: np.ndarray, n_samples: int, *, wrap: bool = False
    ) -> np.ndarray:
        """Cut one window from each of the tracks.

        Args:
            track_ids: ``(b,)`` track numbers; any of them may occur more than once.
            starts: ``(b,)`` first samples, counted from the start of the track. They may be
                negative and a window may run over the end: zeros stand outside the track.
            n_samples: Length of every window.
            wrap: Repeat the track endlessly in both directions instead of the zeros.

        Returns:
            ``(b, n_samples)`` float32; int16 samples are divided by 32768.
        """
        windows = np.zeros((len(track_ids), n_samples), self.dtype)
        for window, track, start in zip(windows, track_ids, starts, strict=True):
            self._copy(window, int(track), int(start), wrap)
        if self.dtype == np.int16:
            return windows * _INT16_SCALE
        return windows

    def _copy(self, window: np.ndarray, track: int, start: int, wrap: bool) -> None:
        samples, length = self._tracks[track], self.lengths[track]
        stop = start + len(window)
        if wrap and (start < 0 or stop > length):
            window[:] = samples[np.arange(start, stop) % length]
            return
        begin, end = max(start, 0), min(stop, length)
        if begin < end:
            window[begin - start : end - start] = samples[begin:end]


def split_validation(names: Sequence[str], n_validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Set tracks aside by their names alone, whatever the order and the machine.

    Returns:
        Track numbers ``(n_train,)`` and ``(n_validation,)``, both ascending: the names with the
        smallest SHA-256 are held out.

    Raises:
        ConfigError: no track would be left to train on.
    """
    if not 0 <= n_validation < len(names):
        raise ConfigError(
            f"n_validation_tracks is {n_validation}, but there are {len(names)} tracks; choose a "
            "number from 0 that leaves tracks to train on."
        )
    digests = [hashlib.sha256(name.encode("utf-8")).hexdigest() for name in names]
    by_digest = np.array(sorted(range(len(names)), key=digests.__getitem__), np.int64)
    return np.sort(by_digest[n_validation:]), np.sort(by_digest[:n_validation])


def _write(folder: Path, items: Iterable[tuple[str, np.ndarray]], sample_rate_hz: int) -> None:
    names = []
    offsets = [0]
    dtype = None
    with open(folder / "samples.bin", "wb") as file:
        for name, samples in items:
            dtype = dtype or samples.dtype.name
            _check(name, samples, dtype)
            file.write(np.ascontiguousarray(samples).data)
            names.append(name)
            offsets.append(offsets[-1] + len(samples))
        file.flush()
        os.fsync(file.fileno())
    if not names:
        raise BankError("There is no track to write a waveform bank of; look at the data source.")
    _check_unique(names)
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "byte_order": sys.byteorder,
        "sample_rate_hz": int(sample_rate_hz),
        "dtype": dtype,
        "names": names,
    }
    (folder / "bank.json").write_text(json.dumps(header), "utf-8")


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in sorted(names) if names.count(name) > 1)
        raise BankError(f"The track name {twice!r} occurs twice; names have to be unique.")


def _check(name: str, samples: np.ndarray, dtype: str) -> None:
    if samples.ndim != 1 or len(samples) == 0:
        raise BankError(
            f"Track {name!r} has samples of shape {samples.shape}; give one channel that is not "
            "empty."
        )
    if samples.dtype.name != dtype or dtype not in _DTYPES:
        raise BankError(
            f"Track {name!r} has {samples.dtype.name} samples in a bank of {dtype}; a bank holds "
            "either int16 or float32."
        )
