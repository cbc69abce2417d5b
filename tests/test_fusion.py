import math

import numpy as np
import pytest
import scipy.stats

from fingerprint.fusion import SAME_PLACE_S, fuse, log_fisher
from fingerprint.identification import Match

HOURS_S = 10 * 3600.0


def candidate(track, p_value, start_s=10.0):
    return Match.placed(track, 1.0, 1.0 - p_value, start_s, 5.0, 200.0, p_value=p_value)


def fused(neural, landmarks, index_s=HOURS_S, top_k=5, evidence=None):
    """Candidates whose evidence is by track or, for one of them, by track and method."""

    def judged(method, matches):
        values = evidence or {}
        return [(m, values.get((m.track, method), values.get(m.track, 0.0))) for m in matches]

    found = {"neural": neural, "landmarks": landmarks}
    return fuse({method: judged(method, own) for method, own in found.items()}, index_s, top_k)


def named(matches):
    return [match.track for match in matches]


@pytest.mark.parametrize(
    "p_values", [(0.1, 0.2), (1.0, 1.0), (1e-3, 1.0), (0.5,), (0.3, 1e-4, 0.02), (1e-90, 1e-60)]
)
def test_the_product_is_fishers(p_values):
    expected = scipy.stats.combine_pvalues(p_values, method="fisher").pvalue
    assert math.exp(log_fisher(np.log(p_values))) == pytest.approx(expected, rel=1e-9)
    if len(p_values) == 2:
        q = math.prod(p_values)
        assert expected == pytest.approx(q * (1 - math.log(q)), rel=1e-9)


def test_the_logarithm_goes_on_where_floats_end():
    log_p = log_fisher([-700.0, -600.0])
    assert log_p == pytest.approx(-1300 + math.log(1301))
    # Before that, it is the tail of chi squared with two degrees of freedom for each p-value.
    assert log_fisher([-300.0, -200.0]) == pytest.approx(scipy.stats.chi2.logsf(1000.0, 4))


def test_of_uniform_p_values_the_product_is_uniform(rng):
    combined = [math.exp(log_fisher(np.log(p))) for p in rng.uniform(size=(4000, 3))]
    assert scipy.stats.kstest(combined, "uniform").pvalue > 1e-3


def test_one_method_alone_counts_twice():
    (match,) = fused([candidate("a", 1e-4)], [])
    assert match.confidence == pytest.approx(1 - 2e-4)
    assert match.p_value == pytest.approx(2e-4)
    assert match.found_by == ("neural",)
    (match,) = fused([], [candidate("a", 0.8)])
    assert (repr(match.confidence), match.found_by) == ("0.0", ("landmarks",))


def test_agreement_is_a_p_value_of_its_own():
    (match,) = fused([candidate("a", 0.01)], [candidate("a", 0.02, 10.2)])
    # As often as music that resembles the query does it, and the three by Fisher's chi squared.
    expected = scipy.stats.combine_pvalues([0.01, 0.02, 0.002], method="fisher").pvalue
    assert match.p_value == pytest.approx(expected, rel=1e-9)
    assert match.confidence > max(1 - 2 * 0.01, 0.9999)
    # In a hundred seconds one window of a second is likelier.
    (match,) = fused([candidate("a", 0.01)], [candidate("a", 0.02, 10.2)], index_s=100.0)
    expected = scipy.stats.combine_pvalues([0.01, 0.02, 0.01], method="fisher").pvalue
    assert match.p_value == pytest.approx(expected, rel=1e-9)
    assert match.found_by == ("neural", "landmarks")


def test_the_place_is_that_of_the_landmarks_where_both_agree():
    (match,) = fused([candidate("a", 1e-30)], [candidate("a", 0.5, 10.2)])
    assert (match.reference_start_s, match.reference_end_s) == (10.2, 15.2)
    # Both before the beginning of the track: it is the query's beginning that has to agree.
    (match,) = fused([candidate("a", 0.1, -3.0)], [candidate("a", 0.1, -1.0)])
    assert len(match.found_by) == 1


@pytest.mark.parametrize(
    ("surer", "start_s"), [("neural", 10.0), ("landmarks", 10.0 + SAME_PLACE_S + 0.01)]
)
def test_at_different_places_the_one_with_more_evidence_stands(surer, start_s):
    evidence = {("a", "neural"): 20.0, ("a", "landmarks"): 20.0} | {("a", surer): 30.0}
    neural = [candidate("a", 1e-3)]
    landmarks = [candidate("a", 1e-5, 10.0 + SAME_PLACE_S + 0.01)]
    (match,) = fused(neural, landmarks, evidence=evidence)
    assert (match.found_by, match.start_s) == ((surer,), start_s)
    assert match.score == pytest.approx(30.0 / math.log(10))


