"""Finding landmarks again: hits that agree on one offset in time, and how likely chance is.

A query landmark hits every reference landmark of the same hash; each hit votes for the offset
(reference frame less query frame) of its track, and a true match is an offset with many votes.

How a vote count n becomes a p-value: the R hits of a track fall, by chance, evenly on its
offsets, of which a query of q frames and a track of r frames have max(q, r) at full overlap. In a
window of w offsets chance puts lambda = R w / max(q, r) hits, Poisson distributed, so that one
window reaches n with probability P(Poisson(lambda) >= n). There are sum(q + r) windows over all
tracks; the p-value of a match is that probability times their number (Bonferroni), at most 1:
the expected number of windows that would do as well by chance. A window of 50 hits or more is not
counted among the chance hits R: in a short track a true match would hide behind itself.

Chance hits do not come singly: landmarks share peaks, and music repeats itself. So n counts the
distinct reference frames with a hit, and hits are taken to come in clumps of c: n / c clumps where
lambda / c are expected (the tail continued between whole numbers by the incomplete gamma
function). c = 1.75 was chosen on 837 noisy clips of 2, 5 and 10 s against 58 recordings that did
not hold them: c = 1.5 gave eleven p-values below 0.01 and three below 0.001; c = 1.75, to which
those p-values were converted, three and one. Recordings that share material are beyond any model
of chance.
"""

import dataclasses

import numpy as np
import scipy.special

from fingerprint.inverted_index import InvertedIndex
from fingerprint.searchers.probing import concatenated_ranges

# Hits that are followed up for each query landmark on average, and in all. Where there are more,
# the rarest hashes go first and the commonest, which tell least, are left out: this bounds time
# and memory whatever the references are.
_MAX_HITS_PER_LANDMARK = 256
_MAX_HITS = 2**22
_MIN_CANDIDATES = 32
_HITS_PER_CLUMP = 1.75
_FEWEST_EVIDENT_HITS = 50
# Track and offset in one number, offsets of any sign: no window reaches from track to track.
_TRACK_SHIFT = 34
_ZERO_OFFSET = 1 << 33


@dataclasses.dataclass(frozen=True)
class Hits:
    """Pairs of a query's and a reference's landmark with equal hashes, by track and offset.

    Attributes:
        keys: (n,) int64 track and offset in one number, sorted.
        rows: (n,) int64 row of the index that each is of.
        n_query_frames: length of the query.
    """

    keys: np.ndarray
    rows: np.ndarray
    n_query_frames: int


@dataclasses.dataclass(frozen=True)
class LandmarkMatch:
    """A track and the offset at which a query's landmarks agree with it.

    Attributes:
        track_index: number of the track among the ranges that the index was built from.
        offset_frames: reference frame of query frame 0 (the median of the aligned hits); negative
            where the query starts before the track.
        n_aligned: distinct reference landmarks that hits of this offset lie on.
        n_hits: hits on the track at any offset.
        p_value: how many offsets of all tracks would do as well by chance, at most 1.
    """

    track_index: int
    offset_frames: int
    n_aligned: int
    n_hits: int
    p_value: float


