"""What changes of one system are worth: shares beside its own, instead of verdicts on claims."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fingerprint.evaluation.table_text import markdown, percent
from fingerprint.experiments.figures import NOT_RUN
from fingerprint.experiments.suite import Suite

Row = Mapping[str, Any]
RULES = """\
Shares are in percent, in brackets the difference from the mean of the first line, in points; that
line has the lowest and the highest of its seeds. **Bold** is what lies outside of these: with one
seed of a change, and recordings that are few, nothing smaller says anything. Intervals over
recordings are in shares.csv.
"""


def sections(suite: Suite, experiments: Sequence[Row]) -> list[str]:
    """A table for each set of queries: a line for the system itself and for each change of it.

    Args:
        suite: whose experiments have the same tables, of two systems each, the changed one last.
        experiments: their figures, as of `Figures.experiment`.
    """
    parts = [RULES]
    for number, table in enumerate(suite.experiments[0].tables):
        own, _ = experiments[0]["tables"][number]
        counted = next((row for row in own if row["rate"] is not None), None)
        n = f" ({counted['n_queries']} queries in a cell)" if counted else ""
        heads = ["change", *(f"{duration_s:g} s" for duration_s in table.durations_s)]
        lines = [[f"none: `{suite.changes_of}`", *map(_own_share, own)]]
        for experiment in experiments:
            cells = map(_changed_share, *experiment["tables"][number])
            lines.append([f"{experiment['claim']} (`{experiment['key']}`)", *cells])
        parts += [f"## {table.title}, %{n}", markdown(heads, lines)]
    return parts


def _own_share(own: Row) -> str:
    if own["rate"] is None:
        return NOT_RUN
    low, high = _seeds(own)
    return f"{percent(own['rate'])} ({percent(low)} to {percent(high)})"


def _changed_share(own: Row, changed: Row) -> str:
    if own["rate"] is None or changed["rate"] is None:
        return NOT_RUN
    low, high = _seeds(own)
    text = f"{percent(changed['rate'])} ({100 * (changed['rate'] - own['rate']):+.1f})"
    return text if low <= changed["rate"] <= high else f"**{text}**"


def _seeds(row: Row) -> tuple[float, float]:
    rates: Iterable[float] = row["by_seed"]
    return min(rates), max(rates)
