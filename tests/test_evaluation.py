import pytest

from fingerprint.evaluation import metrics
from fingerprint.identification import Identification, Match

# ----------------------------------------------------------------------------- metrics


def test_nothing_counted_is_nothing_known():
    assert metrics.rate([]) == {"rate": None, "low": 0.0, "high": 1.0, "n": 0}


def answer(track="a", start_s=10.0, query_start_s=0.0, verdict="match"):
    match = Match(track, 0.9, start_s, start_s + 3, query_start_s, query_start_s + 3)
    return Identification(verdict, [match])


@pytest.mark.parametrize(
    ("identification", "right_track", "exact"),
    [
        (answer(), True, True),
        (answer(start_s=10.5), True, True),
        (answer(start_s=10.51), True, False),
        (answer(track="b"), False, False),
        # The query begins 2 s before the part of it that lies in the track.
        (answer(start_s=12.0, query_start_s=2.0), True, True),
        (answer(start_s=10.0, query_start_s=2.0), True, False),
        (Identification("no_match", []), False, False),
    ],
)
def test_answers_are_judged_by_track_and_start(identification, right_track, exact):
    judged = metrics.judge(identification, "a", start_s=10.0, tolerance_s=0.5)
    assert (judged["right_track"], judged["exact"]) == (right_track, exact)


def test_a_query_without_an_answer_is_never_answered_rightly():
    judged = metrics.judge(answer(), None, start_s=10.0, tolerance_s=0.5)
    assert judged == {
        "answerable": False,
        "matched": True,
        "right_track": False,
        "exact": False,
    }


def test_rows_count_each_kind_of_answer_on_its_own_queries():
    def outcome(**kwargs):
        judged = {"answerable": True, "matched": True, "right_track": True, "exact": True}
        return metrics.Outcome("i", 5.0, 0.0, **(judged | kwargs), wall_s=0.2, cpu_s=0.1)

    outcomes = [
        outcome(),
        outcome(exact=False),
        outcome(matched=False),
        outcome(right_track=False, exact=False),
        outcome(answerable=False, right_track=False, exact=False),
        outcome(answerable=False, matched=False, right_track=False, exact=False),
    ]
    (row,) = metrics.summarise(outcomes)
    names = ("top1", "exact", "match_right", "match_wrong", "false_alarm")
    assert [row[name]["rate"] for name in names] == [0.75, 0.5, 0.5, 0.25, 0.5]
    assert [row[name]["n"] for name in names] == [4, 4, 4, 4, 2]
    assert (row["wall_s_per_query"], row["cpu_s_per_query"]) == (0.2, 0.1)
