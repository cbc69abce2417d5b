"""The tables of an evaluation, laid out as a protocol says: heads and cells as text, and CSV."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fingerprint.evaluation.protocols import Layout, protocol_named
from fingerprint.evaluation.table_text import NOTHING, condition_text, csv_text, percent

Row = Mapping[str, Any]
# Heads of columns; shares are printed in percent.
HEADS = {
    "system": "system",
    "set": "queries",
    "condition": "condition",
    "duration_s": "length s",
    "dim": "d",
    "n_batch": "batch",
    "top1": "top-1 %",
    "top3": "top-3 %",
    "top10": "top-10 %",
    "exact": "top-1 and second %",
    "within_50ms": "within 50 ms %",
    "within_100ms": "within 100 ms %",
    "within_250ms": "within 250 ms %",
    "within_500ms": "within 500 ms %",
    "segment_exact": "segment, exact %",
    "segment_near": "segment, near %",
    "match_right": "match, right %",
    "match_wrong": "match, wrong %",
    "false_alarm": "false alarms %",
    "examined": "examined %",
    "recall_at_one_in_a_thousand": "recall at 1 false alarm in 1,000 %",
    "recall_without_false_alarm": "recall without false alarm %",
    "false_alarm_at_recall_0.5": "false alarms at recall 50 %",
    "false_alarm_at_recall_0.8": "false alarms at recall 80 %",
    "false_alarm_at_recall_0.9": "false alarms at recall 90 %",
    "wall_s_per_query": "wall s",
    "cpu_s_per_query": "CPU s",
    "speed_up": "speed-up",
    "megabytes": "MB",
    "kilobytes_per_minute": "kB per minute of audio",
}
# Not shares, and how they are printed.
FORMATS = {
    "wall_s_per_query": ".3f",
    "cpu_s_per_query": ".3f",
    "speed_up": ".2f",
    "megabytes": ",.1f",
    "kilobytes_per_minute": ",.1f",
    "dim": "d",
    "n_batch": "d",
}


def table(result: Mapping[str, Any], layout: Layout) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of a table, as text."""
    rows = _rows_of(result, layout)
    keys = _keys(layout, rows)
    if layout.spread:
        columns = _values(rows, layout.spread)
        heads = [*(HEADS[key] for key in keys), *(_head(layout.spread, v) for v in columns)]
        lines = []
        for key, group in _grouped(rows, keys).items():
            by_column = {row[layout.spread]: row for row in group}
            cells = [_joined(by_column.get(value), layout.cells) for value in columns]
            lines.append([*key, *cells])
        return heads, lines
    heads = [HEADS[name] for name in (*keys, *layout.cells)]
    lines = []
    for key, group in _grouped(rows, keys).items():
        lines += [[*key, *(_cell(row, name, layout) for name in layout.cells)] for row in group]
    return heads, lines


def to_csv(result: Mapping[str, Any], layout: Layout) -> str:
    """A table with a number in each cell; shares have columns for both ends of their interval."""
    rows = _rows_of(result, layout)
    keys = _keys(layout, rows)
    spread = _values(rows, layout.spread) if layout.spread else [None]
    lines = []
    for key, group in _grouped(rows, keys).items():
        line: dict[str, Any] = dict(zip((HEADS[k] for k in keys), key, strict=True))
        by_column = {row[layout.spread] if layout.spread else None: row for row in group}
        for value in spread:
            prefix = f"{_head(layout.spread, value)} " if layout.spread else ""
            for name in layout.cells:
                line |= _numbers(by_column.get(value), name, prefix + HEADS[name], _bounds(layout))
        lines.append(line)
    return csv_text(lines)


def comparison_table(
    comparisons: Iterable[Mapping[str, Any]], measure: str
) -> tuple[list[str], list[list[str]]]:
    """A row for each pair of systems and length, a column for each condition."""
    chosen = [each for each in comparisons if each["measure"] == measure]
    conditions = _values(chosen, "condition")
    keys = ["duration_s", "first", "second"]
    heads = [HEADS.get(key, key) for key in keys]
    heads += ["all queries"] if conditions == [""] else [_head("condition", c) for c in conditions]
    lines = []
    for key, group in _grouped(chosen, keys).items():
        by_condition = {each["condition"]: each for each in group}
        cells = []
        for condition in conditions:
            found = by_condition.get(condition)
            cells.append(
                f"{found['only_first']} : {found['only_second']}, p {found['p_value']:.2g}"
                if found
                else NOTHING
            )
        lines.append([*key, *cells])
    return heads, lines


