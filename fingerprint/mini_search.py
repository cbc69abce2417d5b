"""The search that training reports: degraded queries among the clean validation tracks.

Exact, so that it measures the encoder alone: every start in every track is scored by the mean
inner product along the diagonal (Chang et al., arXiv 2010.11910, section 4.1).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from fingerprint.balanced_hash import bucket_entropy
from fingerprint.calibration import Calibration
from fingerprint.model import Fingerprinter
from fingerprint.segments import SegmentGrid
from fingerprint.waveform_bank import WaveformBank

# Long enough that starts can be confused, short enough that a search costs less than training.
MAX_REFERENCE_S = 120.0
HIT_TOLERANCE_S = 0.5
_QUERIES_PER_BLOCK = 16


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What one search found; arrays have one element per query length.

    Attributes:
        durations_s: Query lengths.
        n_segments: The same in segments.
        top1: Share of queries whose best start is in the right track, within 0.5 s.
        wrong_scores: How well wrong tracks scored.
        code_balance: Entropy of the sizes of their hash buckets, as a share of the bits of a code:
            1 when all buckets are equally full; None without a hash head. With fewer segments
            than buckets it cannot come near 1.
    """

    durations_s: np.ndarray
    n_segments: np.ndarray
    top1: np.ndarray
    wrong_scores: Calibration
    code_balance: float | None = None

    def figures(self) -> dict[str, float]:
        """``{"top1/3s": ...}`` and, with a hash head, ``"code_balance"``, for the log."""
        figures = {
            f"top1/{duration_s:g}s": float(hits)
            for duration_s, hits in zip(self.durations_s, self.top1, strict=True)
        }
        if self.code_balance is not None:
            figures["code_balance"] = self.code_balance
        return figures

    def calibration(self) -> dict:
        """How well wrong tracks score; kept with the model, see `model.save_model`."""
        return self.wrong_scores.to_dict()


def shorten(tracks: WaveformBank, max_duration_s: float = MAX_REFERENCE_S) -> WaveformBank:
    """The same tracks, each ending after ``max_duration_s`` at the latest."""
    shortened = tracks.subset(np.arange(len(tracks)))
    max_samples = round(max_duration_s * tracks.sample_rate_hz)
    shortened.lengths = np.minimum(tracks.lengths, max_samples)
    return shortened


