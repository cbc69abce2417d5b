"""Identification with a trained network: segments to fingerprints, neighbours, alignment, verdict.

An index is a store of one fingerprint per segment with a copy of the model folder in it, so that
it identifies on its own and can never meet the wrong model.
"""

import dataclasses
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from fingerprint.alignment import Hypothesis, align
from fingerprint.calibration import N_RIVALS, UNCALIBRATED, Calibration
from fingerprint.compilation_cache import keep_compiled_programs
from fingerprint.exhaustive_alignment import align_everywhere, fits
from fingerprint.file_lists import GenerationReport
from fingerprint.generate import COLUMN, MAX_BATCH_SAMPLES, generate, neural_store
from fingerprint.identification import Match, Recognizer
from fingerprint.model import Fingerprinter
from fingerprint.offset_refinement import mean_products, refined_start
from fingerprint.query_shifts import QueryShifts
from fingerprint.rivals import MAX_COPIES, split_rivals
from fingerprint.searchers import Searcher, Settings, open_searcher
from fingerprint.searchers.candidates import CandidateSearcher
from fingerprint.store import Store, StoreError
from fingerprint.store_format import whole_folder

MODEL_FOLDER = "model"


@dataclasses.dataclass(frozen=True)
class NeuralQuery:
    """A query and the places that it may be from.

    Attributes:
        samples: ``(n,)``.
        vectors: its fingerprints at each sub-hop shift, ``(n_shifts, n_segments, d)``.
        found: the best place in each track, best first.
        examined: mean share of the rows that each segment was compared with; None if not counted.
    """

    samples: np.ndarray
    vectors: np.ndarray
    found: list[Hypothesis]
    examined: float | None

    @property
    def n_segments(self) -> int:
        """Segments at each shift."""
        return self.vectors.shape[1]