def threshold_note(result: Mapping[str, Any], layout: Layout) -> str:
    """What the number of queries without an answer leaves open, under a table of thresholds."""
    rows = _rows_of(result, layout)
    if not any(name.startswith("false_alarm_at") for name in layout.cells) or not rows:
        return ""
    n = min(row["n_unanswerable"] for row in rows)
    return (
        f"{n:,} queries without an answer: false alarms rarer than {percent(1 / n)} % cannot be "
        "told from none. A dash: no threshold reaches that recall."
    )


def uncertainty(result: Mapping[str, Any], layout: Layout) -> str:
    """How far the intervals of a table that prints none reach at most."""
    names = _bounds(layout)
    halves, counts = [], []
    for row in _rows_of(result, layout):
        for name in layout.cells:
            value = row.get(name)
            if isinstance(value, Mapping) and value["n"] and names[0] in value:
                halves.append((value[names[1]] - value[names[0]]) / 2)
                counts.append(value["n"])
    if layout.intervals or not halves:
        return ""
    of = "bootstrap over recordings" if layout.pooled else "Wilson"
    n = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    return (
        f"{n} queries in a cell; 95 % intervals ({of}) reach at most {percent(max(halves))} points "
        "to either side."
    )


def _rows_of(result: Mapping[str, Any], layout: Layout) -> list[Row]:
    """The rows that a table shows, each with what is known of its database."""
    rows = result["pooled" if layout.pooled else "results"]
    own_sets = set(protocol_named(result["protocol"]).query_sets)
    if layout.sets:
        # A set that the user gives is shown in every table.
        rows = [row for row in rows if row["set"] in layout.sets or row["set"] not in own_sets]
    if layout.longest:
        longest_s: dict[str, float] = {}
        for row in rows:
            longest_s[row["set"]] = max(longest_s.get(row["set"], 0.0), row["duration_s"])
        rows = [row for row in rows if row["duration_s"] == longest_s[row["set"]]]
    facts = {each["system"]: _size(each) for each in result["systems"]}
    rows = [facts[row["system"]] | row for row in rows]
    if all(_is_empty(row.get(name)) for row in rows for name in layout.cells):
        return []
    return rows


def _size(facts: Mapping[str, Any]) -> dict[str, Any]:
    size = {"dim": facts["dim"], "n_batch": facts["n_batch"]}
    if facts["bytes"] is not None and facts["duration_s"]:
        size["megabytes"] = facts["bytes"] / 1e6
        size["kilobytes_per_minute"] = facts["bytes"] / 1e3 / (facts["duration_s"] / 60)
    return size


def _keys(layout: Layout, rows: Sequence[Row]) -> list[str]:
    return [key for key in layout.rows if any(row[key] not in ("", None) for row in rows)]


def _values(rows: Iterable[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their keys, as text, in the order of the first key, then of the second, ..."""
    rows = list(rows)
    order = {key: {value: i for i, value in enumerate(_values(rows, key))} for key in keys}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: [order[key][row[key]] for key in keys]):
        groups.setdefault(tuple(_key_text(row, key) for key in keys), []).append(row)
    return groups


def _key_text(row: Row, key: str) -> str:
    value = row[key]
    if key == "condition":
        return condition_text(value)
    if value is None:
        return NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _head(spread: str, value: Any) -> str:
    return condition_text(value) if spread == "condition" else f"{value:g} s"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and value["rate"] is None)


def _joined(row: Row | None, names: Sequence[str]) -> str:
    """Several measures in one cell, as publications print them."""
    if row is None or all(_is_empty(row.get(name)) for name in names):
        return NOTHING
    return " / ".join(_text(row.get(name), name) for name in names)


def _cell(row: Row, name: str, layout: Layout) -> str:
    value = row.get(name)
    if not (layout.intervals and isinstance(value, Mapping) and not _is_empty(value)):
        return _text(value, name)
    low, high = (value[bound] for bound in _bounds(layout))
    return f"{percent(value['rate'])} [{percent(low)}, {percent(high)}]"


def _bounds(layout: Layout) -> tuple[str, str]:
    return ("track_low", "track_high") if layout.pooled else ("low", "high")


def _text(value: Any, name: str) -> str:
    if _is_empty(value):
        return NOTHING
    if name in FORMATS:
        return format(value, FORMATS[name])
    return percent(value["rate"] if isinstance(value, Mapping) else value)


def _numbers(
    row: Row | None, name: str, head: str, bounds: tuple[str, str]
) -> dict[str, float | None]:
    """A measure's cells in a CSV table."""
    value = None if row is None else row.get(name)
    if isinstance(value, Mapping):
        ends = {"": "rate", " low": bounds[0], " high": bounds[1]}
        return {head + end: _hundredfold(value.get(bound)) for end, bound in ends.items()}
    return {head: value if name in FORMATS else _hundredfold(value)}


def _hundredfold(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
