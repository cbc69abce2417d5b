"""Making a set of queries: a folder that is there as a whole or not at all."""

import csv
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile

import fingerprint
from fingerprint.audio import AudioError, read_duration_s
from fingerprint.evaluation.query_recipes import Recipe, draw_recipes
from fingerprint.evaluation.query_sets import (
    AUDIO,
    DESCRIPTION,
    FORMAT,
    FORMAT_VERSION,
    RECIPES,
    TRUTH,
    QuerySet,
    to_int16,
)
from fingerprint.evaluation.query_settings import (
    CONDITIONS,
    QueryError,
    QuerySettings,
    Surroundings,
)
from fingerprint.evaluation.query_synthesis import AudioReader, synthesise
from fingerprint.evaluation.record import commit
from fingerprint.progress import progress_bar

COLUMNS = (
    *("query", "audio", "track", "start_s", "duration_s", "snr_db", "noise", "room", "device"),
    *("t60_s", "low_pass_hz", "high_pass_hz", "codec", "level_db", "clipped_share"),
    *("gain_control", "speed", "tempo", "pitch_semitones", "equaliser_db", "band_share"),
    *("babble_db", "suppression", "degradation", "reverberate"),
    *("condition", "excerpt", "seed"),
)
# Stands in a cell for what changes from one second of a query to the next.
VARIES = "varies"
AUDIO_FORMS = ("flac", "recipe")


def write_query_set(
    folder: str | os.PathLike,
    settings: QuerySettings,
    *,
    sources: Sequence[Sequence[str]] | None = None,
    audio: str = "flac",
    progress: bool = True,
) -> QuerySet:
    """Make the queries of ``settings`` and keep them in a new folder.

    Files too short for the longest query are left out, and counted in ``queries.json``.

    Args:
        folder: is made; what was there before is not touched.
        sources: the recordings to excerpt, where they are not all that ``settings`` names; they
            lie below its folders. A list for each of ``queries_from`` and ``unknown``.
        audio: "flac", 16-bit files, or "recipe", nothing but the recipes: both have the same
            samples.

    Raises:
        QueryError: the folder exists, or no recording is long enough.
        FingerprintError: a folder or a file cannot be used.
    """
    folder = Path(folder).absolute()
    if audio not in AUDIO_FORMS:
        raise QueryError(f"audio is {audio!r}: choose {' or '.join(AUDIO_FORMS)}.")
    if folder.exists():
        raise QueryError(f"{folder} exists already: remove it, or choose another folder.")
    sources = list(settings.sources() if sources is None else sources)
    askable = [_long_enough(source, settings) for source in sources]
    if not all(askable):
        raise QueryError(
            f"None of the {len(sources[askable.index([])])} recordings lasts as long as a query "
            f"({settings.n_longest / settings.sample_rate_hz:g} s, times the speed): ask for less."
        )
    n_asked = sum(map(len, askable))
    n_files = {"asked": n_asked, "too_short": sum(map(len, sources)) - n_asked}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    partial.mkdir()
    try:
        n_queries = _write_queries(partial, settings, askable, audio, progress)
        _write_description(partial, settings, audio, n_queries, n_files)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return QuerySet.open(folder)


def duration_of(path: str) -> float:
    """Seconds of audio that a file declares; 0 for what is not audio."""
    try:
        return read_duration_s(path)
    except AudioError:
        return 0.0


def _long_enough(paths: Sequence[str], settings: QuerySettings) -> list[str]:
    longest_s = max(settings.durations_s) * settings.fastest
    return [os.path.realpath(path) for path in paths if duration_of(path) >= longest_s]


