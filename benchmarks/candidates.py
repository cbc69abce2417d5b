"""How little of a database hash codes need to look at: learnt, hyperplanes, p-stable LSH, PCA.

    fingerprint index neural.index AUDIO/music/test --model MODEL
    fingerprint queries runs/phone --queries_from AUDIO --noise AUDIO --room_ir AUDIO
    python benchmarks/candidates.py neural.index --queries runs/phone --out runs/candidates

MODEL has a hash head (``config.hash``). Every segment of every query looks for the row that exact
search finds; recall is the share of segments that find it among the rows they examine, and the cost
is the mean share of the database that they examine. The curves of codes are over the number of
buckets visited, nearest first; random hyperplanes and principal directions of the database have as
many bits, the same probing, and are averaged over several draws. Settings of p-stable LSH are
chosen from the segments of every other recording for a row of recalls; everything is measured on
the other recordings.

Comparisons are repeated for the segments whose nearest row is the right one: the others look for a
row that would not help them.
"""

import argparse
import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

from fingerprint.audio import from_array
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.generate import COLUMN
from fingerprint.model import Fingerprinter
from fingerprint.neural_recognizer import MODEL_FOLDER
from fingerprint.searchers import ExactSearcher, LshSearcher, balance, random_hyperplanes
from fingerprint.searchers.hash_codes import (
    Encode,
    buckets_of,
    principal_directions,
    probe_order,
)
from fingerprint.searchers.lsh import choose_settings
from fingerprint.store import Store

LEARNT, HYPERPLANES, P_STABLE = "learnt codes", "random hyperplanes", "p-stable LSH"
PRINCIPAL = "principal directions"
RECALLS = (0.5, 0.7, 0.8, 0.9, 0.95)
LSH_RECALLS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98)
N_DRAWS = 5
_QUERIES_PER_BLOCK = 256
# p-stable LSH is searched with settings for each recall, which costs more than counting buckets.
_P_STABLE_QUERIES = 500


class Queries(NamedTuple):
    """Segments of queries.

    Attributes:
        embeddings: ``(m, d)``.
        recording: number of the recording that each is of, ``(m,)``.
        nearest: the row that exact search finds, ``(m,)``.
        is_right: whether that row is of the right track and second, ``(m,)``.
    """

    embeddings: np.ndarray
    recording: np.ndarray
    nearest: np.ndarray
    is_right: np.ndarray

    def where(self, mask: np.ndarray) -> "Queries":
        """The segments of a mask ``(m,)``."""
        return Queries(*(values[mask] for values in self))


class Curve(NamedTuple):
    """Recall ``(n,)``, rising, and the share of the database examined for it ``(n,)``."""

    recall: np.ndarray
    examined: np.ndarray

    def examined_at(self, recall: float) -> float:
        """The share at a recall, between the points of the curve; NaN outside of them."""
        return float(np.interp(recall, self.recall, self.examined, left=np.nan, right=np.nan))


def embed_queries(
    folder: str | pathlib.Path, fingerprinter: Fingerprinter, store: Store
) -> Queries:
    """Fingerprint the queries of a set whose tracks are in the store; silence is left out."""
    tracks = {track.resolved_path: (i, track) for i, track in enumerate(store.tracks)}
    grid = fingerprinter.grid
    embeddings, numbers, places = [], [], []
    for query in QuerySet.open(folder):
        if query.track not in tracks or query.start_s is None:
            continue
        number, track = tracks[query.track]
        samples = from_array(query.samples, query.sample_rate_hz, fingerprinter.sample_rate_hz)
        segments = grid.cut(samples)
        heard = np.flatnonzero(segments.any(axis=1))
        embeddings.append(fingerprinter.embed_segments(segments[heard]))
        numbers.append(np.full(len(heard), number))
        places.append(track.first_row + query.start_s / grid.hop_s + heard)
    if not embeddings:
        raise SystemExit(f"No query of {folder} is from a track in {store.folder}.")
    embeddings, places = np.concatenate(embeddings), np.concatenate(places)
    nearest = ExactSearcher(store.column(COLUMN)).search(embeddings, 1)[0][:, 0]
    return Queries(embeddings, np.concatenate(numbers), nearest, np.abs(nearest - places) <= 1)


