"""Distractors, queries and indexes of the shipped model's evaluation, each made once and kept.

distractors/*.flac               the same audio for every system
queries/<set>/                   queries
indexes/<database>/<system>/     one index per system and database; a network's identity is in
                                 the name, so that another model gets another one
answers/<set>/<system>.jsonl     what each answered
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from shipped_model_plan import MAIN, SEED, Scale, Set, System

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.audio_distractors import derivations, derived
from fingerprint.evaluation.distractors import HoursBar
from fingerprint.evaluation.query_set_writer import duration_of, write_query_set
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QuerySettings, audio_of_kind
from fingerprint.model_folder import read_model
from fingerprint.music_synthesis import synthesize_track
from fingerprint.recognizer import create_or_open

SPLIT, OTHER_SPLIT = "test", "train"
RATE_HZ = 16_000
_SYNTHESISED_S = 180.0
_FOLDERS = ("noise", "room_ir", "device_ir")
# A name, and the samples that belong to it when they are needed.
_Made = tuple[str, Callable[[], np.ndarray]]


class ShippedModelError(FingerprintError):
    """An evaluation that cannot go on, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that is made from a collection, below one folder.

    Attributes:
        audio: folder with a manifest.csv.
        folder: where it is kept.
        scale: how much of it.
        models: folders of networks by the names that `System.model` has.
    """

    audio: Path
    folder: Path
    scale: Scale
    models: dict[str, Path]

    def references(self) -> list[str]:
        """The recordings that are asked for."""
        return audio_of_kind(self.audio, "music", SPLIT)

    def other_recordings(self) -> tuple[list[str], list[str]]:
        """Those that distractors are derived from, and those that nobody holds: halves by name."""
        halves: tuple[list[str], list[str]] = ([], [])
        for path in audio_of_kind(self.audio, "music", OTHER_SPLIT):
            name = os.path.relpath(path, self.audio)
            halves[hashlib.sha256(name.encode()).digest()[0] % 2].append(path)
        return halves

    def distractors(self) -> list[str]:
        """Files of distractors, made where they are not there; a file is there whole or not.

        Raises:
            ShippedModelError: the collection is too small for so many hours.
        """
        folder = self.folder / "distractors"
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        sources = (
            (self._derived(), self.scale.derived_h),
            (_synthesised(), self.scale.synthesised_h),
        )
        for made, hours in sources:
            paths += self._made(folder, made, hours)
        return paths

    def queries(self, wanted: Set) -> QuerySet:
        """A set of queries, made where it is not there.

        Raises:
            ShippedModelError: the folder holds one that was made in another way.
        """
        settings, sources = self._settings(wanted), [self.references()]
        if wanted.unknown:
            sources.append(self.other_recordings()[1])
        folder = self.query_folder(wanted)
        if not folder.exists():
            write_query_set(folder, settings, sources=sources)
        found = QuerySet.open(folder)
        for name, value in json.loads(json.dumps(dataclasses.asdict(settings))).items():
            if found.settings.get(name) != value:
                raise ShippedModelError(
                    f"{folder} was made with {name} {found.settings.get(name)!r}, but {value!r} is "
                    "wanted: remove it with its answers, or choose another folder."
                )
        return found

    def query_folder(self, wanted: Set) -> Path:
        """Where a set of queries lies, or is to lie."""
        return self.folder / "queries" / wanted.name

    def index(self, system: System, database: str) -> Path:
        """Where an index lies, or is to lie."""
        return self.folder / "indexes" / database / self.label(system)

    def answers(self, system: System, wanted: Set) -> Path:
        """Where answers lie, or are to lie."""
        return self.folder / "answers" / wanted.name / f"{self.label(system)}.jsonl"

    def label(self, system: System) -> str:
        """The name of a system's files: a network's with the beginning of its identity."""
        if not system.model:
            return system.name
        return f"{system.name}-{_identity(self.models[system.model])[:8]}"

    def make_index(self, system: System, database: str) -> Path:
        """Index the references, and for the main database the distractors.

        Raises:
            ShippedModelError: a file cannot be indexed.
        """
        folder = self.index(system, database)
        model = self.models[system.model] if system.model else None
        recognizer = create_or_open(folder, method=system.method, preset=system.preset, model=model)
        paths = self.references()
        if database == MAIN:
            paths += self.distractors()
        report = recognizer.add_files(paths)
        if report.failed:
            path, sentence = report.failed[0]
            raise ShippedModelError(f"{path} cannot be indexed: {sentence}")
        return folder

    def _settings(self, wanted: Set) -> QuerySettings:
        fields = dict(wanted.fields)
        for name in _FOLDERS:
            if fields.get(name) == "audio":
                fields[name] = str(self.audio)
        if wanted.unknown:
            fields |= {"unknown": str(self.audio), "unknown_split": OTHER_SPLIT}
        return QuerySettings(
            queries_from=str(self.audio),
            split=SPLIT,
            durations_s=wanted.durations_s,
            n_queries=min(wanted.n_queries, self.scale.n_queries),
            seed=SEED,
            **fields,
        )

    def _made(self, folder: Path, made: Iterator[_Made], hours: float) -> list[str]:
        paths = []
        with HoursBar(hours, True) as bar:
            for name, samples in made:
                if bar.is_full:
                    break
                path = folder / f"{name}.flac"
                if not path.exists():
                    _write_whole(path, samples())
                bar.add(duration_of(str(path)))
                paths.append(str(path))
            if not bar.is_full:
                raise ShippedModelError(
                    f"{bar.done_h:.2f} hours of distractors are all that {self.audio} gives, but "
                    f"{hours:g} are wanted."
                )
        return paths

    def _derived_files(self) -> list[str]:
        return [*self.references(), *self.other_recordings()[0]]

    def _derived(self) -> Iterator[_Made]:
        """References and half of the other recordings at one speed each, then at another, ..."""
        files = self._derived_files()
        for number, shift in derivations(len(files), SEED):
            path = files[number]
            samples = functools.partial(derived, path, shift, RATE_HZ)
            yield f"derived_{number:03d}_{shift:+d}_{Path(path).stem}", samples


@functools.cache
def _identity(model: Path) -> str:
    return read_model(model).identity


def _synthesised() -> Iterator[_Made]:
    number = 0
    while True:

        def samples(number: int = number) -> np.ndarray:
            return synthesize_track(SEED * 1_000_000 + number, _SYNTHESISED_S, RATE_HZ)

        yield f"synthesised_{number:04d}", samples
        number += 1


def _write_whole(path: Path, samples: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # Resampled music may exceed full scale, which 16-bit audio cannot.
    samples = samples / max(1.0, float(np.abs(samples).max()))
    try:
        soundfile.write(partial, samples, RATE_HZ, subtype="PCM_16", format="FLAC")
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
