import json

import numpy as np
import pytest
import scipy.stats

from fingerprint.calibration import UNCALIBRATED, Calibration, growth_of_best, gumbel_tail

LENGTHS = (1, 9)
SPREADS = np.array([0.06, 0.03])[:, None, None]
OLD = {
    "n_segments": [1, 4],
    "score_mean": [0.5, 0.3],
    "score_std": [0.05, 0.03],
    "score_growth": [0.02, 0.01],
    "n_reference_segments": 100,
}


def unknown_queries(rng, n_queries, n_tracks):
    """Best scores of wrong tracks, ``(2, n_queries, n_tracks)``.

    Each query has a level of its own, around which the tracks scatter normally.
    """
    levels = rng.normal(0.4, 0.1, (2, n_queries, 1))
    return levels + SPREADS * rng.standard_normal((2, n_queries, n_tracks))


@pytest.fixture
def fitted(rng):
    scores = unknown_queries(rng, 600, 30)
    scores[:, np.arange(600), rng.integers(30, size=600)] = -np.inf
    return Calibration.fit(scores, LENGTHS, 30 * 200)


def p_values(calibration, scores):
    """Of the best track of every query, with the others as rivals, ``(2, n_queries)``."""
    n_tracks = scores.shape[2]
    return np.array(
        [
            [
                calibration.p_value(
                    best_first[0], n_segments, 200 * n_tracks, 1, best_first[1:], n_tracks - 1
                )
                for best_first in -np.sort(-of_length, axis=1)
            ]
            for n_segments, of_length in zip(LENGTHS, scores, strict=True)
        ]
    )


@pytest.mark.parametrize("n_tracks", [8, 30, 300])
def test_false_alarms_are_as_rare_as_promised_whatever_the_size_of_the_index(fitted, rng, n_tracks):
    found = p_values(fitted, unknown_queries(rng, 1500, n_tracks))
    assert np.mean(found <= 0.1) == pytest.approx(0.1, rel=0.5)
    assert np.mean(found <= 0.01) <= 0.016
    # 3000 queries: three false alarms are promised, and as many more are chance.
    assert np.sum(found <= 1e-3) <= 6


def test_a_query_that_resembles_everything_is_no_match(fitted, rng):
    strange = unknown_queries(rng, 1000, 100) + 0.4
    assert np.mean(p_values(fitted, strange) <= 1e-2) <= 0.016


def test_a_lead_is_evidence_whatever_the_score(fitted):
    rivals = [0.2, 0.19, 0.18, 0.17, 0.16]
    assert fitted.p_value(0.6, 9, 10_000, 1, rivals, 50) < 1e-3
    assert fitted.p_value(0.21, 9, 10_000, 1, rivals, 50) > 0.1
    p = [fitted.p_value(score, 9, 10_000, 1, rivals, 50) for score in np.linspace(0.2, 0.9, 30)]
    assert p == sorted(p, reverse=True)


def test_two_rivals_as_good_as_the_candidate_leave_its_lead(fitted):
    alone = fitted.p_value(0.6, 9, 10_000, 1, [0.2, 0.2, 0.2, 0.2, 0.2], 50)
    thrice = fitted.p_value(0.6, 9, 10_000, 1, [0.6, 0.6, 0.2, 0.2, 0.2], 50)
    assert thrice == alone < 1e-3


def test_too_few_rivals_leave_the_score_itself(fitted):
    without = fitted.p_value(0.7, 9, 2000, 1)
    assert fitted.p_value(0.7, 9, 2000, 1, [0.1] * 4, 4) == without
    assert fitted.p_value(0.7, 9, 2000, 1, [0.1] * 5, 5) != without


def test_wrong_tracks_without_rivals_reach_a_p_value_as_rarely_as_promised(rng):
    # The best of n exponential scores is nearly a Gumbel variable.
    best_of = {n: rng.exponential(0.1, (8_000, n)).max(axis=1) for n in (400, 800, 1600)}
    calibration = Calibration.from_dict(
        {
            "n_segments": [1, 9],
            "score_mean": [best_of[800].mean(), 0.2],
            "score_std": [best_of[800].std(), 0.01],
            "score_growth": [(best_of[800].mean() - best_of[400].mean()) / np.log(2), 0.01],
            "n_reference_segments": 3200,
        }
    )
    for n in (800, 1600):
        found = np.array([calibration.p_value(score, 1, n, 4) for score in best_of[n]])
        assert np.mean(found <= 0.05) == pytest.approx(0.05, rel=0.15)
        assert np.mean(found <= 1e-3) == pytest.approx(1e-3, abs=1e-3)


