import csv
import io
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile

from fingerprint.audio import AudioError, read_audio
from fingerprint.evaluation import degradations, lossy_codecs, queries, query_synthesis
from fingerprint.evaluation.lossy_codecs import Codec, codec_delay, round_trip
from fingerprint.evaluation.query_recipes import Chunk, NoiseExcerpt, Recipe, draw_recipes
from fingerprint.evaluation.query_settings import CONDITIONS, QuerySettings, Surroundings
from fingerprint.evaluation.query_synthesis import AudioReader, played, synthesise
from fingerprint.evaluation.reverberation import reverberation_time_s
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


@pytest.mark.parametrize(
    ("silent", "level"), [("music", 0.0), ("noise", 0.0), ("noise", 0.25 * 2.0**-15)]
)
def test_noise_is_left_out_where_there_is_no_ratio(rng, silent, level):
    """The last level is below half a step of 16 bits: rounding, not a recording."""
    n_history = 100
    music, noise = rng.normal(size=(2, 600))
    {"music": music, "noise": noise}[silent][n_history:] *= level
    query = degradations.degrade(music, noise, 0.0, [], n_history)
    expected = music[n_history:] / max(np.max(np.abs(music[n_history:])), 1e-9)
    np.testing.assert_allclose(query, expected, atol=1e-6)


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


# ----------------------------------------------------------------------------- degradations


def lag_of(changed, original):
    """Samples by which the correlation says that ``changed`` is later."""
    correlation = scipy.signal.correlate(changed, original, method="fft")
    return int(np.argmax(correlation)) - (len(original) - 1)


