"""Finding spectral hashes again: the shift at which most peaks of a query meet peaks of a track.

Every peak of the query meets all peaks of its bin in a track; each such hit votes for its shift
(reference frame less query frame). All shifts of all tracks lie on one line, so that one count of
the hits along it gives every score (Rice: the score of a track is its highest count).

How a score n becomes a p-value: nothing but chance is found at the other shifts of the same track,
but where music repeats itself, so they tell how chance votes there. Its mean is m at the shifts at
which query and track overlap fully, and less in proportion at the others; its variance is c times
its mean, since music is periodic and its peaks come in chords, so that votes come in clumps of c
(and a little more, as the tail is heavier than the variance says). There are sum(q + r) shifts of a
query of q frames and tracks of r frames; the p-value is that number times the probability that
n / c clumps come where m / c are expected (a Poisson tail, continued between whole numbers by the
incomplete gamma function), at most 1.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import scipy.special

from fingerprint.inverted_index import InvertedIndex
from fingerprint.searchers.probing import concatenated_ranges

# Shifts of a block of tracks, and hits, that are counted at once: this bounds time and memory
# whatever the references are.
_SHIFTS_PER_BLOCK = 2**19
_HITS_AT_ONCE = 2**21
# The peak of a match is not among the votes of chance, nor what it spills over to both sides.
_MATCH_REACH_FRAMES = 5
# Chosen on 757 clips of 2 to 10 s against 253 recordings that did not hold them: three of them have
# a p-value of 0.01 or less.
_CLUMP_MARGIN = 1.1
# Votes of chance come in larger clumps in one of a hundred of them; in music that repeats itself a
# match is found at many shifts, which are not chance.
_LARGEST_CLUMP = 2.5


@dataclasses.dataclass(frozen=True)
class SpectralHashMatch:
    """A track and the shift at which most of a query's peaks meet peaks of it.

    Attributes:
        track_index: number of the track among the ranges that the index was built from.
        offset_frames: reference frame of query frame 0; negative where the query starts before
            the track.
        n_votes: peaks of the query that meet a peak there.
        p_value: how many shifts of all tracks would do as well by chance, at most 1.
    """

    track_index: int
    offset_frames: int
    n_votes: int
    p_value: float


class SpectralHashIndex(InvertedIndex):
    """The peaks of the references by their bin."""

    def match(
        self, bins: np.ndarray, frames: np.ndarray, top_k: int = 5
    ) -> list[SpectralHashMatch]:
        """The tracks that most peaks of a query meet at one shift, best first.

        Args:
            bins: (m,) of the query, as from `extract_peaks`.
            frames: (m,).
            top_k: most tracks that are returned.

        Returns:
            At most ``top_k`` matches, each of another track at its best shift; of tracks with
            equal votes the first of the index. A single match may still be chance: compare its
            ``p_value``.
        """
        if not (len(bins) and len(self.hashes)):
            return []
        n_query_frames = int(frames.max()) + 1
        n_shifts = np.maximum(self.track_frames, 1) + n_query_frames - 1
        matches = []
        for tracks, scores in self._scores(bins, frames.astype(np.int64), n_shifts):
            stops = np.cumsum(n_shifts[tracks])
            starts = stops - n_shifts[tracks]
            best = np.maximum.reduceat(scores, starts)
            for i in np.argsort(-best, kind="stable")[:top_k]:
                if best[i]:
                    of_track = scores[starts[i] : stops[i]]
                    matches.append(self._judge(int(tracks[i]), of_track, n_shifts))
        matches.sort(key=lambda match: (-match.n_votes, match.track_index))
        return matches[:top_k]

    def _scores(
        self, bins: np.ndarray, frames: np.ndarray, n_shifts: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of tracks, and the votes for all shifts of one track after the other.

        A shift is counted from that at which the last frame of the query meets the first of the
        track.
        """
        block_of = (np.cumsum(n_shifts) - 1) // _SHIFTS_PER_BLOCK
        borders = np.append(np.flatnonzero(np.diff(block_of, prepend=-1)), len(n_shifts))
        different_bins, bin_of = np.unique(bins, return_inverse=True)
        # The rows of a bin stand by track, so those of a block are next to each other.
        row_borders = np.array(
            [
                first + np.searchsorted(self.tracks[first : first + n], borders.astype(np.uint32))
                for first, n in zip(*self.rows_of(different_bins), strict=True)
            ]
        )
        for i, (first_track, next_track) in enumerate(itertools.pairwise(borders)):
            tracks = np.arange(first_track, next_track)
            first_rows = row_borders[bin_of, i]
            n_rows = row_borders[bin_of, i + 1] - first_rows
            zero_shifts = np.cumsum(n_shifts[tracks]) - n_shifts[tracks] + frames.max()
            scores = np.zeros(n_shifts[tracks].sum(), np.int64)
            for some in _pieces(n_rows):
                rows = concatenated_ranges(first_rows[some], first_rows[some] + n_rows[some])
                hits = zero_shifts[self.tracks[rows] - first_track] + self.frames[rows]
                hits -= np.repeat(frames[some], n_rows[some])
                scores += np.bincount(hits, minlength=len(scores))
            yield tracks, scores

    def _judge(self, track: int, scores: np.ndarray, n_shifts: np.ndarray) -> SpectralHashMatch:
        """The best shift of a track, given the votes for all of them, ``(n_shifts[track],)``."""
        best = int(np.argmax(scores))
        n_frames = int(self.track_frames[track])
        n_query_frames = len(scores) - n_frames + 1
        shifts = np.arange(len(scores))
        overlaps = np.minimum(
            np.minimum(shifts, shifts[::-1]) + 1, min(n_frames, n_query_frames)
        ) / min(n_frames, n_query_frames)
        is_near = np.abs(shifts - best) <= _MATCH_REACH_FRAMES
        mean, clump = _chance_votes(scores[~is_near], overlaps[~is_near])
        tail = _tail(scores[best], mean, clump)
        return SpectralHashMatch(
            track_index=track,
            offset_frames=best - (n_query_frames - 1),
            n_votes=int(scores[best]),
            p_value=float(min(1.0, n_shifts.sum() * tail)),
        )


def _chance_votes(scores: np.ndarray, overlaps: np.ndarray) -> tuple[float, float]:
    """Mean at full overlap, and size of the clumps, of the votes that chance gives.

    Args:
        scores: (n,) votes of the shifts.
        overlaps: (n,) share of the full overlap that query and track have there.
    """
    # One hit more than there are: where nothing was seen, chance is rare, not impossible.
    mean = (scores.sum() + 1) / max(1.0, overlaps.sum())
    expected = mean * overlaps
    clump = ((scores - expected) ** 2).sum() / max(1.0, expected.sum())
    return mean, float(np.clip(clump, 1.0, _LARGEST_CLUMP)) * _CLUMP_MARGIN


def _tail(n_votes: np.ndarray | int, mean: float, clump: float) -> np.ndarray | float:
    """The probability of ``n_votes`` or more at a shift, where chance gives ``mean`` in clumps."""
    # The regularised lower incomplete gamma function P(n, m) is P(Poisson(m) >= n).
    return scipy.special.gammainc(n_votes / clump, mean / clump)


def _pieces(n_rows: np.ndarray) -> list[slice]:
    """Slices of the query's peaks with about as many hits as are counted at once."""
    piece_of = np.cumsum(n_rows) // _HITS_AT_ONCE
    borders = np.append(np.flatnonzero(np.diff(piece_of, prepend=-1)), len(n_rows))
    return [slice(*each) for each in itertools.pairwise(borders)]
