"""The figures for people: Markdown, CSV, JSON and pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipped_model_figures import VERDICTS
from shipped_model_plan import MAIN, NAFP, Set

from fingerprint.evaluation.table_text import NOTHING, csv_text, markdown, percent

Row = Mapping[str, Any]
SHARES = ("top1", "start", "start_or_repeat", *VERDICTS)
PREAMBLE = """\
References: all recordings of the test split. Nothing of it, nor its noise, rooms and devices, was
trained on, tuned or calibrated with. All systems get the same queries; where a section names
distractors, they have the same ones, as audio. *shipped* is the network of the package alone,
*both* the network and landmarks, as a new index has them, *nafp* the model of `--nafp_model`. In
brackets 95 % intervals (whole recordings drawn again, as queries of one succeed and fail together);
a longer query begins with the shorter ones.
"""
MAIN_TEXT = """\
Distractors: the references themselves and half of the recordings of the train split, 3 to 5
semitones faster or slower, and music that is made from a seed. Queries without an answer are of the
other half of the train split; the networks have heard most of it in training.
"""
REPEATS_TEXT = """\
Music that is made of loops repeats itself up to the samples; which repetition a clip is from nobody
can hear. Where the waveform of the recording at the place that was found correlates with that at
the place of the clip by 0.9 or more, within 50 ms, the start counts here."""
PAIRS_TEXT = """\
Against the landmark preset that finds the most at that length, and against NAFP's recipe: queries
that the system alone, and that the other alone, found, and how likely so uneven a split is if both
are as good (exact McNemar test, as if queries were independent, which those of one recording are
not).
"""


def write(
    found: Mapping[str, Sequence[Row]],
    sets: Sequence[Set],
    folder: Path,
    command: str,
    made_with: Row,
) -> list[str]:
    """Write ``README.md``, ``results.csv``, ``comparisons.csv``, ``result.json`` and pictures.

    Returns:
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = {"command": command, "made_with": dict(made_with), **found}
    contents = {
        "README.md": to_markdown(found, sets, command),
        "results.csv": csv_text(map(_flat, found["results"])),
        "comparisons.csv": csv_text(found["comparisons"]),
        "result.json": json.dumps(result, ensure_ascii=False, indent=1) + "\n",
    }
    for name, content in contents.items():
        (folder / name).write_text(content, "utf-8")
    return [*contents, *_draw(found["results"], sets, folder)]


