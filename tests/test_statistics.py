"""Intervals and paired tests, against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.statistics import bootstrap_interval, mcnemar, wilson_interval


@pytest.mark.parametrize(("n_hits", "n"), [(0, 10), (3, 10), (10, 10), (57, 300), (299, 300)])
def test_wilson_interval_is_that_of_scipy(n_hits, n):
    expected = stats.binomtest(n_hits, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(n_hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_counted_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert bootstrap_interval([], []) == (0.0, 1.0)


def test_bootstrap_of_one_query_per_track_is_near_wilson(rng):
    hits = rng.random(400) < 0.7
    low, high = bootstrap_interval(hits, range(400))
    expected = wilson_interval(int(hits.sum()), 400)
    assert (low, high) == pytest.approx(expected, abs=0.012)


def test_bootstrap_sees_that_queries_of_a_track_fail_together(rng):
    track_hits = rng.random(40) < 0.5
    hits, tracks = np.repeat(track_hits, 10), np.repeat(np.arange(40), 10)
    low, high = bootstrap_interval(hits, tracks)
    wilson_low, wilson_high = wilson_interval(int(hits.sum()), 400)
    # Ten equal answers weigh as one: the interval is wider by the root of ten.
    assert (high - low) / (wilson_high - wilson_low) == pytest.approx(np.sqrt(10), rel=0.15)


def test_bootstrap_depends_on_the_seed_alone():
    hits, tracks = [True, False, True, True], "aabb"
    assert bootstrap_interval(hits, tracks) == bootstrap_interval(hits, tracks)


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (5, 5), (9, 2), (2, 9), (40, 11), (2100, 1900)]
)
def test_mcnemar_is_the_binomial_test_on_the_discordant(only_first, only_second):
    first = [True] * only_first + [False] * only_second + [True, False] * 7
    second = [False] * only_first + [True] * only_second + [True, False] * 7
    result = mcnemar(first, second)
    n = only_first + only_second
    expected = stats.binomtest(only_first, n).pvalue if n else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)
    assert (result.n, result.only_first, result.only_second) == (n + 14, only_first, only_second)


def test_unpaired_answers_are_refused():
    with pytest.raises(FingerprintError, match="answered 2 queries and the other 1"):
        mcnemar([True, False], [True])
    with pytest.raises(FingerprintError, match="2 hits and 1 tracks"):
        bootstrap_interval([True, False], ["a"])
