"""Audio as distractors: any, the same at another speed, and music made from a seed.

All of it passes through the index's own method, which may be any.
"""

import contextlib
import functools
import itertools
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from fingerprint.audio import AudioError, find_audio, read_audio
from fingerprint.evaluation.distractors import PREFIX, DistractorError, HoursBar, check_request
from fingerprint.file_lists import GenerationReport
from fingerprint.identification import Recognizer
from fingerprint.music_synthesis import synthesize_track
from fingerprint.recognizer import open_recognizer
from fingerprint.store import Store, StoreWriter, Track

SEMITONES = (-5, -4, -3, 3, 4, 5)
_SYNTHESISED_S = 180.0
# Of a longer recording only this much is derived from, which bounds memory.
_LONGEST_DERIVED_S = 600.0
_FILES_AT_ONCE = 16

# A name, and the samples that belong to it when they are needed.
_Made = tuple[str, Callable[[], np.ndarray]]


def add_audio(
    index_dir: str | Path, paths: Iterable[str | Path], *, progress: bool = True
) -> GenerationReport:
    """Add audio files, and those in folders, as distractors to an index of any method.

    A file that the index holds already, as a reference or a distractor, is skipped.

    Raises:
        FingerprintError: the index cannot be used.
    """
    return _open(index_dir).add_files(_absolute(paths), progress=progress)


def add_derived(
    index_dir: str | Path,
    paths: Iterable[str | Path],
    hours: float,
    *,
    seed: int = 0,
    progress: bool = True,
) -> GenerationReport:
    """Add audio at another speed, tempo and pitch alike, to an index of any method.

    Args:
        index_dir: the index.
        paths: audio files and folders, among which the references may be; each file is used up to
            six times.
        hours: how much the index is to hold of these paths and this seed.
        seed: decides on the order of files and speeds.
        progress: show the hours on standard error.

    Raises:
        DistractorError: ``hours`` is not positive, or more than there is, or ``seed`` negative.
        FingerprintError: the index cannot be used.
    """
    check_request(hours, seed)
    files = find_audio(_absolute(paths))
    recognizer = _open(index_dir)
    made = _derived(files, recognizer.sample_rate_hz, seed)
    report, held_h = _add_made(recognizer, made, hours, progress)
    if held_h < hours:
        raise DistractorError(
            f"Only {held_h:.2f} hours could be derived from {len(files)} files: give more audio, "
            "or ask for less."
        )
    return report


def add_synthesised(
    index_dir: str | Path, hours: float, *, seed: int = 0, progress: bool = True
) -> GenerationReport:
    """Add music made from a seed to an index of any method; arguments as of `add_derived`."""
    check_request(hours, seed)
    recognizer = _open(index_dir)
    rate_hz = recognizer.sample_rate_hz
    return _add_made(recognizer, _synthesised(rate_hz, seed), hours, progress)[0]


class _NamingStore(Store):
    """A store that makes distractors of the files that are added to it.

    Attributes:
        names: name of each file that is not kept; None: files keep their paths as names.
    """

    names: Mapping[str, str] | None = None

    @contextlib.contextmanager
    def writer(self) -> Iterator["_NamingWriter"]:
        """See `Store.writer`."""
        with super().writer() as writer:
            yield _NamingWriter(writer, self.names)


class _NamingWriter:
    def __init__(self, writer: StoreWriter, names: Mapping[str, str] | None):
        self._writer, self._names = writer, names

    def add(self, name: str, columns: Mapping, duration_s: float, resolved_path: str) -> Track:
        if self._names is None:
            return self._writer.add(PREFIX + name, columns, duration_s, resolved_path)
        return self._writer.add(self._names[name], columns, duration_s)

    def remove(self, names: Iterable[str]) -> int:
        return self._writer.remove(names)


