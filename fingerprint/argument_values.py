"""How values on the command line are written, and what the verbs' help has in common."""

import argparse
import math
import re

EXIT_STATUS = (
    "Exit status: 0 done; 1 something could not be done (the sentences on stderr say what and\n"
    "why) and the rest was; 2 wrong usage."
)


def new_verb(verbs, name: str, summary: str, more: str, example: str) -> argparse.ArgumentParser:
    """Add a verb whose help shows the summary, more of it and an example."""
    return verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{more}\n\nExample:\n  {example}",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_searcher(verb: argparse.ArgumentParser) -> None:
    """The option ``--searcher``."""
    verb.add_argument(
        "--searcher",
        choices=["auto", "exact", "scann", "hash_buckets", "lsh", "ivf_pq", "hnsw"],
        default="auto",
        help="of a neural index or one of both methods; auto chooses by its size",
    )


def add_format(verb: argparse.ArgumentParser, *more: str) -> None:
    """The option ``--format``: a table, JSON, and what a verb has ``more``."""
    verb.add_argument("--format", choices=["table", "json", *more], default="table")


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def floats(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 1,2.5,10")
    return values


def floats_or_none(text: str) -> list[float | None]:
    """Numbers with commas between them; "none" among them stands for not applied."""
    return [None if part == "none" else floats(part)[0] for part in text.split(",")]


def words_or_none(text: str) -> list[str | None]:
    """Words with commas between them; "none" among them stands for not applied."""
    return [None if part == "none" else part for part in text.split(",")]


def float_range(text: str) -> tuple[float, float]:
    """Two numbers with a comma between them, the smaller one first."""
    values = floats(text)
    if len(values) != 2 or values[0] > values[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range like 0,10")
    return values[0], values[1]


def positive_floats(text: str) -> list[float]:
    """Positive numbers with commas between them."""
    values = floats(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds a value that is not positive")
    return values


def non_negative_float(text: str) -> float:
    """A number from 0 on."""
    values = floats(text)
    if len(values) > 1 or values[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return values[0]


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = non_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def named_file(text: str) -> tuple[str, str]:
    """``NAME=FILE``; the name can be part of a file's name."""
    name, equals, path = text.partition("=")
    if not (equals and path and re.fullmatch(r"[\w.+-]+", name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE.csv")
    return name, path


def shard(text: str) -> tuple[int, int]:
    """``I/N``: part I of N, counted from 0."""
    part, slash, total = text.partition("/")
    if not (slash and part.isdecimal() and total.isdecimal() and int(part) < int(total)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with 0 <= I < N")
    return int(part), int(total)
