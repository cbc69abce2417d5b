"""The result of an evaluation as figures; matplotlib is loaded when one is drawn."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fingerprint.evaluation.protocols import protocol_named
from fingerprint.evaluation.tables import HEADS

Result = Mapping[str, Any]
_MOST_COLUMNS = 3


def draw(result: Result, folder: str | os.PathLike) -> list[str]:
    """Draw what the result has points for.

    Returns:
        Names of the files, which are new or replaced.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = []
    for name, panels in FIGURES.items():
        drawn = panels(result)
        if not drawn:
            continue
        n_columns = min(len(drawn), _MOST_COLUMNS)
        n_rows = -(-len(drawn) // n_columns)
        figure, axes = pyplot.subplots(
            n_rows, n_columns, figsize=(0.8 + 4.4 * n_columns, 4.2 * n_rows), squeeze=False,
            layout="constrained", sharey=True,
        )  # fmt: skip
        for panel, (title, draw_panel) in zip(axes.flat, drawn.items(), strict=False):
            draw_panel(panel)
            panel.set_title(title, fontsize="medium")
            panel.grid(alpha=0.3)
        for panel in axes[:, 1:].flat:
            panel.set_ylabel("")
        for panel in axes.flat[len(drawn) :]:
            panel.set_axis_off()
        axes[0, 0].legend(fontsize="small")
        figure.savefig(Path(folder) / f"{name}.png", dpi=130)
        pyplot.close(figure)
        names.append(f"{name}.png")
    return names


Panels = dict[str, Callable[[Any], None]]


def _by_length(result: Result) -> Panels:
    """Hits against the length of the query, a panel per set and measure."""
    panels: Panels = {}
    if len({row["duration_s"] for row in result["pooled"]}) < 2:
        return panels
    for query_set in result["query_sets"]:
        rows = [row for row in result["pooled"] if row["set"] == query_set]
        for measure in _measures(result):
            if any(row[measure]["rate"] is not None for row in rows):
                panels[f"{query_set}, {HEADS[measure].removesuffix(' %')}"] = _lines(
                    result, rows, measure, "duration_s", "length of the query, s"
                )
    return panels


def _by_snr(result: Result) -> Panels:
    """Hits against the ratio, a panel for each of at most three lengths."""
    panels: Panels = {}
    for query_set in result["query_sets"]:
        rows = [row for row in result["results"] if row["set"] == query_set]
        rows = [row for row in rows if row["snr_db"] is not None]
        if len({row["snr_db"] for row in rows}) < 2:
            continue
        lengths_s = sorted({row["duration_s"] for row in rows})
        for duration_s in dict.fromkeys(
            (lengths_s[0], lengths_s[len(lengths_s) // 2], lengths_s[-1])
        ):
            chosen = [row for row in rows if row["duration_s"] == duration_s]
            panels[f"{query_set}, top-1, {duration_s:g} s"] = _lines(
                result, chosen, "top1", "snr_db", "signal-to-noise ratio, dB"
            )
    return panels


def _det(result: Result) -> Panels:
    """Answers missed against false alarms, at the shortest and the longest query."""
    panels: Panels = {}
    for query_set in result["query_sets"]:
        rows = [row for row in result["open_set"] if row["set"] == query_set]
        lengths_s = sorted({row["duration_s"] for row in rows})
        for duration_s in dict.fromkeys(lengths_s[:1] + lengths_s[-1:]):
            chosen = [row for row in rows if row["duration_s"] == duration_s]
            panels[f"{query_set}, {duration_s:g} s"] = _det_panel(result, chosen)
    return panels


def _candidates(result: Result) -> Panels:
    """Hits against the share of the database compared with, where several systems count it."""
    panels: Panels = {}
    for query_set in result["query_sets"]:
        rows = [row for row in result["pooled"] if row["set"] == query_set and row["examined"]]
        if len({row["system"] for row in rows}) > 1:
            panels[query_set] = _points(result, rows, "examined", "share of the database examined")
    return panels


def _by_size(result: Result) -> Panels:
    """Hits against the size of the database, where there are several sizes."""
    sizes = {s["system"]: s["duration_s"] / 3600 for s in result["systems"] if s["duration_s"]}
    if len(set(sizes.values())) < 2:
        return {}
    panels: Panels = {}
    for query_set in result["query_sets"]:
        rows = [row for row in result["pooled"] if row["set"] == query_set]
        rows = [row | {"size": sizes[row["system"]]} for row in rows if row["system"] in sizes]
        if rows:
            panels[query_set] = _points(result, rows, "size", "hours of audio in the database")
    return panels


FIGURES: dict[str, Callable[[Result], Panels]] = {
    "top1_by_length": _by_length,
    "top1_by_snr": _by_snr,
    "det": _det,
    "recall_by_candidates": _candidates,
    "top1_by_size": _by_size,
}


def _measures(result: Result) -> list[str]:
    return list(dict.fromkeys(["top1", protocol_named(result["protocol"]).paired]))


def _colour(result: Result, system: str) -> str:
    names = [each["system"] for each in result["systems"]]
    return f"C{names.index(system)}"


def _lines(result: Result, rows: list, measure: str, key: str, label: str) -> Callable[[Any], None]:
    """A line per system with the intervals of the bootstrap over recordings."""

    def draw_panel(panel: Any) -> None:
        for system in dict.fromkeys(row["system"] for row in rows):
            own = [r for r in rows if r["system"] == system and r[measure]["rate"] is not None]
            own.sort(key=lambda row: row[key])
            x = [row[key] for row in own]
            colour = _colour(result, system)
            panel.plot(
                x, [100 * r[measure]["rate"] for r in own], "o-", markersize=3, color=colour,
                label=system,
            )  # fmt: skip
            ends = [[100 * r[measure][e] for r in own] for e in ("track_low", "track_high")]
            panel.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
        panel.set(xlabel=label, ylabel="right, %", ylim=(0, 101))

    return draw_panel


def _points(result: Result, rows: list, key: str, label: str) -> Callable[[Any], None]:
    """A point per system at the shortest and the longest query."""
    lengths_s = sorted({row["duration_s"] for row in rows})
    marks = dict(zip(dict.fromkeys((lengths_s[0], lengths_s[-1])), "os", strict=False))

    def draw_panel(panel: Any) -> None:
        for row in rows:
            if row["duration_s"] in marks and row["top1"]["rate"] is not None:
                panel.semilogx(
                    row[key], 100 * row["top1"]["rate"], marks[row["duration_s"]],
                    color=_colour(result, row["system"]),
                    label=f"{row['system']}, {row['duration_s']:g} s",
                )  # fmt: skip
        panel.set(xlabel=label, ylabel="top-1, %", ylim=(0, 101))

    return draw_panel


def _det_panel(result: Result, rows: list) -> Callable[[Any], None]:
    def draw_panel(panel: Any) -> None:
        for row in rows:
            curve = row["curve"]
            # A logarithmic axis has no place for none, which is less than one.
            least = 0.5 / row["n_unanswerable"]
            panel.step(
                [100 * max(x, least) for x in curve["false_alarm"]],
                [100 * (1 - x) for x in curve["recall"]],
                where="post", color=_colour(result, row["system"]), label=row["system"],
            )  # fmt: skip
        panel.axvline(0.1, color="0.5", linestyle=":", linewidth=1)
        panel.set(
            xscale="log", xlabel="false alarms, %", ylabel="missed or wrong, %", ylim=(0, 101)
        )

    return draw_panel