@pytest.fixture
def music(rng):
    """Ten seconds of noise notes with more bass than treble, at 16 kHz, peak 1."""
    n = 160_000
    sound = scipy.signal.lfilter([1], [1, -0.9], rng.normal(size=n))
    sound *= 0.2 + np.abs(np.sin(np.arange(n) / 2500))
    return (sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize(
    "codec", ["mp3:8", "mp3:24", "mp3:64", "mp3:160", "opus:6", "opus:16", "opus:64"]
)
def test_a_codec_does_not_move_the_truth(music, codec):
    changed = round_trip(music, 16_000, Codec.parse(codec))
    assert changed.shape == music.shape
    assert changed.dtype == np.float32
    assert lag_of(changed, music) == 0
    assert np.abs(changed).max() <= 1
    # It did something, and what comes out is still the music.
    assert 0.4 < np.corrcoef(changed, music)[0, 1] < 1 - 1e-7


def test_the_delay_of_a_short_mp3_frame_is_measured():
    # An encoder delay of 576 samples and a decoder delay of 529 (LAME's documentation), where
    # the frame is too short for the note that would tell the decoder.
    assert codec_delay(16_000, Codec("mp3", 16)) == 576 + 529
    assert codec_delay(16_000, Codec("mp3", 128)) == 0


@pytest.mark.parametrize("codec", ["mp3:32", "mp3:128", "opus:32", "opus:96"])
def test_the_bit_rate_is_the_one_asked_for(music, codec, monkeypatch):
    sizes = []

    class Counted(io.BytesIO):
        def seek(self, *position):
            sizes.append(len(self.getvalue()))
            return super().seek(*position)

    monkeypatch.setattr(lossy_codecs.io, "BytesIO", Counted)
    round_trip(music, 16_000, Codec.parse(codec))
    assert 8e-3 * max(sizes) / 10 == pytest.approx(Codec.parse(codec).kbit_s, rel=0.2)


@pytest.mark.parametrize("t60_s", [0.15, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("floor_db", [-np.inf, -50.0])
def test_the_reverberation_time_of_decaying_noise_is_found(rng, t60_s, floor_db):
    rate_hz = 16_000
    n = round(2 * t60_s * rate_hz)
    decay = rng.normal(size=n) * 10 ** (-3 * np.arange(n) / rate_hz / t60_s)
    response = decay + rng.normal(size=n) * 10 ** (floor_db / 20)
    delayed = np.concatenate([np.zeros(500), [5.0], response])
    assert reverberation_time_s(delayed, rate_hz) == pytest.approx(t60_s, rel=0.05)


def test_what_does_not_decay_has_no_reverberation_time(rng):
    assert reverberation_time_s(np.array([0.0, 1.0, 0.0]), 16_000) is None
    assert reverberation_time_s(rng.normal(size=16_000), 16_000) is None


def test_filters_pass_the_band_of_a_telephone(rng):
    rate_hz = 16_000
    noise = rng.normal(size=20 * rate_hz)
    filtered = degradations.limit_band(noise, rate_hz, 3400.0, 300.0)
    frequencies, before = scipy.signal.welch(noise, rate_hz, nperseg=4096)
    _, after = scipy.signal.welch(filtered, rate_hz, nperseg=4096)
    gains_db = 10 * np.log10(after / before)

    def gain_db(hz):
        near = np.abs(np.log2(np.maximum(frequencies, 1) / hz)) < 0.03
        return gains_db[near].mean()

    assert gain_db(1000) == pytest.approx(0.0, abs=0.3)
    assert gain_db(3400) == pytest.approx(-6.0, abs=0.5)
    assert gain_db(300) == pytest.approx(-6.0, abs=0.5)
    assert gain_db(150) == pytest.approx(-24.6, abs=1.5)
    assert gain_db(6800) < -24
    assert lag_of(filtered, noise) == 0


def test_clipping_leaves_the_share_asked_for_at_full_scale(music):
    clipped = degradations.clip_share(music, 0.05)
    assert np.mean(np.abs(clipped) == 1) == pytest.approx(0.05, abs=1e-4)
    inside = np.abs(clipped) < 1
    ratio = clipped[inside] / music[inside]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_automatic_gain_brings_quiet_and_loud_together():
    rate_hz = 16_000
    tone = np.sin(2 * np.pi * 440 * np.arange(8 * rate_hz) / rate_hz).astype(np.float32)
    tone[4 * rate_hz :] *= 0.05
    controlled = degradations.control_gain(tone, rate_hz)

    def level_db(samples, start_s):
        part = samples[round(start_s * rate_hz) : round((start_s + 0.5) * rate_hz)]
        return 10 * np.log10(np.mean(np.square(part)))

    assert level_db(tone, 2) - level_db(tone, 7.4) == pytest.approx(26.0, abs=0.1)
    assert level_db(controlled, 2) - level_db(controlled, 7.4) == pytest.approx(0.0, abs=0.5)
    # It takes half a second to find out that the sound has become quiet.
    assert level_db(controlled, 2) - level_db(controlled, 4.0) > 6
    assert np.abs(controlled).max() == pytest.approx(1.0)


def test_noises_at_once_are_equally_loud(rng):
    one, other = rng.normal(size=(2, 20_000)) * [[0.01], [3.0]]
    both = degradations.sum_of_noises([one, other])
    shares = [np.dot(both, x) / np.linalg.norm(x) for x in (one, other)]
    assert shares[0] == pytest.approx(shares[1], rel=0.05)
    assert degradations.sum_of_noises([]) is None


# ----------------------------------------------------------------------------- played otherwise

AS_IT_IS = dict.fromkeys(CONDITIONS)


def onsets(clicks, rate_hz):
    """Seconds of the loudest sample of each group of loud ones."""
    smooth = np.convolve(np.abs(clicks), np.ones(200) / 200, mode="same")
    peaks, _ = scipy.signal.find_peaks(smooth, height=0.3 * smooth.max(), distance=rate_hz // 5)
    return peaks / rate_hz


@pytest.mark.parametrize("name", ["speed", "tempo"])
@pytest.mark.parametrize("factor", [0.9, 1.25])
def test_faster_music_starts_where_the_truth_says(rng, name, factor):
    rate_hz = 16_000
    track = 1e-3 * rng.normal(size=12 * rate_hz).astype(np.float32)
    for at_s in np.arange(0.5, 12, 0.5):  # bursts of 20 ms
        first = round(at_s * rate_hz)
        track[first : first + 320] += rng.normal(size=320).astype(np.float32)
    music = played(track, 4 * rate_hz, rate_hz, 3 * rate_hz, rate_hz, AS_IT_IS | {name: factor})
    assert len(music) == 4 * rate_hz
    burst_s = np.arange(0.5, 12, 0.5) + 0.01
    expected_s = (burst_s - 4) / factor + 1
    expected_s = expected_s[(expected_s > 0.1) & (expected_s < 3.9)]
    found_s = onsets(music, rate_hz)
    found_s = found_s[(found_s > 0.1) & (found_s < 3.9)]
    np.testing.assert_allclose(found_s, expected_s, atol=0.02)


@pytest.mark.parametrize(
    ("name", "value", "expected_hz"),
    [("speed", 1.1, 484.0), ("tempo", 1.1, 440.0), ("pitch_semitones", 3.0, 523.25)],
)
def test_pitch_follows_speed_but_not_tempo(name, value, expected_hz):
    rate_hz = 16_000
    track = np.sin(2 * np.pi * 440 * np.arange(6 * rate_hz) / rate_hz).astype(np.float32)
    music = played(track, 2 * rate_hz, 0, 2 * rate_hz, rate_hz, AS_IT_IS | {name: value})
    spectrum = np.abs(np.fft.rfft(music * np.hanning(len(music))))
    assert np.argmax(spectrum) / 2 == pytest.approx(expected_hz, abs=1.0)


def test_without_librosa_tempo_is_refused_in_a_sentence(monkeypatch):
    degradations._librosa_effects.cache_clear()
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(degradations.DegradationError, match="pip install librosa"):
        degradations.change_tempo(np.zeros(100, np.float32), 1.1)


# ----------------------------------------------------------------------------- recipes

RATES = {"sample_rate_hz": RATE_HZ}


def recipe_of(*chunks, start=RATE_HZ, condition=AS_IT_IS, n_history=0, reverberate="all"):
    return Recipe(
        id="0", excerpt=0, track="track", start=start, sample_rate_hz=RATE_HZ,
        n_history=n_history, reverberate=reverberate, gain_control=False, chunks=chunks,
        t60_s=(), condition=condition, seed=0,
    )  # fmt: skip


def read_from(**files):
    return lambda path, sample_rate_hz: files[path]


def plain(n_samples, offset=0, noises=(), snr_db=None, room=None, device=None):
    return Chunk(n_samples, offset, noises, snr_db, room, device)


def test_each_second_has_its_own_offset(rng):
    track = rng.uniform(-0.5, 0.5, 5 * RATE_HZ).astype(np.float32)
    recipe = recipe_of(plain(RATE_HZ, 700), plain(RATE_HZ, -900), plain(RATE_HZ // 2, 0))
    made = synthesise(recipe, read_from(track=track))
    assert len(made) == 2.5 * RATE_HZ
    for first, n, offset in ((0, RATE_HZ, 700), (RATE_HZ, RATE_HZ, -900), (2 * RATE_HZ, 4000, 0)):
        own = track[RATE_HZ + first + offset :][:n]
        np.testing.assert_allclose(made[first : first + n], own / np.abs(own).max(), atol=1e-6)


def test_offsets_stay_within_the_track(rng):
    track = rng.uniform(-0.5, 0.5, 2 * RATE_HZ + 100)
    settings = QuerySettings(per="second", durations_s=(2.0,), n_queries=30, **RATES)
    recipes = list(draw_recipes(["track"], Surroundings(), settings, read_from(track=track)))
    for recipe in recipes:
        for at, chunk in zip((0, RATE_HZ), recipe.chunks, strict=True):
            first = recipe.start + at + chunk.offset
            assert 0 <= first <= len(track) - chunk.n_samples
    # Where there is room they are used: the first second can only come later.
    assert max(recipe.chunks[0].offset for recipe in recipes) > 1000
    assert min(recipe.chunks[1].offset for recipe in recipes) < -1000


def test_the_room_may_ring_with_the_music_alone(rng):
    track, noise = rng.normal(size=(2, 3 * RATE_HZ)).astype(np.float32)
    room = np.zeros(400, np.float32)
    room[[0, 300]] = 1.0, 0.9
    noises = (NoiseExcerpt("noise", 50),)
    files = read_from(track=track, noise=noise, room=room)
    n = RATE_HZ
    chunk = plain(n, noises=noises, snr_db=3.0, room="room")
    made = synthesise(recipe_of(chunk, reverberate="music"), files).astype(np.float64)
    # The query is a * (music in the room) + b * noise, by least squares.
    wet = track[n : 2 * n] + 0.9 * np.pad(track[n : 2 * n - 300], (300, 0))
    parts = np.stack([wet, noise[50 : 50 + n]], axis=1)
    (a, b), *_ = np.linalg.lstsq(parts, made, rcond=None)
    np.testing.assert_allclose(parts @ (a, b), made, atol=1e-5)
    snr_db = 10 * np.log10(np.mean((a * wet) ** 2) / np.mean((b * parts[:, 1]) ** 2))
    assert snr_db == pytest.approx(3.0, abs=1e-3)


def test_silent_seconds_stay_silent(rng):
    track = np.zeros(4 * RATE_HZ, np.float32)
    noise = rng.normal(size=RATE_HZ).astype(np.float32)
    chunk = plain(RATE_HZ, noises=(NoiseExcerpt("noise", 0),), snr_db=0.0)
    made = synthesise(recipe_of(chunk), read_from(track=track, noise=noise))
    np.testing.assert_array_equal(made, 0)


def test_the_level_is_that_of_the_peak(rng):
    track = rng.uniform(-0.5, 0.5, 4 * RATE_HZ).astype(np.float32)
    quiet = recipe_of(plain(RATE_HZ), condition=AS_IT_IS | {"level_db": -20.0})
    assert np.abs(synthesise(quiet, read_from(track=track))).max() == pytest.approx(0.1)


def test_files_are_kept_up_to_a_size(tmp_path, rng, monkeypatch):
    paths = [write(tmp_path / f"{i}.wav", rng.uniform(-1, 1, 1000)) for i in range(3)]
    opened = []
    monkeypatch.setattr(
        query_synthesis,
        "read_audio",
        lambda path, rate_hz: opened.append(paths.index(path)) or read_audio(path, rate_hz),
    )
    read = AudioReader(max_bytes=2 * 4000)
    for number in (0, 1, 0, 1, 2, 1, 0):
        assert len(read(paths[number], RATE_HZ)) == 1000
    assert opened == [0, 1, 2, 0]
