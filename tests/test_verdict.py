"""The table of false alarms, on answers worked by hand."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fingerprint.audio import AudioError
from fingerprint.evaluation.query_set_writer import write_query_set
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QuerySettings
from fingerprint.identification import Identification, Match
from fingerprint.landmark_recognizer import LandmarkRecognizer
from fingerprint.store import Store


def match(track, start_s, confidence=0.5):
    return Match.placed(track, 1.0, confidence, start_s, 5.0, 200.0)


def part(*matches):
    return SimpleNamespace(parts=(), identify=lambda *_, **__: Identification("match", matches))


QUERY = SimpleNamespace(first=lambda duration_s: np.ones(8), sample_rate_hz=8, duration_s=5.0)


@pytest.fixture(scope="module")
def verdict(load_benchmark):
    return load_benchmark("verdict")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        # "b" is second and third, half a second apart; "a" is first and second, but elsewhere.
        ([match("c", 1.0), match("a", 9.0), match("b", 20.5)], 6),
        ([match("a", 10.2), match("b", 20.0)], 1),
        ([match("a", 11.0)], None),
        ([], None),
    ],
)
def test_pairs_at_one_place_count_by_their_ranks(verdict, other, expected):
    both = SimpleNamespace(parts=(part(match("a", 10.0), match("b", 20.0)), part(*other)))
    assert verdict.agreeing_pairs(both, QUERY, 5.0) == expected


def test_one_method_agrees_with_nobody(verdict):
    assert verdict.agreeing_pairs(part(match("a", 1.0)), QUERY, 5.0) is None


def test_table_counts_false_alarms_among_queries_without_an_answer(verdict, capsys):
    asked = [
        verdict.Asked(1.0, False, False, 0.95, None),
        *[verdict.Asked(1.0, False, False, 0.1, 4)] * 3,
        verdict.Asked(1.0, True, True, 0.95, None),
        verdict.Asked(1.0, True, False, 0.99, None),
    ]
    verdict.print_table(asked, [0.9])
    verdict.print_agreement(asked)
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.split(" (")[0] for cell in lines[2].strip("| ").split(" | ")]
    assert cells == ["1 s", "0.9", "25.00%", "50.00%", "50.00%", "50.00%"]
    shares = [line.split(" | ")[1].split(" (")[0] for line in lines[-3:]]
    assert shares == ["0.00%", "75.00%", "75.00%"]


def test_asks_an_index_whether_it_holds_the_answer_or_not(
    verdict, tmp_path, shared_audio, capsys, monkeypatch
):
    music = sorted((shared_audio / "music" / "test").iterdir())[:4]
    settings = QuerySettings(queries_from=str(shared_audio), durations_s=(5.0,), n_queries=8)
    write_query_set(tmp_path / "asked", settings, sources=[[str(path) for path in music]])
    index = tmp_path / "i"
    LandmarkRecognizer.create(index)
    recognizer = LandmarkRecognizer(Store.open(index))
    recognizer.add_files(map(str, music[:2]), progress=False)
    held = [str(path) for path in music[:2]]
    queries = QuerySet.open(tmp_path / "asked")
    n_held = sum(query.track in held for query in queries.queries())
    assert 0 < n_held < 8
    arguments = ["verdict.py", str(index), str(tmp_path / "asked"), "--durations_s", "5"]
    monkeypatch.setattr(sys, "argv", arguments)
    verdict.main()
    out = capsys.readouterr().out
    assert f"{n_held} questions with an answer and {8 - n_held} without" in out
    row = next(line for line in out.splitlines() if line.startswith("| 5 s | 0.999 |"))
    assert row.split(" | ")[2].startswith("0.00%")
    assert row.split(" | ")[5].startswith("100.00%")


def test_silence_is_no_answer(verdict):
    def refuse(*_, **__):
        raise AudioError("silent")

    answer = verdict.ask(SimpleNamespace(identify=refuse), QUERY, 5.0)
    assert (answer.verdict, list(answer.matches)) == ("no_match", [])
