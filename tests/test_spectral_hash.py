"""Spectral hashing against plain loops and filters, and the verdicts that it promises."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import soundfile
from scipy.special import gammainc

from fingerprint import spectral_hash_index
from fingerprint.audio import AudioError
from fingerprint.errors import ConfigError, FingerprintError
from fingerprint.music_synthesis import synthesize_track
from fingerprint.recognizer import SpectralHashRecognizer, create_or_open, open_recognizer
from fingerprint.spectral_hash import (
    SpectralHashSettings,
    extract_peaks,
    extract_peaks_from_blocks,
    extract_reference_peaks,
)
from fingerprint.spectral_hash_index import SpectralHashIndex
from fingerprint.store import Store, StoreError

PUBLISHED = SpectralHashSettings()
# An eighth of the rate, with frames as long: eight times as fast.
SMALL = SpectralHashSettings(sample_rate_hz=8000, n_fft=512, hop_length=128)
RATE_HZ = 8000


@pytest.fixture(scope="module")
def tracks():
    return [synthesize_track(seed, 12.0, RATE_HZ) for seed in range(12)]


def build_index(columns):
    n_rows = np.array([len(bins) for bins, _ in columns])
    bins, frames = (np.concatenate(column) for column in zip(*columns, strict=True))
    return SpectralHashIndex.build(bins, frames, np.cumsum(n_rows) - n_rows, n_rows)


# ----------------------------------------------------------------------------- peaks


def peaks_by_filter(samples, settings):
    """Peaks of the magnitude spectrogram of scipy, by its maximum filter, borders dropped."""
    n_fft, hop, reach = settings.n_fft, settings.hop_length, settings.min_distance
    window = scipy.signal.get_window("hann", n_fft)
    starts = range(0, len(samples) - n_fft + 1, hop)
    magnitude = np.array([np.abs(np.fft.rfft(samples[i : i + n_fft] * window)) for i in starts])
    is_peak = magnitude == scipy.ndimage.maximum_filter(magnitude, 2 * reach + 1)
    is_peak &= magnitude > settings.min_magnitude
    is_peak[:reach] = is_peak[-reach:] = is_peak[:, :reach] = is_peak[:, -reach:] = False
    return set(zip(*np.nonzero(is_peak), strict=True))


@pytest.mark.parametrize(("settings", "duration_s"), [(PUBLISHED, 3.0), (SMALL, 8.0)])
def test_peaks_are_the_highest_of_their_square(settings, duration_s, rng):
    samples = synthesize_track(1, duration_s, settings.sample_rate_hz)
    samples = samples + rng.normal(scale=1e-3, size=len(samples)).astype(np.float32)
    bins, frames = extract_peaks(samples, settings)
    found = set(zip(frames, bins, strict=True))
    assert len(found) > 40
    assert found == peaks_by_filter(samples, settings)
    assert (bins.dtype, frames.dtype) == (np.uint16, np.uint32)
    assert np.all(np.diff(frames.astype(np.int64)) >= 0)


def test_blocks_give_the_peaks_of_the_whole(rng):
    samples = synthesize_track(2, 60.0, RATE_HZ)
    whole = extract_peaks(samples, SMALL)
    borders = np.sort(rng.integers(0, len(samples), 11))
    np.testing.assert_array_equal(
        whole, extract_peaks_from_blocks(iter(np.split(samples, borders)), SMALL)
    )


def test_chunks_give_the_peaks_of_one_spectrogram(monkeypatch):
    samples = synthesize_track(2, 60.0, RATE_HZ)
    in_chunks = extract_peaks(samples, SMALL)
    monkeypatch.setattr("fingerprint.landmark_peaks._VALUES_PER_CHUNK", 2**40)
    np.testing.assert_array_equal(in_chunks, extract_peaks(samples, SMALL))


def test_a_shift_by_hops_moves_the_peaks_alone():
    samples = synthesize_track(3, 10.0, RATE_HZ)
    shift, reach = 37, SMALL.min_distance
    bins, frames = extract_peaks(samples, SMALL)
    moved_bins, moved_frames = extract_peaks(samples[shift * SMALL.hop_length :], SMALL)
    inner = frames >= shift + reach
    assert inner.sum() > 40
    np.testing.assert_array_equal(bins[inner], moved_bins)
    np.testing.assert_array_equal(frames[inner] - shift, moved_frames)


def test_the_threshold_is_absolute():
    samples = synthesize_track(4, 5.0, RATE_HZ)
    counts = [len(extract_peaks(np.float32(gain) * samples, SMALL)[0]) for gain in (1, 1e-2, 1e-6)]
    assert counts[0] > counts[1] > counts[2] == 0


@pytest.mark.parametrize("n_samples", [0, 1, SMALL.n_fft - 1, RATE_HZ])
def test_silence_and_scraps_have_no_peaks(n_samples):
    bins, frames = extract_peaks(np.zeros(n_samples, np.float32), SMALL)
    assert len(bins) == len(frames) == 0
    assert (bins.dtype, frames.dtype) == (np.uint16, np.uint32)


@pytest.mark.parametrize("duration_s", [4.0, 20.0])
def test_references_are_cut_or_padded_as_published(duration_s):
    samples = synthesize_track(5, 10.0, RATE_HZ)
    settings = dataclasses.replace(SMALL, reference_duration_s=duration_s)
    n = round(duration_s * RATE_HZ)
    expected = extract_peaks(np.resize(np.pad(samples, (0, n)), n), SMALL)
    blocks = np.array_split(samples, 7)
    np.testing.assert_array_equal(expected, extract_reference_peaks(iter(blocks), settings))
    np.testing.assert_array_equal(
        extract_peaks(samples, SMALL), extract_reference_peaks(iter(blocks), SMALL)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hop_length": 0}, "hop_length is 0"),
        ({"min_distance": 0}, "min_distance is 0"),
        ({"n_fft": 32, "min_distance": 9}, "min_distance is 9, but all of the 17 bins"),
        ({"reference_duration_s": -1.0}, "reference_duration_s is -1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        dataclasses.replace(PUBLISHED, **changes)


def test_settings_survive_json():
    stored = json.loads(json.dumps(dataclasses.asdict(PUBLISHED)))
    assert SpectralHashSettings(**stored) == PUBLISHED


# ----------------------------------------------------------------------------- the index


def random_peaks(rng, n, n_bins, n_frames):
    rows = np.unique(rng.integers(0, (n_frames, n_bins), (n, 2)), axis=0)
    return rows[:, 1].astype(np.uint16), rows[:, 0].astype(np.uint32)


def scores_by_loops(reference, query):
    """Votes by shift, as published: indicator functions of inverted lists, summed."""
    scores = {}
    for query_bin, query_frame in zip(*query, strict=True):
        for bin_, frame in zip(*reference, strict=True):
            if bin_ == query_bin:
                shift = int(frame) - int(query_frame)
                scores[shift] = scores.get(shift, 0) + 1
    return scores


@pytest.mark.parametrize("shifts_per_block", [1, 150, 2**19])
def test_scores_are_those_of_plain_loops(shifts_per_block, monkeypatch, rng):
    monkeypatch.setattr(spectral_hash_index, "_SHIFTS_PER_BLOCK", shifts_per_block)
    monkeypatch.setattr(spectral_hash_index, "_HITS_AT_ONCE", 2 * shifts_per_block)
    references = [random_peaks(rng, n, 12, 90) for n in (80, 3, 60, 90, 70)]
    query = random_peaks(rng, 40, 14, 30)
    scores = [scores_by_loops(reference, query) for reference in references]
    found = build_index(references).match(*query, top_k=9)
    assert {m.track_index: m.n_votes for m in found} == {
        i: max(votes.values()) for i, votes in enumerate(scores) if votes
    }
    for each in found:
        assert scores[each.track_index][each.offset_frames] == each.n_votes
    assert [(-m.n_votes, m.track_index) for m in found] == sorted(
        (-m.n_votes, m.track_index) for m in found
    )
    assert build_index(references).match(*query, top_k=2) == found[:2]


def test_the_p_value_is_the_formula(rng):
    reference, query = random_peaks(rng, 300, 10, 200), random_peaks(rng, 60, 10, 50)
    (best,) = build_index([reference]).match(*query)
    votes = scores_by_loops(reference, query)
    n_reference, n_query = (int(frames.max()) + 1 for _, frames in (reference, query))
    total = overlaps = deviations = expectations = 0.0
    chance = [s for s in range(1 - n_query, n_reference) if abs(s - best.offset_frames) > 5]
    overlap = {
        s: (min(s + n_query, n_reference) - max(s, 0)) / min(n_query, n_reference) for s in chance
    }
    total, overlaps = sum(votes.get(s, 0) for s in chance) + 1, sum(overlap.values())
    mean = total / overlaps
    for s in chance:
        deviations += (votes.get(s, 0) - mean * overlap[s]) ** 2
        expectations += mean * overlap[s]
    clump = 1.1 * min(max(1.0, deviations / expectations), 2.5)
    expected = (n_reference + n_query - 1) * gammainc(best.n_votes / clump, mean / clump)
    assert best.p_value == pytest.approx(min(1.0, expected), rel=1e-9)
    assert expected > 0


def test_an_empty_index_and_an_empty_query_have_no_matches():
    none = (np.zeros(0, np.uint16), np.zeros(0, np.uint32))
    empty = SpectralHashIndex.build(*none, np.zeros(0, int), np.zeros(0, int))
    assert empty.match(np.uint16([3]), np.uint32([4])) == []
    assert build_index([(np.uint16([3]), np.uint32([4]))]).match(*none) == []


def test_an_index_is_saved_and_loaded(tmp_path, rng):
    index = build_index([random_peaks(rng, 60, 20, 90) for _ in range(3)])
    index.save(tmp_path)
    query = random_peaks(rng, 30, 20, 40)
    assert SpectralHashIndex.load(tmp_path).match(*query) == index.match(*query) != []


def test_planted_queries_are_matches_and_unknown_ones_are_not(tracks, rng):
    index = build_index([extract_peaks(track, SMALL) for track in tracks[:6]])
    for i, track in enumerate(tracks):
        start = int(3.217 * RATE_HZ)
        query = track[start : start + 5 * RATE_HZ]
        query = query + rng.normal(scale=0.2 * query.std(), size=len(query)).astype(np.float32)
        best = index.match(*extract_peaks(query, SMALL), top_k=1)[0]
        if i < 6:
            assert best.track_index == i
            assert best.offset_frames * SMALL.hop_s == pytest.approx(3.217, abs=2 * SMALL.hop_s)
            assert best.p_value < 1e-6
        else:
            assert best.p_value > 0.001 or best.n_votes < SMALL.min_votes


def test_votes_that_cannot_be_told_from_chance_are_no_evidence():
    """Two peaks, and nothing else in either: where nothing was seen, chance is not impossible."""
    index = build_index([(np.uint16([30, 50]), np.uint32([100, 140]))])
    (best,) = index.match(np.uint16([30]), np.uint32([0]))
    assert (best.n_votes, best.offset_frames) == (1, 100)
    assert best.p_value > 0.5


# ----------------------------------------------------------------------------- the recogniser


@pytest.fixture(scope="module")
def music(tmp_path_factory, tracks):
    folder = tmp_path_factory.mktemp("music")
    for i, samples in enumerate(tracks[:4]):
        soundfile.write(folder / f"{i}.wav", samples, RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory, music):
    folder = tmp_path_factory.mktemp("built") / "songs.index"
    create_or_open(folder, method="spectral_hash").add_files([music], progress=False)
    return folder


def test_a_clip_is_found_at_its_second(built, tracks, music):
    recognizer = open_recognizer(built)
    assert (recognizer.method, recognizer.sample_rate_hz) == ("spectral_hash", 44_100)
    clip = tracks[2][4 * RATE_HZ : 9 * RATE_HZ]
    answer = recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    assert answer.verdict == "match"
    assert answer.matches[0].track == str(music / "2.wav")
    assert answer.matches[0].reference_start_s == pytest.approx(4.0, abs=0.02)
    unknown = recognizer.identify(tracks[7][: 5 * RATE_HZ], sample_rate_hz=RATE_HZ)
    assert unknown.verdict == "no_match"


def test_the_sorted_index_is_kept_and_read_again(built, tracks, tmp_path, monkeypatch):
    index = shutil.copytree(built, tmp_path / "i")
    shutil.rmtree(index / "derived", ignore_errors=True)
    clip = tracks[1][: 5 * RATE_HZ]
    first = open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ)
    (cached,) = (index / "derived").glob("*/spectral_hash")
    with monkeypatch.context() as patch:
        patch.setattr(SpectralHashIndex, "build", None)
        assert open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ) == first
    (cached / "frames.npy").write_bytes(b"not numpy")
    assert open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ) == first


def test_an_index_of_short_references(tmp_path, music, tracks):
    settings = dataclasses.replace(SMALL, reference_duration_s=5.0)
    SpectralHashRecognizer.create(tmp_path / "i", settings).add_files([music], progress=False)
    recognizer = open_recognizer(tmp_path / "i")
    assert recognizer.settings == settings
    frames = recognizer.store.column("frames")
    assert frames.max() < 5.0 / SMALL.hop_s
    early, late = (
        recognizer.identify(tracks[1][start * RATE_HZ : (start + 4) * RATE_HZ]) for start in (1, 8)
    )
    assert (early.verdict, late.verdict) == ("match", "no_match")


def test_a_file_without_peaks_is_reported(built, tmp_path):
    index = shutil.copytree(built, tmp_path / "i")
    soundfile.write(tmp_path / "scrap.wav", np.full(200, 0.1), RATE_HZ)
    report = open_recognizer(index).add_files([tmp_path / "scrap.wav"], progress=False)
    assert "no spectral peaks that spectral hashes could be made of" in report.failed[0][1]


def test_silence_and_empty_indexes(built, tmp_path):
    with pytest.raises(AudioError, match="silent"):
        open_recognizer(built).identify(np.zeros(44_100))
    empty = create_or_open(tmp_path / "i", method="spectral_hash")
    assert empty.identify(np.ones(44_100)).matches == []


def test_what_does_not_go_with_spectral_hashing_is_refused(built, tmp_path):
    with pytest.raises(StoreError, match="index of spectral hashes, which has no model"):
        open_recognizer(built, model=tmp_path)
    with pytest.raises(StoreError, match="of the method 'spectral_hash', not 'landmarks'"):
        create_or_open(built, method="landmarks")
    for choice in ({"preset": "wang"}, {"model": tmp_path}, {"dtype": "float16"}):
        with pytest.raises(FingerprintError, match=f"'spectral_hash' has no {next(iter(choice))}"):
            create_or_open(tmp_path / "new", method="spectral_hash", **choice)
    with pytest.raises(FingerprintError, match="no method 'tarot'; choose one of both, landmarks"):
        create_or_open(tmp_path / "new", method="tarot")
    assert not (tmp_path / "new").exists()


def test_settings_of_another_version_are_refused(tmp_path):
    header = {"method": "spectral_hash", "settings": {"n_stars": 3}}
    Store.create(tmp_path / "i", header, SpectralHashRecognizer.columns)
    with pytest.raises(StoreError, match="not those of spectral hashes"):
        open_recognizer(tmp_path / "i")
