"""Tables against rows that were counted by hand."""

import csv
import io
import json

import pytest
from evaluation_cases import DATABASE, answer, query, write_evaluation

from fingerprint.evaluation import reporting, results, tables
from fingerprint.evaluation.protocols import Layout
from fingerprint.evaluation.table_text import condition_text, markdown, plain


@pytest.fixture
def result(tmp_path):
    """Two queries of 1 s and 2 s at 0 and 10 dB; "half" finds every other one at 2 s."""
    rows = [query(n, f"{n % 2}.wav", snr_db=10 * (n // 2), duration_s=2.0) for n in range(4)]
    rows.append(query(4, "no.wav", duration_s=2.0))

    def answers(n, duration_s, right):
        return answer(
            n, (f"{n % 2}.wav" if right else "x.wav", 10.0, 1.5), duration_s=duration_s,
            wall_s=0.02, cpu_s=0.01, verdict="match" if right else "no_match", answerable=n < 4,
        )  # fmt: skip

    half = [answers(n, d, n % 2 == 0 and d == 2.0) for n in range(5) for d in (1.0, 2.0)]
    all_ = [answers(n, d, n < 4) for n in range(5) for d in (1.0, 2.0)]
    systems = {"half|": half, "all": (all_, DATABASE | {"dim": 64, "n_batch": 240})}
    return results.assemble(write_evaluation(tmp_path / "e", rows, systems))


def test_a_column_for_each_length(result):
    layout = Layout(
        "t", "t", rows=("condition", "system"), spread="duration_s", cells=("top1", "exact")
    )
    heads, rows = tables.table(result, layout)
    assert heads == ["condition", "system", "1 s", "2 s"]
    assert rows == [
        ["0 dB", "half|", "0.0 / 0.0", "50.0 / 50.0"],
        ["0 dB", "all", "100.0 / 100.0", "100.0 / 100.0"],
        ["10 dB", "half|", "0.0 / 0.0", "50.0 / 50.0"],
        ["10 dB", "all", "100.0 / 100.0", "100.0 / 100.0"],
    ]
    # Wilson's interval of one of two: 9.45 to 90.55.
    assert tables.uncertainty(result, layout).startswith("2 queries in a cell")
    assert "at most 40.5 points" in tables.uncertainty(result, layout)


def test_a_column_for_each_condition_and_no_empty_ones(result):
    layout = Layout(
        "t", "t", rows=("set", "duration_s", "system", "dim"), spread="condition", cells=("top1",)
    )
    heads, rows = tables.table(result, layout)
    assert heads == ["queries", "length s", "system", "d", "0 dB", "10 dB"]
    assert rows[0] == ["realistic", "1", "half|", "-", "0.0", "0.0"]
    assert rows[1] == ["realistic", "1", "all", "64", "100.0", "100.0"]
    hidden = Layout("t", "t", rows=("condition", "system"), cells=("top1",), pooled=True)
    assert tables.table(result, hidden)[0] == ["system", "top-1 %"]


def test_intervals_and_costs_in_columns_of_their_own(result):
    layout = Layout(
        "t", "t", rows=("system", "condition", "duration_s"), intervals=True,
        cells=("top1", "false_alarm", "wall_s_per_query", "examined"),
    )  # fmt: skip
    heads, rows = tables.table(result, layout)
    assert heads[3:] == ["top-1 %", "false alarms %", "wall s", "examined %"]
    at = {tuple(row[:3]): row[3:] for row in rows}
    # The query without an answer was called a match, too.
    assert at["half|", "0 dB", "2"] == ["50.0 [9.5, 90.5]", "100.0 [20.7, 100.0]", "0.020", "-"]
    assert at["half|", "0 dB", "1"] == ["0.0 [0.0, 65.8]", "0.0 [0.0, 79.3]", "0.020", "-"]
    # No query without an answer was made at 10 dB.
    assert at["half|", "10 dB", "2"][1] == "-"


def test_a_measure_that_nobody_has_makes_no_table(result):
    layout = Layout("t", "t", rows=("system",), cells=("examined",), pooled=True)
    assert tables.table(result, layout)[1] == []


def test_only_the_longest_queries(result):
    layout = Layout("t", "t", rows=("system", "duration_s"), cells=("top1",), longest=True)
    assert {row[1] for row in tables.table(result, layout)[1]} == {"2"}


def test_memory_is_that_of_the_database(result):
    layout = Layout("t", "t", rows=("system",), cells=("megabytes", "kilobytes_per_minute"))
    # 12 MB for two hours of audio.
    assert tables.table(result, layout)[1][0] == ["half|", "12.0", "100.0"]


def test_csv_has_numbers_with_both_ends(result):
    layout = Layout(
        "t", "t", rows=("system",), spread="duration_s", cells=("top1", "cpu_s_per_query"),
        pooled=True,
    )  # fmt: skip
    first, second = csv.DictReader(io.StringIO(tables.to_csv(result, layout)))
    assert (first["system"], second["system"]) == ("half|", "all")
    assert (first["2 s top-1 %"], second["1 s top-1 %"]) == ("50.0", "100.0")
    assert first["1 s CPU s"] == "0.01"
    assert float(first["2 s top-1 % low"]) <= 50 <= float(first["2 s top-1 % high"])


def test_pairs_are_compared_in_a_table(result):
    heads, rows = tables.comparison_table(result["comparisons"], "top1")
    assert heads == ["length s", "first", "second", "0 dB", "10 dB"]
    assert rows == [
        ["1", "half|", "all", "0 : 2, p 0.5", "0 : 2, p 0.5"],
        ["2", "half|", "all", "0 : 1, p 1", "0 : 1, p 1"],
    ]
    assert tables.comparison_table([], "top1")[1] == []


def test_what_thresholds_cannot_show_is_said(result):
    shown = reporting.render(result, "table")
    assert "1 queries without an answer: false alarms rarer than 100.0 % cannot be told" in shown


def test_conditions_for_people():
    assert condition_text("snr_db=-3 t60_s=0.5 codec=mp3:64") == "-3 dB, t60 0.5 s, mp3:64"
    assert condition_text("low_pass_hz=3400") == "low_pass_hz 3400"
    assert condition_text("in a bar") == "in a bar"
    assert condition_text("") == "none"


def test_rows_as_text():
    heads, rows = ["system", "top-1 %"], [["a|b", "5.0"], ["c", "100.0"]]
    assert markdown(heads, rows) == (
        "| system | top-1 % |\n| ------ | ------: |\n| a\\|b   |     5.0 |\n| c      |   100.0 |"
    )
    assert plain(heads, rows) == "system  top-1 %\na|b         5.0\nc         100.0"


# ----------------------------------------------------------------------------- the whole


def test_the_same_result_in_every_format(result):
    assert json.loads(reporting.render(result, "json")) == result
    text, shown = (reporting.render(result, form) for form in ("table", "markdown"))
    for words in ("Queries realistic: 5, of which 4", "Seed 3", "Not known to be clean", "12.0"):
        assert words in text
        assert words in shown
    assert shown.startswith("# ")
    assert "#" not in text


def test_a_run_with_leaks_does_not_call_itself_clean(result):
    leak = {"path": "a.wav", "role": "references", "other_path": "b.wav"}
    leak |= {"other_role": "training", "share": 0.5}
    leaks = {"clean": False, "n_files": {"training": 2}, "leaks": [leak], "unreadable": []}
    lines = reporting.leak_lines(leaks)
    assert lines[0].startswith("- **Not clean** (2 of training")
    assert lines[1] == "  - a.wav (references) shares audio with b.wav (training): 50% agree."
    unread = reporting.leak_lines(leaks | {"leaks": [], "unreadable": [["c", "c is no audio."]]})
    assert unread[1] == "  - Not compared: c is no audio."
    clean = reporting.leak_lines({"clean": True, "n_files": {"training": 2}})
    assert clean[0].startswith("- Clean:")
    assert "Not known" in reporting.leak_lines(None)[0]


def test_files_of_a_folder(result, tmp_path):
    names = reporting.write(result, tmp_path)
    assert names == [
        *("result.json", "table.md", "table.csv", "table-recordings.csv"),
        *("table-tolerances.csv", "table-open_set.csv"),
    ]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    rows = list(csv.reader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert {len(row) for row in rows} == {len(rows[0])}
    # One for each of two systems, conditions and lengths.
    assert len(rows) == 1 + 8
