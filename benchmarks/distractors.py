"""How well sampled distractors, or others that are made, predict real ones.

    fingerprint index fit.index MUSIC --model MODEL
    fingerprint index real.index OTHER_MUSIC --model MODEL
    fingerprint queries runs/asked --queries_from OTHER_MUSIC --noise NOISE --room_ir ROOMS
    python benchmarks/distractors.py fit.index real.index --queries runs/asked

Some recordings of the queries are the references, in whichever index they are; the other tracks of
``real.index`` are real distractors, and those of ``fit.index`` are what others are sampled from. A
query is right at a length when its score at its own place exceeds the best at any place of any
other track: exhaustive search, by the mean inner product along a sequence. Numbers of rows are
reached by adding distractors track by track, averaged over random orders. Intervals are 95 %, from
drawing the recordings of the queries again.

"Worth" is the number of real rows among which the best wrong score is as high, divided by that of
the rows that were made. Sampled rows go on beyond the real ones, up to --max_rows. Measured in the
same way are the real tracks that they are sampled from, which says how much collections differ, and
all tracks of the indexes of --compare.
"""

import argparse
import pathlib
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from fingerprint.audio import from_array
from fingerprint.evaluation.fingerprint_sampler import (
    LENGTHS,
    SHARPNESS,
    FingerprintSampler,
    best_scores,
)
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.sampled_distractors import sequences_of
from fingerprint.evaluation.statistics import bootstrap_intervals
from fingerprint.generate import COLUMN
from fingerprint.model import Fingerprinter
from fingerprint.neural_recognizer import MODEL_FOLDER
from fingerprint.store import Store

FEWEST_ROWS = 2_500
N_ORDERS = 20


class Queries(NamedTuple):
    """Queries ``(m, 19, d)``, the recording of each, and the row of it that they start at."""

    embeddings: np.ndarray
    recordings: list[str]
    starts: np.ndarray


class Distractors(NamedTuple):
    """Best scores ``(m, n_lengths, n_tracks)`` of queries in each track, and the tracks' rows."""

    scores: np.ndarray
    rows: np.ndarray


class Growth(NamedTuple):
    """Best wrong score and share of right ones, ``(m, n_lengths, n_sizes)``, mean of orders."""

    wrong: np.ndarray
    right: np.ndarray


def embed_queries(
    folder: str, fingerprinter: Fingerprinter, known: set[str], n_references: int, seed: int
) -> Queries:
    """Fingerprint the queries of some known recordings, those that are long enough."""
    queries = QuerySet.open(folder)
    grid, n_longest = fingerprinter.grid, max(LENGTHS)
    recordings = sorted({truth.track for truth in queries.truths()} & known)
    drawn = np.random.default_rng(seed).permutation(len(recordings))[:n_references]
    references = {recordings[i] for i in drawn}
    others = {truth.id for truth in queries.truths() if truth.track not in references}
    embeddings, names, starts = [], [], []
    asked = queries.queries(skip=others)
    for query in tqdm(asked, total=len(queries) - len(others), unit="query", mininterval=10):
        samples = from_array(query.samples, query.sample_rate_hz, fingerprinter.sample_rate_hz)
        segments = grid.cut(samples)[:n_longest]
        if query.start_s is None or len(segments) < n_longest:
            continue
        embeddings.append(fingerprinter.embed_segments(segments))
        names.append(query.track)
        starts.append(query.start_s / grid.hop_s)
    if not embeddings:
        raise SystemExit(f"No query of {folder} is long enough and from a track of the indexes.")
    return Queries(np.stack(embeddings), names, np.array(starts))


def right_scores(queries: Queries, references: dict[str, np.ndarray]) -> np.ndarray:
    """The score of each query at its own place, the better of the two rows around its start."""
    scores = np.empty((len(queries.starts), len(LENGTHS)), np.float32)
    for i, (embeddings, recording, start) in enumerate(zip(*queries, strict=True)):
        places = {int(np.floor(start)), int(np.ceil(start))}
        rows = references[recording]
        around = [
            best_scores(embeddings[None, :length], rows[place : place + length], [length])
            for length in LENGTHS
            for place in places
        ]
        scores[i] = np.reshape(around, (len(LENGTHS), len(places))).max(axis=1)
    return scores


def scores_in(queries: Queries, tracks) -> Distractors:
    """Search every track."""
    scores, rows = [], []
    for track in tqdm(tracks, unit="track", mininterval=10):
        scores.append(best_scores(queries.embeddings, track))
        rows.append(len(track))
    return Distractors(np.stack(scores, axis=2), np.array(rows))