def test_of_a_track_the_smallest_p_value_counts_whoever_says_where_it_is():
    evidence = {("a", "neural"): 4.0, ("a", "landmarks"): 3.0}
    (match,) = fused([candidate("a", 1e-3)], [candidate("a", 1e-5, 50.0)], evidence=evidence)
    assert match.found_by == ("neural",)
    assert match.p_value == pytest.approx(2e-5)


def test_agreement_never_makes_less_sure():
    """In a short index agreement says nothing, and the better p-value stands."""
    alone = fused([candidate("a", 1e-6)], [], index_s=1.0)[0]
    both = fused([candidate("a", 1e-6)], [candidate("a", 1.0, 10.2)], index_s=1.0)[0]
    assert both == alone
    # A long index, and as good as certain by one: the product would be worse, and is not taken.
    both = fused([candidate("a", 1e-200)], [candidate("a", 0.5, 10.2)])[0]
    assert both.found_by == ("neural", "landmarks")
    assert both.p_value == pytest.approx(2e-200, rel=1e-6)


def test_second_for_both_may_be_surer_than_first_for_one():
    neural = [candidate("x", 0.4), candidate("b", 0.6)]
    landmarks = [candidate("y", 0.4, 30.0), candidate("b", 0.7, 10.1)]
    by_name = {match.track: match for match in fused(neural, landmarks)}
    assert by_name["b"].found_by == ("neural", "landmarks")
    expected = scipy.stats.combine_pvalues([0.6, 0.7, 4 * 0.002], method="fisher").pvalue
    assert by_name["b"].p_value == pytest.approx(expected, rel=1e-9)
    assert by_name["x"].p_value == by_name["y"].p_value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("p_value", "evidence", "expected"),
    [
        (1.0, math.log(2000.0), 1e-3),  # which e^-E is half of
        (1e-2, math.log(2000.0), 1e-3),
        (1e-4, math.log(2000.0), 2e-4),  # one of two methods
        (1.0, 0.5, 1.0),
        (1.0, -20.0, 1.0),
    ],
)
def test_evidence_is_a_second_way_to_judge(p_value, evidence, expected):
    (match,) = fused([candidate("a", p_value)], [], evidence={"a": evidence})
    assert match.p_value == pytest.approx(expected, rel=1e-9)
    assert match.confidence == pytest.approx(1 - expected, abs=1e-12)


def test_evidence_orders_whatever_p_values_say():
    neural = [candidate("a", 0.1), candidate("b", 0.5), candidate("c", 0.9)]
    landmarks = [candidate("d", 0.2, 50.0), candidate("b", 0.5)]
    evidence = {"a": -1.0, ("b", "neural"): 1.0, ("b", "landmarks"): 5.0, "c": 7.0, "d": 6.0}
    matches = fused(neural, landmarks, evidence=evidence)
    assert named(matches) == ["c", "d", "b", "a"]
    assert [match.score * math.log(10) for match in matches] == pytest.approx([7, 6, 5, -1])
    assert matches[3].p_value == pytest.approx(0.2)
    assert named(fused(neural, landmarks, evidence=evidence, top_k=2)) == ["c", "d"]


def test_what_a_p_value_is_sure_of_is_evidence():
    """As of one of many copies, which lead nobody."""
    neural = [candidate("sure", 1e-4), candidate("unsure", 0.02), candidate("wrong", 0.5)]
    first, second, third = fused(neural, [], evidence={"sure": -2.0, "unsure": -1.0, "wrong": 6.0})
    assert named([first, second, third]) == ["sure", "wrong", "unsure"]
    assert first.score == pytest.approx(-math.log10(2e-4))
    assert second.score == pytest.approx(6.0 / math.log(10))


def test_of_equal_evidence_the_first_method_and_its_best_come_first():
    neural = [candidate(name, 1.0) for name in "acd"]
    landmarks = [candidate(name, 1.0, 90.0) for name in "be"]
    assert named(fused(neural, landmarks)) == list("acdbe")


def test_p_values_of_zero_are_certain():
    matches = fused([candidate("a", 0.0)], [candidate("a", 1e-250)])
    assert [match.confidence for match in matches] == [1.0]


def test_a_match_without_p_value_speaks_by_its_confidence():
    match = Match.placed("a", 1.0, 0.75, 10.0, 5.0, 200.0)
    assert fused([match], [])[0].confidence == pytest.approx(0.5)


def test_nothing_found_is_nothing():
    assert fused([], []) == []
