import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import soundfile
from recognizer_cases import RATE_HZ, WaveformFingerprinter, write_model

from fingerprint import cli, neural_recognizer
from fingerprint.alignment import Hypothesis
from fingerprint.audio import AudioError
from fingerprint.errors import FingerprintError
from fingerprint.identification import MAX_QUERY_S, Identification, Match
from fingerprint.inverted_index import InvertedIndex
from fingerprint.landmark_settings import PRESETS
from fingerprint.music_synthesis import synthesize_track
from fingerprint.neural_recognizer import shuffle_top
from fingerprint.recognizer import (
    LandmarkRecognizer,
    NeuralRecognizer,
    create_or_open,
    describe_index,
    open_recognizer,
)
from fingerprint.searchers import SearchError
from fingerprint.store import Store, StoreError

N_TRACKS = 6
DURATION_S = 15.0


@pytest.fixture(scope="module", autouse=True)
def quick_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_recognizer, "Fingerprinter", WaveformFingerprinter)
        yield


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("trained") / "model", identity="one")


@pytest.fixture(scope="module")
def other_model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("other") / "model", identity="another")


@pytest.fixture(scope="module")
def audio():
    return [synthesize_track(seed, DURATION_S, RATE_HZ) for seed in range(N_TRACKS)]


@pytest.fixture(scope="module")
def music(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("music")
    for i, samples in enumerate(audio):
        soundfile.write(folder / f"{i}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


METHODS = ("both", "landmarks", "neural", "spectral_hash")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, music, model_folder):
    folder = tmp_path_factory.mktemp("indexes")
    for method in METHODS:
        model = model_folder if method in ("both", "neural") else None
        recognizer = create_or_open(folder / method, method=method, model=model)
        recognizer.add_files([music], progress=False)
    return folder


@pytest.fixture(params=METHODS)
def index(request, indexes, tmp_path):
    """The folder of an index of all tracks, by each method, that a test may change."""
    return shutil.copytree(indexes / request.param, tmp_path / "songs.index")


# ----------------------------------------------------------------------------- the contract


def assert_found_at_its_second(recognizer, track, samples, min_confidence=0.999):
    """An excerpt of a track of the index is called a match, at the right place."""
    clip = samples[4 * RATE_HZ : 9 * RATE_HZ]
    answer = recognizer.identify(clip, sample_rate_hz=RATE_HZ, min_confidence=min_confidence)
    best = answer.matches[0]
    assert (answer.verdict, best.track) == ("match", str(track))
    assert best.reference_start_s == pytest.approx(4.0, abs=0.05)
    assert best.reference_end_s == pytest.approx(9.0, abs=0.05)
    assert (best.query_start_s, best.query_end_s) == (0.0, 5.0)


def test_every_track_is_found_at_its_second(index, audio, music):
    recognizer = open_recognizer(index)
    for i, samples in enumerate(audio):
        assert_found_at_its_second(recognizer, music / f"{i}.wav", samples)


def test_an_unknown_recording_is_no_match_and_ranks_below_known_ones(index, audio):
    recognizer = open_recognizer(index)
    best_known = min(
        recognizer.identify(samples[: 5 * RATE_HZ], sample_rate_hz=RATE_HZ).matches[0].score
        for samples in audio
    )
    for seed in (100, 101, 102):
        unknown = synthesize_track(seed, 5.0, RATE_HZ)
        answer = recognizer.identify(unknown, sample_rate_hz=RATE_HZ)
        assert answer.verdict == "no_match"
        assert all(match.score < best_known for match in answer.matches)


def test_an_empty_index_and_one_opened_again(index, audio, music):
    recognizer = open_recognizer(index)
    track = str(music / "0.wav")
    recognizer.remove([str(music / f"{i}.wav") for i in range(N_TRACKS)])
    clip = audio[0][: 5 * RATE_HZ]
    nothing = Identification("no_match", [])
    assert recognizer.identify(clip, sample_rate_hz=RATE_HZ) == nothing
    assert open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ) == nothing
    recognizer.add_files([track], progress=False)
    matches = open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ).matches
    assert [match.track for match in matches] == [track]


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "default"])
def test_every_preset_finds_tracks_at_their_second(preset, audio, music, tmp_path):
    recognizer = LandmarkRecognizer.create(tmp_path / "i", preset=preset)
    recognizer.add_files([music / "0.wav", music / "1.wav", music / "2.wav"], progress=False)
    # Some presets find hardly a dozen landmarks in synthesised music, which is less to go by.
    opened = open_recognizer(tmp_path / "i")
    assert_found_at_its_second(opened, music / "1.wav", audio[1], min_confidence=0.99)


