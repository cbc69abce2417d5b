"""From answers to counted shares: judged by hand, counted by hand, and one run from end to end."""

import dataclasses
import json
import math
import shutil
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
from evaluation_cases import answer, query, write_evaluation, write_queries

from fingerprint import cli
from fingerprint.evaluation import metrics, reporting, results, run
from fingerprint.evaluation.answers import AnswerError, read_answers
from fingerprint.evaluation.audio_distractors import add_audio, add_synthesised
from fingerprint.evaluation.judging import Truth, judge, judge_all, truths_of
from fingerprint.evaluation.open_set import threshold_curve
from fingerprint.evaluation.record import RecordError, read_record
from fingerprint.evaluation.statistics import wilson_interval
from fingerprint.landmark_recognizer import LandmarkRecognizer
from fingerprint.music_synthesis import synthesize_track

TRUTH = Truth("a.wav", 10.0, "snr_db=0", 0.0, "0")

# ----------------------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("candidates", "rank", "error_s"),
    [
        ([("a.wav", 10.25, 2)], 1, 0.25),
        ([("a.wav", 9.0, 2)], 1, 1.0),
        ([("b.wav", 10.0, 3), ("a.wav", 10.0, 2)], 2, 0.0),
        # Three starts in one wrong track are one wrong track; of the right one the best counts.
        ([("b.wav", 1, 4), ("b.wav", 2, 3), ("a.wav", 12.0, 2), ("a.wav", 10.0, 1)], 2, 2.0),
        ([("a.wav", None, 1)], 1, math.nan),
        ([("b.wav", 10.0, 1)], None, math.nan),
        ([], None, math.nan),
    ],
)
def test_rank_and_error_of_the_right_track(candidates, rank, error_s):
    judged = judge(answer(0, *candidates), TRUTH)
    assert (judged.rank, judged.error_s) == (rank, pytest.approx(error_s, nan_ok=True))
    assert judged.score == (candidates[0][2] if candidates else -math.inf)


def test_a_start_that_nobody_knows_has_no_error():
    truth = Truth("a.wav", None, "", None, "0")
    judged = judge(answer(0, ("a.wav", 3.0, 1)), truth)
    assert judged.rank == 1
    assert math.isnan(judged.error_s)


def test_the_database_says_whether_there_is_an_answer():
    found = ("a.wav", 10.0, 1)
    assert judge(answer(0, found, answerable=True), TRUTH).answerable
    missing = judge(answer(0, found, answerable=False), TRUTH)
    assert (missing.answerable, missing.rank) == (False, None)
    # Where the answer does not say it, others do, and else the truth.
    assert not judge(answer(0, found, answerable=None), TRUTH, answerable=False).answerable
    assert judge(answer(0, found, answerable=None), TRUTH).answerable
    nowhere = Truth(None, None, "", None, "0")
    assert not judge(answer(0, found, answerable=None), nowhere).answerable


def test_queries_of_a_recording_belong_together():
    assert judge(answer(0), TRUTH).cluster == "a.wav"
    assert judge(answer(7), Truth(None, None, "", None, "7")).cluster == "000007"


def test_truths_are_read_once_with_what_judges_need(tmp_path):
    rows = [query(0, "music/a.wav", snr_db=5), query(1, "", snr_db="", start_s="")]
    truths = truths_of(write_queries(tmp_path / "queries", rows))
    assert truths["000000"] == Truth("music/a.wav", 10.0, "snr_db=5", 5.0, "0.0")
    assert truths["000001"] == Truth(None, None, "", None, "1.0")


def test_an_answer_to_another_query_is_refused():
    with pytest.raises(AnswerError, match="query '000009'"):
        list(judge_all([answer(9)], {"000000": TRUTH}))


# ----------------------------------------------------------------------------- metrics


def judged(*cases, **more):
    """(start of the best candidate, None for a wrong track) for each."""
    return [
        judge(answer(n, ("a.wav", 10.0 + e, 1) if e is not None else ("b", 0, 1), **more), TRUTH)
        for n, e in enumerate(cases)
    ]


def test_nothing_counted_is_nothing_known():
    assert metrics.share([]) == {"rate": None, "low": 0.0, "high": 1.0, "n": 0}