class LandmarkIndex(InvertedIndex):
    """The landmarks of the references, found again by how many agree on one offset."""

    def match(
        self, hashes: np.ndarray, frames: np.ndarray, top_k: int = 5, window_frames: int = 2
    ) -> list[LandmarkMatch]:
        """The tracks that most landmarks of a query agree on, best first.

        Args:
            hashes: (m,) uint32 of the query, as from `extract_query_landmarks`.
            frames: (m,) uint32.
            top_k: most tracks that are returned.
            window_frames: offsets within this of a middle one count together.

        Returns:
            At most ``top_k`` matches, each of another track at its best offset. Tracks of which
            no two landmarks agree are left out. A single match may still be chance: compare its
            ``p_value``.
        """
        return self.best(self.hits(hashes, frames), top_k, window_frames)

    def hits(self, hashes: np.ndarray, frames: np.ndarray) -> Hits:
        """What a query meets in all tracks; arguments as of `match`."""
        query_rows, rows = self._hits(hashes)
        keys = self.tracks[rows].astype(np.int64) << _TRACK_SHIFT
        keys += self.frames[rows].astype(np.int64) - frames[query_rows].astype(np.int64)
        keys += _ZERO_OFFSET
        order = np.argsort(keys)
        return Hits(keys[order], rows[order], int(frames.max(initial=0)) + 1)

    def best(self, hits: Hits, top_k: int = 5, window_frames: int = 2) -> list[LandmarkMatch]:
        """As `match`, of what was met."""
        if len(hits.keys) < 2:
            return []
        n_hits = np.bincount(hits.keys >> _TRACK_SHIFT, minlength=len(self.track_frames))
        n_candidates = max(_MIN_CANDIDATES, 4 * top_k)
        matches = []
        for start, stop in _best_windows(hits.keys, 2 * window_frames, n_candidates):
            aligned = hits.rows[start:stop]
            middle = int(hits.keys[(start + stop - 1) // 2])
            track, offset = divmod(middle, 1 << _TRACK_SHIFT)
            n_frames = len(np.unique(self.frames[aligned]))
            matches.append(
                LandmarkMatch(
                    track_index=track,
                    offset_frames=offset - _ZERO_OFFSET,
                    n_aligned=len(np.unique(aligned)),
                    n_hits=int(n_hits[track]),
                    p_value=self._p_value(
                        n_frames,
                        int(n_hits[track]) - _evident(len(aligned)),
                        track,
                        hits.n_query_frames,
                        window_frames,
                    ),
                )
            )
        matches.sort(key=lambda match: (-match.n_aligned, match.p_value, match.track_index))
        return matches[:top_k]

    def windows(
        self, hits: Hits, track: int, window_frames: int = 2
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where in one track a query meets anything.

        Returns:
            Offsets, each the median of the hits in a window as of `match`, and how many distinct
            reference landmarks these lie on, (n,) int64 each.
        """
        borders = np.array([track, track + 1]) << _TRACK_SHIFT
        own = slice(*np.searchsorted(hits.keys, borders))
        offsets = hits.keys[own] - borders[0] - _ZERO_OFFSET
        if not len(offsets):
            return offsets, offsets
        firsts, starts = np.unique(offsets, return_index=True)
        reach = 2 * window_frames
        stops = np.searchsorted(offsets, firsts + reach, side="right")
        medians = offsets[(starts + stops - 1) // 2]
        counts = _distinct_from(offsets, hits.rows[own], firsts, reach)
        # Of the windows around one median the fullest.
        fullest_first = np.argsort(-counts, kind="stable")
        medians, chosen = np.unique(medians[fullest_first], return_index=True)
        return medians, counts[fullest_first][chosen]

    def best_by_chance(self, hits: Hits, window_frames: int = 2) -> float:
        """The count that chance gives about one of all windows, as the p-values have it."""
        n_windows = self._n_windows(hits.n_query_frames)
        expected = len(hits.keys) * (2 * window_frames + 1) / n_windows
        clumps = scipy.special.pdtrik(1.0 - 1.0 / n_windows, expected / _HITS_PER_CLUMP)
        # Where chance gives hardly anything, there is no such number.
        return max(0.0, float(np.nan_to_num(clumps))) * _HITS_PER_CLUMP

    def _hits(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a query row and a reference row with equal hashes, (n_hits,) int64 each."""
        first, n = self.rows_of(hashes)
        budget = min(_MAX_HITS_PER_LANDMARK * len(hashes), _MAX_HITS)
        if n.sum() > budget:
            rarest_first = np.argsort(n, kind="stable")
            n[rarest_first[np.cumsum(n[rarest_first]) > budget]] = 0
        return np.repeat(np.arange(len(hashes)), n), concatenated_ranges(first, first + n)

    def _p_value(
        self,
        n_frames: int,
        n_chance_hits: int,
        track: int,
        n_query_frames: int,
        window_frames: int,
    ) -> float:
        window = 2 * window_frames + 1
        expected = n_chance_hits * window / max(n_query_frames, int(self.track_frames[track]))
        n_windows = self._n_windows(n_query_frames)
        # The regularised lower incomplete gamma function P(n, lambda) is P(Poisson(lambda) >= n).
        tail = scipy.special.gammainc(n_frames / _HITS_PER_CLUMP, expected / _HITS_PER_CLUMP)
        return float(min(1.0, n_windows * tail))

    def _n_windows(self, n_query_frames: int) -> int:
        """Offsets that a query may have, over all tracks."""
        return max(1, int(self.track_frames.sum()) + n_query_frames * len(self.track_frames))


def _evident(n_hits: int) -> int:
    """The hits of a window if they are too many to be chance, else 0."""
    return n_hits if n_hits >= _FEWEST_EVIDENT_HITS else 0


def _distinct_from(
    offsets: np.ndarray, rows: np.ndarray, firsts: np.ndarray, reach: int
) -> np.ndarray:
    """How many different rows have an offset from each first one up to ``reach`` more.

    Args:
        offsets, rows: (n,) of the hits.
        firsts: (m,) sorted, from the smallest offset to the largest.

    Returns:
        (m,) counts.
    """
    order = np.lexsort((offsets, rows))
    offsets, rows = offsets[order], rows[order]
    # A row counts for the windows that begin up to its offset; for those that two of its offsets
    # are in, once.
    begin, end = offsets - reach, offsets
    is_same = np.diff(rows) == 0
    begin[1:][is_same] = np.maximum(begin[1:], end[:-1] + 1)[is_same]
    changes = np.zeros(firsts[-1] - firsts[0] + reach + 2, np.int64)
    np.add.at(changes, begin - firsts[0] + reach, 1)
    np.add.at(changes, end + 1 - firsts[0] + reach, -1)
    return np.cumsum(changes)[firsts - firsts[0] + reach]


def _best_windows(keys: np.ndarray, reach: int, n_tracks: int) -> list[tuple[int, int]]:
    """The fullest window of each of the ``n_tracks`` tracks whose windows are fullest.

    Args:
        keys: (n_hits,) sorted; those of different tracks are further apart than a window.
        reach: a window takes keys from its first up to ``reach`` more.
        n_tracks: most windows that are returned.

    Returns:
        The first and one past the last of the keys of each window.
    """
    # Nearly all hits are chance and stand alone: only windows of at least n hits are looked at,
    # with n as great as still leaves enough of them.
    for n in (64, 32, 16, 8, 6, 5, 4, 3, 2):
        starts = np.flatnonzero(keys[n - 1 :] - keys[: max(0, len(keys) - n + 1)] <= reach)
        if np.count_nonzero(np.diff(keys[starts] >> _TRACK_SHIFT)) + 1 >= n_tracks:
            break
    stops = np.searchsorted(keys, keys[starts] + reach, side="right")
    fullest_first = np.argsort(starts - stops, kind="stable")
    tracks = keys[starts[fullest_first]] >> _TRACK_SHIFT
    _, first_of_track = np.unique(tracks, return_index=True)
    best = fullest_first[np.sort(first_of_track)[:n_tracks]]
    return list(zip(starts[best], stops[best], strict=True))
