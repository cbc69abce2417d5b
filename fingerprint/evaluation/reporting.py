"""The result of an evaluation for people: all tables with what has to be known to read them."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.evaluation import tables
from fingerprint.evaluation.protocols import Protocol, protocol_named
from fingerprint.evaluation.table_text import NOTHING, markdown, plain

DATABASE_HEADS = (
    *("system", "index", "method", "searcher", "d", "batch", "tracks", "hours"),
    *("of them distractors", "fingerprints", "MB"),
)
PAIRS_NOTE = (
    "Queries that the first alone, and that the second alone, answered rightly, and how likely so "
    "uneven a split is if both are as good (exact McNemar test, of each cell on its own)."
)


def render(result: Mapping[str, Any], output_format: str) -> str:
    """Lay a result out as "table", "markdown" or "json"."""
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    lay_out = markdown if output_format == "markdown" else plain
    mark = "## " if output_format == "markdown" else ""
    protocol = protocol_named(result["protocol"])
    parts = [f"{mark[1:]}{protocol.title}", "\n".join(preamble(result, protocol))]
    parts += [f"{mark}Databases", lay_out(DATABASE_HEADS, database_rows(result["systems"]))]
    for layout in protocol.layouts:
        heads, rows = tables.table(result, layout)
        if rows:
            parts += [f"{mark}{layout.title}", lay_out(heads, rows)]
            notes = tables.uncertainty(result, layout), tables.threshold_note(result, layout)
            parts += filter(None, notes)
    for name in result["query_sets"]:
        compared = [each for each in result["comparisons"] if each["set"] == name]
        heads, rows = tables.comparison_table(compared, protocol.paired)
        if rows:
            measure = tables.HEADS[protocol.paired].removesuffix(" %")
            parts += [f"{mark}Pairs of systems, {measure}, queries {name}", lay_out(heads, rows)]
    return "\n\n".join([*parts, PAIRS_NOTE] if result["comparisons"] else parts)


def write(result: Mapping[str, Any], folder: str | os.PathLike) -> list[str]:
    """Write ``result.json``, ``table.md`` and each table as CSV.

    Returns:
        The names of the files, which are new or replaced.
    """
    text = json.dumps(result, ensure_ascii=False, indent=1)
    contents = {"result.json": text, "table.md": render(result, "markdown")}
    for number, layout in enumerate(protocol_named(result["protocol"]).layouts):
        name = "table.csv" if number == 0 else f"table-{layout.name}.csv"
        contents[name] = tables.to_csv(result, layout).rstrip("\n")
    for name, content in contents.items():
        (Path(folder) / name).write_text(content + "\n", "utf-8")
    return list(contents)


def preamble(result: Mapping[str, Any], protocol: Protocol) -> list[str]:
    """What has to be known before a figure is read."""
    lines = []
    for name, counts in result["query_sets"].items():
        lines.append(
            f"- Queries {name}: {counts['n_queries']:,}, of which {counts['n_answerable']:,} are "
            "from recordings in a database."
        )
    if counts := result["n_files"]:
        lines.append(
            f"- Excerpts of {counts['asked']} recordings ({counts['not_in_every_index']} more are "
            f"not in every index, {counts['too_short']} are too short)."
        )
    if "seed" in result["settings"]:
        lines.append(f"- Seed {result['settings']['seed']}.")
    lines.append(
        "- In brackets 95 % intervals; right within "
        f"{result['offset_tolerance_s']:g} s where nothing else is said."
    )
    lines += [f"- {note}" for note in protocol.notes]
    return [*lines, *leak_lines(result["leaks"])]


def leak_lines(leaks: Mapping[str, Any] | None) -> list[str]:
    """Whether the run may call itself clean, and what speaks against it."""
    if leaks is None:
        return [
            "- **Not known to be clean**: nobody has looked for audio of the training in these "
            "databases (--training)."
        ]
    counts = ", ".join(f"{n} of {role}" for role, n in leaks["n_files"].items())
    if leaks["clean"]:
        return [f"- Clean: no audio occurs where it must not ({counts})."]
    lines = [f"- **Not clean** ({counts} compared by content):"]
    for leak in leaks["leaks"]:
        lines.append(
            f"  - {leak['path']} ({leak['role']}) shares audio with {leak['other_path']} "
            f"({leak['other_role']}): {leak['share']:.0%} agree."
        )
    return lines + [f"  - Not compared: {sentence}" for _, sentence in leaks["unreadable"]]


def database_rows(systems: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each system: what it is and how large its database is."""
    rows = []
    for facts in systems:
        cells = [facts["system"], facts["index"], facts["method"], facts["searcher"]]
        cells += [facts["dim"], facts["n_batch"]]
        if facts["tracks"] is None:
            cells += [None] * 5
        else:
            distractor_s = facts["distractor_duration_s"] or 0.0
            cells += [f"{facts['tracks']:,}", f"{facts['duration_s'] / 3600:.2f}"]
            cells += [f"{distractor_s / 3600:.2f}" if distractor_s else None]
            cells += [f"{facts['rows']:,}", f"{facts['bytes'] / 1e6:,.1f}"]
        rows.append([NOTHING if cell is None else str(cell) for cell in cells])
    return rows