def test_hits_by_their_tolerance():
    found = metrics.hits(
        judged(0.0, 0.05, -0.051, 0.1, 0.25, -0.3, 0.5, 0.75, 0.76, None),
        metrics.Tolerances(exact_s=0.3, hop_s=0.5),
    )
    n_hits = {name: int(flags.sum()) for name, flags in found.items()}
    assert n_hits == {
        **{"top1": 9, "top3": 9, "top10": 9},
        **{"within_50ms": 2, "within_100ms": 4, "within_250ms": 5, "within_500ms": 7},
        **{"exact": 6, "segment_exact": 5, "segment_near": 8},
        **{"match_right": 9, "match_wrong": 1},
    }


def test_on_the_grid_exact_and_near_are_equal_and_neighbouring_segments(rng):
    """As published: start segments of answer and truth, compared as numbers."""
    hop_s = 0.5
    answered = rng.integers(0, 5, 200)
    cases = judged(*(hop_s * (answered - 2)))
    found = metrics.hits(cases, metrics.Tolerances(hop_s=hop_s))
    np.testing.assert_array_equal(found["segment_exact"], answered == 2)
    np.testing.assert_array_equal(found["segment_near"], abs(answered - 2) <= 1)


def test_a_right_start_counts_in_first_place_only():
    second = judge(answer(0, ("b", 0, 2), ("a.wav", 10.0, 1)), TRUTH)
    found = metrics.hits([second], metrics.Tolerances())
    assert not found["top1"][0]
    assert not found["exact"][0]
    assert found["top3"][0]


def test_starts_that_no_system_says_are_not_counted():
    row = metrics.summarise([judge(answer(0, ("a.wav", None, 1)), TRUTH)], metrics.Tolerances())
    assert row["top1"]["rate"] == 1.0
    assert row["exact"]["rate"] is None
    assert row["within_50ms"]["n"] == 0


def test_rows_count_each_kind_of_answer_on_its_own_queries():
    cases = [
        answer(0, ("a.wav", 10.0, 1), wall_s=0.3, cpu_s=0.1, examined=0.2),
        answer(1, ("a.wav", 12.0, 1), wall_s=0.1, cpu_s=0.1),
        answer(2, ("a.wav", 10.0, 1), verdict="no_match"),
        answer(3, ("b.wav", 10.0, 1)),
        answer(4, ("a.wav", 10.0, 1), answerable=False),
        answer(5, verdict="no_match", answerable=False),
    ]
    row = metrics.summarise([judge(each, TRUTH) for each in cases], metrics.Tolerances())
    names = ("top1", "exact", "match_right", "match_wrong", "false_alarm")
    assert [row[name]["rate"] for name in names] == [0.75, 0.5, 0.5, 0.25, 0.5]
    assert [row[name]["n"] for name in names] == [4, 4, 4, 4, 2]
    assert (row["n_answerable"], row["n_unanswerable"], row["n_recordings"]) == (4, 2, 1)
    low, high = wilson_interval(3, 4)
    assert (row["top1"]["low"], row["top1"]["high"]) == (round(low, 6), round(high, 6))
    costs = (row["wall_s_per_query"], row["cpu_s_per_query"], row["examined"])
    assert costs == (0.2, 0.1, 0.2)


def test_a_system_without_verdicts_has_no_false_alarms():
    cases = [answer(0, ("a.wav", 10, 1), verdict=None), answer(1, verdict=None, answerable=False)]
    row = metrics.summarise([judge(each, TRUTH) for each in cases], metrics.Tolerances())
    assert row["match_right"]["rate"] is None
    assert row["false_alarm"]["rate"] is None


def test_recordings_that_are_all_right_still_leave_doubt():
    """As many independent observations as recordings, not as queries."""
    truths = [Truth(f"{n % 5}.wav", 0.0, "", None, str(n)) for n in range(50)]
    cases = [judge(answer(n, (t.track, 0.0, 1)), t) for n, t in enumerate(truths)]
    top1 = metrics.summarise(cases, metrics.Tolerances())["top1"]
    assert (top1["track_low"], top1["track_high"]) == (round(wilson_interval(5, 5)[0], 6), 1.0)
    assert top1["low"] == round(wilson_interval(50, 50)[0], 6)


