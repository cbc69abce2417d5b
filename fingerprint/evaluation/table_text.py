"""Rows of cells as text, and figures as cells."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTHING = "-"
_UNITS = {
    "snr_db": "{} dB",
    "t60_s": "t60 {} s",
    "codec": "{}",
    "level_db": "level {} dB",
    "equaliser_db": "uneven by {} dB",
    "babble_db": "babble at {} dB",
}
# Columns of words; those of numbers stand to the right.
_WORDS = {
    "change",
    "system",
    "queries",
    "condition",
    "index",
    "method",
    "searcher",
    "first",
    "second",
}


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with bars, for Markdown."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = _widths(heads, rows)
    rule = [
        "-" * width if head in _WORDS else "-" * (width - 1) + ":"
        for head, width in zip(heads, widths, strict=True)
    ]
    lines = [_padded(heads, heads, widths), rule]
    lines += [_padded(heads, row, widths) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of columns, for a terminal."""
    widths = _widths(heads, rows)
    lines = [_padded(heads, line, widths) for line in [heads, *rows]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV with a column for every key that a row has; what a row has not is empty."""
    rows = list(rows)
    text = io.StringIO()
    heads = list(dict.fromkeys(head for row in rows for head in row))
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return f"{100 * share:.1f}"


def condition_text(condition: str) -> str:
    """A condition for people: "snr_db=0 t60_s=0.5" is "0 dB, t60 0.5 s"."""
    if "=" not in condition:
        return condition or "none"
    parts = []
    for part in condition.split():
        name, equals, value = part.partition("=")
        parts.append(_UNITS.get(name, name + " {}").format(value) if equals else part)
    return ", ".join(parts)


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(heads, *rows, strict=True)]


def _padded(heads: Sequence[str], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if head in _WORDS else cell.rjust(width)
        for head, cell, width in zip(heads, row, widths, strict=True)
    ]
