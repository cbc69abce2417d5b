"""What the verdict "match" is worth: false alarms and recall at several confidences.

    fingerprint index half.index HALF_OF_THE_MUSIC
    fingerprint queries runs/asked --queries_from MUSIC --noise NOISE \
        --room_ir ROOMS --n_queries 2000
    python benchmarks/verdict.py half.index runs/asked

Queries whose recording the index does not hold have no right answer: each that is called a match is
a false alarm, and a confidence c promises at most 1 - c of them. Recall is the share of the other
queries that are called a match with the right recording, "wrong" that with another one, and top-1
the share whose best candidate is right, whatever its confidence. Intervals are 95 %: Wilson's, as
if queries were independent, which those of one recording are not; a thousand queries that raise no
alarm still leave room for 0.4 % of them.

Of an index of two methods it also says how often both put a candidate at the same place where there
is no right one, by the product of the candidates' ranks: among more pairs that is likelier.
"""

import argparse
import os
from typing import NamedTuple

from tqdm import tqdm

from fingerprint.audio import AudioError
from fingerprint.both_recognizer import N_CANDIDATES
from fingerprint.evaluation.answers import asked_lengths
from fingerprint.evaluation.query_sets import LabelledQuery, QuerySet
from fingerprint.evaluation.statistics import wilson_interval
from fingerprint.fusion import at_one_place
from fingerprint.identification import Identification, Recognizer
from fingerprint.recognizer import open_recognizer

CONFIDENCES = (0.9, 0.99, 0.999, 0.9999)
DURATIONS_S = (1.0, 2.0, 3.0, 5.0, 10.0)


class Asked(NamedTuple):
    """An answer: whether there is a right one, whether this is, and its confidence.

    Attributes:
        pairs: product of the ranks of the first candidates that two methods put at one place; None
            where they agree on none, or where it was not asked.
    """

    duration_s: float
    answerable: bool
    right: bool
    confidence: float
    pairs: int | None


def ask(
    recognizer: Recognizer, query: LabelledQuery, duration_s: float, top_k: int = 1
) -> Identification:
    """The answer; nothing is found where nothing can be heard."""
    try:
        return recognizer.identify(
            query.first(duration_s), top_k=top_k, sample_rate_hz=query.sample_rate_hz
        )
    except AudioError:
        return Identification("no_match", [])


def ask_all(recognizer: Recognizer, queries: QuerySet, durations_s: list[float]) -> list[Asked]:
    """Every query at every length that it has."""
    names = {os.path.realpath(t.resolved_path or t.name): t.name for t in recognizer.tracks}
    asked = []
    for query in tqdm(queries.queries(), total=len(queries), unit="query"):
        expected = None if query.track is None else names.get(os.path.realpath(query.track))
        for duration_s in asked_lengths(durations_s, query.duration_s):
            answer = ask(recognizer, query, duration_s)
            right = bool(answer.matches) and answer.matches[0].track == expected
            pairs = None if expected else agreeing_pairs(recognizer, query, duration_s)
            asked.append(Asked(duration_s, expected is not None, right, answer.confidence, pairs))
    return asked


def agreeing_pairs(recognizer: Recognizer, query: LabelledQuery, duration_s: float) -> int | None:
    """Of the candidates that both methods put at one place, the smallest product of ranks."""
    if len(recognizer.parts) != 2:
        return None
    ranked = [
        {match.track: (rank, match) for rank, match in enumerate(answer.matches, start=1)}
        for answer in (ask(part, query, duration_s, N_CANDIDATES) for part in recognizer.parts)
    ]
    products = []
    for track in ranked[0].keys() & ranked[1].keys():
        (i, one), (j, other) = ranked[0][track], ranked[1][track]
        if at_one_place([one, other]):
            products.append(i * j)
    return min(products, default=None)


def percent(flags: list[bool]) -> str:
    """A share with its interval."""
    if not flags:
        return "-"
    low, high = wilson_interval(sum(flags), len(flags))
    return f"{sum(flags) / len(flags):.2%} ({low:.2%} to {high:.2%})"


def print_table(asked: list[Asked], confidences: list[float]) -> None:
    """A row for each length and confidence, and for all lengths together."""
    print("| length | confidence | false alarms | recall | wrong | top-1 |")
    print("|---|---|---|---|---|---|")
    lengths = sorted({each.duration_s for each in asked})
    for duration_s in [*lengths, None]:
        of_length = [each for each in asked if duration_s in (None, each.duration_s)]
        known = [each for each in of_length if each.answerable]
        for confidence in confidences:
            cells = (
                "all" if duration_s is None else f"{duration_s:g} s",
                f"{confidence:g}",
                percent([e.confidence >= confidence for e in of_length if not e.answerable]),
                percent([e.confidence >= confidence and e.right for e in known]),
                percent([e.confidence >= confidence and not e.right for e in known]),
                percent([e.right for e in known]),
            )
            print("| " + " | ".join(cells) + " |")


def print_agreement(asked: list[Asked]) -> None:
    """How often methods agree where there is nothing to agree on."""
    unknown = [each for each in asked if not each.answerable]
    print("\n| both methods name one place, product of ranks | of queries without an answer |")
    print("|---|---|")
    for most in (1, 10, 100):
        share = percent([e.pairs is not None and e.pairs <= most for e in unknown])
        print(f"| at most {most} | {share} |")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="False alarms and recall of the verdict.")
    parser.add_argument("index", help="an index of any method")
    parser.add_argument("queries", help="made by `fingerprint queries`; some not in the index")
    parser.add_argument("--root", help="where the recordings of the queries are, if moved")
    parser.add_argument("--durations_s", type=float, nargs="+", default=DURATIONS_S)
    parser.add_argument("--confidences", type=float, nargs="+", default=CONFIDENCES)
    return parser.parse_args()


def main() -> None:
    """Ask and print."""
    options = parse()
    recognizer = open_recognizer(options.index)
    queries = QuerySet.open(options.queries, options.root)
    asked = ask_all(recognizer, queries, options.durations_s)
    n_unknown = sum(not each.answerable for each in asked)
    print(
        f"{options.index}: {recognizer.method}, {len(recognizer.tracks)} tracks, "
        f"{recognizer.store.n_rows:,} rows; {len(asked) - n_unknown} questions with an answer and "
        f"{n_unknown} without\n"
    )
    print_table(asked, options.confidences)
    if len(recognizer.parts) == 2:
        print_agreement(asked)


if __name__ == "__main__":
    main()
