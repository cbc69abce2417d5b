import numpy as np
import pytest

from fingerprint.placing import Places, joint_start_s

NOWHERE = Places(np.zeros(0), np.zeros(0))


def at(*starts_and_counts):
    starts_s, counts = zip(*starts_and_counts, strict=True)
    return Places(np.array(starts_s), np.array(counts))


def bumps(**products):
    """Mean inner products that fall off within half a second of the named seconds."""
    tops = {float(name.removeprefix("at_")): value for name, value in products.items()}

    def mean_products(starts_s):
        return np.array(
            [max(v * max(0.0, 1 - 2 * abs(s - t)) for t, v in tops.items()) for s in starts_s]
        )

    return mean_products


def test_without_landmarks_the_place_stays():
    assert joint_start_s(12.3, NOWHERE, bumps(at_12=0.5)) == 12.3
    assert joint_start_s(-0.4, NOWHERE, bumps(at_0=0.5)) == -0.4


@pytest.mark.parametrize(
    ("count_at_12", "count_at_30", "expected"),
    # An inner product that is larger by 0.1 weighs as much as 10 landmarks.
    [(20, 29, 12.0), (20, 31, 30.0), (3, 12, 12.0), (3, 14, 30.0)],
)
def test_repetitions_are_told_apart_by_what_both_say(count_at_12, count_at_30, expected):
    places = at((12.0, count_at_12), (30.0, count_at_30))
    mean_products = bumps(at_12=0.5, at_30=0.4)
    for found in (12.0, 30.0):
        assert joint_start_s(found, places, mean_products) == expected


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (at((12.06, 5), (11.9, 4), (12.3, 7)), 12.06),
        (at((12.06, 4), (11.9, 5), (12.3, 7)), 11.9),
        (at((12.06, 1), (11.9, 1)), 12.0),
        (at((12.2, 9), (11.8, 9)), 12.0),
    ],
)
def test_landmarks_nearby_say_when(places, expected):
    assert joint_start_s(12.0, places, bumps(at_12=0.9)) == expected


def test_of_many_places_those_with_the_most_landmarks_are_compared():
    rng = np.random.default_rng(0)
    places = Places(rng.uniform(100, 200, 1000), rng.integers(1, 5, 1000))
    asked = []

    def mean_products(starts_s):
        asked.append(len(starts_s))
        return np.zeros(len(starts_s))

    best_s = joint_start_s(12.0, places, mean_products)
    assert asked == [65]
    assert places.counts[places.starts_s == best_s] == 4
