"""A folder of queries with what is known of each: synthesised once, or recorded by somebody.

    queries.json     what the set is and what it was made with; absent where it was recorded
    truth.csv        one row per query: its id, its recording and the second in it, and conditions
    recipes.jsonl    one line per synthesised query, in the order of the table: see `Recipe`
    audio/*.flac     the queries, unless only the recipes are kept

Paths in the table and the recipes are relative to a root, that of the audio collection.
"""

import csv
import dataclasses
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.audio import read_audio
from fingerprint.audio_decoding import open_audio
from fingerprint.evaluation.query_recipes import Recipe
from fingerprint.evaluation.query_settings import QueryError, QuerySettings
from fingerprint.evaluation.query_synthesis import AudioReader, synthesise

FORMAT, FORMAT_VERSION = "fingerprint queries", 1
DESCRIPTION, TRUTH, RECIPES, AUDIO = "queries.json", "truth.csv", "recipes.jsonl", "audio"
# Largest int16; a query has the same samples from its file and from its recipe.
_INT16_PEAK, _INT16_SCALE = 32767, np.float32(2.0**-15)


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is known of a query.

    Attributes:
        id: its name in the table.
        track: full path of the recording; None where there is no right answer. A path does not
            say that an index holds it.
        start_s: second of the recording at which the query starts; None: not known.
        duration_s: length; None: that of the file.
        conditions: every other column of the table, numbers as float, empty cells as None.
    """

    id: str
    track: str | None
    start_s: float | None
    duration_s: float | None
    conditions: dict[str, float | str | None]


@dataclasses.dataclass(frozen=True)
class LabelledQuery(Truth):
    """A query ``samples (n,)``, float32, with its truth."""

    samples: np.ndarray
    sample_rate_hz: int

    def first(self, duration_s: float) -> np.ndarray:
        """The shorter query that this one starts with, ``(duration_s * sample_rate_hz,)``."""
        return self.samples[: round(duration_s * self.sample_rate_hz)]


class QuerySet:
    """A folder of queries, read one by one; `open` says what it may be.

    Attributes:
        folder: where it is.
        root: folder that the paths of the recordings are relative to.
        description: what ``queries.json`` says; empty for recorded queries.
        identity: 16 hexadecimal digits that differ where truth or recipes do.
    """

    def __init__(self, folder: Path, root: Path, description: dict[str, Any]):
        self.folder = folder
        self.root = root
        self.description = description
        self._from_recipes = description.get("audio") == "recipe"
        self._n, self.identity = self._check()

    @classmethod
    def open(cls, folder: str | os.PathLike, root: str | os.PathLike | None = None) -> "QuerySet":
        """Open what `query_set_writer.write_query_set` wrote, or a folder of recorded queries.

        The latter has a ``truth.csv`` with the columns ``query`` (an audio file, relative to the
        folder, unless a column ``audio`` names it), ``track`` (empty: no right answer) and, where
        it is known, ``start_s``.

        Args:
            root: where the recordings lie now; by default where they lay, seen from the folder,
                when the set was made, and for recorded queries the folder itself.

        Raises:
            QueryError: this is no such folder, or something in it is missing or makes no sense.
        """
        folder = Path(os.path.realpath(folder))
        if not (folder / TRUTH).is_file():
            raise QueryError(f"{folder} is no set of queries: it holds no {TRUTH}.")
        description = _read_description(folder)
        if root is not None and not Path(root).is_dir():
            raise QueryError(f"{root} is no folder: name the one that the recordings lie in.")
        # Normalised as text: the folders between the two may be gone.
        root = os.path.normpath(folder / description.get("root", "")) if root is None else root
        return cls(folder, Path(os.path.realpath(root)), description)

    @property
    def settings(self) -> dict[str, Any]:
        """What a synthesised set was made with, as of `QuerySettings`; nothing if it was recorded.

        What the version that made it did not know was not done: it has its default here.
        """
        own = self.description.get("settings")
        return _default_settings() | own if own else {}

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[LabelledQuery]:
        return self.queries()

    def truths(self) -> Iterator[Truth]:
        """What is known of each query, without its sound."""
        for row in self._rows():
            yield self._truth(row)

    def queries(self, skip: Collection[str] = ()) -> Iterator[LabelledQuery]:
        """The queries in the order of the table, less those with an id in ``skip``.

        Raises:
            AudioError: the audio of a query, or what it is made from, cannot be read.
            QueryError: what a recipe needs is not where it was.
        """
        read = AudioReader()
        recipes = self._recipes() if self._from_recipes else itertools.repeat(None)
        for row in self._rows():
            truth, recipe = self._truth(row), next(recipes, None)
            if truth.id in skip:
                continue
            if not self._from_recipes:
                samples, rate_hz = _read_query(self._audio(row))
            else:
                self._check_recipe(recipe, truth)
                samples = to_int16(synthesise(recipe, read)) * _INT16_SCALE
                rate_hz = recipe.sample_rate_hz
            fields = {field.name: getattr(truth, field.name) for field in dataclasses.fields(truth)}
            if truth.duration_s is None:
                fields["duration_s"] = len(samples) / rate_hz
            yield LabelledQuery(**fields, samples=samples, sample_rate_hz=rate_hz)

    def _rows(self) -> Iterator[dict[str, str]]:
        path = self.folder / TRUTH
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                yield from csv.DictReader(file)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise QueryError(f"{path} cannot be read as a CSV table: {error}.") from error

    def _recipes(self) -> Iterator[Recipe]:
        """The recipes in the order of the table, with full paths."""
        path = self.folder / RECIPES
        try:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    yield Recipe.from_dict(json.loads(line)).with_paths(self._full_path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise QueryError(f"{path} is damaged: make the set of queries again.") from error

    def _full_path(self, path: str) -> str:
        return os.path.normpath(self.root / path)

    def _truth(self, row: dict[str, str]) -> Truth:
        return truth_of(row, self._full_path)

    def _audio(self, row: dict[str, str]) -> Path:
        return self.folder / (row.get("audio") or row["query"])

    def _check(self) -> tuple[int, str]:
        """Read the whole table once: the number of its queries, and the identity of the set."""
        names: set[str] = set()
        for number, row in enumerate(self._rows(), 2):
            self._check_row(row, f"{self.folder / TRUTH}, line {number}", names)
            names.add(row["query"])
        if not names or len(names) != self.description.get("n_queries", len(names)):
            raise QueryError(
                f"{self.folder / TRUTH} holds {len(names)} queries, and some are missing: make "
                "the set again."
            )
        digest = hashlib.sha256()
        for name in (TRUTH, RECIPES):
            if (self.folder / name).exists():
                with open(self.folder / name, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return len(names), digest.hexdigest()[:16]

    def _check_row(self, row: dict[str, str], where: str, names: set[str]) -> None:
        for name in ("query", "track"):
            if row.get(name) is None:
                raise QueryError(f"{where} has nothing in the column {name!r}.")
        if not row["query"] or row["query"] in names:
            raise QueryError(f"{where}: {row['query']!r} is no name, or that of another query.")
        for name in ("start_s", "duration_s"):
            value = _value(row.get(name))
            if isinstance(value, str) or (value is not None and value < 0):
                raise QueryError(f"{where}: {name} {value!r} is no time in seconds.")
        if not self._from_recipes and not self._audio(row).is_file():
            raise QueryError(f"{where}: {self._audio(row)} does not exist.")

    def _check_recipe(self, recipe: Recipe | None, truth: Truth) -> None:
        if recipe is None or recipe.id != truth.id:
            raise QueryError(
                f"{self.folder / RECIPES} has no recipe for query {truth.id} where {TRUTH} has it: "
                "make the set of queries again."
            )
        for path in recipe.paths():
            if not os.path.exists(path):
                raise QueryError(
                    f"{path} does not exist, but query {recipe.id} of {self.folder} is made from "
                    "it: if the audio was moved, give the folder where it is now as the root."
                )


def truth_of(row: Mapping[str, str], full_path: Callable[[str], str]) -> Truth:
    """What a row of the table says, with the full path of its recording."""
    used = ("query", "audio", "track", "start_s", "duration_s")
    conditions = {name: _value(cell) for name, cell in row.items() if name and name not in used}
    start_s, duration_s = (_value(row.get(name)) for name in ("start_s", "duration_s"))
    track = full_path(row["track"]) if row["track"] else None
    return Truth(row["query"], track, start_s, duration_s, conditions)


def _default_settings() -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(QuerySettings())))


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit audio."""
    return np.round(samples * _INT16_PEAK).astype(np.int16)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.exists():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        known = description["format"] == FORMAT
        version = description["format_version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise QueryError(f"{path} does not describe a set of queries.") from error
    if not known or version != FORMAT_VERSION:
        raise QueryError(
            f"{path} is of the format {description['format']!r}, version {version}, but this is "
            f"read: {FORMAT!r}, version {FORMAT_VERSION}."
        )
    return description


def _read_query(path: Path) -> tuple[np.ndarray, int]:
    with open_audio(str(path)) as sound:
        rate_hz = sound.samplerate
    return read_audio(path, rate_hz), rate_hz


def _value(cell: str | None) -> float | str | None:
    """A cell as a number where it is one; empty cells are None."""
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return cell
    return value if math.isfinite(value) else cell
