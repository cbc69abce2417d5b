"""One evaluation: the same queries to every index, answers judged, shares counted."""

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import soundfile
from tqdm import tqdm

from fingerprint.audio import AudioError
from fingerprint.errors import FingerprintError
from fingerprint.evaluation.metrics import Outcome, judge, summarise
from fingerprint.evaluation.queries import (
    Query,
    Surroundings,
    audio_of_kind,
    make_queries,
)
from fingerprint.identification import Identification
from fingerprint.recognizer import Recognizer, describe_index, open_recognizer


class EvaluationError(FingerprintError):
    """An evaluation that cannot be run as asked."""


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is asked; folders are read as in `queries.audio_of_kind`.

    Queries come from ``queries_from``, noise and impulse responses from the folders of those
    names; as many queries again come from ``unknown``, recordings that no index holds.
    """

    queries_from: str
    kind: str = "music"
    split: str = "test"
    noise: str | None = None
    room_ir: str | None = None
    device_ir: str | None = None
    room_share: float = 2 / 3
    device_share: float = 1 / 3
    unknown: str | None = None
    unknown_split: str | None = None
    durations_s: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 6.0, 10.0)
    snr_db: Sequence[float] = (0.0, 5.0, 10.0)
    n_queries: int = 300
    seed: int = 0
    offset_tolerance_s: float = 0.5
    searcher: str = "auto"

    def surroundings(self) -> Surroundings:
        """The files that degrade the queries."""
        noises, rooms, devices = (
            audio_of_kind(getattr(self, kind), kind, self.split) if getattr(self, kind) else ()
            for kind in ("noise", "room_ir", "device_ir")
        )
        return Surroundings(noises, rooms, devices, self.room_share, self.device_share)


def evaluate(
    index_dirs: Sequence[str], settings: EvaluationSettings, *, progress: bool = True
) -> dict:
    """Put the same synthesised queries to every index and count the right answers.

    The time per query excludes that of a first call, which loads and compiles.

    Returns:
        JSON-able ``{"settings", "indexes", "n_files", "results"}``; ``n_files`` counts the files
        that queries were made from and those left out, ``results`` are the rows of
        `metrics.summarise`.

    Raises:
        EvaluationError: no file is left to make queries from.
        FingerprintError: an index, a folder or a file cannot be used.
    """
    recognizers = {
        str(folder): open_recognizer(folder, searcher=settings.searcher) for folder in index_dirs
    }
    names = {folder: track_names(recognizer) for folder, recognizer in recognizers.items()}
    surroundings = settings.surroundings()
    known, n_files = _known_files(settings, names)
    sources = [known] + ([_unknown_files(settings, names)] if settings.unknown else [])
    queries = itertools.chain.from_iterable(
        make_queries(
            source,
            surroundings,
            n_queries=settings.n_queries,
            durations_s=settings.durations_s,
            snrs_db=settings.snr_db,
            seed=settings.seed,
        )
        for source in sources
    )
    n_ratios = len(settings.snr_db) if surroundings.noises else 1
    n_total = settings.n_queries * n_ratios * len(sources)
    # Rarely redrawn in a log file.
    interval_s = 0.2 if sys.stderr.isatty() else 30.0
    queries = tqdm(
        queries, total=n_total, unit="query", mininterval=interval_s, disable=not progress
    )
    outcomes = _ask_all(queries, recognizers, names, settings)
    return {
        "settings": dataclasses.asdict(settings),
        "indexes": [describe_index(folder) for folder in recognizers],
        "n_files": n_files,
        "results": summarise(sorted(outcomes, key=lambda o: list(recognizers).index(o.index))),
    }


def track_names(recognizer: Recognizer) -> dict[str, str]:
    """The name of each track of an index by the file it was made from."""
    return {
        os.path.realpath(track.resolved_path or track.name): track.name
        for track in recognizer.tracks
    }


def duration_of(path: str) -> float:
    """Seconds of audio that a file declares; 0 for what is not audio."""
    try:
        return soundfile.info(path).duration
    except (OSError, soundfile.SoundFileError):
        return 0.0


def _known_files(
    settings: EvaluationSettings, names: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], dict[str, int]]:
    """The files to ask for, and how many there are and how many are left out."""
    files = audio_of_kind(settings.queries_from, settings.kind, settings.split)
    held = [f for f in files if all(os.path.realpath(f) in known for known in names.values())]
    longest_s = max(settings.durations_s)
    asked = [file for file in held if duration_of(file) >= longest_s]
    if not asked:
        raise EvaluationError(
            f"{settings.queries_from} has {len(files)} files, {len(held)} of them are in every "
            f"index, and none of these lasts {longest_s:g} s: index them, or ask for less."
        )
    left_out = {"not_in_every_index": len(files) - len(held), "too_short": len(held) - len(asked)}
    return asked, {"asked": len(asked)} | left_out


def _unknown_files(
    settings: EvaluationSettings, names: Mapping[str, Mapping[str, str]]
) -> list[str]:
    split = settings.unknown_split or settings.split
    longest_s = max(settings.durations_s)
    chosen = [
        file
        for file in audio_of_kind(settings.unknown, settings.kind, split)
        if not any(os.path.realpath(file) in known for known in names.values())
        and duration_of(file) >= longest_s
    ]
    if not chosen:
        raise EvaluationError(
            f"No file of {settings.unknown} lasts {longest_s:g} s and is in none of the indexes: "
            "queries without an answer cannot be made from it."
        )
    return chosen


def _ask_all(
    queries: Iterable[Query],
    recognizers: Mapping[str, Recognizer],
    names: Mapping[str, Mapping[str, str]],
    settings: EvaluationSettings,
) -> Iterator[Outcome]:
    warm = False
    for query in queries:
        for folder, recognizer in recognizers.items():
            track = names[folder].get(os.path.realpath(query.path))
            for duration_s in settings.durations_s:
                if not warm:
                    _ask(recognizer, query, duration_s)
                answer, wall_s, cpu_s = _ask(recognizer, query, duration_s)
                judged = judge(answer, track, query.start_s, settings.offset_tolerance_s)
                yield Outcome(
                    folder, duration_s, query.snr_db, **judged, wall_s=wall_s, cpu_s=cpu_s
                )
        warm = True


def _ask(
    recognizer: Recognizer, query: Query, duration_s: float
) -> tuple[Identification, float, float]:
    """The answer, and the wall-clock and CPU seconds it took."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    try:
        answer = recognizer.identify(query.first(duration_s), sample_rate_hz=query.sample_rate_hz)
    except AudioError:
        # Nothing is left of the query at the recogniser's sample rate: it has no answer.
        answer = Identification("no_match", [])
    return answer, time.perf_counter() - wall_s, time.process_time() - cpu_s