class MiniSearch:
    """Queries and references of a validation, prepared once for a run.

    Args:
        config: The configuration; its ``evaluation`` names the query lengths.
        tracks: References; at least two, or no wrong track could be found.
        queries: ``(n_queries, n_samples)``, as long as the longest query length.
        track_ids: ``(n_queries,)`` the track that each query is from.
        starts: ``(n_queries,)`` the sample of the track at which it begins.
    """

    def __init__(
        self,
        config: ConfigDict,
        tracks: WaveformBank,
        queries: np.ndarray,
        track_ids: np.ndarray,
        starts: np.ndarray,
    ):
        self.n_queries = len(queries)
        self._tracks = tracks
        self._queries = queries
        self._track_ids = np.asarray(track_ids)
        self._starts_s = np.asarray(starts) / config.sample_rate_hz
        self._grid = SegmentGrid(config.sample_rate_hz, **config.segment)
        self._durations_s = np.array(sorted(config.evaluation.query_durations_s))
        # Whole segments only, so that the segments of a short query begin those of a long one.
        self._n_segments = np.array(
            [self._whole_segments(duration_s) for duration_s in self._durations_s]
        )

    def run(self, fingerprinter: Fingerprinter) -> SearchResult:
        """Fingerprint references and queries and search for each query at each length."""
        references, first_rows = self._references(fingerprinter)
        segments = np.concatenate([self._cut(query) for query in self._queries])
        queries = fingerprinter.embed_segments(segments).reshape(
            len(self._queries), self._n_segments[-1], -1
        )
        hits = np.zeros((len(self._n_segments), len(queries)), bool)
        wrong_scores = np.zeros((*hits.shape, len(first_rows)), np.float32)
        for first in range(0, len(queries), _QUERIES_PER_BLOCK):
            block = slice(first, first + _QUERIES_PER_BLOCK)
            scores_by_length = sequence_scores(
                queries[block], references, first_rows, self._n_segments
            )
            for length, scores in enumerate(scores_by_length):
                hits[length, block] = self._hits(scores, first_rows, block)
                wrong_scores[length, block] = wrong_scores_by_track(
                    scores, first_rows, self._track_ids[block]
                )
        return SearchResult(
            durations_s=self._durations_s,
            n_segments=self._n_segments,
            top1=hits.mean(axis=1),
            wrong_scores=Calibration.fit(wrong_scores, self._n_segments, len(references)),
            code_balance=_code_balance(fingerprinter, references),
        )

    def _whole_segments(self, duration_s: float) -> int:
        left = round(duration_s * self._grid.sample_rate_hz) - self._grid.n_samples
        return 1 + max(0, left // self._grid.hop_samples)

    def _cut(self, query: np.ndarray) -> np.ndarray:
        return self._grid.cut(query)[: self._n_segments[-1]]

    def _references(self, fingerprinter: Fingerprinter) -> tuple[np.ndarray, np.ndarray]:
        """Fingerprints of all tracks ``(r, d)`` and the first row of each ``(n_tracks,)``."""
        parts = [
            fingerprinter.embed(self._tracks.windows([track], [0], int(length))[0])
            for track, length in enumerate(self._tracks.lengths)
        ]
        n_rows = [len(part) for part in parts]
        return np.concatenate(parts), np.cumsum([0, *n_rows[:-1]])

    def _hits(self, scores: np.ndarray, first_rows: np.ndarray, block: slice) -> np.ndarray:
        rows = scores.argmax(axis=1)
        tracks = np.searchsorted(first_rows, rows, side="right") - 1
        starts_s = self._grid.start_s(rows - first_rows[tracks])
        near = np.abs(starts_s - self._starts_s[block]) <= HIT_TOLERANCE_S
        return near & (tracks == self._track_ids[block])


def _code_balance(fingerprinter: Fingerprinter, references: np.ndarray) -> float | None:
    if not fingerprinter.has_codes:
        return None
    codes = fingerprinter.codes(references)
    return float(bucket_entropy(codes)) / codes.shape[1]


def sequence_scores(
    queries: np.ndarray,
    references: np.ndarray,
    first_rows: np.ndarray,
    n_segments: Sequence[int],
) -> Iterator[np.ndarray]:
    """Score every start for the first m segments of each query, for each m in ``n_segments``.

    The score at row s is the mean over i < m of the inner product of query segment i and
    reference s + i; rows beyond the end of the track of s count 0.

    Args:
        queries: ``(n, max(n_segments), d)``.
        references: ``(r, d)``, the tracks one after the other.
        first_rows: ``(n_tracks,)``, where each track begins.
        n_segments: Ascending; lengths that are the same in segments may recur.

    Yields:
        Scores ``(n, r)`` for each length.
    """
    n, m, d = queries.shape
    r = len(references)
    similarity = (queries.reshape(n * m, d) @ references.T).reshape(n, m, r)
    track = np.searchsorted(first_rows, np.arange(r), side="right")
    sums = np.zeros((n, r), np.float32)
    for i in range(m):
        n_starts = max(0, r - i)
        same_track = track[i:] == track[:n_starts]
        sums[:, :n_starts] += similarity[:, i, i:] * same_track
        for _ in range(np.count_nonzero(np.equal(n_segments, i + 1))):
            yield sums / (i + 1)


def wrong_scores_by_track(
    scores: np.ndarray, first_rows: np.ndarray, track_ids: np.ndarray
) -> np.ndarray:
    """The best score in each track, of scores ``(n, r)``; -inf in the right one.

    Returns:
        ``(n, n_tracks)``.
    """
    by_track = np.maximum.reduceat(scores, first_rows, axis=1)
    by_track[np.arange(len(scores)), track_ids] = -np.inf
    return by_track
