"""The threshold curve against counting by hand and by a loop over all thresholds."""

import numpy as np
import pytest

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.open_set import threshold_curve


def test_curve_by_hand():
    curve = threshold_curve([0.9, 0.7, 0.5, 0.2], [True, True, False, True], [0.6, 0.1])
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.7, 0.6, 0.5, 0.2, 0.1]
    assert curve.recall.tolist() == [0.0, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75]
    assert curve.wrong.tolist() == [0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25]
    assert curve.false_alarm.tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0]
    assert curve.recall_at(0.0) == 0.5
    assert curve.recall_at(0.5) == 0.75
    assert curve.false_alarm_at(0.5) == 0.0
    assert curve.false_alarm_at(0.75) == 0.5
    assert curve.false_alarm_at(0.8) is None


def test_curve_against_a_loop(rng):
    scores = rng.integers(0, 30, 200) / 10
    right = rng.random(200) < 0.8
    unknown = rng.integers(0, 20, 100) / 10
    curve = threshold_curve(scores, right, unknown)
    for i, threshold in enumerate(curve.thresholds):
        accepted = scores >= threshold
        assert curve.recall[i] == np.mean(accepted & right)
        assert curve.wrong[i] == np.mean(accepted & ~right)
        assert curve.false_alarm[i] == np.mean(unknown >= threshold)


def test_a_query_that_found_nothing_is_never_accepted():
    curve = threshold_curve([-np.inf, 0.3], [False, True], [-np.inf])
    assert curve.recall[-1] == 0.5
    assert curve.wrong[-1] == 0.0
    assert curve.false_alarm[-1] == 0.0


@pytest.mark.parametrize(
    ("scores", "right", "unknown", "sentence"),
    [
        ([], [], [0.1], "0 have an answer and 1 have none"),
        ([0.1], [True], [], "1 have an answer and 0 have none"),
        ([0.1], [True, False], [0.1], "1 scores and 2 judgements"),
        ([np.nan], [True], [0.1], "NaN"),
    ],
)
def test_what_gives_no_curve_is_said(scores, right, unknown, sentence):
    with pytest.raises(FingerprintError, match=sentence):
        threshold_curve(scores, right, unknown)
