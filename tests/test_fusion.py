import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from fingerprint.fusion import SAME_PLACE_S, fuse, log_fisher
from fingerprint.identification import Match

HOURS_S = 10 * 3600.0


def candidate(track, p_value, start_s=10.0, **more):
    return Match.placed(track, 1.0, 1.0 - p_value, start_s, 5.0, 200.0, p_value=p_value, **more)


def fused(neural, landmarks, index_s=HOURS_S, top_k=5):
    return fuse({"neural": neural, "landmarks": landmarks}, index_s, top_k)


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
    assert match.score == pytest.approx(4.0)
    (match,) = fused([], [candidate("a", 0.8)])
    assert (repr(match.confidence), match.found_by) == ("0.0", ("landmarks",))
    assert match.score == pytest.approx(-math.log10(0.8))


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


def test_at_different_places_the_surer_method_counts_alone():
    apart = 10.0 + SAME_PLACE_S + 0.01
    (match,) = fused([candidate("a", 1e-3)], [candidate("a", 1e-5, apart)])
    assert match.p_value == pytest.approx(2e-5)
    assert (match.found_by, match.reference_start_s) == (("landmarks",), apart)
    (match,) = fused([candidate("a", 1e-5)], [candidate("a", 1e-3, apart)])
    assert (match.found_by, match.reference_start_s) == (("neural",), 10.0)


def test_agreement_never_makes_less_sure():
    """In a short index agreement says nothing, and the better p-value stands."""
    alone = fused([candidate("a", 1e-6)], [], index_s=1.0)[0]
    both = fused([candidate("a", 1e-6)], [candidate("a", 1.0, 10.2)], index_s=1.0)[0]
    assert both == alone
    # A long index, and as good as certain by one: the product would be worse, and is not taken.
    both = fused([candidate("a", 1e-200)], [candidate("a", 0.5, 10.2)])[0]
    assert both.found_by == ("neural", "landmarks")
    assert both.p_value == pytest.approx(2e-200, rel=1e-6)


def test_second_for_both_beats_two_that_are_first_for_one():
    neural = [candidate("x", 0.4), candidate("b", 0.6)]
    landmarks = [candidate("y", 0.4, 30.0), candidate("b", 0.7, 10.1)]
    matches = fused(neural, landmarks)
    assert named(matches)[0] == "b"
    assert matches[0].found_by == ("neural", "landmarks")
    expected = scipy.stats.combine_pvalues([0.6, 0.7, 4 * 0.002], method="fisher").pvalue
    assert matches[0].p_value == pytest.approx(expected, rel=1e-9)
    assert set(named(matches)[1:]) == {"x", "y"}


def test_of_candidates_that_nothing_speaks_for_the_methods_give_in_turn():
    neural = [candidate(name, 1.0) for name in "acd"]
    landmarks = [candidate(name, 1.0, 90.0) for name in "be"]
    assert named(fused(neural, landmarks)) == list("abced")
    assert named(fused(neural, landmarks, top_k=2)) == ["a", "b"]


def test_p_values_of_zero_keep_their_order():
    neural = [candidate("a", 0.0), candidate("b", 0.0), candidate("c", 1e-200)]
    landmarks = [candidate("c", 1e-250), candidate("d", 1e-20)]
    matches = fused(neural, landmarks)
    assert named(matches) == ["c", "a", "b", "d"]
    assert all(match.confidence == 1.0 for match in matches)
    assert all(math.isfinite(match.score) for match in matches)
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True)


def test_a_match_without_p_value_speaks_by_its_confidence():
    match = Match.placed("a", 1.0, 0.75, 10.0, 5.0, 200.0)
    assert fused([match], [])[0].confidence == pytest.approx(0.5)


def test_nothing_found_is_nothing():
    assert fused([], []) == []


def counted(track, count, p_value=1.0):
    return dataclasses.replace(candidate(track, p_value), score=count)


def test_counts_are_ordered_by_their_lead_over_the_next_five():
    """A right track of whose count nobody would swear outweighs a wrong one of little evidence."""
    counts = [counted("right", 14.0), *(counted(f"x{i}", 7.0 - i % 2) for i in range(6))]
    first, second, *_ = fused([candidate("wrong", 0.05)], counts)
    assert (first.track, second.track) == ("right", "wrong")
    # Rivals are 7, 6, 7, 6, 7.
    lead = (14 - 7) / math.sqrt(7)
    scale = 0.62 * math.sqrt(6) / math.pi
    oracle = scipy.stats.gumbel_r(0.83 - np.euler_gamma * scale, scale)
    assert first.score == pytest.approx(-oracle.logsf(lead) / math.log(10), rel=1e-6)
    assert first.confidence == 0.0
    assert second.score == pytest.approx(-math.log10(0.05))


def test_few_counts_have_no_lead():
    few = [counted("right", 30.0, 0.2), *(counted(f"x{i}", 2.0) for i in range(4))]
    first, *_ = fused([candidate("wrong", 0.05)], few)
    assert first.track == "wrong"


def test_many_copies_are_no_less_likely_than_their_p_values():
    """Of six copies none leads the others, and yet each is found beyond doubt."""
    copies = [counted(f"copy{i}", 200.0 - i, 1e-40) for i in range(6)]
    wrong = [candidate("wrong", 1e-3), *(candidate(f"copy{i}", 0.9) for i in range(6))]
    matches = fused(wrong, [*copies, counted("wrong", 8.0)], top_k=7)
    assert named(matches) == [*(f"copy{i}" for i in range(6)), "wrong"]
    assert all("landmarks" in match.found_by for match in matches[:6])


def test_of_a_track_the_smallest_p_value_counts_whoever_says_where_it_is():
    """A cautious count leads by so much that its place is taken; the other method is sure."""
    counts = [counted("right", 30.0, 1.0), *(counted(f"x{i}", 3.0) for i in range(6))]
    first, *_ = fused([candidate("right", 1e-4, 90.0)], counts)
    assert (first.track, first.reference_start_s, first.found_by) == ("right", 10.0, ("landmarks",))
    assert first.p_value == pytest.approx(2e-4)
    assert first.confidence == pytest.approx(1 - 2e-4)