def other_scores(queries: Queries, references: dict[str, np.ndarray]) -> np.ndarray:
    """The best score of each query in a reference other than its own, ``(m, n_lengths)``."""
    scores = scores_in(queries, references.values()).scores
    for number, name in enumerate(references):
        scores[[recording == name for recording in queries.recordings], :, number] = -1.0
    return scores.max(axis=2)


def every_track(store: Store):
    """The rows of each track, one after the other."""
    rows = store.column(COLUMN)
    for track in filter(lambda track: track.n_rows, store.tracks):
        yield rows[track.first_row : track.first_row + track.n_rows]


def sampled(sampler: FingerprintSampler, n_rows: int, seed: int):
    """Sampled tracks with so many rows together."""
    rng = np.random.default_rng(seed)
    while n_rows > 0:
        yield (track := sampler.draw(rng))
        n_rows -= len(track)


def growth(
    distractors: Distractors, right: np.ndarray, other_references: np.ndarray, sizes: np.ndarray
) -> Growth:
    """What more and more distractors do, beside the other references."""
    wrong, hits = 0, 0
    for seed in range(N_ORDERS):
        order = np.random.default_rng(seed).permutation(len(distractors.rows))
        n_rows = np.cumsum(distractors.rows[order])
        last = np.minimum(np.searchsorted(n_rows, sizes), len(order) - 1)
        best = np.maximum.accumulate(distractors.scores[:, :, order], axis=2)[:, :, last]
        wrong = wrong + best / N_ORDERS
        rivals = np.maximum(best, other_references[:, :, None])
        hits = hits + (right[:, :, None] > rivals) / N_ORDERS
    return Growth(wrong, hits)


def row_sizes(n_rows: int) -> np.ndarray:
    """Doubled from the fewest on, and the number itself."""
    return np.append(
        FEWEST_ROWS * 2 ** np.arange(max(0, int(np.log2(n_rows / FEWEST_ROWS)) + 1)), n_rows
    )


def worth(real: Growth, drawn: Growth, sizes: np.ndarray) -> np.ndarray:
    """Real rows that are as hard as a sampled one, ``(n_lengths, n_sizes)``; NaN out of range."""
    as_hard = [
        np.interp(w, r, np.log(sizes), left=np.nan, right=np.nan)
        for w, r in zip(drawn.wrong.mean(axis=0), real.wrong.mean(axis=0), strict=True)
    ]
    return np.exp(np.array(as_hard)) / sizes


