"""The result of an evaluation as text: a table, Markdown or JSON."""

import json

_HEADERS = (
    *("index", "SNR dB", "length s", "top-1 %", "top-1 and second %", "match, right %"),
    *("match, wrong %", "false alarms %", "wall s", "CPU s"),
)


def render(result: dict, output_format: str) -> str:
    """Lay out what `run.evaluate` returns as "table", "markdown" or "json"."""
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    rows = [_HEADERS, *(_cells(row) for row in result["results"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    if output_format == "markdown":
        rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
        table = [f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]]]
    else:
        table = ["  ".join(line) for line in lines]
    return "\n".join([*_preamble(result), "", *table])


def _preamble(result: dict) -> list[str]:
    settings, counts = result["settings"], result["n_files"]
    lines = [
        f"{settings['n_queries']} excerpts of {counts['asked']} recordings per row "
        f"({counts['not_in_every_index']} more are not in every index, "
        f"{counts['too_short']} are too short), seed {settings['seed']}.",
        f"In brackets 95 % intervals; right within {settings['offset_tolerance_s']:g} s.",
        "",
    ]
    for index in result["indexes"]:
        lines.append(
            f"- {index['index']}: {index['method']}, {index['tracks']:,} tracks, "
            f"{index['duration_s'] / 3600:.2f} h, {index['rows']:,} rows, "
            f"{index['bytes'] / 1e6:,.1f} MB"
        )
    return lines


def _cells(row: dict) -> tuple[str, ...]:
    return (
        row["index"],
        "clean" if row["snr_db"] is None else f"{row['snr_db']:g}",
        f"{row['duration_s']:g}",
        *(_percent(row[name]) for name in ("top1", "exact")),
        *(_percent(row[name]) for name in ("match_right", "match_wrong", "false_alarm")),
        f"{row['wall_s_per_query']:.3f}",
        f"{row['cpu_s_per_query']:.3f}",
    )


def _percent(share: dict) -> str:
    if share["rate"] is None:
        return "-"
    return f"{100 * share['rate']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
