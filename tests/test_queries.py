import csv

import numpy as np
import pytest
import soundfile

from fingerprint.audio import AudioError
from fingerprint.evaluation import degradations, queries
from fingerprint.file_lists import ManifestError

RATE_HZ = 8000


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), RATE_HZ, subtype="FLOAT")
    return str(path)


@pytest.fixture
def tracks(tmp_path, rng):
    return [write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 4 * RATE_HZ)) for i in range(3)]


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0])
def test_noise_is_at_the_ratio_asked_for(rng, snr_db):
    n_history, n = 500, 4000
    music, noise = rng.normal(size=(2, n_history + n)) * [[0.3], [2.0]]
    music[:n_history] *= 50  # what came before the query does not count
    query = degradations.degrade(music, noise, snr_db, [], n_history).astype(np.float64)
    # The query is a * music + b * noise: both factors by least squares.
    parts = np.stack([music[n_history:], noise[n_history:]], axis=1)
    (a, b), *_ = np.linalg.lstsq(parts, query, rcond=None)
    measured_db = 10 * np.log10(np.mean((a * parts[:, 0]) ** 2) / np.mean((b * parts[:, 1]) ** 2))
    assert measured_db == pytest.approx(snr_db, abs=1e-3)
    assert np.max(np.abs(query)) == pytest.approx(1.0)


def test_convolution_is_full_linear_and_aligned_on_the_direct_path(rng):
    samples, response = rng.normal(size=50), np.array([0.1, 0.0, -1.0, 0.5, 0.2])
    aligned = degradations.convolve_aligned(samples, response)
    for i in range(50):
        expected = sum(
            response[k] * samples[i + 2 - k] for k in range(5) if 0 <= i + 2 - k < len(samples)
        )
        assert aligned[i] == pytest.approx(expected, abs=1e-12)


def test_the_room_rings_with_what_was_before_the_query():
    music = np.zeros(300)
    music[95] = 1.0  # a click just before the query
    music[250] = 0.5
    room = np.zeros(100)
    room[[0, 20]] = 1.0, 0.8
    query = degradations.degrade(music, None, None, [room], n_history=100)
    np.testing.assert_allclose(np.flatnonzero(np.abs(query) > 1e-6), [15, 150, 170])


QUIET = queries.Surroundings()


def made(tracks, surroundings=QUIET, **kwargs):
    settings = {"n_queries": 7, "durations_s": [1.0, 2.5], "snrs_db": [0.0, 10.0], "seed": 1}
    return list(
        queries.make_queries(tracks, surroundings, sample_rate_hz=RATE_HZ, **(settings | kwargs))
    )


def test_clean_queries_are_the_excerpts_they_say(tracks):
    for query in made(tracks):
        assert query.snr_db is None
        audio, _ = soundfile.read(query.path)
        start = round(query.start_s * RATE_HZ)
        excerpt = audio[start : start + len(query.samples)]
        np.testing.assert_allclose(query.samples, excerpt / np.abs(excerpt).max(), atol=1e-5)
        np.testing.assert_array_equal(query.first(1.0), query.samples[:RATE_HZ])


def test_tracks_take_turns_and_starts_differ(tracks):
    found = made(tracks)
    per_track = [sum(q.path == path for q in found) for path in tracks]
    assert sorted(per_track) == [2, 2, 3]
    assert len({q.start_s for q in found}) == 7


def test_every_ratio_has_the_same_excerpts_and_the_seed_decides(tracks, tmp_path, rng):
    noise = write(tmp_path / "noise" / "n.wav", rng.normal(size=RATE_HZ) * 0.1)
    surroundings = queries.Surroundings(noises=[noise])
    first, again = made(tracks, surroundings), made(tracks, surroundings)
    other = made(tracks, surroundings, seed=2)
    excerpts = {snr: [(q.path, q.start_s) for q in first if q.snr_db == snr] for snr in (0, 10)}
    assert len(first) == 14
    assert excerpts[0] == excerpts[10]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.samples, two.samples)
    assert [q.start_s for q in other] != [q.start_s for q in first]


def test_silence_is_not_asked_for(tmp_path, rng):
    audio = np.zeros(10 * RATE_HZ)
    audio[4 * RATE_HZ : 8 * RATE_HZ] = rng.uniform(-0.5, 0.5, 4 * RATE_HZ)
    for query in made([write(tmp_path / "a.wav", audio)], n_queries=20):
        assert 3.0 < query.start_s < 8.0


def test_a_track_too_short_for_the_queries_is_refused(tracks):
    with pytest.raises(AudioError, match=r"wav is shorter than the longest query"):
        made(tracks, durations_s=[5.0])


def manifest(folder, rows, columns=("path", "kind", "split")):
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_a_manifest_chooses_the_files_by_kind_and_split(tmp_path, rng):
    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / name, rng.normal(size=100))
    assert len(queries.audio_of_kind(tmp_path, "music", "test")) == 3
    manifest(
        tmp_path,
        [("a.wav", "music", "train"), ("b.wav", "music", "test"), ("c.wav", "noise", "test")],
    )
    assert queries.audio_of_kind(tmp_path, "music", "test") == [str(tmp_path / "b.wav")]
    with pytest.raises(ManifestError, match="no rows of kind 'room_ir'"):
        queries.audio_of_kind(tmp_path, "room_ir", "test")


def test_a_manifest_without_a_column_is_refused(tmp_path):
    manifest(tmp_path, [("a.wav", "music")], columns=("path", "kind"))
    with pytest.raises(ManifestError, match="no column 'split'"):
        queries.audio_of_kind(tmp_path, "music", "test")
