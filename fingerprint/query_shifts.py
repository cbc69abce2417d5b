"""A query at several shifts within a hop: one begins nearly where a stored segment does."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fingerprint.segments import SegmentGrid


@dataclasses.dataclass(frozen=True)
class QueryShifts:
    """``n_shifts`` equally spaced within a hop of the grid."""

    grid: SegmentGrid
    n_shifts: int

    @property
    def starts(self) -> list[int]:
        """The sample of the query at which each begins, ascending; half of them before its first.

        So the segments of all of them reach beyond the query by half a hop at most.
        """
        hop = self.grid.hop_samples
        fractions = [round(shift * hop / self.n_shifts) for shift in range(self.n_shifts)]
        return [fraction - fractions[(self.n_shifts - 1) // 2] for fraction in fractions]

    @property
    def first_s(self) -> float:
        """The second of the query at which the first one begins: 0 or before."""
        return self.starts[0] / self.grid.sample_rate_hz

    def embed(
        self,
        samples: np.ndarray,
        embed_segments: Callable[[np.ndarray], np.ndarray],
        max_batch_samples: int,
    ) -> np.ndarray:
        """Fingerprints of a query at each shift, ``(n_shifts, n_segments, d)``; zeros for silence.

        Silence resembles the silence of every track, so that it must not speak for any.

        Args:
            samples: ``(n,)`` at the sample rate of the grid.
            embed_segments: turns segments ``(n, n_samples)`` into fingerprints ``(n, d)``.
            max_batch_samples: segments overlap, and all at once they take many times the memory of
                the query; so many samples are embedded at once, but those of one segment at least.
        """
        views = self._cut(samples)
        n_at_once = max(1, max_batch_samples // (self.n_shifts * self.grid.n_samples))
        blocks = []
        for first in range(0, len(views[0]), n_at_once):
            segments = np.concatenate([view[first : first + n_at_once] for view in views])
            embeddings = embed_segments(segments)
            embeddings[~segments.any(axis=1)] = 0.0
            blocks.append(embeddings.reshape(self.n_shifts, -1, embeddings.shape[1]))
        return np.concatenate(blocks, axis=1)

    def _cut(self, samples: np.ndarray) -> list[np.ndarray]:
        """The segments ``(n_segments, n_samples)`` at each shift.

        Shifted segments reach beyond the query, whose reflection stands there: silence would change
        the level and the spectrum of segments that it is a third of, and with one second of query
        these are all but one.
        """
        grid, starts = self.grid, self.starts
        needed = (grid.n_segments(len(samples)) - 1) * grid.hop_samples + grid.n_samples
        whole = np.pad(samples, (0, max(0, needed - len(samples))))
        tail = max(0, needed + starts[-1] - len(whole))
        padded = np.pad(whole, (-starts[0], tail), mode="reflect")
        return [grid.cut(padded[start - starts[0] :][:needed]) for start in starts]