def test_thresholds_are_those_of_the_curve(rng):
    scores, unknown = rng.normal(1, 1, 300), rng.normal(0, 1, 400)
    right = rng.random(300) < 0.8
    cases = [
        judge(answer(n, ("a.wav" if ok else "b", 10.0, score)), TRUTH)
        for n, (score, ok) in enumerate(zip(scores, right, strict=True))
    ]
    cases += [
        judge(answer(n, ("b", 0, score), answerable=False), TRUTH)
        for n, score in enumerate(unknown)
    ]
    found = metrics.open_set(cases)
    curve = threshold_curve(scores, right, unknown)
    assert found["recall_at_one_in_a_thousand"] == curve.recall_at(0.001)
    assert found["false_alarm_at_recall"]["0.5"] == curve.false_alarm_at(0.5)
    assert found["false_alarm_at_recall"]["0.9"] is None
    kept = found["curve"]
    assert len(kept["recall"]) <= 2 * metrics.N_CURVE_POINTS
    points = set(zip(curve.recall.round(6), curve.false_alarm.round(6), strict=True))
    assert set(zip(kept["recall"], kept["false_alarm"], strict=True)) <= points
    json.dumps(found, allow_nan=False)


def test_thresholds_need_both_sorts_of_queries():
    assert metrics.open_set(judged(0.0)) is None


def test_systems_are_compared_on_the_queries_they_have_in_common():
    first = {"1": True, "2": True, "3": False, "4": True, "5": True}
    second = {"1": True, "2": False, "3": True, "4": False}
    compared = metrics.compare(first, second)
    assert compared == {"n": 4, "only_first": 2, "only_second": 1, "p_value": 1.0}
    assert metrics.compare(first, {"9": True}) is None


# ----------------------------------------------------------------------------- results


