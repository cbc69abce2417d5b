import numpy as np
import pytest
from fingerprint_configs import nafp

from fingerprint.mini_search import (
    MiniSearch,
    sequence_scores,
    shorten,
    wrong_scores_by_track,
)
from fingerprint.segments import SegmentGrid
from fingerprint.waveform_bank import WaveformBank

RATE_HZ = 8000


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def scores_by_hand(query, references, first_rows):
    """Row by row, in loops."""
    ends = [*first_rows[1:], len(references)]
    scores = []
    for first, end in zip(first_rows, ends, strict=True):
        for start in range(first, end):
            inside = [
                float(query[i] @ references[start + i])
                for i in range(len(query))
                if start + i < end
            ]
            scores.append(sum(inside) / len(query))
    return np.array(scores)


def test_sequence_scores_are_those_of_a_double_loop(rng):
    references = unit(rng.standard_normal((20, 8)))
    first_rows = np.array([0, 6, 7, 15])
    queries = unit(rng.standard_normal((3, 5, 8)))
    by_length = list(sequence_scores(queries, references, first_rows, [1, 3, 5]))
    for n_segments, scores in zip([1, 3, 5], by_length, strict=True):
        assert scores.shape == (3, 20)
        for query, got in zip(queries, scores, strict=True):
            expected = scores_by_hand(query[:n_segments], references, first_rows)
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_queries_longer_than_everything_are_scored(rng):
    references = unit(rng.standard_normal((3, 8)))
    queries = unit(rng.standard_normal((2, 5, 8)))
    first, last = sequence_scores(queries, references, np.array([0, 2]), [1, 5])
    assert first.shape == last.shape == (2, 3)
    expected = scores_by_hand(queries[1], references, np.array([0, 2]))
    np.testing.assert_allclose(last[1], expected, atol=1e-6)


def test_lengths_of_equally_many_segments_get_the_same_scores(rng):
    references = unit(rng.standard_normal((9, 8)))
    queries = unit(rng.standard_normal((2, 3, 8)))
    first, second, third = sequence_scores(queries, references, np.array([0, 4]), [1, 1, 3])
    np.testing.assert_array_equal(first, second)
    expected = scores_by_hand(queries[0], references, np.array([0, 4]))
    np.testing.assert_allclose(third[0], expected, atol=1e-6)


def test_wrong_scores_leave_the_right_track_out():
    scores = np.array([[9.0, 1.0, 2.0, 8.0], [3.0, 4.0, 7.0, 5.0]], np.float32)
    first_rows = np.array([0, 1, 3])
    np.testing.assert_array_equal(
        wrong_scores_by_track(scores, first_rows, np.array([0, 1])),
        [[-np.inf, 2.0, 8.0], [3.0, -np.inf, 5.0]],
    )


class SpectralFingerprinter:
    """Stands in for a network: coarse spectra, which identify music that is not degraded."""

    grid = SegmentGrid(RATE_HZ, 1.0, 0.5)
    has_codes = False

    def embed_segments(self, segments):
        spectra = np.abs(np.fft.rfft(segments))[:, :4000].reshape(len(segments), 400, 10)
        spectra = spectra.mean(axis=2)
        return unit(spectra - spectra.mean(axis=1, keepdims=True))

    def embed(self, samples):
        return self.embed_segments(self.grid.cut(samples))


@pytest.fixture
def tracks(tmp_path, rng):
    """Three tracks in which every half second has a chord of its own."""
    items = []
    for name, n_notes in (("a", 30), ("b", 21), ("c", 26)):
        frequencies_hz = rng.uniform(200, 3800, (n_notes, 4, 1))
        time_s = np.arange(RATE_HZ // 2) / RATE_HZ
        chords = np.sin(2 * np.pi * frequencies_hz * time_s).sum(axis=1).reshape(-1)
        items.append((name, np.round(chords * 4000).astype(np.int16)))
    return WaveformBank.create(tmp_path / "bank", items, RATE_HZ)


@pytest.fixture
def config():
    config = nafp.get_config()
    config.evaluation.query_durations_s = (3.0, 1.0, 2.2)
    return config


def queries_from(tracks, track_ids, starts):
    return tracks.windows(np.array(track_ids), np.array(starts), 3 * RATE_HZ)


def test_clean_queries_are_all_found_at_every_length(config, tracks):
    track_ids, starts = [0, 1, 2, 2, 0], [4000, 0, 16000, 40000, 84000]
    queries = queries_from(tracks, track_ids, starts)
    result = MiniSearch(config, tracks, queries, track_ids, starts).run(SpectralFingerprinter())
    np.testing.assert_array_equal(result.durations_s, [1.0, 2.2, 3.0])
    np.testing.assert_array_equal(result.n_segments, [1, 3, 5])
    np.testing.assert_array_equal(result.top1, [1.0, 1.0, 1.0])
    assert result.figures() == {"top1/1s": 1.0, "top1/2.2s": 1.0, "top1/3s": 1.0}
    calibration = result.calibration()
    assert calibration["n_segments"] == [1, 3, 5]
    assert calibration["n_reference_segments"] == 29 + 20 + 25
    assert max(calibration["score_mean"]) < 0.9
    # Two wrong tracks leave no rivals to lead.
    assert calibration["n_tracks"] == 0


class CodedFingerprinter(SpectralFingerprinter):
    """The same, with codes of three bits that fill the first three of eight buckets equally."""

    has_codes = True

    def codes(self, embeddings):
        buckets = np.arange(len(embeddings)) % 3
        return np.where((buckets[:, None] >> np.arange(3)) & 1, 1.0, -1.0).astype(np.float32)


def test_the_balance_of_the_buckets_is_reported(config, tracks):
    queries = queries_from(tracks, [0, 1], [4000, 0])
    result = MiniSearch(config, tracks, queries, [0, 1], [4000, 0]).run(CodedFingerprinter())
    sizes = np.array([25, 25, 24]) / 74
    expected = -(sizes * np.log2(sizes)).sum() / 3
    assert result.figures()["code_balance"] == pytest.approx(expected, abs=1e-5)


def test_a_hit_needs_the_right_track_and_half_a_second(config, tracks):
    # What the search is told about the second and third query is wrong by track and by 0.75 s.
    track_ids, starts = [0, 1, 2], [4000, 0, 16000]
    queries = queries_from(tracks, track_ids, starts)
    search = MiniSearch(config, tracks, queries, [0, 2, 2], [6000, 0, 22000])
    np.testing.assert_allclose(search.run(SpectralFingerprinter()).top1, 1 / 3)


def test_shortened_tracks_keep_their_beginning(tracks):
    shortened = shorten(tracks, max_duration_s=11.0)
    np.testing.assert_array_equal(shortened.lengths, [88000, 84000, 88000])
    np.testing.assert_array_equal(tracks.lengths, [120000, 84000, 104000])
    window = shortened.windows([0], [87999], 3)[0]
    assert window[0] == tracks.windows([0], [87999], 1)[0, 0]
    np.testing.assert_array_equal(window[1:], 0)
