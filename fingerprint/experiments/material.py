"""What systems are made from and asked with: recordings, noise, and sets of queries."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from fingerprint.audio import read_audio
from fingerprint.evaluation.query_recipes import Recipe
from fingerprint.evaluation.query_set_writer import write_query_set
from fingerprint.evaluation.query_sets import DESCRIPTION, RECIPES, TRUTH, QuerySet
from fingerprint.evaluation.query_settings import QuerySettings, audio_of_kind
from fingerprint.experiments.pieces import ExperimentError, Queries, References
from fingerprint.experiments.workspace import Workspace

SPLIT = "test"
_CLIP_RATE_HZ = 16_000
_WHITE_NOISE_S, _N_WHITE_NOISES = 30.0, 4
_FOLDERS = ("noise", "room_ir", "device_ir")


def references(workspace: Workspace, wanted: References) -> list[str]:
    """The recordings of a database, cut where that is wanted.

    Shorter recordings than a clip are left out.
    """
    if wanted.clip_s is None:
        return audio_of_kind(workspace.collection(), "music", SPLIT)
    folder = workspace.references(wanted.name)
    if not folder.exists():
        with _whole(folder) as partial:
            _cut_clips(audio_of_kind(workspace.collection(), "music", SPLIT), wanted, partial)
    return sorted(str(path) for path in folder.glob("*.flac"))


def queries(workspace: Workspace, wanted: Queries, cut: References) -> QuerySet:
    """A set of queries, made where it is not there.

    Args:
        cut: the references that ``wanted`` names.

    Raises:
        ExperimentError: the folder holds a set that was made in another way.
    """
    folder = workspace.queries(wanted.name)
    if not folder.exists():
        settings = query_settings(workspace, wanted, cut)
        sources = [references(workspace, cut)]
        if not wanted.offsets_s:
            return write_query_set(folder, settings, sources=sources)
        with _whole(folder) as partial:
            drawn = partial.with_name(f"{partial.name}.drawn")
            try:
                source = write_query_set(drawn, settings, sources=sources, audio="recipe")
                write_offset_queries(source, partial, wanted.offsets_s, wanted.hop_s)
            finally:
                shutil.rmtree(drawn, ignore_errors=True)
    found = QuerySet.open(folder)
    if workspace.audio is not None:
        settings = dataclasses.asdict(query_settings(workspace, wanted, cut))
        settings |= {"offsets_s": wanted.offsets_s} if wanted.offsets_s else {}
        _check_settings(found, json.loads(json.dumps(settings)))
    return found


def query_settings(workspace: Workspace, wanted: Queries, cut: References) -> QuerySettings:
    """The settings of a set, with the folders that its words stand for."""
    audio = workspace.collection()
    fields = dict(wanted.fields)
    for name in _FOLDERS:
        if fields.get(name) == "white":
            fields[name] = str(_white_noise(workspace))
        elif fields.get(name) == "audio":
            fields[name] = str(audio)
    source = audio if cut.clip_s is None else workspace.references(cut.name)
    return QuerySettings(queries_from=str(source), split=SPLIT, **fields)


def write_offset_queries(
    source: QuerySet, folder: Path, offsets_s: Sequence[float], hop_s: float
) -> None:
    """The excerpts of a set, each once at every distance from the start of a reference segment.

    Args:
        source: of recipes, under one condition.
        folder: for the new set, which exists and is empty.
        offsets_s: distances from a multiple of ``hop_s``.
        hop_s: of the references.
    """
    with open(source.folder / TRUTH, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = (source.folder / RECIPES).read_text("utf-8").splitlines()
    moved = list(_moved(rows, lines, offsets_s, hop_s))
    with open(folder / TRUTH, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(row for row, _ in moved)
    with open(folder / RECIPES, "w", encoding="utf-8") as file:
        for _, recipe in moved:
            file.write(json.dumps(dataclasses.asdict(recipe), ensure_ascii=False) + "\n")
    description = json.loads((source.folder / DESCRIPTION).read_text("utf-8"))
    description["n_queries"] = len(moved)
    description["settings"]["offsets_s"] = list(offsets_s)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", "utf-8")


def _moved(
    rows: Sequence[dict[str, str]], lines: Sequence[str], offsets_s: Sequence[float], hop_s: float
) -> Iterator[tuple[dict[str, Any], Recipe]]:
    for row, line in zip(rows, lines, strict=True):
        recipe = Recipe.from_dict(json.loads(line))
        hop = hop_s * recipe.sample_rate_hz
        # A hop earlier than the nearest, so that no excerpt is moved beyond the end of its track.
        at = max(0, math.floor(recipe.start / hop) - 1)
        for number, offset_s in enumerate(offsets_s):
            start = round(at * hop + offset_s * recipe.sample_rate_hz)
            name = f"{int(recipe.id) * len(offsets_s) + number:06d}"
            changed = {
                "query": name,
                "start_s": start / recipe.sample_rate_hz,
                "condition": f"offset_s={offset_s:g}",
            }
            yield row | changed, dataclasses.replace(recipe, id=name, start=start)


def _cut_clips(paths: Sequence[str], wanted: References, folder: Path) -> None:
    """The middle of each recording, where collections of clips take theirs from."""
    n_clip = round(wanted.clip_s * _CLIP_RATE_HZ)
    for number, path in enumerate(paths):
        samples = read_audio(path, _CLIP_RATE_HZ)
        if len(samples) >= n_clip:
            first = (len(samples) - n_clip) // 2
            # Files of two albums may have one name.
            name = folder / f"{number:04d}_{Path(path).stem}.flac"
            soundfile.write(name, samples[first : first + n_clip], _CLIP_RATE_HZ)


def _white_noise(workspace: Workspace) -> Path:
    folder = workspace.white_noise()
    if not folder.exists():
        with _whole(folder) as partial:
            for number in range(_N_WHITE_NOISES):
                rng = np.random.default_rng(number)
                samples = 0.1 * rng.standard_normal(round(_WHITE_NOISE_S * _CLIP_RATE_HZ))
                soundfile.write(partial / f"{number}.flac", samples, _CLIP_RATE_HZ)
    return folder


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder that has its name only when everything is in it."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_settings(found: QuerySet, wanted: dict[str, Any]) -> None:
    for name in wanted:
        if found.settings.get(name) != wanted[name]:
            raise ExperimentError(
                f"{found.folder} was made with {name} {found.settings.get(name)!r}, but "
                f"{wanted[name]!r} is wanted: remove it with its answers, or choose another folder."
            )
