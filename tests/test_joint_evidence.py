import functools

import numpy as np
import pytest

from fingerprint.joint_evidence import JointEvidence, Places

NOWHERE = Places(np.zeros(0), np.zeros(0))


def at(*starts_and_counts):
    starts_s, counts = zip(*starts_and_counts, strict=True)
    return Places(np.array(starts_s), np.array(counts))


def bumps(_, starts_s, *, tops):
    """Evidence of a network that falls off within half a second of the named seconds."""
    return np.array([max(v * (1 - 2 * abs(s - t)) for t, v in tops.items()) for s in starts_s])


def evidence(places, tops, of_counts=lambda counts: counts):
    of_network = functools.partial(bumps, tops=tops)
    return JointEvidence(lambda _: places, of_network, of_counts)


@pytest.mark.parametrize(
    ("of_network", "of_counts", "expected"),
    # What a network says counts half, and what is below a wrong track's best half of that.
    [(8.0, 3.0, 7.0), (-8.0, 3.0, 1.0), (8.0, -3.0, 2.5), (-8.0, -3.0, -3.5), (0.0, 0.0, 0.0)],
)
def test_the_evidence_of_a_place_is_the_weighed_sum(of_network, of_counts, expected):
    joint = evidence(at((12.0, 5)), {12.0: of_network}, lambda counts: counts - 5 + of_counts)
    assert joint.at("a", 12.0) == pytest.approx(expected)


def test_a_count_within_the_reach_of_rooms_is_one_for_the_place():
    places = at((11.9, 4), (12.14, 6), (12.16, 9))
    joint = evidence(places, {12.0: 0.0}, lambda counts: counts)
    assert joint.at("a", 12.0) == 6
    assert joint.at("a", 11.7) == pytest.approx(0.0, abs=0.2)


def test_what_is_looked_up_is_of_the_track():
    asked = []

    def places(track):
        asked.append(track)
        return NOWHERE

    joint = JointEvidence(
        places, lambda track, starts_s: np.full(len(starts_s), len(track)), lambda counts: counts
    )
    assert joint.at("four", 1.0) == 2.0
    assert joint.start_s("three", 1.0) == 1.0
    assert asked == ["four", "three"]


def test_without_landmarks_the_place_stays():
    for found_s in (12.3, -0.4):
        assert evidence(NOWHERE, {12.0: 0.5}).start_s("a", found_s) == found_s


@pytest.mark.parametrize(
    ("count_at_12", "count_at_30", "expected"),
    [(20, 29, 12.0), (20, 31, 30.0), (3, 12, 12.0), (3, 14, 30.0)],
)
def test_repetitions_are_told_apart_by_what_both_say(count_at_12, count_at_30, expected):
    # By the network the first is ahead by 20, which counts half.
    joint = evidence(at((12.0, count_at_12), (30.0, count_at_30)), {12.0: 40.0, 30.0: 20.0})
    for found_s in (12.0, 30.0):
        assert joint.start_s("a", found_s) == expected


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (at((12.06, 5), (11.9, 4), (12.3, 7)), 12.06),
        (at((12.06, 4), (11.9, 5), (12.3, 7)), 11.9),
        (at((11.87, 2), (12.01, 2)), 12.01),
        (at((12.06, 1), (11.9, 1)), 12.0),
        (at((12.2, 9), (11.8, 9)), 12.0),
    ],
)
def test_landmarks_nearby_say_when(places, expected):
    assert evidence(places, {12.0: 90.0}).start_s("a", 12.0) == expected


def test_of_many_places_those_with_the_most_landmarks_are_compared(rng):
    places = Places(rng.uniform(100, 200, 1000), rng.integers(1, 5, 1000))
    places.counts[900] = 9
    asked = []

    def of_network(_, starts_s):
        asked.append(len(starts_s))
        return np.zeros(len(starts_s))

    best_s = JointEvidence(lambda _: places, of_network, lambda counts: counts).start_s("a", 12.0)
    assert asked == [65]
    assert best_s == places.starts_s[900]