class NeuralRecognizer(Recognizer):
    """Fingerprints of a trained network, one for each segment of each track.

    Queries are searched by the rules of the model's ``config.search``.

    Args:
        store: of the fingerprints.
        fingerprinter: the model that made them.
        searcher: a kind of `searchers.open_searcher`; "hash_buckets" takes the codes of the model.
            With "auto" and the alignment "diagonal" none is needed where `align_everywhere` is fast
            enough.
        search_settings: of that searcher; None chooses them by the size of the index.
    """

    method = "neural"

    def __init__(
        self,
        store: Store,
        fingerprinter: Fingerprinter,
        *,
        searcher: str = "auto",
        search_settings: Settings | None = None,
    ):
        super().__init__(store, fingerprinter.sample_rate_hz)
        self.fingerprinter = fingerprinter
        self._rules = fingerprinter.config.search
        self._shifts = QueryShifts(fingerprinter.grid, self._rules.n_shifts)
        self._searcher_kind = searcher
        self._search_settings = search_settings
        self._searcher: tuple[str, Searcher] | None = None
        keep_compiled_programs()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model_folder: str | Path,
        *,
        dtype: str = "float32",
        method: str = "neural",
    ) -> "NeuralRecognizer":
        """Make an empty index with a copy of a model; it appears complete or not at all.

        ``method`` is what the index says of itself: that of whoever asks this recogniser.

        Raises:
            ModelError: the model folder cannot be used.
            StoreError: the folder is not new or empty, or cannot be written.
        """
        fingerprinter = Fingerprinter.load(model_folder)
        with whole_folder(folder) as new:
            neural_store(new, fingerprinter, dtype, method=method)
            shutil.copytree(model_folder, new / MODEL_FOLDER)
        return cls(Store.open(folder), fingerprinter)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        searcher: str = "auto",
        search_settings: Settings | None = None,
    ) -> "NeuralRecognizer":
        """Open an index with the model that lies in it; arguments as of the class.

        Raises:
            StoreError, ModelError: the index or its model is damaged or foreign.
        """
        store = Store.open(folder)
        fingerprinter = Fingerprinter.load(Path(folder) / MODEL_FOLDER)
        identity = store.recognizer.get("identity")
        if fingerprinter.identity != identity:
            raise StoreError(
                f"{folder} was made with the model {identity}, but the model "
                f"in it is {fingerprinter.identity}: restore the former, or build the index anew."
            )
        return cls(store, fingerprinter, searcher=searcher, search_settings=search_settings)

    def use_model(self, model_folder: str | Path) -> None:
        """See `Recognizer.use_model`."""
        own, model = self.fingerprinter, Fingerprinter.load(model_folder)
        if model.identity != own.identity:
            raise StoreError(
                f"{self.store.folder} was made with the model {own.identity}, but "
                f"{model_folder} is {model.identity}: their fingerprints do not compare; leave out "
                "the model, or build a new index with it."
            )
        if model.has_codes:
            # Verdicts stay those of the index.
            model.calibration = own.calibration
            self.fingerprinter, self._searcher = model, None

    def add_files(self, paths: Iterable[str | Path], *, progress: bool = True) -> GenerationReport:
        """See `Recognizer.add_files`."""
        return generate(paths, self.fingerprinter, self.store, progress=progress)

    def _identify(self, samples: np.ndarray, top_k: int) -> tuple[list[Match], float | None]:
        query = self.hear(samples, top_k)
        return self.candidates(query, top_k), query.examined

    def hear(self, samples: np.ndarray, n_candidates: int) -> NeuralQuery:
        """Fingerprint mono audio ``(n,)`` at the recogniser's rate, and find places for it."""
        vectors = self._shifts.embed(samples, self.fingerprinter.embed_segments, MAX_BATCH_SAMPLES)
        n_tracks = max(n_candidates, self._rules.shuffled_top, 1 + N_RIVALS + MAX_COPIES)
        return NeuralQuery(samples, vectors, *self._align(vectors, n_tracks))

    def candidates(self, query: NeuralQuery, top_k: int) -> list[Match]:
        """The tracks that the query may be from, best first."""
        best = shuffle_top(query.found, self._rules.shuffled_top, query.samples)[:top_k]
        return [self._match(each, query) for each in best]

    def evidence(self, query: NeuralQuery) -> Callable[[str, np.ndarray], np.ndarray]:
        """What speaks for other places of a query, judged as its best one is.

        Returns:
            A function of a track's name and of places ``(n,)`` in it, seconds at which the query
            may begin: how far it fits them beyond a wrong track, in powers of e.
        """
        hop_s = self.fingerprinter.grid.hop_samples / self.sample_rate_hz
        whole = (each for each in query.found if each.n_overlapping == query.n_segments)
        best = next(whole, None)
        rivals, n_others = ([], 0) if best is None else self._rivals(best, query)
        calibration = self._calibration()

        def evidence(track: str, starts_s: np.ndarray) -> np.ndarray:
            rows = self._rows_of(self.store.number_of(track))
            return calibration.evidence(
                mean_products((starts_s + self._shifts.first_s) / hop_s, query.vectors, rows),
                query.n_segments,
                self.store.n_rows,
                self._rules.n_shifts,
                rivals=rivals,
                n_tracks=n_others,
            )

        return evidence

    def _align(self, queries: np.ndarray, top_k: int) -> tuple[list[Hypothesis], float | None]:
        """The best places, and the mean share of the rows that each segment was compared with."""
        vectors = self.store.column(COLUMN)
        first_rows = np.array([track.first_row for track in self.tracks])
        n_rows = np.array([track.n_rows for track in self.tracks])
        n_shifts, n_segments, dim = queries.shape
        is_free_to_choose = self._searcher_kind == "auto" and self._search_settings is None
        if (
            is_free_to_choose
            and self._rules.alignment == "diagonal"
            and fits(n_shifts, n_segments, n_rows)
        ):
            return align_everywhere(queries, vectors, first_rows, n_rows, top_k), None
        ids, examined = self._search(queries.reshape(-1, dim))
        ids = ids.reshape(n_shifts, n_segments, -1)
        ids = np.where(queries.any(axis=2, keepdims=True), ids, -1)
        hypotheses = align(queries, ids, vectors, first_rows, n_rows, top_k, self._rules.alignment)
        return hypotheses, examined

    def _search(self, vectors: np.ndarray) -> tuple[np.ndarray, float | None]:
        """The neighbours of each vector, and the mean share of the rows compared with it."""
        searcher = self._open_searcher()
        if not isinstance(searcher, CandidateSearcher):
            return searcher.search(vectors, self._rules.neighbours)[0], None
        ids, _, n_examined = searcher.search_counted(vectors, self._rules.neighbours)
        return ids, float(n_examined.mean()) / searcher.n

    def _p_value(self, hypothesis: Hypothesis, query: NeuralQuery) -> float:
        """Judged by its lead over the other tracks that were found, copies of it left out.

        Where only a part of the query lies within the track, that part is judged, as a query of
        its length; the others' scores are of all of it, and no rivals then. Any part of the query
        could have met the track: it had as many tries as there are starts, overhanging ones too.
        """
        n_tries, rivals, n_others = self.store.n_rows, [], len(self.tracks) - 1
        if hypothesis.n_overlapping < query.n_segments:
            n_tries += len(self.tracks) * (query.n_segments - 1)
        else:
            rivals, n_others = self._rivals(hypothesis, query)
        return self._calibration().p_value(
            hypothesis.score * query.n_segments / hypothesis.n_overlapping,
            hypothesis.n_overlapping,
            n_tries,
            self._rules.n_shifts,
            rivals=rivals,
            n_tracks=n_others,
        )

    def _rivals(self, hypothesis: Hypothesis, query: NeuralQuery) -> tuple[list[float], int]:
        """The scores of the next five tracks, best first, and how many others the index holds."""
        rivals, copies = split_rivals(
            hypothesis, query.found, self._rules.n_shifts, query.n_segments, self._rows_of
        )
        # In a small index up to two copies may stand in: the median is a rival's score still.
        scores = [each.score for each in (rivals + copies[: N_RIVALS // 2])[:N_RIVALS]]
        return sorted(scores, reverse=True), len(self.tracks) - 1 - len(copies)

    def _calibration(self) -> Calibration:
        stored = self.fingerprinter.calibration
        return UNCALIBRATED if stored is None else Calibration.from_dict(stored)

    def _rows_of(self, track: int) -> np.ndarray:
        """The stored fingerprints ``(n, d)`` of a track, by its number."""
        first = self.tracks[track].first_row
        return np.asarray(self.store.column(COLUMN))[first : first + self.tracks[track].n_rows]

    def _match(self, hypothesis: Hypothesis, query: NeuralQuery) -> Match:
        track = self.tracks[hypothesis.track]
        start = refined_start(hypothesis, query.vectors, self._rows_of(hypothesis.track))
        p_value = self._p_value(hypothesis, query)
        return Match.placed(
            track.name,
            hypothesis.score,
            1.0 - p_value,
            float(self.fingerprinter.grid.start_s(start)) - self._shifts.first_s,
            len(query.samples) / self.sample_rate_hz,
            track.duration_s,
            p_value=p_value,
        )

    def _open_searcher(self) -> Searcher:
        """The searcher over the present content, built when the content has changed."""
        content = self.store.content_id
        if self._searcher is None or self._searcher[0] != content:
            searcher = open_searcher(
                self.store.column(COLUMN),
                self.cache_folder(),
                self._search_settings,
                self._searcher_kind,
                encode=self.fingerprinter.codes if self.fingerprinter.has_codes else None,
            )
            self._searcher = content, searcher
        return self._searcher[1]


def shuffle_top(
    hypotheses: list[Hypothesis], n_shuffled: int, samples: np.ndarray
) -> list[Hypothesis]:
    """Put the best tracks into an arbitrary order, which is always the same for the same query.

    Rice's code returns the three best tracks through a set without order, so that his "top-1" is
    any of the three; with ``n_shuffled`` of 0 nothing happens.
    """
    rng = np.random.default_rng(zlib.crc32(samples.tobytes()))
    top, rest = hypotheses[:n_shuffled], hypotheses[n_shuffled:]
    return [top[i] for i in rng.permutation(len(top))] + rest
