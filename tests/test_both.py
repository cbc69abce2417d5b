import dataclasses
import json
import shutil

import numpy as np
import pytest
import scipy.stats
import soundfile
from recognizer_cases import RATE_HZ, WaveformFingerprinter, write_model

from fingerprint import cli, neural_recognizer, pretrained
from fingerprint.both_recognizer import BothRecognizer
from fingerprint.calibration import UNCALIBRATED
from fingerprint.errors import FingerprintError
from fingerprint.evaluation.audio_distractors import add_audio, add_derived
from fingerprint.evaluation.distractors import PREFIX, remove_distractors
from fingerprint.generate import generate, merge_stores
from fingerprint.identification import DEFAULT_MIN_CONFIDENCE
from fingerprint.landmark_recognizer import LandmarkRecognizer
from fingerprint.music_synthesis import synthesize_track
from fingerprint.neural_recognizer import NeuralRecognizer
from fingerprint.recognizer import (
    create_or_open,
    describe_index,
    open_recognizer,
    remove_from_index,
    verify_index,
)
from fingerprint.store import Store, StoreError, StoreWriter

N_TRACKS = 5


@pytest.fixture(scope="module", autouse=True)
def quick_network(tmp_path_factory):
    """In the place of the network, and its model in the place of the shipped one."""
    shipped = write_model(tmp_path_factory.mktemp("shipped") / "default", identity="shipped")
    (shipped / "parameters.npz").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_recognizer, "Fingerprinter", WaveformFingerprinter)
        patch.setattr(pretrained, "_FOLDER", shipped)
        yield


@pytest.fixture(scope="module")
def audio():
    return [synthesize_track(seed, 12.0, RATE_HZ) for seed in range(N_TRACKS)]