SEARCHES = [
    {"alignment": "vote", "neighbours": 5, "n_shifts": 1},
    {"alignment": "vote", "neighbours": 1, "n_shifts": 1},
    {"alignment": "track_vote", "neighbours": 1, "n_shifts": 2},
    {"alignment": "best_segment", "neighbours": 3, "n_shifts": 2},
]


@pytest.mark.parametrize("search", SEARCHES)
def test_every_alignment_finds_tracks_at_their_second(search, audio, music, tmp_path):
    model = write_model(tmp_path / "model", identity="one", **search)
    recognizer = NeuralRecognizer.create(tmp_path / "i", model)
    recognizer.add_files([music], progress=False)
    for i, samples in enumerate(audio):
        assert_found_at_its_second(recognizer, music / f"{i}.wav", samples)
    unknown = synthesize_track(100, 5.0, RATE_HZ)
    assert recognizer.identify(unknown, sample_rate_hz=RATE_HZ).verdict == "no_match"


def test_candidates_are_distinct_tracks_best_first(index, audio):
    recognizer = open_recognizer(index)
    matches = recognizer.identify(audio[0][: 5 * RATE_HZ], 3, sample_rate_hz=RATE_HZ).matches
    assert 1 <= len(matches) <= 3
    assert len({match.track for match in matches}) == len(matches)
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True)


def test_a_query_that_overhangs_the_track_says_which_part_fits(index, audio, rng):
    recognizer = open_recognizer(index)
    noise = 0.01 * rng.normal(size=2 * RATE_HZ)
    before = np.concatenate([noise, audio[1][: 6 * RATE_HZ]])
    best = recognizer.identify(before, sample_rate_hz=RATE_HZ).matches[0]
    assert best.query_start_s == pytest.approx(2.0, abs=0.05)
    assert best.query_end_s == 8.0
    assert best.reference_start_s == 0.0
    after = np.concatenate([audio[1][-6 * RATE_HZ :], noise])
    best = recognizer.identify(after, sample_rate_hz=RATE_HZ).matches[0]
    assert best.query_start_s == 0.0
    assert best.query_end_s == pytest.approx(6.0, abs=0.05)
    assert best.reference_end_s == pytest.approx(DURATION_S)


def test_arrays_and_files_get_the_same_answer(index, audio, tmp_path):
    recognizer = open_recognizer(index)
    clip = audio[2][3 * RATE_HZ : 8 * RATE_HZ]
    soundfile.write(tmp_path / "clip.wav", clip, RATE_HZ, subtype="FLOAT")
    from_file = recognizer.identify_file(tmp_path / "clip.wav")
    assert from_file == recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    stereo = np.stack([clip, clip], axis=1)
    assert recognizer.identify(stereo, sample_rate_hz=RATE_HZ).matches[0].track == (
        from_file.matches[0].track
    )


