import numpy as np
import pytest

from fingerprint.alignment import Hypothesis
from fingerprint.calibration import N_RIVALS
from fingerprint.rivals import split_rivals

N_SHIFTS = 4
N_SEGMENTS = 3
DIM = 64
RECORDING = 0
OTHERS = range(1, 1 + N_RIVALS)


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def tracks(rng):
    """Rows ``(n, d)`` of tracks that are all different; tests add copies of the first."""
    return [unit(rng.standard_normal((60, DIM))).astype(np.float32) for _ in range(1 + N_RIVALS)]


def found_at(track, place):
    """A query that begins so many hops into a track, a multiple of a quarter."""
    start = int(np.ceil(place))
    shift = round((start - place) * N_SHIFTS)
    return Hypothesis(track, shift, start, 0.5, N_SEGMENTS, N_SEGMENTS)


def split(tracks, candidate, *others):
    rivals, copies = split_rivals(
        candidate, [candidate, *others], N_SHIFTS, N_SEGMENTS, lambda track: tracks[track]
    )
    return [each.track for each in rivals], [each.track for each in copies]


def numbers(tracks, *more):
    """Numbers of the tracks that are appended, in a row."""
    first = len(tracks)
    tracks.extend(more)
    return list(range(first, len(tracks)))


def test_copies_are_no_rivals_whatever_was_cut_off_their_beginning(tracks, rng):
    recording = tracks[RECORDING]
    coded = unit(recording + 0.05 * rng.standard_normal(recording.shape)).astype(np.float16)
    coded, shortened, delayed = numbers(
        tracks, coded, recording[7:], np.concatenate([tracks[1][:9], recording])
    )
    others = [found_at(track, 20.0) for track in OTHERS]
    copies = [found_at(coded, 30.0), found_at(shortened, 23.0), found_at(delayed, 39.0)]
    rivals = split(tracks, found_at(RECORDING, 30.0), *copies, *others)
    assert rivals == (list(OTHERS), [coded, shortened, delayed])
    # The candidate may be any of them.
    candidate, *copies = copies[::-1]
    rivals = split(tracks, candidate, *copies, *others)
    assert rivals == (list(OTHERS), [shortened, coded])


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_copies_between_whose_rows_lie_those_of_the_candidate_are_copies(tracks, part):
    recording = tracks[RECORDING]
    between = unit((1 - part) * recording[:-1] + part * recording[1:])
    (late,) = numbers(tracks, between)
    assert split(tracks, found_at(RECORDING, 30.0), found_at(late, 30.0 - part)) == ([], [late])
    assert split(tracks, found_at(late, 30.0 - part), found_at(RECORDING, 30.0)) == ([], [0])


def test_a_copy_may_be_found_two_shifts_off(tracks, rng):
    """Rows of music resemble each other, so that the wrong ones of a copy are no copies."""
    rows = unit(0.8 * unit(rng.standard_normal(DIM)) + unit(rng.standard_normal((60, DIM))))
    late = unit(0.8 * rows[:-1] + 0.2 * rows[1:])
    recording, copy = numbers(tracks, rows, late)
    for off in (-0.5, 0.0, 0.5):
        places = found_at(recording, 30.0), found_at(copy, 29.75 + off)
        assert split(tracks, *places) == ([], [copy])
    assert split(tracks, found_at(recording, 30.0), found_at(copy, 33.75)) == ([copy], [])


def test_a_copy_at_another_place_is_a_rival(tracks):
    (copy,) = numbers(tracks, tracks[RECORDING].copy())
    assert split(tracks, found_at(RECORDING, 30.0), found_at(copy, 12.0)) == ([copy], [])


def test_what_is_alike_everywhere_is_no_copy(tracks, rng):
    """Noise is found in the silence of many tracks, and must not lead all others by that."""
    silence = unit(rng.standard_normal(DIM))
    drone = unit(silence + 0.02 * rng.standard_normal((60, DIM)))
    silent = numbers(tracks, *(np.tile(silence, (60, 1)) for _ in range(3)), drone)
    found = [found_at(track, 30.0) for track in silent]
    for candidate in found:
        others = [each for each in found if each is not candidate]
        assert split(tracks, candidate, *others)[1] == []


def test_single_rows_tell_nothing(tracks):
    """A tail beside a beginning shares a row, and tracks of one row have no more."""
    tail = tracks[1].copy()
    tail[-1] = tracks[RECORDING][0]
    ends, one, same = numbers(tracks, tail, tracks[2][:1], tracks[2][:1].copy())
    assert split(tracks, found_at(RECORDING, 0.0), found_at(ends, 59.0)) == ([ends], [])
    assert split(tracks, found_at(one, 0.0), found_at(same, 0.0)) == ([same], [])


def test_a_rival_that_shares_no_row_is_a_rival(tracks):
    far = found_at(1, 59.0), found_at(2, -2.0)
    assert split(tracks, found_at(RECORDING, 0.0), *far) == ([1, 2], [])
    assert split(tracks, found_at(RECORDING, 57.0), *far) == ([1, 2], [])


def test_no_more_is_read_than_five_rivals(tracks):
    (copy,) = numbers(tracks, tracks[RECORDING])
    found = [found_at(track, 30.0) for track in (RECORDING, *OTHERS, copy)]
    read = []
    rivals, copies = split_rivals(
        found[0], found, N_SHIFTS, N_SEGMENTS, lambda track: read.append(track) or tracks[track]
    )
    assert [each.track for each in rivals] == list(OTHERS)
    assert (copies, copy in read) == ([], False)
