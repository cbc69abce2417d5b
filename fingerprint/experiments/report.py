"""The figures of a suite for people: Markdown, CSV and JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerprint.evaluation.table_text import NOTHING, condition_text, csv_text, percent
from fingerprint.experiments import ablation_report
from fingerprint.experiments.figures import HOLDS, NOT_RUN
from fingerprint.experiments.pieces import Experiment, Table
from fingerprint.experiments.suite import Suite

Row = Mapping[str, Any]
RULES = """\
How to read this. Shares are means over seeds, in brackets a 95 % interval (whole recordings drawn
again) and, where there are several seeds, the lowest and the highest of them. Differences are
taken on the same excerpts, in points. A contrast *holds* if its interval, and the difference of
every seed, lies above what is claimed; it *fails* if the interval lies below what is claimed, or
below two points where only "better" is claimed; all else is *undecided*. A claim is **reproduced**
if all its contrasts hold, **not reproduced** if one fails, **undecided** otherwise; contrasts in
parentheses are shown for context and decide nothing. p: exact McNemar test, each seed for itself,
as if queries were independent; those of one recording are not, so that the interval decides.
Minutes are those of a clock, on a machine that did other work, too.
"""
MEASURES = {
    "top1": "top-1",
    "top3": "top-3",
    "within_50ms": "within 50 ms",
    "segment_exact": "exact",
    "segment_near": "near",
    "near_minus_exact": "near but not exact",
}


def write(suite: Suite, result: Row, folder: Path, command: str) -> list[str]:
    """Write ``README.md``, ``shares.csv``, ``contrasts.csv``, ``runs.csv`` and ``result.json``.

    Changes of one system have no contrasts.

    Returns:
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    experiments = result["experiments"]
    contents = {
        "README.md": to_markdown(suite, result, command),
        "shares.csv": csv_text(_share_rows(suite, experiments)),
        "contrasts.csv": csv_text(_contrast_rows(experiments)),
        "runs.csv": csv_text(_run_row(run) for run in result["runs"]),
        "result.json": json.dumps(result, ensure_ascii=False, indent=1) + "\n",
    }
    if suite.changes_of:
        del contents["contrasts.csv"]
    for name, content in contents.items():
        (folder / name).write_text(content, "utf-8")
    return list(contents)


def to_markdown(suite: Suite, result: Row, command: str) -> str:
    """The whole report."""
    n_done = sum(run["state"] == "done" for run in result["runs"])
    parts = [
        f"# {suite.title}",
        suite.preamble,
        f"{n_done} of {len(result['runs'])} training runs are done. Made with\n\n    {command}",
    ]
    if suite.changes_of:
        parts += ablation_report.sections(suite, result["experiments"])
    else:
        parts += [RULES, _summary(result["experiments"])]
        for experiment, figures in zip(suite.experiments, result["experiments"], strict=True):
            parts += _section(suite, experiment, figures, result["runs"])
    parts += ["## Training runs", _runs_table(result["runs"])]
    parts += ["## Databases", _databases_table(result["databases"])]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def verdict_text(figures: Row) -> str:
    """The verdict in words, and whether it may still change."""
    unfinished = figures["verdict"] != NOT_RUN and not figures["is_complete"]
    return figures["verdict"] + (" so far (seeds are missing)" if unfinished else "")


def _summary(experiments: Sequence[Row]) -> str:
    rows = []
    for each in experiments:
        deciding = [c for c in (*each["contrasts"], *each["bounds"]) if c["is_claim"]]
        n_hold = sum(c["outcome"] == HOLDS for c in deciding)
        held = f"{n_hold} of {len(deciding)}"
        rows.append([each["key"], each["claim"], verdict_text(each), held, _short(deciding[0])])
    return _table(("row", "claim", "verdict", "what decides it, holds", "the first of these"), rows)


def _short(deciding: Row) -> str:
    if deciding["outcome"] == NOT_RUN:
        return NOTHING
    if "difference" in deciding:
        return f"{deciding['label']}: {_difference(deciding)}"
    return f"{deciding['label']}: {deciding['mean']:.3g}"


def _section(suite: Suite, experiment: Experiment, figures: Row, runs: Sequence[Row]) -> list[str]:
    parts = [
        f"## {experiment.key}. {experiment.claim}",
        f"Published: {experiment.source}",
        experiment.design,
        _trained(suite, experiment, runs),
        f"**Verdict: {verdict_text(figures)}.**",
    ]
    if figures["contrasts"]:
        heads = ("contrast", "published", "difference, points", "seeds", "p", "outcome")
        parts.append(_table(heads, [_contrast_cells(each) for each in figures["contrasts"]]))
    if figures["bounds"]:
        heads = ("figure", "published", "claimed, at least", "each seed", "outcome")
        parts.append(_table(heads, [_bound_cells(each) for each in figures["bounds"]]))
    for table, rows in zip(experiment.tables, figures["tables"], strict=True):
        parts += [f"{table.title}, %{_counted(rows)}", _shares_table(table, rows)]
    return [part for part in parts if part]


def _trained(suite: Suite, experiment: Experiment, runs: Sequence[Row]) -> str:
    """What was trained for an experiment, one sentence each."""
    lines = []
    for training in suite.trainings_of(experiment):
        own = [run for run in runs if run["training"] == training.name]
        done = [run for run in own if run["state"] == "done"]
        text = f"- `{training.name}`: {training.config}, {len(done)} of {len(own)} seeds"
        if done:
            text += f", {done[0]['n_steps']:,} steps of {done[0]['n_pairs']} pairs each"
            minutes = [run["wall_s"] / 60 for run in done if run["wall_s"]]
            text += f", {_span(minutes, '.0f')} minutes" if minutes else ""
            text += f", final loss {_span([run['final_loss'] for run in done], '.3g')}"
        lines.append(text + ".")
    return "\n".join(["Trained:", "", *lines]) if lines else "Nothing is trained for it."