def test_less_than_a_segment_is_no_error(index, audio):
    recognizer = open_recognizer(index)
    answer = recognizer.identify(audio[0][: RATE_HZ // 5], sample_rate_hz=RATE_HZ)
    assert answer.verdict in ("match", "no_match")


def test_of_a_long_query_the_beginning_is_used(index, audio):
    recognizer = open_recognizer(index)
    samples = np.tile(audio[3], 5)
    n = round(MAX_QUERY_S * RATE_HZ)
    answer = recognizer.identify(samples, sample_rate_hz=RATE_HZ)
    assert answer == recognizer.identify(samples[:n], sample_rate_hz=RATE_HZ)


@pytest.mark.parametrize("samples", [np.zeros(8000), np.zeros(0), np.full(8000, np.nan), 0.5])
def test_what_is_no_audio_is_refused(index, samples):
    with pytest.raises(AudioError):
        open_recognizer(index).identify(samples)


def test_a_sample_rate_of_zero_is_refused(index, audio):
    with pytest.raises(AudioError, match="sample rate of 0"):
        open_recognizer(index).identify(audio[0], sample_rate_hz=0)


def test_top_k_has_to_be_positive(index, audio):
    with pytest.raises(FingerprintError, match="top_k is 0"):
        open_recognizer(index).identify(audio[0], 0)


def test_removed_tracks_are_gone_and_can_come_back(index, audio, music):
    recognizer = open_recognizer(index)
    clip = audio[4][: 5 * RATE_HZ]
    track = str(music / "4.wav")
    assert recognizer.remove([track, "nobody", track]) == ([track], ["nobody"])
    answer = recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    assert track not in [match.track for match in answer.matches]
    report = recognizer.add_files([music], progress=False)
    assert (report.added, len(report.skipped)) == ([track], N_TRACKS - 1)
    assert recognizer.identify(clip, sample_rate_hz=RATE_HZ).matches[0].track == track


def test_files_that_cannot_be_read_do_not_stop_the_others(index, tmp_path, audio):
    bad, good, missing = (tmp_path / name for name in ("bad.wav", "good.wav", "missing.wav"))
    bad.write_bytes(b"RIFF")
    soundfile.write(good, audio[0][: 5 * RATE_HZ], RATE_HZ)
    report = open_recognizer(index).add_files([bad, missing, good], progress=False)
    assert report.added == [str(good)]
    assert {path for path, _ in report.failed} == {str(bad), str(missing)}
    assert all(sentence.endswith(".") for _, sentence in report.failed)


def test_a_second_writer_gets_a_sentence(index, music):
    recognizer, other = open_recognizer(index), open_recognizer(index)
    with recognizer.store.writer(), pytest.raises(StoreError, match=str(index)):
        other.remove([str(music / "0.wav")])


def test_an_index_made_by_an_unknown_method_is_refused(tmp_path):
    Store.create(tmp_path / "i", {"method": "tarot"}, {"cards": ("uint8", ())})
    with pytest.raises(StoreError, match="tarot"):
        open_recognizer(tmp_path / "i")


def test_an_index_without_its_settings_is_refused(index):
    header = json.loads((index / "store.json").read_text())
    header["recognizer"] = {"method": header["recognizer"]["method"]}
    (index / "store.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match=str(index)):
        open_recognizer(index)


# ----------------------------------------------------------------------------- the kept index


@pytest.fixture(params=["landmarks", "spectral_hash"])
def sorted_index(request, indexes, tmp_path):
    """The folder of an index whose rows are sorted for its first query and kept."""
    index = shutil.copytree(indexes / request.param, tmp_path / "i")
    shutil.rmtree(index / "derived", ignore_errors=True)
    return index


def test_others_may_read_what_the_first_query_has_kept(sorted_index, audio, music):
    (sorted_index / "derived").mkdir()
    recognizer = open_recognizer(sorted_index)
    assert_found_at_its_second(recognizer, music / "1.wav", audio[1])
    (kept,) = (sorted_index / "derived").glob(f"*/{recognizer.method}")
    assert kept.stat().st_mode == (sorted_index / "derived").stat().st_mode
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("trouble", ["full", "forbidden", "vanishes"])
def test_a_query_is_answered_though_its_index_cannot_be_kept(
    sorted_index, audio, music, monkeypatch, trouble
):
    save, make = InvertedIndex.save, tempfile.mkdtemp

    def saving(index, folder):
        if trouble == "vanishes":
            shutil.rmtree(sorted_index / "derived")
        if trouble == "full":
            (Path(folder) / "hashes.npy").touch()
            raise OSError(28, "No space left on device")
        save(index, folder)

    def making(suffix=None, prefix=None, dir=None):
        if trouble == "forbidden":
            raise PermissionError(13, "Permission denied", dir)
        return make(suffix, prefix, dir)

    monkeypatch.setattr(InvertedIndex, "save", saving)
    monkeypatch.setattr(tempfile, "mkdtemp", making)
    recognizer = open_recognizer(sorted_index)
    assert_found_at_its_second(recognizer, music / "1.wav", audio[1])
    assert not list((sorted_index / "derived").glob("*/*"))


def test_a_kept_index_that_was_cut_off_is_made_anew(sorted_index, audio, music):
    assert_found_at_its_second(open_recognizer(sorted_index), music / "1.wav", audio[1])
    (frames,) = (sorted_index / "derived").glob("*/*/frames.npy")
    frames.write_bytes(b"")
    assert_found_at_its_second(open_recognizer(sorted_index), music / "1.wav", audio[1])
    assert frames.stat().st_size


# ----------------------------------------------------------------------------- each method


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(FingerprintError, match="'nobody'; choose one of default"):
        LandmarkRecognizer.create(tmp_path / "i", preset="nobody")
    assert not (tmp_path / "i").exists()


def test_a_neural_index_carries_its_model(indexes, model_folder, other_model_folder, audio, music):
    index = indexes / "neural"
    identity = describe_index(index)["identity"]
    assert open_recognizer(index, model=model_folder).fingerprinter.identity == identity
    with pytest.raises(StoreError, match=f"made with the model {identity}"):
        open_recognizer(index, model=other_model_folder)


def test_a_neural_index_has_no_preset(indexes):
    with pytest.raises(StoreError, match="of the method 'neural', not 'wang'"):
        create_or_open(indexes / "neural", preset="wang")


def test_a_landmark_index_has_no_model(indexes, model_folder):
    with pytest.raises(StoreError, match="has no model"):
        open_recognizer(indexes / "landmarks", model=model_folder)


def test_an_index_whose_model_was_exchanged_is_refused(indexes, other_model_folder, tmp_path):
    index = shutil.copytree(indexes / "neural", tmp_path / "i")
    shutil.rmtree(index / "model")
    shutil.copytree(other_model_folder, index / "model")
    with pytest.raises(StoreError, match="restore the former"):
        open_recognizer(index)


def test_a_neural_index_appears_whole_or_not_at_all(tmp_path, model_folder, monkeypatch):
    def fails(*arguments, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copytree", fails)
    with pytest.raises((OSError, FingerprintError), match="disk full"):
        NeuralRecognizer.create(tmp_path / "i", model_folder)
    assert not list(tmp_path.iterdir())


def test_a_neural_index_does_not_take_the_place_of_something(tmp_path, model_folder):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "letter.txt").write_text("Dear Mother")
    with pytest.raises(StoreError, match="choose a new folder"):
        NeuralRecognizer.create(tmp_path / "i", model_folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["i", "letter.txt"]
    with pytest.raises(StoreError, match="cannot be written"):
        NeuralRecognizer.create(tmp_path / "i" / "letter.txt" / "i", model_folder)


def test_the_verdict_is_on_the_part_of_a_query_within_the_track(indexes, audio, music, rng):
    """Most of this query comes before the track: of all its segments a few fit, but fit well."""
    noise = rng.normal(scale=0.1, size=8 * RATE_HZ)
    query = np.r_[noise, audio[1][: 4 * RATE_HZ]]
    answer = open_recognizer(indexes / "neural").identify(query, sample_rate_hz=RATE_HZ)
    assert answer.verdict == "match"
    assert answer.matches[0].score < 0.5
    assert answer.matches[0].track == str(music / "1.wav")
    assert answer.matches[0].query_start_s == pytest.approx(8.0, abs=0.05)


# Only a lead makes a match; a score by itself, whatever it is, does not.
LEADS_ALONE = {
    "n_segments": [1],
    "score_mean": [1.5],
    "score_std": [0.3],
    "score_growth": [0.1],
    "lead_mean": [0.1],
    "lead_std": [0.05],
    "n_reference_segments": 500,
    "n_tracks": 29,
}


@pytest.mark.parametrize("n_copies", range(2, 9))
def test_copies_of_a_recording_do_not_spoil_its_lead(
    indexes, audio, music, tmp_path, monkeypatch, n_copies
):
    monkeypatch.setattr(WaveformFingerprinter, "calibration", LEADS_ALONE)
    index = shutil.copytree(indexes / "neural", tmp_path / "i")
    clip = audio[1][4 * RATE_HZ : 9 * RATE_HZ]
    alone = open_recognizer(index).identify(clip, sample_rate_hz=RATE_HZ)
    copies = [str(music / "1.wav")]
    for i in range(1, n_copies):
        copies.append(str(tmp_path / f"{i}.wav"))
        # Each is cut by another number of hops and another gain.
        beginning = i * RATE_HZ // 2
        soundfile.write(copies[-1], audio[1][beginning:] / i, RATE_HZ, subtype="FLOAT")
    recognizer = open_recognizer(index)
    recognizer.add_files(copies[1:], progress=False)
    answer = recognizer.identify(clip, n_copies, sample_rate_hz=RATE_HZ)
    assert {match.track for match in answer.matches} == set(copies)
    assert answer.verdict == alone.verdict == "match"
    for match in answer.matches:
        assert match.confidence == pytest.approx(alone.confidence, abs=1e-6)


def test_where_few_others_are_left_copies_stand_in(indexes, audio, music, tmp_path, monkeypatch):
    """Three others and two copies are five, of which an other is the median."""
    monkeypatch.setattr(WaveformFingerprinter, "calibration", LEADS_ALONE)
    recognizer = open_recognizer(shutil.copytree(indexes / "neural", tmp_path / "i"))
    recognizer.remove([str(music / "4.wav"), str(music / "5.wav")])
    clip = audio[1][4 * RATE_HZ : 9 * RATE_HZ]
    assert recognizer.identify(clip, sample_rate_hz=RATE_HZ).verdict == "no_match"
    for name in ("a.wav", "b.wav"):
        shutil.copy(music / "1.wav", tmp_path / name)
    recognizer.add_files([tmp_path / "a.wav", tmp_path / "b.wav"], progress=False)
    assert recognizer.identify(clip, sample_rate_hz=RATE_HZ).verdict == "match"


def test_a_short_track_in_a_long_query_had_as_many_tries(audio, tmp_path, monkeypatch, rng):
    """The same two seconds fit by chance the more easily the more there is around them."""
    calibration = LEADS_ALONE | {"score_mean": [0.5], "score_std": [0.1]}
    monkeypatch.setattr(WaveformFingerprinter, "calibration", calibration)
    model = write_model(tmp_path / "model", identity="one")
    recognizer = NeuralRecognizer.create(tmp_path / "i", model)
    for i, samples in enumerate(audio):
        soundfile.write(tmp_path / f"{i}.wav", samples[: 2 * RATE_HZ], RATE_HZ, subtype="FLOAT")
    recognizer.add_files([tmp_path / f"{i}.wav" for i in range(N_TRACKS)], progress=False)

    def p_value(noise_s):
        noise = 0.1 * rng.normal(size=noise_s * RATE_HZ)
        query = np.r_[noise, audio[1][: 2 * RATE_HZ]]
        (best,) = recognizer.identify(query, 1, sample_rate_hz=RATE_HZ).matches
        assert best.track == str(tmp_path / "1.wav")
        assert best.query_start_s == pytest.approx(noise_s, abs=0.05)
        return best.p_value

    # Tracks have three rows, and a query of n seconds 2 n - 1 segments.
    n_places = {noise_s: N_TRACKS * (3 + 2 * (noise_s + 2) - 2) for noise_s in (4, 40)}
    scale = 0.1 * np.sqrt(6) / np.pi
    growth = {noise_s: 0.1 * np.log(4 * n / 500) for noise_s, n in n_places.items()}
    for noise_s, grown in growth.items():
        expected = scipy.stats.gumbel_r.sf(1.0, 0.5 + grown - np.euler_gamma * scale, scale)
        assert p_value(noise_s) == pytest.approx(expected, rel=1e-2)


def test_silence_in_a_query_speaks_for_no_track(indexes, audio, music, tmp_path, model_folder):
    """All silent segments are alike; a track that begins silently must not win by that."""
    recognizer = NeuralRecognizer.create(tmp_path / "i", model_folder)
    soundfile.write(tmp_path / "late.wav", np.r_[np.zeros(8 * RATE_HZ), audio[1]], RATE_HZ)
    recognizer.add_files([tmp_path / "late.wav", music / "0.wav"], progress=False)
    query = np.r_[audio[0][5 * RATE_HZ : 7 * RATE_HZ], np.zeros(6 * RATE_HZ)]
    best = recognizer.identify(query, sample_rate_hz=RATE_HZ).matches[0]
    assert best.track == str(music / "0.wav")
    assert best.reference_start_s == pytest.approx(5.0, abs=0.05)


def test_shifts_find_queries_between_two_segments(indexes, audio, music):
    recognizer = open_recognizer(indexes / "neural")
    for start_s in (3.125, 3.25, 3.375):
        start = round(start_s * RATE_HZ)
        clip = audio[5][start : start + 4 * RATE_HZ]
        best = recognizer.identify(clip, sample_rate_hz=RATE_HZ).matches[0]
        assert best.track == str(music / "5.wav")
        assert best.reference_start_s == pytest.approx(start_s, abs=0.05)
        # All but the last segment fit, which a shift moves beyond the query's end.
        assert best.score > 6 / 7 - 0.05


def test_shifted_segments_reach_into_a_reflection_of_the_query(indexes, audio, monkeypatch):
    """Never into silence, and by a quarter of a second at most: half of a hop."""
    asked = []
    embed = WaveformFingerprinter.embed_segments

    def keep(self, segments):
        asked.append(segments)
        return embed(self, segments)

    monkeypatch.setattr(WaveformFingerprinter, "embed_segments", keep)
    clip = audio[5][3 * RATE_HZ : 4 * RATE_HZ].astype(np.float32)
    recognizer = open_recognizer(indexes / "neural")
    recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    mirrored = np.r_[clip[:0:-1], clip, clip[-2::-1]]
    starts_s = (-0.125, 0.0, 0.125, 0.25)
    begins = [len(clip) - 1 + round(start_s * RATE_HZ) for start_s in starts_s]
    expected = [mirrored[begin : begin + RATE_HZ] for begin in begins]
    np.testing.assert_array_equal(np.concatenate(asked), expected)


@pytest.mark.parametrize("start_s", [0.0, 3.0, 3.125, 3.25, 3.375])
def test_one_second_is_found_at_its_place(indexes, audio, music, start_s):
    start = round(start_s * RATE_HZ)
    clip = audio[5][start : start + RATE_HZ]
    (best, *_) = open_recognizer(indexes / "neural").identify(clip, sample_rate_hz=RATE_HZ).matches
    assert best.track == str(music / "5.wav")
    assert best.reference_start_s == pytest.approx(start_s, abs=0.05)


def test_a_query_is_fingerprinted_and_searched_as_its_model_says(audio, music, tmp_path):
    model = write_model(tmp_path / "model", identity="one", n_shifts=3, neighbours=2)
    recognizer = NeuralRecognizer.create(tmp_path / "i", model)
    recognizer.add_files([music / "0.wav", music / "1.wav"], progress=False)
    start = round((3 + 1 / 3) * RATE_HZ)
    clip = audio[1][start : start + 4 * RATE_HZ]
    best = recognizer.identify(clip, sample_rate_hz=RATE_HZ).matches[0]
    # A third of a hop before the next segment of the track: found at its place by 2 of 3 shifts.
    assert best.reference_start_s == pytest.approx(3 + 1 / 3, abs=0.05)
    # "auto" may do without neighbours.
    recognizer = open_recognizer(tmp_path / "i", searcher="exact")
    searched = []
    searcher = recognizer._open_searcher()
    search = searcher.search
    searcher.search = lambda queries, k: searched.append((len(queries), k)) or search(queries, k)
    recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    assert searched == [(3 * 7, 2)]


def test_the_best_tracks_are_shuffled_where_the_model_says_so(indexes, audio):
    ordered, shuffled = (open_recognizer(indexes / "neural") for _ in range(2))
    shuffled.fingerprinter.config.search.shuffled_top = 3
    places = []
    for samples in audio:
        clip = samples[: 2 * RATE_HZ]
        best_first, found = (
            [match.track for match in each.identify(clip, sample_rate_hz=RATE_HZ).matches]
            for each in (ordered, shuffled)
        )
        assert set(found[:3]) == set(best_first[:3])
        assert found[3:] == best_first[3:]
        (first,) = shuffled.identify(clip, 1, sample_rate_hz=RATE_HZ).matches
        assert first.track == found[0]
        places.append(best_first.index(found[0]))
    assert len(set(places)) > 1


def test_each_of_the_shuffled_tracks_is_first_as_often(rng):
    """Rice's search, of which the first answer is any of the three best."""
    hypotheses = [Hypothesis(track, 0, 0, 0.5, 1, 1) for track in range(5)]
    queries = rng.normal(size=(600, 8)).astype(np.float32)
    found = [[h.track for h in shuffle_top(hypotheses, 3, query)] for query in queries]
    assert found == [[h.track for h in shuffle_top(hypotheses, 3, query)] for query in queries]
    assert {tuple(each[3:]) for each in found} == {(3, 4)}
    counts = np.bincount([each[0] for each in found])
    assert len(counts) == 3 and counts.min() > 160
    assert shuffle_top(hypotheses, 0, queries[0]) == hypotheses
    assert shuffle_top([], 3, queries[0]) == []


def test_the_memory_of_a_query_is_bounded(indexes, audio, monkeypatch):
    recognizer = open_recognizer(indexes / "neural")
    clip = audio[2][: 9 * RATE_HZ]
    expected = recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    sizes = []
    embed = recognizer.fingerprinter.embed_segments
    recognizer.fingerprinter.embed_segments = lambda each: sizes.append(len(each)) or embed(each)
    monkeypatch.setattr(neural_recognizer, "MAX_BATCH_SAMPLES", 15 * RATE_HZ)
    answer = recognizer.identify(clip, sample_rate_hz=RATE_HZ)
    assert sizes == [12] * 5 + [8]
    assert [match.track for match in answer.matches] == [match.track for match in expected.matches]
    for match, same in zip(answer.matches, expected.matches, strict=True):
        assert match.score == pytest.approx(same.score, abs=1e-5)


def test_hash_buckets_take_the_codes_of_the_model(indexes, audio, music, monkeypatch):
    recognizer = open_recognizer(indexes / "neural", searcher="hash_buckets")
    with pytest.raises(SearchError, match="no hash head"):
        recognizer.identify(audio[1][: 3 * RATE_HZ])
    encoded = []

    def codes(self, embeddings):
        encoded.append(len(embeddings))
        return embeddings[:, :4] / np.linalg.norm(embeddings[:, :4], axis=1, keepdims=True)

    monkeypatch.setattr(WaveformFingerprinter, "codes", codes, raising=False)
    monkeypatch.setattr(WaveformFingerprinter, "has_codes", True)
    recognizer = open_recognizer(indexes / "neural", searcher="hash_buckets")
    assert_found_at_its_second(recognizer, music / "3.wav", audio[3])
    assert encoded[0] == recognizer.store.n_rows


def test_a_hash_head_of_the_same_model_serves_an_index_without_one(
    indexes, tmp_path, audio, music, model_folder, monkeypatch
):
    encoded = []

    def codes(self, embeddings):
        encoded.append(len(embeddings))
        return embeddings[:, :4] / np.linalg.norm(embeddings[:, :4], axis=1, keepdims=True)

    monkeypatch.setattr(WaveformFingerprinter, "codes", codes, raising=False)
    with_head = write_model(tmp_path / "head" / "model", identity="one", has_codes=True)
    recognizer = open_recognizer(indexes / "neural", model=with_head, searcher="hash_buckets")
    assert_found_at_its_second(recognizer, music / "3.wav", audio[3])
    assert encoded[0] == recognizer.store.n_rows
    recognizer = open_recognizer(indexes / "neural", model=model_folder, searcher="hash_buckets")
    with pytest.raises(SearchError, match="no hash head"):
        recognizer.identify(audio[1][: 3 * RATE_HZ])


def run(capsys, *arguments):
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_line_refuses_another_model(
    indexes, tmp_path, music, model_folder, other_model_folder, capsys
):
    index = shutil.copytree(indexes / "neural", tmp_path / "i")
    query = ["query", index, music / "0.wav", "--format", "json", "--model"]
    status, out, _ = run(capsys, *query, model_folder)
    assert status == 0
    assert json.loads(out)["matches"][0]["track"] == str(music / "0.wav")
    for arguments in (query, ["index", index, music, "--model"]):
        status, out, err = run(capsys, *arguments, other_model_folder)
        assert (status, out) == (1, "")
        assert "do not compare" in err


def test_the_command_line_generates_shards_that_are_indexes(tmp_path, music, model_folder, capsys):
    shards = [tmp_path / "0", tmp_path / "1"]
    for i, shard in enumerate(shards):
        arguments = ["generate", shard, music, "--model", model_folder, "--shard", f"{i}/2"]
        status, out, _ = run(capsys, *arguments, "--dtype", "float16")
        assert (status, out) == (0, "3 added, 0 already there, 0 failed\n")
        assert run(capsys, "query", shard, music / f"{i}.wav")[1].count(f"{i}.wav: match") == 1
        assert run(capsys, *arguments)[1] == "0 added, 3 already there, 0 failed\n"
        status, _, err = run(capsys, *arguments, "--dtype", "float32")
        assert status == 1
        assert "'float16', not 'float32'" in err
    tracks = [track.name for shard in shards for track in Store.open(shard).tracks]
    assert sorted(tracks) == [str(music / f"{i}.wav") for i in range(N_TRACKS)]


def test_the_command_line_generates_from_a_manifest(tmp_path, music, model_folder, capsys):
    manifest = music / "list.csv"
    manifest.write_text("path,kind,split\n0.wav,music,train\n1.wav,music,test\n")
    arguments = ["generate", tmp_path / "s", "--manifest", manifest, "--model", model_folder]
    assert run(capsys, *arguments, "--split", "test")[0] == 0
    assert [track.name for track in Store.open(tmp_path / "s").tracks] == [str(music / "1.wav")]
    assert run(capsys, "generate", tmp_path / "s", "x.wav", "--kind", "a", "--model", "m")[0] == 2


# ----------------------------------------------------------------------------- verdict and places


def test_the_search_of_a_neural_index_can_be_chosen(indexes, audio, music):
    folder = indexes / "neural"
    query = audio[1][: 3 * RATE_HZ]
    exact = open_recognizer(folder, searcher="exact").identify(query, top_k=1)
    fast = open_recognizer(folder, searcher="scann").identify(query, top_k=1)
    assert fast.matches[0].track == exact.matches[0].track == str(music / "1.wav")
    assert fast.matches[0].score == pytest.approx(exact.matches[0].score, abs=1e-5)
    with pytest.raises(SearchError, match="'fast'"):
        open_recognizer(folder, searcher="fast").identify(query)


@pytest.fixture
def graded(indexes, monkeypatch):
    """An index of each method whose candidate has the confidence that the test says."""

    def recognizer(method, confidence):
        opened = open_recognizer(indexes / method)
        matches = [Match.placed("t", 0.5, confidence, 3.0, 5.0, 20.0)] if confidence else []
        monkeypatch.setattr(opened, "_identify", lambda samples, top_k: (matches, 0.25))
        return opened

    return recognizer


@pytest.mark.parametrize("method", METHODS)
def test_the_verdict_compares_the_confidence(graded, audio, method):
    query = audio[0][: 2 * RATE_HZ]
    recognizer = graded(method, 0.998)
    assert recognizer.identify(query).verdict == "no_match"
    answer = recognizer.identify(query, min_confidence=0.998)
    assert (answer.verdict, answer.confidence, answer.examined) == ("match", 0.998, 0.25)
    assert answer.to_dict()["confidence"] == 0.998
    assert graded(method, 0.999).identify(query).verdict == "match"
    nothing = graded(method, 0.0).identify(query, min_confidence=0.0)
    assert (nothing.verdict, nothing.confidence) == ("no_match", 0.0)


def test_a_file_is_judged_as_its_samples(graded, music):
    recognizer = graded("landmarks", 0.5)
    assert recognizer.identify_file(music / "0.wav").verdict == "no_match"
    assert recognizer.identify_file(music / "0.wav", min_confidence=0.5).verdict == "match"


@pytest.mark.parametrize("bad", [-0.1, 1.001, float("nan")])
def test_a_confidence_that_is_no_probability_is_refused(indexes, audio, bad):
    with pytest.raises(FingerprintError, match=f"min_confidence is {bad}"):
        open_recognizer(indexes / "landmarks").identify(audio[0], min_confidence=bad)


@pytest.mark.parametrize("method", ["landmarks", "spectral_hash"])
def test_too_few_votes_earn_less_confidence_than_a_match_needs(indexes, method):
    recognizer = open_recognizer(indexes / method)
    least = 5 if method == "landmarks" else recognizer.settings.min_votes

    def confidence(n_votes, p_value):
        found = SimpleNamespace(track_index=0, offset_frames=0, p_value=p_value)
        return recognizer._place(found, n_votes, least, RATE_HZ).confidence

    by_votes = [confidence(n_votes, 1e-9) for n_votes in range(1, least + 2)]
    assert by_votes[:least] == sorted(set(by_votes[:least]))
    assert by_votes[least - 2] < 0.999 < by_votes[least - 1] == by_votes[least]
    assert confidence(least, 0.25) == 0.75
    assert confidence(least, 7.0) == 0.0


def test_a_match_says_who_found_it_if_several_were_asked():
    match = Match("t", 0.5, 0.9999999, 0.0, 5.0, 0.0, 5.0, found_by=("neural", "landmarks"))
    assert match.to_dict()["found_by"] == ["neural", "landmarks"]
    assert match.to_dict()["confidence"] == 1.0


@pytest.mark.parametrize(
    ("start_s", "expected"),
    [
        (3.0, (3.0, 8.0, 0.0, 5.0)),
        (-1.5, (0.0, 3.5, 1.5, 5.0)),
        (17.0, (17.0, 20.0, 0.0, 3.0)),
        (-0.0001, (0.0, 4.9999, 0.0001, 5.0)),
    ],
)
def test_a_match_is_the_part_of_the_query_within_the_track(start_s, expected):
    match = Match.placed("t", 0.5, 0.75, start_s, query_duration_s=5.0, track_duration_s=20.0)
    placed = (
        *(match.reference_start_s, match.reference_end_s),
        *(match.query_start_s, match.query_end_s),
    )
    assert placed == pytest.approx(expected)
    assert match.reference_end_s - match.reference_start_s == pytest.approx(
        match.query_end_s - match.query_start_s
    )


def test_a_query_longer_than_the_track_covers_it():
    match = Match.placed("t", 0.5, 0.75, -2.0, query_duration_s=30.0, track_duration_s=20.0)
    assert match.to_dict() == {
        "track": "t",
        "score": 0.5,
        "confidence": 0.75,
        "reference_start_s": 0.0,
        "reference_end_s": 20.0,
        "query_start_s": 2.0,
        "query_end_s": 22.0,
    }
