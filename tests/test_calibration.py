import numpy as np
import pytest

from fingerprint.calibration import UNCALIBRATED, Calibration


def test_wrong_tracks_reach_a_p_value_as_rarely_as_promised(rng):
    # The best of n normal scores: its mean, its deviation and the growth of its mean by draws.
    best_of = {n: rng.normal(size=(20_000, n)).max(axis=1) for n in (400, 800, 3200)}
    calibration = Calibration(
        n_segments=(1, 9),
        score_mean=(best_of[800].mean(), 0.2),
        score_std=(best_of[800].std(), 0.01),
        score_growth=((best_of[800].mean() - best_of[400].mean()) / np.log(2), 0.01),
        n_reference_segments=3200,
    )
    for n in (800, 3200):
        p_values = np.array([calibration.p_value(score, 1, n, 4) for score in best_of[n]])
        # The best of many scatters to one side; the normal quantile comes near.
        assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.02)


STORED = {
    "n_segments": [1, 4],
    "score_mean": [0.5, 0.3],
    "score_std": [0.05, 0.03],
    "score_growth": [0.02, 0.01],
    "n_reference_segments": 100,
}


def test_p_values_are_interpolated_between_lengths_and_held_beyond():
    calibration = Calibration.from_dict(STORED)
    assert calibration.p_value(0.5 + 0.02 * np.log(4) + 3.0902 * 0.05, 1, 100, 4) == pytest.approx(
        1e-3, rel=1e-3
    )
    assert calibration.p_value(0.4 + 0.015 * np.log(4), 2, 100, 4) == pytest.approx(0.5)
    assert calibration.p_value(0.4, 50, 100, 4) == calibration.p_value(0.4, 4, 100, 4)


def test_a_calibration_survives_being_stored():
    assert Calibration.from_dict(STORED).to_dict() == STORED


def test_without_a_calibration_the_size_does_not_count():
    assert UNCALIBRATED.p_value(0.75, 1, 1, 1) == pytest.approx(1e-3, rel=0.01)
    assert UNCALIBRATED.p_value(0.75, 60, 10**6, 4) == UNCALIBRATED.p_value(0.75, 1, 1, 1)