def two_systems():
    """Four queries at 0 dB, four at 10 dB, two of them without an answer; hits are known."""
    rows = [query(n, f"{n % 4}.wav", snr_db=10 * (n // 4)) for n in range(8)]
    rows += [query(n, "unknown.wav") for n in (8, 9)]
    good = [answer(n, (f"{n % 4}.wav", 10.0, 5), cpu_s=0.1) for n in range(8)]
    good += [answer(n, verdict="no_match", answerable=False, cpu_s=0.1) for n in (8, 9)]
    poor = [answer(n, (f"{n % 4}.wav", 10.0, 5), cpu_s=0.2) for n in range(4, 8)]
    poor = [answer(n, ("x.wav", 0.0, 6), cpu_s=0.2) for n in range(4)] + poor
    poor += [answer(n, ("x.wav", 0.0, 6), answerable=False, cpu_s=0.2) for n in (8, 9)]
    return rows, {"good": good, "poor": poor}


def test_a_row_for_each_system_and_condition_and_one_for_all(tmp_path):
    result = results.assemble(write_evaluation(tmp_path / "e", *two_systems()))
    rows = [(r["system"], r["snr_db"], r["top1"]["rate"]) for r in result["results"]]
    assert rows == [
        ("good", 0.0, 1.0),
        ("good", 10.0, 1.0),
        ("poor", 0.0, 0.0),
        ("poor", 10.0, 1.0),
    ]
    assert {row["top1"]["n"] for row in result["results"]} == {4}
    alarms = [row["false_alarm"] for row in result["results"]]
    assert [(each["rate"], each["n"]) for each in alarms[::2]] == [(0.0, 2), (1.0, 2)]
    assert [row["top1"]["rate"] for row in result["pooled"]] == [1.0, 0.5]
    assert [row["speed_up"] for row in result["pooled"]] == [1.0, 0.5]
    assert [row["recall_without_false_alarm"] for row in result["pooled"]] == [1.0, 0.0]
    assert result["query_sets"] == {"realistic": {"n_queries": 10, "n_answerable": 8}}
    assert not result["clean"]


def test_every_pair_is_compared_under_every_condition(tmp_path):
    result = results.assemble(write_evaluation(tmp_path / "e", *two_systems()))
    (at_0_db, at_10_db) = result["comparisons"]
    assert (at_0_db["first"], at_0_db["second"], at_0_db["measure"]) == ("good", "poor", "top1")
    # Four of four: 2 * (1/2)^4.
    assert (at_0_db["only_first"], at_0_db["p_value"]) == (4, 0.125)
    assert (at_10_db["only_first"], at_10_db["p_value"]) == (0, 1.0)


def test_another_programs_queries_have_an_answer_where_ours_say_so(tmp_path):
    rows, systems = two_systems()
    other = [answer(n, (f"{n % 4}.wav", 9.0, 1), verdict=None, answerable=None) for n in range(10)]
    systems["other"] = (other, None)
    result = results.assemble(write_evaluation(tmp_path / "e", rows, systems))
    (row,) = [row for row in result["pooled"] if row["system"] == "other"]
    assert (row["n_answerable"], row["n_unanswerable"], row["top1"]["rate"]) == (8, 2, 1.0)
    alone = write_evaluation(tmp_path / "alone", rows, {"other": (other, None)})
    (row,) = results.assemble(alone)["pooled"]
    assert (row["n_answerable"], row["top1"]["rate"]) == (10, 0.8)


def test_recordings_that_no_database_holds_are_refused(tmp_path):
    answers = [answer(0, answerable=False)]
    folder = write_evaluation(tmp_path / "e", [query(0)], {"s": answers})
    with pytest.raises(results.ResultError, match="audio was moved"):
        results.assemble(folder)


def test_answers_to_other_queries_are_refused(tmp_path):
    folder = write_evaluation(tmp_path / "e", *two_systems())
    truth = folder / "queries-realistic" / "truth.csv"
    truth.write_text(truth.read_text().replace("unknown.wav", "0.wav"))
    with pytest.raises(results.ResultError, match="other queries"):
        results.assemble(folder)


def test_ten_thousand_queries_take_seconds_and_little_memory(tmp_path, rng):
    n = 10_000
    rows = [query(i, f"{i % 500}.wav", excerpt=i) for i in range(n)]
    right = rng.random(n) < 0.7
    answers = [
        answer(i, (f"{i % 500}.wav" if right[i] else "x.wav", 10.0, float(i)), wall_s=0.01)
        for i in range(n)
    ]
    folder = write_evaluation(tmp_path / "e", rows, {"s": answers, "t": answers})
    del rows, answers
    started = time.process_time()
    result = results.assemble(folder)
    assert time.process_time() - started < 20
    assert result["pooled"][0]["top1"]["rate"] == round(float(right.mean()), 6)
    truths = truths_of(write_queries(tmp_path / "q", [query(i) for i in range(n)]))
    tracemalloc.start()
    answers = read_answers(results.answers_path(folder, "realistic", "s"))
    judgements = list(judge_all(answers, truths))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(judgements) == n
    assert peak < 1000 * n


# ----------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Four recordings in a manifest, the first three of them indexed."""
    folder = tmp_path_factory.mktemp("audio")
    (folder / "music").mkdir()
    lines = ["path,kind,split"]
    for seed, split in enumerate(["test", "test", "test", "train"]):
        name = f"music/{seed}.wav"
        soundfile.write(folder / name, synthesize_track(seed, 15.0, 11_025), 11_025)
        lines.append(f"{name},music,{split}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    recognizer = LandmarkRecognizer.create(folder / "songs.index")
    recognizer.add_files([folder / "music" / f"{n}.wav" for n in range(3)], progress=False)
    return folder


def request(music, **more):
    fields = {"queries_from": str(music), "unknown": str(music), "unknown_split": "train"}
    fields |= {"durations_s": (2.0, 5.0), "n_queries": 4, "seed": 1} | more.pop("fields", {})
    return run.Request([str(music / "songs.index")], query_fields=fields, **more)


def test_a_run_is_kept_and_goes_on(music, tmp_path, monkeypatch):
    result = run.evaluate(request(music), tmp_path / "out", progress=False)
    assert [row["duration_s"] for row in result["results"]] == [2.0, 5.0]
    assert result["results"][1]["exact"]["rate"] == 1.0
    assert [row["false_alarm"]["n"] for row in result["results"]] == [4, 4]
    assert result["n_files"] == {"asked": 3, "not_in_every_index": 0, "too_short": 0}
    assert not result["clean"]
    assert result["systems"][0]["tracks"] == 3

    # Nobody is asked again: neither by the same call, nor for the tables alone.
    monkeypatch.setattr(run.System, "recognizer", None)
    assert run.evaluate(request(music), tmp_path / "out", progress=False) == result
    assert run.stored(tmp_path / "out") == result
    json.dumps(result, allow_nan=False)


def test_distractors_are_neither_asked_nor_right(music, tmp_path):
    recordings = [music / "music" / f"{n}.wav" for n in range(3)]
    run.evaluate(request(music), tmp_path / "whole", progress=False)
    LandmarkRecognizer.create(tmp_path / "i").add_files(recordings[:2], progress=False)
    add_audio(tmp_path / "i", recordings[2:], progress=False)
    own = dataclasses.replace(request(music), index_dirs=[str(tmp_path / "i")])
    result = run.evaluate(own, tmp_path / "out", progress=False)
    assert result["n_files"] == {"asked": 2, "not_in_every_index": 1, "too_short": 0}
    (queries,) = (tmp_path / "whole").glob("queries-*")
    given = dataclasses.replace(own, queries=str(queries), query_fields={})
    with pytest.raises(run.EvaluationError, match=r"2\.wav is asked for, but among the dist"):
        run.evaluate(given, tmp_path / "given", progress=False)


def test_another_index_joins_the_tables(music, tmp_path):
    run.evaluate(request(music), tmp_path / "out", progress=False)
    other = LandmarkRecognizer.create(tmp_path / "wang.index", preset="wang")
    other.add_files([music / "music"], progress=False)
    more = run.Request([str(tmp_path / "wang.index")], query_fields=request(music).query_fields)
    result = run.evaluate(more, tmp_path / "out", progress=False)
    assert [each["system"] for each in result["systems"]] == ["songs", "wang"]
    # It holds all four recordings: what has no answer in one database has one in the other.
    assert [row["n_answerable"] for row in result["pooled"]] == [4, 4, 8, 8]
    assert {each["n"] for each in result["comparisons"]} == {4}
    alone = run.Request(more.index_dirs, query_fields=more.query_fields, training=str(music))
    with pytest.raises(run.EvaluationError, match="answers of songs too"):
        run.evaluate(alone, tmp_path / "out", progress=False)


def test_other_settings_or_protocols_need_another_folder(music, tmp_path):
    run.evaluate(request(music), tmp_path / "out", progress=False)
    with pytest.raises(run.EvaluationError, match="another n_queries, 4 instead of 5"):
        run.evaluate(request(music, fields={"n_queries": 5}), tmp_path / "out", progress=False)
    with pytest.raises(run.EvaluationError, match="by the protocol realistic, not rice"):
        run.evaluate(request(music, protocol="rice"), tmp_path / "out", progress=False)


def test_audio_of_the_training_is_found(music, tmp_path):
    asked = request(music, training=str(music), training_split="test")
    leaks = run.evaluate(asked, tmp_path / "out", progress=False)["leaks"]
    assert not leaks["clean"]
    found = {(each["role"], each["other_role"]) for each in leaks["leaks"]}
    assert ("references", "training") in found
    assert {each["path"] for each in leaks["leaks"]} == {f"music/{n}.wav" for n in range(3)}
    held_out = request(music, training=str(music), fields={"unknown": None})
    assert run.evaluate(held_out, tmp_path / "clean", progress=False)["clean"]


def test_recorded_queries_and_other_programs(music, tmp_path):
    folder = tmp_path / "recorded"
    folder.mkdir()
    sound, rate_hz = soundfile.read(music / "music" / "1.wav")
    for name in ("p", "q"):
        soundfile.write(folder / f"{name}.wav", sound[3 * rate_hz : 9 * rate_hz], rate_hz)
    track = music / "music" / "1.wav"
    (folder / "truth.csv").write_text(f"query,track,start_s\np.wav,{track},3\nq.wav,{track},3\n")
    table = tmp_path / "other.csv"
    table.write_text("query,track,start_s,score,duration_s\np.wav,1.wav,3.2,7,6\nq.wav,,,,6\n")
    asked = run.Request(
        [str(music / "songs.index")], queries=str(folder), answers={"other": str(table)}
    )
    result = run.evaluate(asked, tmp_path / "out", progress=False)
    pooled = {(row["system"], row["duration_s"]): row for row in result["pooled"]}
    assert pooled["songs", 6.0]["exact"]["rate"] == 1.0
    other = pooled["other", 6.0]
    assert (other["top1"]["rate"], other["within_250ms"]["rate"]) == (0.5, 0.5)
    assert other["within_100ms"]["rate"] == 0.0
    assert result["settings"] == {}
    assert {each["duration_s"] for each in result["comparisons"]} == {6.0}


def test_queries_of_recordings_that_nobody_holds_are_not_asked(music, tmp_path):
    folder = tmp_path / "recorded"
    folder.mkdir()
    soundfile.write(folder / "p.wav", np.zeros(30_000), 10_000)
    (folder / "truth.csv").write_text("query,track\np.wav,elsewhere/1.wav\n")
    with pytest.raises(run.EvaluationError, match="audio was moved"):
        run.evaluate(run.Request([str(music / "songs.index")], queries=str(folder)), progress=False)


def test_queries_that_are_too_short_are_said_to_be(music, tmp_path):
    folder = tmp_path / "recorded"
    folder.mkdir()
    sound, rate_hz = soundfile.read(music / "music" / "1.wav")
    soundfile.write(folder / "p.wav", sound[: rate_hz // 2], rate_hz)
    (folder / "truth.csv").write_text(f"query,track\np.wav,{music / 'music' / '1.wav'}\n")
    with pytest.raises(results.ResultError, match=r"shorter than .*; ask for shorter"):
        run.evaluate(run.Request([str(music / "songs.index")], queries=str(folder)), progress=False)


def test_systems_need_different_names(music):
    index = str(music / "songs.index")
    with pytest.raises(run.EvaluationError, match="Two systems"):
        run.evaluate(run.Request([index], answers={"songs": "x.csv"}), progress=False)
    with pytest.raises(run.EvaluationError, match="Two systems"):
        run.evaluate(run.Request([index, index]), progress=False)


def test_a_folder_without_an_evaluation_is_said_to_be_one(tmp_path):
    with pytest.raises(RecordError, match="holds no evaluation"):
        run.stored(tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(RecordError, match="damaged"):
        read_record(tmp_path)


def test_an_interrupted_run_is_gone_on_with(music, tmp_path, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(request(music), tmp_path / "out", progress=False)
    with pytest.raises(results.ResultError, match="repeat the call"):
        run.stored(tmp_path / "out")
    result = run.evaluate(request(music), tmp_path / "out", progress=False)
    assert result["n_files"]["asked"] == 3
    assert result["query_sets"]["realistic"]["n_queries"] == 8


# ----------------------------------------------------------------------------- the command


def test_the_command_keeps_and_rebuilds(music, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "out"
    command = ["evaluate", str(music / "songs.index"), "--queries_from", str(music)]
    command += ["--durations_s", "2,5", "--n_queries", "3", "--format", "markdown"]
    assert cli.main([*command, "--output", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert (folder / "table.md").read_text() == shown
    kept = {path.name for path in folder.iterdir()}
    assert {"result.json", "record.json", "table.csv", "top1_by_length.png"} <= kept
    (folder / "table.md").unlink()
    assert cli.main(["evaluate", "--output", str(folder), "--format", "markdown"]) == 0
    assert capsys.readouterr().out == shown
    assert (folder / "table.md").read_text() == shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["songs.index"],
        ["--output", "result.json"],
        ["songs.index", "--output", "out"],
        ["--queries_from", "x"],
        ["songs.index", "--queries_from", "x", "--queries", "y"],
        ["songs.index", "--queries_from", "x", "--answers", "table.csv"],
        ["songs.index", "--queries_from", "x", "--answers", "a/b=table.csv"],
        ["songs.index", "--queries_from", "x", "--protocol", "guess"],
    ],
)
def test_wrong_usage(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["evaluate", *arguments])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert not list(tmp_path.iterdir())


def test_distractors_are_counted_apart_and_compared_in_their_role(music, tmp_path):
    index = tmp_path / "larger.index"
    shutil.copytree(music / "songs.index", index)
    add_audio(index, [music / "music" / "3.wav"], progress=False)
    add_synthesised(index, 30 / 3600, progress=False)
    asked = request(music, training=str(music), fields={"unknown": None})
    asked = dataclasses.replace(asked, index_dirs=[str(index)])
    result = run.evaluate(asked, tmp_path / "out", progress=False)
    (system,) = result["systems"]
    assert system["duration_s"] - system["distractor_duration_s"] == pytest.approx(45.0)
    assert system["distractor_duration_s"] >= 15.0 + 30.0
    # The recording of the training split is a distractor here; made music is none of anybody's.
    assert result["leaks"]["n_files"] == {
        **{"training": 1, "references": 3, "distractors": 1, "unknown": 0}
    }
    (leak,) = result["leaks"]["leaks"]
    assert {leak["role"], leak["other_role"]} == {"training", "distractors"}
    assert "of them distractors" in reporting.render(result, "markdown")
