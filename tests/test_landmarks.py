"""Landmarks against brute force, and the invariances and limits that they promise."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from fingerprint.errors import ConfigError
from fingerprint.inverted_index import InvertedIndexError
from fingerprint.landmark_index import Hits, LandmarkIndex
from fingerprint.landmark_peaks import (
    COARSE_STEPS_PER_DB,
    chunk_frames,
    coarse_levels,
    decaying_threshold_peaks,
    neighbourhood_peaks,
    power_spectrogram,
    running_maximum,
)
from fingerprint.landmarks import (
    PRESETS,
    LandmarkSettings,
    extract_landmarks,
    extract_landmarks_from_blocks,
    extract_query_landmarks,
)

DEFAULT = PRESETS["default"]
NO_LANDMARKS = np.zeros(0, np.uint32)
presets = pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)


def make_music(seed, duration_s, sample_rate_hz):
    """Notes with partials, decays and glides over a little noise: (n,) float32."""
    rng = np.random.default_rng(seed)
    n = int(duration_s * sample_rate_hz)
    music = 1e-3 * rng.standard_normal(n)
    for _ in range(int(8 * duration_s)):
        start = rng.integers(0, n)
        time_s = np.arange(min(n - start, int(rng.uniform(0.1, 1.0) * sample_rate_hz)))
        time_s = time_s / sample_rate_hz
        pitch_hz = rng.uniform(100, 1200) * 2 ** (rng.uniform(-0.5, 0.5) * time_s)
        for partial in range(1, 4):
            tone = np.sin(2 * np.pi * partial * pitch_hz * time_s + rng.uniform(0, 6))
            music[start : start + len(tone)] += rng.uniform(0, 0.1) * tone * np.exp(-4 * time_s)
    return music.astype(np.float32)


def build_index(tracks, settings):
    landmarks = [extract_landmarks(track, settings) for track in tracks]
    n_rows = np.array([len(hashes) for hashes, _ in landmarks])
    hashes, frames = (np.concatenate(column) for column in zip(*landmarks, strict=True))
    return LandmarkIndex.build(hashes, frames, np.cumsum(n_rows) - n_rows, n_rows)


def match(index, samples, settings, top_k=5):
    hashes, frames = extract_query_landmarks(samples, settings)
    return index.match(hashes, frames, top_k, settings.match_window_frames)


def test_running_maximum_is_that_of_scipy(rng):
    values = rng.integers(-99, 99, (23, 31)).astype(np.int16)
    for half_width in (0, 1, 2, 5, 40):
        for axis in (0, 1):
            expected = scipy.ndimage.maximum_filter1d(
                values, 2 * half_width + 1, axis, mode="nearest"
            )
            np.testing.assert_array_equal(running_maximum(values, half_width, axis), expected)


def test_neighbourhood_peaks_are_the_highest_of_their_rectangle(rng):
    levels = rng.permutation(40 * 30).reshape(40, 30).astype(np.int16)
    expected = [
        (t, f)
        for t in range(40)
        for f in range(30)
        if levels[t, f] == levels[max(0, t - 3) : t + 4, max(0, f - 5) : f + 6].max()
    ]
    assert list(zip(*neighbourhood_peaks(levels, 3, 5), strict=True)) == expected


def test_coarse_levels_are_a_logarithm(rng):
    power = (10 ** rng.uniform(-12, 6, (20, 50))).astype(np.float32)
    error_db = coarse_levels(power) / COARSE_STEPS_PER_DB - 10 * np.log10(power)
    assert np.ptp(error_db) < 0.3


def test_power_spectrogram_is_that_of_a_plain_transform(rng):
    samples = rng.standard_normal(3000).astype(np.float32)
    window = np.hanning(258)[1:-1].astype(np.float32)
    power = power_spectrogram(samples, window, 100)
    expected = [
        abs(np.fft.rfft(samples[start : start + 256] * window)) ** 2
        for start in range(0, 3000 - 255, 100)
    ]
    np.testing.assert_allclose(power, expected, rtol=1e-3, atol=1e-4)


def walk_of_audfprint(levels, decay, spread_bins, peaks_per_frame):
    """The decaying threshold in plain loops over plain lists, as published."""
    n_frames, n_bins = levels.shape

    def is_maximum(row, f):
        return (f == 0 or row[f] > row[f - 1]) and (f == n_bins - 1 or row[f] >= row[f + 1])

    def raised(threshold, f, height):
        return [
            max(old, height * np.exp(-0.5 * ((g - f) / spread_bins) ** 2))
            for g, old in enumerate(threshold)
        ]

    def start(row):
        threshold = [0.0] * n_bins
        for f in range(n_bins):
            if is_maximum(row, f):
                threshold = raised(threshold, f, row[f])
        return threshold

    peaks = set()
    threshold = start(levels[:10].max(axis=0))
    for t in range(n_frames):
        row = levels[t]
        found = [f for f in range(n_bins) if is_maximum(row, f) and row[f] > threshold[f]]
        for f in sorted(found, key=lambda f: -row[f])[:peaks_per_frame]:
            threshold = raised(threshold, f, row[f])
            peaks.add((t, f))
        threshold = [decay * old for old in threshold]
    threshold = start(levels[-1])
    for t in reversed(range(n_frames)):
        for f in sorted([f for s, f in peaks if s == t], key=lambda f: -levels[t, f]):
            if levels[t, f] >= threshold[f]:
                threshold = raised(threshold, f, levels[t, f])
                peaks.discard((t + 1, f))
            else:
                peaks.discard((t, f))
        threshold = [decay * old for old in threshold]
    return sorted(peaks)


def test_decaying_threshold_is_the_published_walk(rng):
    levels = rng.standard_normal((60, 40)).astype(np.float32)
    expected = walk_of_audfprint(levels, 0.93, 6.0, 3)
    assert 20 < len(expected) < 200
    assert list(zip(*decaying_threshold_peaks(levels, 0.93, 6.0, 3), strict=True)) == expected


@pytest.mark.parametrize("max_df_bins", [32, None])
def test_pairs_are_the_first_of_the_target_zone(monkeypatch, rng, max_df_bins):
    settings = dataclasses.replace(
        DEFAULT, max_df_bins=max_df_bins, max_dt_frames=20, hash_bits=(9, 9, 5), fan_out=3
    )
    points = np.unique(rng.integers(0, (120, 512), (300, 2)), axis=0)
    monkeypatch.setattr(
        "fingerprint.landmarks._find_peaks", lambda samples, settings: tuple(points.T)
    )
    expected = set()
    for t1, f1 in points:
        zone = [
            (t2, f2)
            for t2, f2 in points
            if settings.min_dt_frames <= t2 - t1 <= 20
            and (max_df_bins is None or abs(f2 - f1) < max_df_bins)
        ]
        for t2, f2 in zone[:3]:
            second = f2 if max_df_bins is None else f2 - f1 + max_df_bins
            expected.add((t1, (f1 * 512 + second) * 32 + t2 - t1))
    hashes, frames = extract_landmarks(np.zeros(0, np.float32), settings)
    assert list(zip(frames, hashes, strict=True)) == sorted(expected)


@presets
def test_blocks_give_the_landmarks_of_the_whole(settings, rng):
    n_frames = 3 * chunk_frames(settings.n_fft, settings.context_frames) + 77
    duration_s = n_frames * settings.hop_s
    samples = make_music(1, duration_s, settings.sample_rate_hz)
    whole = extract_landmarks(samples, settings)
    borders = np.sort(rng.integers(0, len(samples), 9))
    blocks = extract_landmarks_from_blocks(iter(np.split(samples, borders)), settings)
    assert len(whole[0]) > duration_s
    np.testing.assert_array_equal(whole, blocks)


def test_chunks_give_the_landmarks_of_one_spectrogram(monkeypatch):
    samples = make_music(2, 40.0, DEFAULT.sample_rate_hz)
    in_chunks = extract_landmarks(samples, DEFAULT)
    monkeypatch.setattr("fingerprint.landmark_peaks._VALUES_PER_CHUNK", 2**40)
    assert chunk_frames(DEFAULT.n_fft, DEFAULT.context_frames) * DEFAULT.hop_s > 40
    np.testing.assert_array_equal(in_chunks, extract_landmarks(samples, DEFAULT))


@pytest.mark.parametrize("name", ["default", "wang", "audfprint"])
@pytest.mark.parametrize("gain", [2.0**-9, 8.0])
def test_gain_changes_nothing(name, gain):
    settings = PRESETS[name]
    samples = make_music(3, 12.0, settings.sample_rate_hz)
    np.testing.assert_array_equal(
        extract_landmarks(samples, settings),
        extract_landmarks(np.float32(gain) * samples, settings),
    )


@pytest.mark.parametrize("name", ["default", "wang", "dejavu"])
@pytest.mark.parametrize("shift_frames", [1, 13, 400])
def test_shift_by_hops_moves_the_landmarks_alone(name, shift_frames):
    settings = PRESETS[name]
    samples = make_music(4, 40.0, settings.sample_rate_hz)
    shift = shift_frames * settings.hop_length
    hashes, frames = extract_landmarks(samples, settings)
    moved_hashes, moved_frames = extract_landmarks(samples[shift:], settings)
    edge = settings.context_frames
    inner, moved = frames >= shift_frames + edge, moved_frames >= edge
    assert inner.sum() > 20
    np.testing.assert_array_equal(hashes[inner], moved_hashes[moved])
    np.testing.assert_array_equal(frames[inner] - shift_frames, moved_frames[moved])


@presets
@pytest.mark.parametrize("n_samples", [0, 1, 100, 44100])
def test_silence_has_no_landmarks(settings, n_samples):
    for extract in (extract_landmarks, extract_query_landmarks):
        hashes, frames = extract(np.zeros(n_samples, np.float32), settings)
        assert hashes.dtype == frames.dtype == np.uint32
        assert len(hashes) == len(frames) == 0


@presets
def test_audio_shorter_than_a_frame_has_no_landmarks(settings, rng):
    samples = rng.standard_normal(settings.n_fft - 1).astype(np.float32)
    assert len(extract_landmarks(samples, settings)[0]) == 0


@pytest.mark.parametrize("name", ["default", "wang", "dejavu"])
def test_clicks_have_no_landmarks(name):
    settings = PRESETS[name]
    samples = np.zeros(5 * settings.sample_rate_hz, np.float32)
    samples[[12_345, 23_456, 31_111]] = (0.9, -0.5, 0.7)
    assert len(extract_landmarks(samples, settings)[0]) == 0


@presets
def test_a_planted_query_is_found_at_its_second(settings):
    rate_hz = settings.sample_rate_hz
    tracks = [make_music(seed, 20.0, rate_hz) for seed in range(10, 14)]
    index = build_index(tracks, settings)
    start = int(7.317 * rate_hz)
    query = tracks[2][start : start + 6 * rate_hz]
    noise = np.random.default_rng(0).standard_normal(len(query)) * 0.02 * query.std()
    best = match(index, query + noise.astype(np.float32), settings)[0]
    assert best.track_index == 2
    assert abs(best.offset_frames * settings.hop_s - 7.317) <= settings.hop_s
    assert best.n_aligned >= settings.min_aligned
    assert best.p_value <= 0.001


def test_a_query_may_begin_before_the_track():
    tracks = [make_music(seed, 15.0, DEFAULT.sample_rate_hz) for seed in (20, 21)]
    lead_in = make_music(22, 3.0, DEFAULT.sample_rate_hz)
    query = np.concatenate([lead_in, tracks[1][: 5 * DEFAULT.sample_rate_hz]])
    best = match(build_index(tracks, DEFAULT), query, DEFAULT)[0]
    assert best.track_index == 1
    assert abs(best.offset_frames * DEFAULT.hop_s + 3.0) <= DEFAULT.hop_s


def brute_force_match(references, query, window):
    """Best (track, votes) by a dictionary of offsets, each reference landmark once a window."""
    best = {}
    for track, (hashes, frames) in enumerate(references):
        hits = {
            (row, int(frame) - int(query_frame))
            for query_hash, query_frame in zip(*query, strict=True)
            for row, (hash_, frame) in enumerate(zip(hashes, frames, strict=True))
            if hash_ == query_hash
        }
        for _, middle in hits:
            rows = {row for row, offset in hits if abs(offset - middle) <= window}
            best[track] = max(best.get(track, 0), len(rows))
    return best


def random_landmarks(rng, n, n_hashes, n_frames):
    rows = np.unique(rng.integers(0, (n_frames, n_hashes), (n, 2)), axis=0)
    return rows[:, 1].astype(np.uint32), rows[:, 0].astype(np.uint32)


def test_matches_are_those_of_brute_force(rng):
    references = [random_landmarks(rng, 60, 40, 50) for _ in range(5)]
    query = random_landmarks(rng, 30, 40, 20)
    n_rows = np.array([len(hashes) for hashes, _ in references])
    hashes, frames = (np.concatenate(column) for column in zip(*references, strict=True))
    index = LandmarkIndex.build(hashes, frames, np.cumsum(n_rows) - n_rows, n_rows)
    expected = brute_force_match(references, query, 0)
    found = index.match(*query, top_k=5, window_frames=0)
    assert {m.track_index: m.n_aligned for m in found} == {
        t: n for t, n in expected.items() if n > 1
    }
    assert [m.n_aligned for m in found] == sorted((m.n_aligned for m in found), reverse=True)


@pytest.mark.parametrize("reach", [0, 2, 5])
def test_windows_of_a_track_are_those_of_brute_force(rng, reach):
    references = [random_landmarks(rng, 80, 30, 60) for _ in range(3)]
    hashes, frames = random_landmarks(rng, 40, 30, 20)
    n_rows = np.array([len(each) for each, _ in references])
    columns = (np.concatenate(column) for column in zip(*references, strict=True))
    index = LandmarkIndex.build(*columns, np.cumsum(n_rows) - n_rows, n_rows)
    hits = index.hits(hashes, frames)
    for track, (own_hashes, own_frames) in enumerate(references):
        met = [
            (int(r) - int(q), row)
            for row, (own, r) in enumerate(zip(own_hashes, own_frames, strict=True))
            for asked, q in zip(hashes, frames, strict=True)
            if own == asked
        ]
        expected = {}
        for first in sorted({offset for offset, _ in met}):
            near = sorted((o, row) for o, row in met if first <= o <= first + 2 * reach)
            median = near[(len(near) - 1) // 2][0]
            n_rows_near = len({row for _, row in near})
            expected[median] = max(expected.get(median, 0), n_rows_near)
        offsets, counts = index.windows(hits, track, reach)
        found = dict(zip(offsets.tolist(), counts.tolist(), strict=True))
        assert found == expected
        (best,) = (m for m in index.best(hits, 3, reach) if m.track_index == track)
        assert max(counts) >= found[best.offset_frames] >= best.n_aligned


def test_the_best_count_by_chance_is_that_of_a_simulation(rng):
    """Hits that fall evenly, in clumps of one and three quarters on average."""
    n_frames, n_query_frames, n_hits = 20_000, 100, 3_000
    index = LandmarkIndex(NO_LANDMARKS, NO_LANDMARKS, NO_LANDMARKS, np.array([n_frames], np.int64))
    n_windows = n_frames + n_query_frames
    hits = Hits(np.zeros(n_hits, np.int64), np.zeros(n_hits, np.int64), n_query_frames)
    best = []
    for _ in range(200):
        clumps = rng.integers(0, n_windows, round(n_hits / 1.75))
        per_frame = np.bincount(clumps, minlength=n_windows)
        best.append(1.75 * np.convolve(per_frame, np.ones(5), "valid").max())
    assert index.best_by_chance(hits) == pytest.approx(np.median(best), abs=1.75)
    nothing = Hits(NO_LANDMARKS, NO_LANDMARKS, 100)
    assert index.best_by_chance(nothing) == 0.0


def test_a_track_that_nothing_meets_has_no_windows():
    index = LandmarkIndex.build(
        np.uint32([1, 2]), np.uint32([0, 1]), np.array([0, 1]), np.array([1, 1])
    )
    offsets, counts = index.windows(index.hits(np.uint32([1]), np.uint32([3])), 1)
    assert len(offsets) == len(counts) == 0
    offsets, counts = index.windows(index.hits(NO_LANDMARKS, NO_LANDMARKS), 0)
    assert len(offsets) == len(counts) == 0


def test_the_p_value_is_the_formula(rng):
    hashes = np.arange(100, dtype=np.uint32)
    frames = 3 * np.arange(100, dtype=np.uint32)
    index = LandmarkIndex.build(hashes, frames, np.array([0, 60]), np.array([60, 40]))
    query_frames = np.append(frames[10:20] - 30, np.uint32([7, 90])).astype(np.uint32)
    (best,) = index.match(np.append(hashes[10:20], hashes[[30, 31]]), query_frames, 5, 2)
    expected_hits = 12 * 5 / 178  # the track has 178 frames, the query 91
    n_windows = 178 + 298 + 2 * 91
    # Ten hits are between five clumps and six.
    tail = scipy.stats.gamma.cdf(expected_hits / 1.75, 10 / 1.75)
    assert scipy.stats.poisson.sf(6 - 1, expected_hits / 1.75) < tail
    assert tail < scipy.stats.poisson.sf(5 - 1, expected_hits / 1.75)
    assert (best.track_index, best.offset_frames, best.n_aligned, best.n_hits) == (0, 30, 10, 12)
    assert best.p_value == pytest.approx(n_windows * tail, rel=1e-9)


def test_unknown_queries_are_no_match(rng):
    tracks = [make_music(seed, 20.0, DEFAULT.sample_rate_hz) for seed in range(30, 40)]
    index = build_index(tracks, DEFAULT)
    unknown = [make_music(seed, 3.0, DEFAULT.sample_rate_hz) for seed in range(100, 160)]
    unknown += [rng.standard_normal(24_000).astype(np.float32) for _ in range(20)]
    p_values = [found.p_value for query in unknown for found in match(index, query, DEFAULT, 1)]
    assert len(p_values) > 40
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05
    assert np.mean(np.array(p_values) <= 0.01) <= 0.01


def test_the_commonest_hashes_bound_neither_time_nor_memory(monkeypatch, rng):
    n = 50_000
    hashes = np.where(rng.random(n) < 0.9, 7, rng.integers(10, 10**6, n)).astype(np.uint32)
    frames = np.arange(n, dtype=np.uint32)
    index = LandmarkIndex.build(hashes, frames, np.array([0]), np.array([n]))
    excerpt = slice(20_000, 20_400)
    n_followed = []
    ranges = LandmarkIndex._hits

    def count(self, query):
        found = ranges(self, query)
        n_followed.append(len(found[0]))
        return found

    monkeypatch.setattr(LandmarkIndex, "_hits", count)
    best = index.match(hashes[excerpt], frames[excerpt] - np.uint32(20_000))[0]
    assert abs(best.offset_frames - 20_000) <= 2
    assert best.n_aligned >= 20
    assert n_followed[0] <= 256 * 400


def test_an_index_is_saved_and_loaded(tmp_path, rng):
    hashes, frames = random_landmarks(rng, 500, 90, 400)
    index = LandmarkIndex.build(hashes, frames, np.array([0, 200]), np.array([200, 150]))
    index.save(tmp_path)
    query = hashes[210:260], frames[210:260]
    found = LandmarkIndex.load(tmp_path).match(*query)
    assert found == index.match(*query)
    assert found[0].track_index == 1


def test_a_damaged_index_is_refused(tmp_path, rng):
    hashes, frames = random_landmarks(rng, 50, 90, 400)
    LandmarkIndex.build(hashes, frames, np.array([0]), np.array([50])).save(tmp_path)
    np.save(tmp_path / "frames.npy", frames[:10])
    with pytest.raises(InvertedIndexError, match="differ in length"):
        LandmarkIndex.load(tmp_path)
    # An empty file is what a full disk or a power cut leaves.
    for content in (b"not numpy", b"", b"PK\x03\x04 an archive"):
        (tmp_path / "frames.npy").write_bytes(content)
        with pytest.raises(InvertedIndexError, match="build it again"):
            LandmarkIndex.load(tmp_path)
    with pytest.raises(InvertedIndexError, match="build it again"):
        LandmarkIndex.load(tmp_path / "missing")


def test_columns_that_do_not_fit_are_refused():
    hashes = np.zeros(5, np.uint32)
    with pytest.raises(InvertedIndexError, match="5 hashes with 4 frames"):
        LandmarkIndex.build(hashes, hashes[:4], np.array([0]), np.array([5]))
    with pytest.raises(InvertedIndexError, match="outside the 5 rows"):
        LandmarkIndex.build(hashes, hashes, np.array([3]), np.array([4]))


def test_an_empty_index_and_an_empty_query_have_no_matches():
    none = np.zeros(0, np.int64)
    empty = LandmarkIndex.build(NO_LANDMARKS, NO_LANDMARKS, none, none)
    assert empty.match(NO_LANDMARKS, NO_LANDMARKS) == []
    assert empty.match(np.uint32([1, 2]), np.uint32([0, 1])) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hop_length": 0}, "hop_length is 0"),
        ({"picker": "guess"}, "picker is 'guess'"),
        ({"min_dt_frames": 9, "max_dt_frames": 8}, "min_dt_frames is 9"),
        ({"hash_bits": (9, 6, 5)}, "hash_bits is"),
        ({"hash_bits": (12, 12, 12)}, "hash_bits is"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        dataclasses.replace(DEFAULT, **changes)


@presets
def test_settings_survive_json(settings):
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert LandmarkSettings(**stored) == settings
