"""How well sampled distractors predict real ones.

    fingerprint index fit.index MUSIC --model MODEL
    fingerprint index real.index OTHER_MUSIC --model MODEL
    fingerprint queries runs/distractors --queries_from OTHER_MUSIC --noise NOISE --room_ir ROOMS
    python benchmarks/distractors.py fit.index real.index --queries runs/distractors

Recordings of the queries are the references, in whichever index they are; the other tracks of
``real.index`` are real distractors, and those of ``fit.index`` are what others are sampled from. A
query is right at a length when its score at its own place exceeds the best at any place of any
other track: exhaustive search, by the mean inner product along a sequence. Numbers of rows are
reached by adding distractors track by track, averaged over random orders. Intervals are 95 %, from
drawing the recordings of the queries again.

"Worth" is the number of real rows among which the best wrong score is as high as among the sampled
ones, divided by their number. Sampled rows may go on beyond the real ones, with --max_rows.
"""

import argparse
import json
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
from fingerprint.model import Fingerprinter
from fingerprint.neural_recognizer import MODEL_FOLDER
from fingerprint.store import Store

FEWEST_ROWS = 2_500
N_ORDERS = 20


class Queries(NamedTuple):
    """Queries ``(m, 19, d)``, the recording of each, and at which row of it they start."""

    embeddings: np.ndarray
    recordings: list[str]
    starts: np.ndarray


class Distractors(NamedTuple):
    """Best scores ``(m, n_lengths, n_tracks)`` of queries in each track, and the tracks' rows."""

    scores: np.ndarray
    rows: np.ndarray


class Growth(NamedTuple):
    """At each number of rows: the best wrong score and the share of right queries.

    Both ``(m, n_lengths, n_sizes)``, averaged over orders of the tracks.
    """

    wrong: np.ndarray
    right: np.ndarray


def embed_queries(folder: str, fingerprinter: Fingerprinter, recordings: set[str]) -> Queries:
    """Fingerprint the queries from known recordings that are long enough."""
    grid, n_longest = fingerprinter.grid, max(LENGTHS)
    embeddings, names, starts = [], [], []
    for query in tqdm(QuerySet.open(folder), unit="query", mininterval=10):
        samples = from_array(query.samples, query.sample_rate_hz, fingerprinter.sample_rate_hz)
        segments = grid.cut(samples)[:n_longest]
        if query.track not in recordings or query.start_s is None or len(segments) < n_longest:
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


def sampled(sampler: FingerprintSampler, n_rows: int, seed: int):
    """Sampled tracks with so many rows together."""
    rng = np.random.default_rng(seed)
    while n_rows > 0:
        track = sampler.draw(rng)
        n_rows -= len(track)
        yield track


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


def table(real: Growth, drawn: Growth, sizes: np.ndarray, recordings: list[str]) -> str:
    """Top-1 and best wrong scores by rows and length."""
    heads = ["rows", "segments", "top-1 real, %", "top-1 sampled, %", "difference",
             "wrong score real", "wrong score sampled", "difference", "worth"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
    values = worth(real, drawn, sizes)
    for j, size in enumerate(sizes):
        for i, length in enumerate(LENGTHS):
            top1 = np.stack([real.right[:, i, j], drawn.right[:, i, j]])
            wrong = np.stack([real.wrong[:, i, j], drawn.wrong[:, i, j]])
            differences = np.stack([np.diff(100 * top1, axis=0)[0], np.diff(wrong, axis=0)[0]], 1)
            bounds = bootstrap_intervals(differences, recordings)
            mean = differences.mean(axis=0)
            cells = [f"{size:,}", str(length), *(f"{100 * v:.1f}" for v in top1.mean(axis=1))]
            cells.append(f"{mean[0]:+.1f} ({bounds[0, 0]:+.1f} to {bounds[0, 1]:+.1f})")
            cells += [f"{v:.3f}" for v in wrong.mean(axis=1)]
            cells.append(f"{mean[1]:+.3f} ({bounds[1, 0]:+.3f} to {bounds[1, 1]:+.3f})")
            cells.append("" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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
    parser.add_argument("--model", help="by default the one in the index of real distractors")
    parser.add_argument("--max_rows", type=int, default=100_000, help="sampled rows (100000)")
    parser.add_argument("--sharpness", type=float, default=SHARPNESS, help=f"({SHARPNESS})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="also write the figures as JSON")
    arguments = parser.parse_args(argv)
    fit, real = Store.open(arguments.fit_index), Store.open(arguments.real_index)
    fingerprinter = Fingerprinter.load(arguments.model or arguments.real_index / MODEL_FOLDER)
    for store in (fit, real):
        if fingerprinter.identity != store.recognizer.get("identity"):
            raise SystemExit(f"{store.folder} was not made with the model that embeds the queries.")
    everything = sequences_of(fit) | sequences_of(real)
    queries = embed_queries(arguments.queries, fingerprinter, set(everything))
    report(arguments, queries, sequences_of(fit), sequences_of(real))


def report(arguments, queries: Queries, fit: dict, real: dict) -> None:
    """Print all tables."""
    references = {name: np.array((fit | real)[name]) for name in sorted(set(queries.recordings))}
    fit_tracks = [rows for name, rows in fit.items() if name not in references]
    real_tracks = [rows for name, rows in real.items() if name not in references]
    sampler = FingerprintSampler(fit_tracks, arguments.sharpness)
    right = right_scores(queries, references)
    others = scores_in(queries, references.values()).scores
    for number, name in enumerate(references):
        others[[recording == name for recording in queries.recordings], :, number] = -1.0
    others = others.max(axis=2)
    real_scores = scores_in(queries, real_tracks)
    n_real = int(real_scores.rows.sum())
    n_sampled = max(n_real, arguments.max_rows)
    drawn_scores = scores_in(queries, sampled(sampler, n_sampled, arguments.seed))
    sizes, more = row_sizes(n_real), row_sizes(n_sampled)
    growths = [growth(each, right, others, sizes) for each in (real_scores, drawn_scores)]
    print(
        f"{len(queries.starts)} queries from {len(references)} recordings; sampled from "
        f"{len(fit_tracks)} tracks, {sum(map(len, fit_tracks)):,} rows; {len(real_tracks)} real "
        f"distractors, {n_real:,} rows; sharpness {arguments.sharpness:g}\n"
    )
    print(table(*growths, sizes, queries.recordings), "\n")
    print(beyond_table(growth(drawn_scores, right, others, more), more), "\n")
    near = {
        "real": neighbours(real_tracks),
        "sampled": neighbours(list(sampled(sampler, n_real, arguments.seed))),
    }
    print("Cosines (mean, deviation, 10th, 50th and 90th percentile):")
    for which, values in near.items():
        for name, numbers in values.items():
            print(f"{which:8} {name:20} {numbers}")
    if arguments.out:
        content = {
            "sizes": sizes.tolist(),
            "lengths": LENGTHS,
            "cosines": near,
            "top1": [each.right.mean(axis=0).tolist() for each in growths],
            "wrong": [each.wrong.mean(axis=0).tolist() for each in growths],
        }
        arguments.out.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