def table(real: Growth, made: Growth, sizes: np.ndarray, recordings: list[str]) -> str:
    """Top-1 and best wrong scores by rows and length."""
    heads = ["rows", "segments", "top-1 real, %", "top-1 made, %", "difference",
             "wrong score real", "wrong score made", "difference", "worth"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
    values = worth(real, made, sizes)
    for j, size in enumerate(sizes):
        for i, length in enumerate(LENGTHS):
            cells = [f"{size:,}", str(length)]
            cells += _compared(100 * real.right[:, i, j], 100 * made.right[:, i, j], recordings, 1)
            cells += _compared(real.wrong[:, i, j], made.wrong[:, i, j], recordings, 3)
            cells.append("" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _compared(real, made, recordings, n_digits) -> list[str]:
    """The means, and their difference with its interval."""
    low, high = bootstrap_intervals((made - real)[:, None], recordings)[0]
    difference = f"{(made - real).mean():+.{n_digits}f}"
    interval = f"({low:+.{n_digits}f} to {high:+.{n_digits}f})"
    return [*(f"{each.mean():.{n_digits}f}" for each in (real, made)), f"{difference} {interval}"]


def beyond_table(drawn: Growth, sizes: np.ndarray) -> str:
    """Top-1 and best wrong scores of sampled rows alone."""
    heads = ["rows", *(f"top-1 at {n}, %" for n in LENGTHS), *(f"wrong at {n}" for n in LENGTHS)]
    lines = [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
    for j, size in enumerate(sizes):
        top1, wrong = drawn.right[:, :, j].mean(axis=0), drawn.wrong[:, :, j].mean(axis=0)
        cells = [f"{size:,}", *(f"{100 * v:.1f}" for v in top1), *(f"{v:.3f}" for v in wrong)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def neighbours(tracks: list[np.ndarray]) -> dict[str, list[float]]:
    """Cosines of neighbours, of distant rows of a track, and of rows of different tracks.

    Mean, standard deviation, and 10th, 50th and 90th percentile of each.
    """

    def cosines(first, second):
        values = np.concatenate(
            [np.einsum("ij,ij->i", a, b) for a, b in zip(first, second, strict=True)]
        )
        return [round(float(v), 3) for v in
                (values.mean(), values.std(), *np.quantile(values, [0.1, 0.5, 0.9]))]  # fmt: skip

    half = [len(track) // 2 for track in tracks]
    shortest = min(map(len, tracks))
    starts = [track[:shortest] for track in tracks]
    return {
        "neighbours": cosines([t[:-1] for t in tracks], [t[1:] for t in tracks]),
        "half a track apart": cosines(
            [t[:h] for t, h in zip(tracks, half, strict=True)],
            [t[h : 2 * h] for t, h in zip(tracks, half, strict=True)],
        ),
        "different tracks": cosines(starts, [*starts[1:], starts[0]]),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fit_index", type=pathlib.Path, help="what distractors are sampled from")
    parser.add_argument("real_index", type=pathlib.Path, help="real distractors to predict")
    parser.add_argument("--queries", required=True, help="folder of a set of queries")
    parser.add_argument("--n_references", type=int, default=30, help="recordings asked for (30)")
    parser.add_argument("--compare", type=pathlib.Path, nargs="*", default=[], help="indexes")
    parser.add_argument("--max_rows", type=int, default=100_000, help="sampled rows (100000)")
    parser.add_argument("--sharpness", type=float, default=SHARPNESS, help=f"({SHARPNESS})")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    fit, real, *compared = map(
        Store.open, (arguments.fit_index, arguments.real_index, *arguments.compare)
    )
    fingerprinter = Fingerprinter.load(arguments.real_index / MODEL_FOLDER)
    for store in (fit, real, *compared):
        if fingerprinter.identity != store.recognizer.get("identity"):
            raise SystemExit(f"{store.folder} was not made with the model of {real.folder}.")
    tracks, real_tracks = sequences_of(fit), sequences_of(real)
    queries = embed_queries(
        arguments.queries, fingerprinter, set(tracks | real_tracks),
        arguments.n_references, arguments.seed,
    )  # fmt: skip
    report(arguments, queries, tracks, real_tracks, compared)


def report(arguments, queries: Queries, fit: dict, real: dict, compared: list[Store]) -> None:
    """Print all tables."""
    references = {name: np.array((fit | real)[name]) for name in sorted(set(queries.recordings))}
    fit_tracks = [rows for name, rows in fit.items() if name not in references]
    real_tracks = [rows for name, rows in real.items() if name not in references]
    sampler = FingerprintSampler(fit_tracks, arguments.sharpness)
    right = right_scores(queries, references)
    others = other_scores(queries, references)
    found = scores_in(queries, real_tracks)
    n_real = int(found.rows.sum())
    n_sampled = max(n_real, arguments.max_rows)
    made = {"sampled": scores_in(queries, sampled(sampler, n_sampled, arguments.seed))}
    made["real tracks of the other index"] = scores_in(queries, fit_tracks)
    for store in compared:
        made[str(store.folder)] = scores_in(queries, every_track(store))
    print(
        f"{len(queries.starts)} queries from {len(references)} recordings; sampled from "
        f"{len(fit_tracks)} tracks, {sum(map(len, fit_tracks)):,} rows; {len(real_tracks)} real "
        f"distractors, {n_real:,} rows; sharpness {arguments.sharpness:g}"
    )
    for name, each in made.items():
        sizes = row_sizes(min(n_real, int(each.rows.sum())))
        growths = [growth(which, right, others, sizes) for which in (found, each)]
        print(f"\n## {name}\n\n{table(*growths, sizes, queries.recordings)}")
    more = row_sizes(n_sampled)
    print(
        f"\n## More sampled\n\n{beyond_table(growth(made['sampled'], right, others, more), more)}"
    )
    print("\n## Cosines: mean, deviation, 10th, 50th and 90th percentile\n")
    drawn = list(sampled(sampler, n_real, arguments.seed))
    for which, tracks in {"real": real_tracks, "sampled": drawn}.items():
        for name, numbers in neighbours(tracks).items():
            print(f"- {which}, {name}: {numbers}")


if __name__ == "__main__":
    main()
