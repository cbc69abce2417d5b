"""The tracks that a candidate has to lead, without those that hold the same recording.

An index may hold a recording many times: as several files, on several albums, with another
beginning. Such copies score as well as the candidate, so that against them it leads by nothing.
They are told by what is stored: around the place of the query the rows of a copy are those of the
candidate, up to coding and to a part of a hop, while two different tracks that resemble the same
query need not resemble each other.

How much is told by the candidate itself, whose rows resemble each other a little, and all the more
in a drone. Silence and steady noise are alike wherever they are: there no track is taken for a
copy, lest noise that is found in the silence of many tracks lead all others.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fingerprint.alignment import Hypothesis
from fingerprint.calibration import N_RIVALS

# As many tracks as have to be found so that of a recording with so many copies rivals are left.
MAX_COPIES = 24
# Rows before and after the query that are compared too: a single second tells little.
_CONTEXT = 10
# Mean inner product beyond that of the candidate's rows with each other. With the shipped model,
# 25 to 120 tracks and queries of 1 to 10 s, of 392 pairs of copies (other codecs and rates, other
# beginnings) 98 % reach it, and of 19,800 pairs of others 14: versions of one piece but for one.
_MARGIN = 0.2


def split_rivals(
    candidate: Hypothesis,
    found: Sequence[Hypothesis],
    n_shifts: int,
    n_segments: int,
    rows_of: Callable[[int], np.ndarray],
) -> tuple[list[Hypothesis], list[Hypothesis]]:
    """The first five other tracks that are no copies of the candidate, and copies before the last.

    Args:
        candidate: one of ``found``.
        found: of distinct tracks, best first.
        n_shifts: at which the query was fingerprinted.
        n_segments: of the query.
        rows_of: the stored rows ``(n, d)`` of a track, by its number.
    """
    first = max(0, candidate.start_segment - _CONTEXT)
    own = rows_of(candidate.track)[first : candidate.start_segment + n_segments + _CONTEXT]
    rivals: list[Hypothesis] = []
    copies: list[Hypothesis] = []
    for other in found:
        if other.track == candidate.track:
            continue
        lag = (_place(other, n_shifts) - _place(candidate, n_shifts)) / n_shifts
        theirs = rows_of(other.track)
        is_copy = any(
            _are_alike(own, theirs, first + whole) for whole in {math.floor(lag), math.ceil(lag)}
        )
        (copies if is_copy else rivals).append(other)
        if len(rivals) == N_RIVALS:
            break
    return rivals, copies


def _place(hypothesis: Hypothesis, n_shifts: int) -> int:
    """Where in the track the query begins, in shifts."""
    return hypothesis.start_segment * n_shifts - hypothesis.shift


def _are_alike(own: np.ndarray, track: np.ndarray, first: int) -> bool:
    """Whether rows ``(n, d)`` are those of a track from ``first`` on, which may be negative."""
    before = max(0, -first)
    theirs = np.asarray(track[first + before : max(0, first + len(own))], np.float32)
    own = np.asarray(own[before : before + len(theirs)], np.float32)
    if not len(own):
        return False
    typical = own.mean(axis=0)
    return float(np.vdot(own, theirs)) / len(own) > float(typical @ typical) + _MARGIN
