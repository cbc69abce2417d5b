"""Figures appear where there is something to draw, and only there."""

import pytest
from evaluation_cases import DATABASE, answer, query, write_evaluation

from fingerprint.evaluation import figures, results

pytest.importorskip("matplotlib")


def evaluated(folder, databases, *, durations_s=(1.0, 2.0), snrs_db=(0, 10), examined=None):
    rows = [
        query(10 * number + n, f"{n}.wav", snr_db=snr_db, duration_s=2.0)
        for number, snr_db in enumerate(snrs_db)
        for n in range(3)
    ]
    systems = {}
    for name, database in databases.items():
        answers = [
            answer(
                int(row["query"]), (row["track"], 10.0, 1.0), duration_s=duration_s,
                answerable=row["track"] != "2.wav", examined=examined and examined[name],
            )
            for row in rows
            for duration_s in durations_s
        ]  # fmt: skip
        systems[name] = (answers, database)
    return results.assemble(write_evaluation(folder, rows, systems))


def test_what_has_points_is_drawn(tmp_path):
    databases = {"a": DATABASE, "b": DATABASE | {"duration_s": 3600.0}}
    result = evaluated(tmp_path / "e", databases, examined={"a": 0.01, "b": 0.2})
    names = figures.draw(result, tmp_path)
    assert names == [
        *("top1_by_length.png", "top1_by_snr.png", "det.png"),
        *("recall_by_candidates.png", "top1_by_size.png"),
    ]
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_has_one_point_is_not(tmp_path):
    result = evaluated(tmp_path / "e", {"a": DATABASE}, durations_s=(2.0,), snrs_db=(0,))
    assert figures.draw(result, tmp_path) == ["det.png"]


def lines_of(panel):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    panel(axes)
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    pyplot.close(figure)
    return found


def test_points_are_those_of_the_result(tmp_path):
    result = evaluated(tmp_path / "e", {"a": DATABASE, "b": DATABASE})
    (panel,) = figures.FIGURES["top1_by_length"](result).values()
    assert lines_of(panel) == {name: [[1.0, 100.0], [2.0, 100.0]] for name in "ab"}
    panels = figures.FIGURES["top1_by_snr"](result)
    assert list(panels) == ["realistic, top-1, 1 s", "realistic, top-1, 2 s"]
    assert lines_of(panels["realistic, top-1, 1 s"])["a"] == [[0.0, 100.0], [10.0, 100.0]]


def test_no_false_alarm_has_a_place_on_a_logarithmic_axis(tmp_path):
    result = evaluated(tmp_path / "e", {"a": DATABASE})
    panel = next(iter(figures.FIGURES["det"](result).values()))
    # All scores are the same: the only threshold accepts everything, both unknown queries too.
    assert lines_of(panel)["a"] == [[100.0, 0.0]]
    result["open_set"][0]["curve"] = {"false_alarm": [0.0, 0.5], "recall": [0.25, 1.0]}
    panel = next(iter(figures.FIGURES["det"](result).values()))
    assert lines_of(panel)["a"] == [[25.0, 75.0], [50.0, 0.0]]