@pytest.fixture(scope="module")
def music(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("music")
    for i, samples in enumerate(audio):
        soundfile.write(folder / f"{i}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory, music):
    folder = tmp_path_factory.mktemp("built") / "i"
    create_or_open(folder, method="both").add_files([music], progress=False)
    return folder


@pytest.fixture
def index(built, tmp_path):
    """The folder of an index of all tracks that a test may change."""
    return shutil.copytree(built, tmp_path / "i")


def names(folder):
    return [track.name for track in Store.open(folder).tracks]


def run(capsys, *arguments):
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def ask(index, samples, **more):
    return open_recognizer(index).identify(samples, sample_rate_hz=RATE_HZ, **more)


# ----------------------------------------------------------------------------- answers


def test_what_both_find_says_so_and_is_surer(index, audio, music):
    clip = audio[2][3 * RATE_HZ : 8 * RATE_HZ]
    recognizer = open_recognizer(index)
    best = recognizer.identify(clip, sample_rate_hz=RATE_HZ).matches[0]
    assert (best.track, best.found_by) == (str(music / "2.wav"), ("neural", "landmarks"))
    alone = recognizer.neural.identify(clip, sample_rate_hz=RATE_HZ).matches[0]
    assert alone.track == best.track
    assert best.p_value < alone.p_value
    by_landmarks = recognizer.landmarks.identify(clip, sample_rate_hz=RATE_HZ).matches[0]
    assert best.reference_start_s == pytest.approx(by_landmarks.reference_start_s, abs=1e-9)


def test_what_one_finds_is_found(index, audio, music, monkeypatch):
    clip = audio[3][4 * RATE_HZ : 9 * RATE_HZ]
    # A polarity-inverted waveform is nothing to the stand-in, and the same to landmarks.
    answer = ask(index, -clip)
    assert answer.verdict == "match"
    assert (answer.matches[0].track, answer.matches[0].found_by) == (
        *(str(music / "3.wav"), ("landmarks",)),
    )
    monkeypatch.setattr(LandmarkRecognizer, "candidates", lambda *_: [])
    answer = ask(index, clip)
    assert (answer.verdict, answer.matches[0].found_by) == ("match", ("neural",))
    assert answer.matches[0].track == str(music / "3.wav")


@pytest.mark.parametrize("delay_s", [-0.1, 0.07])
def test_landmarks_say_when_in_what_the_network_alone_found(
    index, audio, music, monkeypatch, delay_s
):
    recognizer = open_recognizer(index)
    whole = NeuralRecognizer.candidates

    def late(self, query, top_k):
        match = whole(self, query, top_k)[0]
        return [match.moved(match.start_s + delay_s, 5.0, 12.0)]

    monkeypatch.setattr(NeuralRecognizer, "candidates", late)
    monkeypatch.setattr(LandmarkRecognizer, "candidates", lambda *_: [])
    clip = audio[3][4 * RATE_HZ : 9 * RATE_HZ]
    (match,) = recognizer.identify(clip, sample_rate_hz=RATE_HZ).matches
    assert (match.track, match.found_by) == (str(music / "3.wav"), ("neural",))
    assert match.reference_start_s == pytest.approx(4.0, abs=0.033)
    assert match.reference_end_s - match.reference_start_s == pytest.approx(5.0)


def test_the_evidence_of_a_place_is_that_of_its_score(index, audio):
    neural = open_recognizer(index).neural
    query = neural.hear(audio[2][3 * RATE_HZ : 8 * RATE_HZ], 20)
    evidence = neural.evidence(query)
    candidates = neural.candidates(query, 20)
    assert len(candidates) == N_TRACKS
    for match in candidates:
        # The stand-in has no calibration, whose p-values are of the score and nothing else.
        scale = UNCALIBRATED.score_std[0] * np.sqrt(6) / np.pi
        location = UNCALIBRATED.score_mean[0] - np.euler_gamma * scale
        (found,) = evidence(match.track, np.array([match.start_s]))
        assert found == pytest.approx((match.score - location) / scale, abs=1e-3)


def test_the_evidence_of_landmarks_is_their_lead(index, audio):
    landmarks = open_recognizer(index).landmarks
    query = landmarks.hear(audio[2][3 * RATE_HZ : 8 * RATE_HZ], 20)
    best = landmarks.candidates(query)[0]
    places = landmarks.places(query)(best.track)
    assert places.counts.max() == best.score
    assert places.starts_s[np.argmax(places.counts)] == pytest.approx(best.start_s)
    scale = 0.62 * np.sqrt(6) / np.pi
    oracle = scipy.stats.gumbel_r(0.83 - np.euler_gamma * scale, scale)
    counts = (40, 9, 4, 9, 1, 10, 30)
    found = [dataclasses.replace(query.found[0], n_aligned=count) for count in counts]
    evidence = landmarks.evidence(dataclasses.replace(query, found=found))(np.array([0, 9, 30]))
    # Rivals are the next five, and the median of these is 9: 30 leads by 7 roots of 9.
    assert evidence[2] == pytest.approx(-oracle.logsf(7.0), rel=1e-4)
    assert evidence[1] == pytest.approx(-oracle.args[0] / oracle.args[1])
    assert evidence[0] < evidence[1]
    few = dataclasses.replace(query, found=found[:5])
    chance = landmarks._open_index().best_by_chance(query.hits)
    assert landmarks.evidence(few)(np.array([chance])) == pytest.approx(evidence[1])


def test_a_recording_is_found_among_its_copies(tmp_path, audio):
    """So many that its rivals in the search are copies."""
    folder = tmp_path / "music"
    folder.mkdir()
    names = [f"{i}.wav" for i in range(N_TRACKS)] + [f"copy{i}.wav" for i in range(7)]
    for name, samples in zip(names, [*audio, *[audio[2]] * 7], strict=True):
        soundfile.write(folder / name, samples, RATE_HZ, subtype="FLOAT")
    create_or_open(tmp_path / "i", method="both").add_files([folder], progress=False)
    copies = {str(folder / name) for name in ["2.wav", *names[N_TRACKS:]]}
    for duration_s in (1, 5):
        clip = audio[2][3 * RATE_HZ : (3 + duration_s) * RATE_HZ]
        answer = ask(tmp_path / "i", clip, top_k=9)
        assert {match.track for match in answer.matches[:8]} == copies
        assert answer.matches[0].reference_start_s == pytest.approx(3.0, abs=0.033)


@pytest.mark.parametrize("begins_s", [-2.0, 10.0])
def test_a_query_beyond_an_end_of_its_track_is_found(index, audio, music, begins_s):
    other = synthesize_track(99, 5.0, RATE_HZ)
    own = audio[3][: 3 * RATE_HZ] if begins_s < 0 else audio[3][10 * RATE_HZ :]
    parts = [other[: 2 * RATE_HZ], own] if begins_s < 0 else [own, other[: 3 * RATE_HZ]]
    best = ask(index, np.concatenate(parts)).matches[0]
    assert best.track == str(music / "3.wav")
    assert best.start_s == pytest.approx(begins_s, abs=0.05)
    assert (best.query_start_s, best.query_end_s) == pytest.approx(
        (2.0, 5.0) if begins_s < 0 else (0.0, 2.0), abs=0.05
    )


@pytest.mark.parametrize("duration_s", [1.0, 4.0])
def test_the_only_track_of_an_index_is_found_where_the_query_is_from(
    tmp_path, audio, music, duration_s
):
    create_or_open(tmp_path / "i", method="both").add_files([music / "1.wav"], progress=False)
    clip = audio[1][5 * RATE_HZ :][: round(duration_s * RATE_HZ)]
    # A polarity-inverted waveform is nothing to the stand-in, and the same to landmarks.
    for query in (clip, -clip):
        (match,) = ask(tmp_path / "i", query).matches
        assert match.reference_start_s == pytest.approx(5.0, abs=0.033)


def test_what_is_above_the_model_s_rate_is_left_to_the_landmarks(index):
    """Silent at 8 kHz, for which the model was made; no error as long as one can listen."""
    time_s = np.arange(3 * 44_100) / 44_100
    answer = open_recognizer(index).identify(
        0.5 * np.sin(2 * np.pi * 5000 * time_s), sample_rate_hz=44_100
    )
    assert answer.verdict == "no_match"


def test_the_verdict_is_that_of_the_combined_confidence(index, audio):
    clip = audio[0][: 4 * RATE_HZ]
    confidence = ask(index, clip).confidence
    assert confidence > DEFAULT_MIN_CONFIDENCE
    assert ask(index, clip, min_confidence=confidence).verdict == "match"
    unknown = synthesize_track(99, 4.0, RATE_HZ)
    assert ask(index, unknown).verdict == "no_match"
    assert ask(index, unknown, min_confidence=0.0).verdict == "match"


# ----------------------------------------------------------------------------- the store


class Killed(BaseException):
    pass


def kill_at(monkeypatch, method, count):
    """The process ends just before its ``count``-th call of a method of the writer."""
    real, calls = getattr(StoreWriter, method), []

    def call(self, *arguments, **kwargs):
        calls.append(self._store.folder)
        if len(calls) == count:
            raise Killed
        return real(self, *arguments, **kwargs)

    monkeypatch.setattr(StoreWriter, method, call)
    return calls


@pytest.mark.parametrize("count", range(1, 2 * N_TRACKS + 1))
def test_killed_before_any_commit_a_call_is_continued(tmp_path, music, monkeypatch, count):
    index = tmp_path / "i"
    create_or_open(index, method="both")
    with monkeypatch.context() as patch:
        kill_at(patch, "add", count)
        with pytest.raises(Killed):
            open_recognizer(index).add_files([music], progress=False)
    kept = names(index)
    verify_index(index)
    assert set(kept) <= set(names(index / "landmarks"))
    assert len(kept) + len(names(index / "landmarks")) == count - 1
    assert describe_index(index)["tracks"] == len(kept)
    extracted = []
    real = LandmarkRecognizer.read_rows
    monkeypatch.setattr(
        LandmarkRecognizer,
        "read_rows",
        lambda self, path: extracted.append(path) or real(self, path),
    )
    report = open_recognizer(index).add_files([music], progress=False)
    assert (len(report.skipped), len(report.added)) == (len(kept), N_TRACKS - len(kept))
    # What the first call had begun, this one has finished and not begun anew.
    assert len(extracted) == max(0, N_TRACKS - (count - 1))
    wanted = sorted(str(music / f"{i}.wav") for i in range(N_TRACKS))
    assert sorted(names(index)) == sorted(names(index / "landmarks")) == wanted
    verify_index(index)


def test_what_is_unfinished_is_no_answer_and_not_listed(index, audio, music, capsys):
    """The state after a kill between the two stores, made by removing from the outer alone."""
    lost = str(music / "1.wav")
    with Store.open(index).writer() as writer:
        writer.remove([lost])
    assert lost in names(index / "landmarks")
    answer = ask(index, audio[1][: 5 * RATE_HZ])
    assert answer.verdict == "no_match"
    assert lost not in [match.track for match in answer.matches]
    assert lost not in run(capsys, "list", index)[1]
    assert run(capsys, "remove", index, lost)[0] == 1
    assert lost not in names(index / "landmarks")


def test_what_another_call_left_unfinished_is_dropped(index, music, tmp_path, audio):
    with Store.open(index).writer() as writer:
        writer.remove([str(music / "1.wav")])
    soundfile.write(tmp_path / "new.wav", audio[1], RATE_HZ)
    open_recognizer(index).add_files([tmp_path / "new.wav"], progress=False)
    assert sorted(names(index)) == sorted(names(index / "landmarks"))
    assert ask(index, audio[1][: 5 * RATE_HZ]).matches[0].track == str(tmp_path / "new.wav")


@pytest.mark.parametrize("count", [1, 2])
def test_killed_while_removing_a_call_is_repeated(index, music, monkeypatch, count):
    gone = str(music / "0.wav")
    with monkeypatch.context() as patch:
        kill_at(patch, "remove", count)
        with pytest.raises(Killed):
            remove_from_index(index, [gone])
    verify_index(index)
    assert (gone in names(index)) == (count == 1)
    remove_from_index(index, [gone])
    assert gone not in names(index) + names(index / "landmarks")


def test_a_file_that_one_method_cannot_use_is_in_neither(index, tmp_path, audio, monkeypatch):
    soundfile.write(tmp_path / "tone.wav", np.full(RATE_HZ, 0.1), RATE_HZ)
    soundfile.write(tmp_path / "good.wav", audio[0][: 4 * RATE_HZ], RATE_HZ)
    report = open_recognizer(index).add_files(
        [tmp_path / "tone.wav", tmp_path / "good.wav"], progress=False
    )
    assert report.added == [str(tmp_path / "good.wav")]
    assert [path for path, _ in report.failed] == [str(tmp_path / "tone.wav")]
    assert sorted(names(index)) == sorted(names(index / "landmarks"))


def test_a_file_that_the_network_cannot_use_is_in_neither(index, tmp_path, audio, monkeypatch):
    from fingerprint import generate as generate_module
    from fingerprint.audio import AudioError

    def refuse(*arguments, **kwargs):
        raise AudioError("no segments.")

    soundfile.write(tmp_path / "good.wav", audio[0][: 4 * RATE_HZ], RATE_HZ)
    monkeypatch.setattr(generate_module, "reference_segments", refuse)
    report = open_recognizer(index).add_files([tmp_path / "good.wav"], progress=False)
    assert report.failed == [(str(tmp_path / "good.wav"), "no segments.")]
    assert str(tmp_path / "good.wav") not in names(index) + names(index / "landmarks")


def test_two_writers_do_not_mix(index, music):
    recognizer = open_recognizer(index)
    with (
        Store.open(index / "landmarks").writer(),
        pytest.raises(StoreError, match=f"{index}.* is being written"),
    ):
        recognizer.add_files([music], progress=False)


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(*arguments, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(LandmarkRecognizer, "create", fails)
    with pytest.raises((OSError, FingerprintError), match="disk full"):
        create_or_open(tmp_path / "i", method="both")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_taken_is_refused(tmp_path):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "letter.txt").write_text("Dear Mother")
    with pytest.raises(StoreError, match="choose a new folder"):
        create_or_open(tmp_path / "i", method="both")
    assert [path.name for path in tmp_path.rglob("*")] == ["i", "letter.txt"]


@pytest.mark.parametrize("damage", ["missing", "foreign"])
def test_an_index_without_its_landmarks_is_refused(index, tmp_path, damage):
    shutil.rmtree(index / "landmarks")
    if damage == "foreign":
        Store.create(index / "landmarks", {"method": "tarot"}, {"cards": ("uint8", ())})
    with pytest.raises(StoreError, match=str(index)):
        open_recognizer(index)


def test_verification_reads_both(index, music, capsys):
    assert run(capsys, "info", index, "--verify")[0] == 0
    with Store.open(index / "landmarks").writer() as writer:
        writer.remove([str(music / "2.wav")])
    status, _, err = run(capsys, "info", index, "--verify")
    assert (status, "2.wav' has no landmarks" in err) == (1, True)
    assert run(capsys, "remove", index, music / "2.wav")[0] == 0
    assert run(capsys, "index", index, music)[1] == "1 added, 4 already there, 0 failed\n"
    column = next((index / "landmarks").glob("data-*/hashes.bin"))
    content = bytearray(column.read_bytes())
    content[len(content) // 2] ^= 1
    column.write_bytes(content)
    assert run(capsys, "info", index, "--verify")[0] == 1


def test_fingerprints_alone_are_not_merged_into_it(index):
    with pytest.raises(StoreError, match="cannot be merged into"):
        merge_stores([Store.open(index)], Store.open(index))


def test_an_index_is_opened_by_its_class(index):
    assert isinstance(open_recognizer(index), BothRecognizer)
    recognizer = open_recognizer(index)
    with pytest.raises(StoreError, match="do not compare"):
        generate([], WaveformFingerprinter("another"), recognizer.store)


# ----------------------------------------------------------------------------- distractors


def test_distractors_go_into_both_and_leave_both(index, music, tmp_path, audio):
    soundfile.write(tmp_path / "other.wav", synthesize_track(50, 6.0, RATE_HZ), RATE_HZ)
    add_audio(index, [tmp_path / "other.wav"], progress=False)
    hours = 20 / 3600
    add_derived(index, [music], hours, progress=False)
    distractors = [name for name in names(index) if name.startswith(PREFIX)]
    assert len(distractors) >= 3
    assert sorted(names(index)) == sorted(names(index / "landmarks"))
    assert not add_derived(index, [music], hours, progress=False).added
    assert remove_distractors(index) == len(distractors)
    assert sorted(names(index)) == sorted(names(index / "landmarks"))
    assert len(names(index)) == N_TRACKS


def test_distractors_that_were_interrupted_are_continued(index, music, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, "add", 2)
        with pytest.raises(Killed):
            add_derived(index, [music], 5 / 3600, progress=False)
    assert len(names(index / "landmarks")) == len(names(index)) + 1
    assert len(add_derived(index, [music], 5 / 3600, progress=False).added) == 1
    assert sorted(names(index)) == sorted(names(index / "landmarks"))


# ----------------------------------------------------------------------------- the command line


@pytest.fixture
def clip(tmp_path, audio):
    soundfile.write(tmp_path / "clip.wav", audio[4][2 * RATE_HZ : 7 * RATE_HZ], RATE_HZ)
    return tmp_path / "clip.wav"


def test_both_answer_under_the_same_commands(tmp_path, music, clip, capsys):
    index = tmp_path / "songs.index"
    arguments = ["index", index, music, "--method", "both"]
    assert run(capsys, *arguments)[:2] == (0, "5 added, 0 already there, 0 failed\n")
    assert run(capsys, *arguments)[:2] == (0, "0 added, 5 already there, 0 failed\n")
    assert run(capsys, "index", index, music)[:2] == (0, "0 added, 5 already there, 0 failed\n")
    facts = json.loads(run(capsys, "info", index, "--format", "json")[1])
    assert (facts["method"], facts["tracks"], facts["identity"]) == ("both", 5, "shipped")
    assert facts["landmarks"]["preset"] == "default"
    # Fingerprints of 64 float32, landmarks of two uint32.
    assert facts["bytes"] == 4 * 64 * facts["rows"] + 8 * facts["landmarks"]["rows"]
    assert "landmarks: rows" in run(capsys, "info", index)[1]
    answer = json.loads(run(capsys, "query", index, clip, "--format", "json")[1])
    assert answer["verdict"] == "match"
    assert answer["matches"][0]["track"] == str(music / "4.wav")
    assert answer["matches"][0]["found_by"] == ["neural", "landmarks"]
    assert "(by neural and landmarks)" in run(capsys, "query", index, clip)[1]
    assert run(capsys, "remove", index, music / "4.wav")[:2] == (0, "1 removed, 0 not found\n")
    assert len(names(index)) == len(names(index / "landmarks")) == 4
    evaluation = ["evaluate", index, "--queries_from", music, "--durations_s", 5, "--n_queries", 4]
    status, out, _ = run(capsys, *evaluation, "--snr_db", "30", "--format", "json")
    result = json.loads(out)
    assert status == 0
    assert result["systems"][0]["method"] == "both"
    assert result["results"][0]["top1"]["n"] == 4


def test_without_options_the_shipped_model_is_used(tmp_path, music, clip, capsys):
    index = tmp_path / "songs.index"
    assert run(capsys, "index", index, music)[0] == 0
    facts = json.loads(run(capsys, "info", index, "--format", "json")[1])
    assert (facts["method"], facts["identity"]) == ("both", "shipped")
    answer = json.loads(run(capsys, "query", index, clip, "--format", "json")[1])
    assert answer["matches"][0]["track"] == str(music / "4.wav")
    assert run(capsys, "query", index, clip, "--model", "default")[0] == 0
    store = tmp_path / "part.store"
    assert run(capsys, "generate", store, music, "--shard", "0/2")[0] == 0
    assert describe_index(store)["identity"] == "shipped"


def test_an_index_by_another_model_keeps_it(tmp_path, music, clip, capsys):
    model = write_model(tmp_path / "model", identity="mine")
    for method in ("neural", "both"):
        index = tmp_path / method
        arguments = ["index", index, music / "0.wav", "--method", method, "--model", model]
        assert run(capsys, *arguments)[0] == 0
        assert run(capsys, "index", index, music / "4.wav")[0] == 0
        assert describe_index(index)["identity"] == "mine"
        assert run(capsys, "query", index, clip)[1].startswith(f"{clip}: match")
        for arguments in (["index", index, music], ["query", index, clip]):
            status, _, err = run(capsys, *arguments, "--model", "default")
            assert (status, "do not compare" in err) == (1, True)


@pytest.mark.parametrize("method", ["neural", "landmarks", "spectral_hash"])
def test_an_index_keeps_its_method(index, music, capsys, method):
    status, _, err = run(capsys, "index", index, music, "--method", method)
    assert status == 1
    assert f"of the method 'both', not {method!r}" in err


def test_fingerprints_alone_are_not_generated_into_it(index, music, capsys):
    status, _, err = run(capsys, "generate", index, music)
    assert (status, "of the method 'both', not 'neural'" in err) == (1, True)


def test_a_package_without_its_model_says_so(tmp_path, music, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "_FOLDER", tmp_path / "nowhere")
    status, _, err = run(capsys, "index", tmp_path / "i", music)
    assert (status, err.count("\n")) == (1, 1)
    assert "model" in err
    assert not (tmp_path / "i").exists()
    assert run(capsys, "index", tmp_path / "i", music, "--method", "landmarks")[0] == 0


def test_how_sure_a_match_has_to_be_is_the_users_choice(index, tmp_path, capsys):
    soundfile.write(tmp_path / "unknown.wav", synthesize_track(77, 5.0, RATE_HZ), RATE_HZ)
    query = ["query", index, tmp_path / "unknown.wav", "--format", "json"]
    answer = json.loads(run(capsys, *query)[1])
    assert answer["verdict"] == "no_match"
    assert json.loads(run(capsys, *query, "--min_confidence", 0)[1])["verdict"] == "match"