@pytest.mark.parametrize("value", [-50.0, 0.1, 0.5, 0.9, 3.0])
def test_the_tail_is_that_of_a_gumbel_variable(value):
    variable = scipy.stats.gumbel_r(scale=0.2)
    shifted = 0.3 - variable.mean()
    expected = scipy.stats.gumbel_r.sf(value - shifted, scale=0.2)
    assert gumbel_tail(value, 0.3, variable.std()) == pytest.approx(expected, rel=1e-9)


def test_the_best_of_gumbel_scores_grows_by_their_scale(rng):
    by_track = rng.gumbel(loc=0.2, scale=0.03, size=(20_000, 16))
    by_track[np.arange(20_000), rng.integers(16, size=20_000)] = -np.inf
    assert growth_of_best(by_track) == pytest.approx(0.03, rel=0.05)


def test_p_values_are_interpolated_between_lengths_and_held_beyond():
    calibration = Calibration.from_dict(OLD)
    # Where the score is the mean, by hand: 1 - exp(-exp(-0.5772)).
    assert calibration.p_value(0.4 + 0.015 * np.log(4), 2, 100, 4) == pytest.approx(
        0.42962, rel=1e-4
    )
    assert calibration.p_value(0.4, 50, 100, 4) == calibration.p_value(0.4, 4, 100, 4)
    assert calibration.p_value(0.4, 50, 100, 4) < calibration.p_value(0.4, 50, 1000, 4)


def test_an_older_calibration_judges_leads_by_its_growth():
    calibration = Calibration.from_dict(OLD)
    rivals = [0.3] * 5
    assert calibration.p_value(0.3 + 1.95 * 0.02, 1, 100, 4, rivals, 29) == pytest.approx(
        0.42962, rel=1e-4
    )
    leads = [calibration.p_value(0.5, 1, 100, 4, rivals, n) for n in (6, 29, 1000)]
    assert leads == sorted(leads, reverse=True)


def test_a_calibration_survives_being_stored(fitted):
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_a_fit_among_few_tracks_knows_no_leads(rng):
    few = Calibration.fit(unknown_queries(rng, 50, 6), LENGTHS, 100)
    assert (few.n_tracks, few.lead_std) == (0, (0.0, 0.0))
    assert few.p_value(0.5, 1, 100, 1, [0.1] * 9, 9) == few.p_value(0.5, 1, 100, 1)


def test_without_a_calibration_neither_size_nor_rivals_count():
    p = UNCALIBRATED.p_value(0.75, 1, 1, 1)
    assert p == pytest.approx(1e-3, rel=0.01)
    assert UNCALIBRATED.p_value(0.75, 60, 10**6, 4, [0.1] * 5, 99) == p


def test_a_calibration_without_a_column_is_refused():
    with pytest.raises(KeyError, match="score_std"):
        Calibration.from_dict({name: v for name, v in OLD.items() if name != "score_std"})


@pytest.mark.parametrize("rivals", [(), (0.42, 0.41, 0.4, 0.39, 0.38)])
def test_evidence_is_the_logarithm_of_a_p_value_and_goes_on_below_it(rivals):
    calibration = Calibration(
        (1, 9), (0.5, 0.4), (0.05, 0.04), (0.02, 0.02), (0.05, 0.04), (0.03, 0.02), 1000, 29
    )
    scores = np.array([0.1, 0.3, 0.5, 0.8])
    more = {"rivals": rivals, "n_tracks": 500}
    evidence = calibration.evidence(scores, 5, 2000, 4, **more)
    p_values = [calibration.p_value(score, 5, 2000, 4, **more) for score in scores]
    assert p_values == pytest.approx((-np.expm1(-np.exp(-evidence))).tolist())
    assert evidence[3] == pytest.approx(-np.log(p_values[3]), rel=1e-3)
    np.testing.assert_allclose(np.diff(evidence) / np.diff(scores), np.ptp(evidence[1:]) / 0.5)
    assert evidence[0] < 0