def _write_queries(
    folder: Path,
    settings: QuerySettings,
    sources: Sequence[Sequence[str]],
    audio: str,
    progress: bool,
) -> int:
    """Write truth, recipes and audio; returns the number of queries."""
    root = _common_folder(settings)
    surroundings = _with_real_paths(settings.surroundings())
    n_conditions = len(settings.conditions(with_noise=bool(surroundings.noises)))
    n_queries = settings.n_queries * len(sources) * n_conditions
    read = AudioReader()
    recipes = _all_recipes(settings, sources, surroundings, read)
    bar = progress_bar(n_queries, "query", progress, iterable=recipes)
    if audio == "flac":
        (folder / AUDIO).mkdir()
    with (
        open(folder / TRUTH, "w", newline="", encoding="utf-8") as truth,
        open(folder / RECIPES, "w", encoding="utf-8") as lines,
    ):
        table = csv.DictWriter(truth, COLUMNS, lineterminator="\n")
        table.writeheader()
        for recipe in bar:
            name = f"{AUDIO}/{recipe.id}.flac" if audio == "flac" else ""
            if name:
                samples = to_int16(synthesise(recipe, read))
                soundfile.write(folder / name, samples, recipe.sample_rate_hz, subtype="PCM_16")
            portable = recipe.with_paths(lambda path: Path(os.path.relpath(path, root)).as_posix())
            table.writerow(_row(portable, name, settings))
            lines.write(json.dumps(dataclasses.asdict(portable), ensure_ascii=False) + "\n")
    return n_queries


def _write_description(
    folder: Path, settings: QuerySettings, audio: str, n_queries: int, n_files: dict[str, int]
) -> None:
    # Seen from the folder, so that a set stays whole where it is moved with its collection.
    root = os.path.relpath(_common_folder(settings), os.path.realpath(folder))
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "sample_rate_hz": settings.sample_rate_hz,
        "n_queries": n_queries,
        "n_files": n_files,
        "audio": audio,
        "root": Path(root).as_posix(),
        "version": fingerprint.__version__,
        "commit": commit(),
    }
    text = json.dumps(description, ensure_ascii=False, indent=1) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _all_recipes(
    settings: QuerySettings,
    sources: Sequence[Sequence[str]],
    surroundings: Surroundings,
    read: AudioReader,
) -> Iterator[Recipe]:
    return itertools.chain.from_iterable(
        draw_recipes(source, surroundings, settings, read, number * settings.n_queries)
        for number, source in enumerate(sources)
    )


def _with_real_paths(surroundings: Surroundings) -> Surroundings:
    real = {
        name: [os.path.realpath(path) for path in getattr(surroundings, name)]
        for name in ("noises", "rooms", "devices")
    }
    return dataclasses.replace(surroundings, **real)


def _common_folder(settings: QuerySettings) -> str:
    named = (
        getattr(settings, n) for n in ("queries_from", "unknown", "noise", "room_ir", "device_ir")
    )
    paths = [Path(os.path.realpath(path)) for path in named if path]
    return os.path.commonpath([path if path.is_dir() else path.parent for path in paths])


def _row(recipe: Recipe, audio: str, settings: QuerySettings) -> dict[str, object]:
    condition = {name: value for name, value in recipe.condition.items() if value is not None}
    return condition | {
        "query": recipe.id,
        "audio": audio,
        "track": recipe.track,
        "start_s": recipe.start / recipe.sample_rate_hz,
        "duration_s": recipe.n_samples / recipe.sample_rate_hz,
        "snr_db": _same(chunk.snr_db for chunk in recipe.chunks),
        "noise": _same(";".join(n.path for n in chunk.noises) for chunk in recipe.chunks),
        "room": _same(chunk.room for chunk in recipe.chunks),
        "device": _same(chunk.device for chunk in recipe.chunks),
        "t60_s": _same(recipe.t60_s),
        "gain_control": "yes" if recipe.gain_control else "",
        "degradation": f"per_{settings.per}",
        "reverberate": settings.reverberate,
        "condition": _condition_text(condition),
        "excerpt": recipe.excerpt,
        "seed": recipe.seed,
    }


def _condition_text(condition: dict[str, float | str]) -> str:
    """The condition in the order of the settings, as "snr_db=0 codec=mp3:64"."""
    given = ((name, condition[name]) for name in CONDITIONS if name in condition)
    return " ".join(f"{n}={v if isinstance(v, str) else format(v, 'g')}" for n, v in given)


def _same(values: Iterator[object] | Sequence[object]) -> object:
    """What all chunks have; empty cells are None."""
    first, *others = values
    return first if all(value == first for value in others) else VARIES