def bucket_curve(row_codes: np.ndarray, query_codes: np.ndarray, nearest: np.ndarray) -> Curve:
    """What visiting 1, 2, ... 2^K buckets finds and costs.

    Args:
        row_codes: ``(n, K)``.
        query_codes: ``(m, K)``.
        nearest: the row wanted by each query, ``(m,)``.
    """
    n_buckets = 2 ** row_codes.shape[1]
    row_buckets = buckets_of(row_codes)
    sizes = np.bincount(row_buckets, minlength=n_buckets)
    found, examined = np.zeros(n_buckets), np.zeros(n_buckets)
    for start in range(0, len(query_codes), _QUERIES_PER_BLOCK):
        block = slice(start, start + _QUERIES_PER_BLOCK)
        order = probe_order(query_codes[block], n_buckets)
        found += (order == row_buckets[nearest[block], None]).sum(axis=0)
        examined += np.cumsum(sizes[order], axis=1).sum(axis=0)
    m = len(query_codes)
    return Curve(np.cumsum(found) / m, examined / m / len(row_codes))


def p_stable_curve(vectors: np.ndarray, held_out: Queries, queries: Queries) -> Curve:
    """What p-stable LSH finds and costs with settings chosen from held-out queries.

    Settings that examine more than others and find less are left out.
    """
    rows = np.random.default_rng(0).integers(len(vectors), size=len(held_out.embeddings))
    near = np.linalg.norm(held_out.embeddings - vectors[held_out.nearest], axis=1)
    far = np.linalg.norm(held_out.embeddings - vectors[rows], axis=1)
    step = max(1, len(near) // 300)
    n_segments = len(queries.nearest)
    some = queries.where(np.arange(n_segments) % math.ceil(n_segments / _P_STABLE_QUERIES) == 0)
    points = []
    for recall in LSH_RECALLS:
        settings = choose_settings(near[::step], far[::step], recall)
        searcher = LshSearcher.build(vectors, settings)
        ids, _, n_examined = searcher.search_counted(some.embeddings, 1)
        points.append((np.mean(ids[:, 0] == some.nearest), n_examined.mean() / len(vectors)))
    best = []
    for recall, examined in sorted(points, key=lambda point: point[1]):
        if not best or recall > best[-1][0]:
            best.append((recall, examined))
    return Curve(*np.array(best).T)


def compare(vectors: np.ndarray, queries: Queries, encode: Encode) -> dict[str, Curve]:
    """The curves of all methods, of every other recording; the rest choose settings.

    By recordings, as queries of one excerpt under several conditions follow each other.
    """
    is_held_out = queries.recording % 2 == 0
    held_out, measured = queries.where(is_held_out), queries.where(~is_held_out)
    row_codes = encode(vectors)
    learnt = bucket_curve(row_codes, encode(measured.embeddings), measured.nearest)
    curves = {LEARNT: learnt}
    for name, draws in _untrained(vectors, row_codes.shape[1]).items():
        found = [
            bucket_curve(draw(vectors), draw(measured.embeddings), measured.nearest)
            for draw in draws
        ]
        curves[name] = Curve(*np.mean(found, axis=0))
    return curves | {P_STABLE: p_stable_curve(vectors, held_out, measured)}


def _untrained(vectors: np.ndarray, n_bits: int) -> dict[str, list[Encode]]:
    """Encoders that need no training, several draws of each."""
    seeds = range(N_DRAWS)
    return {
        HYPERPLANES: [random_hyperplanes(vectors.shape[1], n_bits, seed) for seed in seeds],
        PRINCIPAL: [principal_directions(vectors, n_bits, seed) for seed in seeds],
    }


def balances(vectors: np.ndarray, encode: Encode) -> dict[str, dict]:
    """How evenly the rows fill the buckets of each sort of codes; means over the draws."""
    codes = encode(vectors)
    evenness = {LEARNT: vars(balance(codes))}
    for name, draws in _untrained(vectors, codes.shape[1]).items():
        found = [vars(balance(draw(vectors))) for draw in draws]
        evenness[name] = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
    return evenness


def table(curves: dict[str, Curve]) -> str:
    """Share of the database examined at equal recall, and how many times that of learnt codes."""
    others = [name for name in curves if name != LEARNT]
    header = [
        "recall",
        *(f"{name}, %" for name in curves),
        *(f"ratio of {name}" for name in others),
    ]
    lines = [f"| {' | '.join(header)} |", "|" + " ---: |" * len(header)]
    for recall in RECALLS:
        shares = {name: curve.examined_at(recall) for name, curve in curves.items()}
        cells = [f"{recall:.2f}", *(f"{100 * share:.2f}" for share in shares.values())]
        cells += [f"{shares[name] / shares[LEARNT]:.2f}" for name in others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(comparisons: dict[str, dict[str, Curve]], path: pathlib.Path) -> None:
    """Draw one panel per comparison."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(comparisons), figsize=(5 * len(comparisons), 4), squeeze=False, sharey=True
    )
    for panel, (title, curves) in zip(panels[0], comparisons.items(), strict=True):
        for name, curve in curves.items():
            style = "o-" if name == P_STABLE else "-"
            panel.semilogx(100 * curve.examined, curve.recall, style, markersize=3, label=name)
        panel.set(title=title, xlabel="database examined, %", ylim=(0, 1))
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("recall@1")
    panels[0, 0].legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def report(vectors, queries, encode, out: pathlib.Path) -> None:
    """Print the tables; write ``candidates.json`` and ``candidates.png`` to a folder."""
    comparisons = {
        "all segments": compare(vectors, queries, encode),
        "nearest is right": compare(vectors, queries.where(queries.is_right), encode),
    }
    evenness = balances(vectors, encode)
    for title, curves in comparisons.items():
        print(f"{title}:\n{table(curves)}\n")
    for name, values in evenness.items():
        print(
            f"{name}: entropy {values['entropy_share']:.3f} of K bits, "
            f"{values['share_in_tolerance']:.1%} of the buckets within a factor of two"
        )
    out.mkdir(parents=True, exist_ok=True)
    draw(comparisons, out / "candidates.png")
    content = {
        "n_rows": len(vectors),
        "n_segments": len(queries.nearest),
        "n_right": int(queries.is_right.sum()),
        "balance": evenness,
        "curves": {
            title: {
                name: {k: v.tolist() for k, v in c._asdict().items()} for name, c in each.items()
            }
            for title, each in comparisons.items()
        },
    }
    (out / "candidates.json").write_text(json.dumps(content) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Compare and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=pathlib.Path, help="folder of a neural index")
    parser.add_argument("--queries", required=True, help="folder of a set of queries")
    parser.add_argument("--model", help="with a hash head; by default the model of the index")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/candidates"))
    arguments = parser.parse_args(argv)
    store = Store.open(arguments.index)
    model = arguments.model or arguments.index / MODEL_FOLDER
    fingerprinter = Fingerprinter.load(model)
    if fingerprinter.identity != store.recognizer["identity"]:
        raise SystemExit(f"{arguments.index} was not made with {model}.")
    if not fingerprinter.has_codes:
        raise SystemExit(f"{model} has no hash head; name one that has with --model.")
    queries = embed_queries(arguments.queries, fingerprinter, store)
    vectors = np.asarray(store.column(COLUMN), np.float32)
    print(
        f"{len(vectors):,} rows, {len(queries.nearest):,} segments, "
        f"{queries.is_right.mean():.1%} of them nearest to the right row\n"
    )
    report(vectors, queries, fingerprinter.codes, arguments.out)


if __name__ == "__main__":
    main()