def _open(index_dir: str | Path) -> Recognizer:
    recognizer = open_recognizer(index_dir)
    for part in recognizer.parts:
        part.store = _NamingStore.open(part.store.folder)
    return recognizer


def _absolute(paths: Iterable[str | Path]) -> list[Path]:
    """Paths from the root: names made of them are those of one file whatever the folder."""
    return [Path(path).absolute() for path in paths]


def _add_made(
    recognizer: Recognizer, made: Iterable[_Made], hours: float, progress: bool
) -> tuple[GenerationReport, float]:
    """Add made tracks until they have so many hours together; what became of them, and hours."""
    held = {track.name: track.duration_s for track in recognizer.tracks}
    report = GenerationReport()
    batch: dict[str, np.ndarray] = {}
    with HoursBar(hours, progress) as bar:
        for name, samples in made:
            if name in held:
                report.skipped.append(name)
                bar.add(held[name])
            else:
                try:
                    batch[name] = samples()
                except AudioError as error:
                    report.failed.append((name, str(error)))
                    continue
                bar.add(len(batch[name]) / recognizer.sample_rate_hz)
            if bar.is_full or len(batch) == _FILES_AT_ONCE:
                _add_batch(recognizer, batch, report, bar)
                batch = {}
            # Asked again: not all that was made may have become a track.
            if bar.is_full:
                break
        _add_batch(recognizer, batch, report, bar)
    return report, bar.done_h


def _add_batch(
    recognizer: Recognizer, batch: Mapping[str, np.ndarray], report: GenerationReport, bar: HoursBar
) -> None:
    """Add audio by way of files, which is what recognisers of all methods take."""
    if not batch:
        return
    with tempfile.TemporaryDirectory(prefix="distractors-") as folder:
        names = {}
        for name, samples in batch.items():
            # A reference may be cut by the name of its file, which therefore never changes.
            path = str(Path(folder, f"{zlib.crc32(name.encode()):08x}.wav"))
            soundfile.write(path, samples, recognizer.sample_rate_hz, subtype="FLOAT")
            names[path] = name
        for part in recognizer.parts:
            part.store.names = names
        added = recognizer.add_files(names, progress=False)
    report.added += [names[path] for path in added.added]
    for path, sentence in added.failed:
        report.failed.append((names[path], sentence))
        bar.add(-len(batch[names[path]]) / recognizer.sample_rate_hz)


def derivations(n_files: int, seed: int) -> Iterator[tuple[int, int]]:
    """Each file at one speed, in an order of the seed, then each at another, and so on.

    Yields:
        The number of the file and the semitones, one of `SEMITONES`.
    """
    rng = np.random.default_rng(seed)
    semitones = np.stack([rng.permutation(SEMITONES) for _ in range(n_files)])
    for speed_number in range(len(SEMITONES)):
        for file_number in rng.permutation(n_files):
            yield int(file_number), int(semitones[file_number, speed_number])


def derived(path: str, semitones: int, rate_hz: int, duration_s: float | None = None) -> np.ndarray:
    """A recording, or its first ``duration_s``, played so much faster: ``(n,)``."""
    audio = read_audio(path, rate_hz, duration_s=duration_s)
    return soxr.resample(audio, rate_hz * 2 ** (semitones / 12), rate_hz)


def _derived(files: Sequence[str], rate_hz: int, seed: int) -> Iterator[_Made]:
    for number, shift in derivations(len(files), seed):
        path = files[number]
        samples = functools.partial(derived, path, shift, rate_hz, _LONGEST_DERIVED_S)
        yield f"{PREFIX}derived/{shift:+d}/{path}", samples


def _synthesised(rate_hz: int, seed: int) -> Iterator[_Made]:
    for number in itertools.count():
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])

        def samples(own_seed: int = own_seed) -> np.ndarray:
            return synthesize_track(own_seed, _SYNTHESISED_S, rate_hz)

        yield f"{PREFIX}synthesised/{seed}/{number:06d}", samples