def to_markdown(found: Mapping[str, Sequence[Row]], sets: Sequence[Set], command: str) -> str:
    """The report."""
    rows = found["results"]
    main = [row for row in rows if row["set"] == MAIN]
    robust = [row for row in rows if row["set"] != MAIN]
    parts = ["# The shipped model, and others on the same queries", PREAMBLE]
    if main:
        n = max(row["top1"]["n"] for row in main)
        n_unknown = max(row["false_alarm"]["n"] for row in main)
        parts += [
            f"## Among distractors ({n} queries, {n_unknown} without an answer)",
            f"Queries: {main[0]['title']}.\n\n{MAIN_TEXT}",
            _databases(found["databases"]),
            "Right recording in first place, %:",
            _by_length(main, lambda row: _interval(row["top1"])),
            "Of these, start right within 50 ms, %:",
            _by_length(main, lambda row: _interval(row["start"])),
            f"{REPEATS_TEXT}\n\nOf the hits, start right or at the same sound, %:",
            _by_length(main, lambda row: _interval(row["start_or_repeat"])),
            'Verdict "match" with the right recording / with a wrong one / where there is no '
            "answer, %:",
            _by_length(main, lambda row: " / ".join(_percent(row[name]) for name in VERDICTS)),
            "Seconds of one core for a query:",
            _by_length(main, lambda row: f"{row['cpu_s']:.3f}"),
        ]
        compared = [each for each in found["comparisons"] if each["set"] == MAIN]
        with_nafp = [each for each in compared if each["second"] == NAFP]
        with_preset = [each for each in compared if each["second"] != NAFP]
        parts += [PAIRS_TEXT] if compared else []
        parts += [_pairs(each) for each in (with_preset, with_nafp) if each]
    if robust:
        n = max(row["top1"]["n"] for row in robust)
        parts.append(f"## One degradation at a time ({n} queries each, references alone)")
        for duration_s in sorted({row["duration_s"] for row in robust}):
            of_length = [row for row in robust if row["duration_s"] == duration_s]
            parts += [
                f"Queries of {duration_s:g} s, right recording in first place, %:",
                _by_set(of_length, sets, lambda row: _interval(row["top1"])),
            ]
        longest = [row for row in robust if row["duration_s"] == duration_s]
        parts += [
            f"Of these, start right within 50 ms, %, {duration_s:g} s:",
            _by_set(longest, sets, lambda row: _percent(row["start"])),
            f'Verdict "match" with the right recording / with a wrong one, %, {duration_s:g} s:',
            _by_set(longest, sets, lambda row: " / ".join(_percent(row[n]) for n in VERDICTS[:2])),
        ]
    parts.append(f"Report made with (it asks on without `--report_only`)\n\n    {command}")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _by_length(rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    """A row for each system, a column for each length."""
    lengths_s = sorted({row["duration_s"] for row in rows})
    by_key = {(row["system"], row["duration_s"]): row for row in rows}
    heads = ["system", *(f"{duration_s:g} s" for duration_s in lengths_s)]
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        found = [by_key.get((system, duration_s)) for duration_s in lengths_s]
        lines.append([system, *(cell(row) if row else NOTHING for row in found)])
    return markdown(heads, lines)


def _by_set(rows: Sequence[Row], sets: Sequence[Set], cell: Callable[[Row], str]) -> str:
    """A row for each set, a column for each system."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    by_key = {(row["set"], row["system"]): row for row in rows}
    lines = []
    for each in sets:
        found = [by_key.get((each.name, system)) for system in systems]
        if any(found):
            lines.append([each.title, *(cell(row) if row else NOTHING for row in found)])
    return markdown(["queries", *systems], lines)


def _pairs(comparisons: Sequence[Row]) -> str:
    lengths_s = sorted({each["duration_s"] for each in comparisons})
    by_key = {(each["first"], each["duration_s"]): each for each in comparisons}
    lines = []
    for system in dict.fromkeys(each["first"] for each in comparisons):
        line = [system]
        for duration_s in lengths_s:
            each = by_key.get((system, duration_s))
            line.append(
                f"{each['only_first']} : {each['only_second']} {each['second']}, "
                f"p {each['p_value']:.2g}"
                if each
                else NOTHING
            )
        lines.append(line)
    return markdown(["system", *(f"{duration_s:g} s" for duration_s in lengths_s)], lines)


def _databases(databases: Sequence[Row]) -> str:
    lines = [
        [
            each["system"],
            f"{each['tracks']:,}",
            f"{each['duration_s'] / 3600:.1f}",
            f"{each['rows']:,}",
            f"{each['bytes'] / 1e6:,.0f}",
        ]
        for each in databases
    ]
    return markdown(["system", "tracks", "hours", "rows", "MB"], lines)


def _interval(share: Row) -> str:
    if share["rate"] is None:
        return NOTHING
    low, high = share["track_low"], share["track_high"]
    return f"{percent(share['rate'])} [{percent(low)}, {percent(high)}]"


def _percent(share: Row) -> str:
    return NOTHING if share["rate"] is None else percent(share["rate"])


def _flat(row: Row) -> dict[str, Any]:
    """A row with a column for each end of an interval, in percent."""
    flat = {name: value for name, value in row.items() if name not in SHARES}
    for name in SHARES:
        for end in ("rate", "track_low", "track_high"):
            value = row[name][end] if row[name]["n"] else None
            flat[f"{name}_{end.removeprefix('track_')}"] = (
                None if value is None else round(100 * value, 2)
            )
        flat[f"{name}_n"] = row[name]["n"]
    return flat


def _draw(rows: Sequence[Row], sets: Sequence[Set], folder: Path) -> list[str]:
    """Hits by length among distractors, and by degradation, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    systems = list(dict.fromkeys(row["system"] for row in rows))
    names = []
    main = [row for row in rows if row["set"] == MAIN]
    if main:
        figure, panel = pyplot.subplots(figsize=(6.4, 4.6), layout="constrained")
        for system in systems:
            own = [row for row in main if row["system"] == system]
            _line(panel, own, [row["duration_s"] for row in own], f"C{systems.index(system)}")
        panel.set(xlabel="length of the query, s", ylabel="right recording, %", ylim=(0, 101))
        names.append(_save(figure, panel, folder / "main.png"))
    robust = [row for row in rows if row["set"] != MAIN]
    if robust:
        shown_s = sorted({row["duration_s"] for row in robust})[-2:][0]
        titles = [s for s in sets if any(row["set"] == s.name for row in robust)]
        places = {each.name: number for number, each in enumerate(titles)}
        figure, panel = pyplot.subplots(figsize=(9, 6.4), layout="constrained")
        for system in systems:
            own = [r for r in robust if r["system"] == system and r["duration_s"] == shown_s]
            x = [places[row["set"]] for row in own]
            _line(panel, own, x, f"C{systems.index(system)}")
        panel.set_xticks(range(len(titles)), [s.name for s in titles], rotation=60, ha="right")
        panel.set(ylabel=f"right recording, %, {shown_s:g} s", ylim=(0, 101))
        names.append(_save(figure, panel, folder / "robustness.png"))
    return names


def _line(panel: Any, rows: Sequence[Row], x: Sequence[float], colour: str) -> None:
    if not rows:
        return
    rates = [100 * row["top1"]["rate"] for row in rows]
    ends = [[100 * row["top1"][end] for row in rows] for end in ("track_low", "track_high")]
    panel.plot(x, rates, "o-", markersize=3, color=colour, label=rows[0]["system"])
    panel.fill_between(x, *ends, color=colour, alpha=0.12, linewidth=0)


def _save(figure: Any, panel: Any, path: Path) -> str:
    from matplotlib import pyplot

    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path.name