def _contrast_cells(each: Row) -> list[str]:
    label = each["label"] if each["is_claim"] else f"({each['label']})"
    claimed = f", by more than {percent(each['at_least'])}" if each["at_least"] else ""
    if each["outcome"] == NOT_RUN:
        return [label + claimed, each["published"], NOTHING, NOTHING, NOTHING, NOT_RUN]
    p_values = ", ".join(NOTHING if p is None else f"{p:.2g}" for p in each["p_values"])
    seeds = ", ".join(f"{100 * value:+.1f}" for value in each["by_seed"])
    cells = [label + claimed, each["published"], _difference(each), seeds, p_values]
    return [*cells, each["outcome"]]


def _bound_cells(each: Row) -> list[str]:
    label = each["label"] if each["is_claim"] else f"({each['label']})"
    values = ", ".join(f"{value:.3g}" for value in each["by_seed"]) or NOTHING
    return [label, each["published"], f"{each['at_least']:g}", values, each["outcome"]]


def _shares_table(table: Table, rows: Sequence[Sequence[Row]]) -> str:
    heads = ["system"]
    for cell in table.cells(table.systems[0]):
        words = [f"{cell.duration_s:g} s"]
        words += [condition_text(cell.condition)] if len(table.conditions) > 1 else []
        words += [MEASURES.get(cell.measure, cell.measure)] if len(table.measures) > 1 else []
        heads.append(", ".join(words))
    lines = [[system, *map(_share, row)] for system, row in zip(table.systems, rows, strict=True)]
    return _table(heads, lines)


def _counted(rows: Sequence[Sequence[Row]]) -> str:
    """How many queries a share is of, where one is known."""
    known = [row for line in rows for row in line if row["rate"] is not None]
    if not known:
        return ""
    return f" ({known[0]['n_queries']} queries of {known[0]['n_recordings']} recordings in a cell)"


def _share(row: Row) -> str:
    if row["rate"] is None:
        return NOT_RUN
    text = f"{percent(row['rate'])} [{percent(row['low'])}, {percent(row['high'])}]"
    own = row["by_seed"]
    return text + (f" {percent(min(own))}-{percent(max(own))}" if len(own) > 1 else "")


def _difference(each: Row) -> str:
    low, high = each["low"], each["high"]
    return f"{100 * each['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _span(values: Iterable[float], form: str) -> str:
    low, high = (format(bound(values), form) for bound in (min, max))
    return low if low == high else f"{low} to {high}"


def _runs_table(runs: Sequence[Row]) -> str:
    heads = ("training", "seed", "state", "steps", "pairs", "CPU min", "min", "loss", "commit")
    lines = []
    for run in runs:
        row = _run_row(run)
        times = [row[name] and f"{row[name] / 60:.1f}" for name in ("cpu_s", "wall_s")]
        commit = row["commit"] and row["commit"][:8]
        cells = [row["training"], row["seed"], row["state"], row["n_steps"], row["n_pairs"]]
        cells += [*times, row["final_loss"], commit]
        lines.append([NOTHING if cell is None else str(cell) for cell in cells])
    return _table(heads, lines)


def _databases_table(databases: Sequence[Row]) -> str:
    heads = ("system", "method", "references", "tracks", "hours", "rows", "MB")
    lines = [
        [each["system"], each["method"], each["references"], f"{each['tracks']:,}"]
        + [f"{each['duration_s'] / 3600:.2f}", f"{each['rows']:,}", f"{each['bytes'] / 1e6:.1f}"]
        for each in databases
    ]
    return _table(heads, lines)


def _run_row(run: Row) -> dict[str, Any]:
    names = ("n_steps", "n_pairs", "final_loss", "cpu_s", "wall_s", "identity", "commit", "command")
    row = {name: run[name] for name in ("training", "seed", "state", "config")}
    return row | {name: run.get(name) for name in names}


def _share_rows(suite: Suite, experiments: Sequence[Row]) -> Iterable[dict[str, Any]]:
    names = ("system", "queries", "condition", "duration_s", "measure", "rate", "low", "high")
    for experiment, figures in zip(suite.experiments, experiments, strict=True):
        for table in figures["tables"]:
            for row in (row for line in table for row in line):
                known = {"experiment": experiment.key} | {name: row.get(name) for name in names}
                counts = {name: row.get(name) for name in ("n_queries", "n_recordings")}
                yield known | counts | {"by_seed": _joined(row.get("by_seed", ()))}


def _contrast_rows(experiments: Sequence[Row]) -> Iterable[dict[str, Any]]:
    names = ("is_claim", "at_least", "published", "difference", "mean", "low", "high")
    for figures in experiments:
        for row in (*figures["contrasts"], *figures["bounds"]):
            known = {"experiment": figures["key"], "label": row["label"], "outcome": row["outcome"]}
            known |= {name: row.get(name) for name in names}
            yield known | {
                "by_seed": _joined(row.get("by_seed", ())),
                "p_values": _joined(row.get("p_values", ())),
            }


def _joined(values: Iterable[float | None]) -> str:
    return " ".join("" if value is None else f"{value:g}" for value in values)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
