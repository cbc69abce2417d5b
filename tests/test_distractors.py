"""Distractors: what is sampled resembles what it is sampled from, and none is ever the answer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fingerprint_configs import nafp

from fingerprint import cli, neural_recognizer
from fingerprint.errors import FingerprintError
from fingerprint.evaluation.audio_distractors import add_audio, add_derived, add_synthesised
from fingerprint.evaluation.distractors import PREFIX, count_roles, remove_distractors
from fingerprint.evaluation.fingerprint_sampler import (
    FEWEST_TRACKS,
    FingerprintSampler,
    best_scores,
)
from fingerprint.evaluation.sampled_distractors import add_sampled, sequences_of
from fingerprint.generate import COLUMN
from fingerprint.music_synthesis import synthesize_track
from fingerprint.recognizer import create_or_open, open_recognizer
from fingerprint.segments import SegmentGrid
from fingerprint.store import Store

RATE_HZ = 8000
DIM = 32
# Of the AR(1) sequences that stand for tracks.
CORRELATION = 0.7


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def ar_track(rng, n_rows, dim=DIM):
    """Stationary and isotropic, hence also after the projection to the sphere."""
    rows = rng.normal(size=(n_rows, dim))
    for t in range(1, n_rows):
        rows[t] = CORRELATION * rows[t - 1] + np.sqrt(1 - CORRELATION**2) * rows[t]
    return unit(rows)


def tracks_of(rng, n_tracks=40, dim=DIM, scales=1.0):
    return [unit(ar_track(rng, n, dim) * scales) for n in rng.integers(60, 120, n_tracks)]


def neighbour_cosine(tracks):
    return np.mean(np.concatenate([np.sum(t[:-1] * t[1:], axis=1) for t in tracks]))


def second_moments(tracks):
    rows = np.concatenate(tracks)
    return rows.T @ rows / len(rows)


# ----------------------------------------------------------------------------- the sampler


def test_sampled_tracks_are_unit_vectors_as_long_as_real_ones(rng):
    tracks = tracks_of(rng)
    sampler = FingerprintSampler(tracks)
    lengths = {len(track) for track in tracks}
    for _ in range(20):
        drawn = sampler.draw(rng)
        assert drawn.dtype == np.float32
        assert len(drawn) in lengths
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0, atol=1e-5)


def test_without_sharpness_a_sampled_row_is_the_sum_of_two_real_ones(rng):
    tracks = tracks_of(rng, n_tracks=FEWEST_TRACKS)
    drawn = FingerprintSampler(tracks, sharpness=0.0).draw(rng)
    candidates = [track for track in tracks if len(track) == len(drawn)]
    others = np.concatenate(tracks)
    nearest = max(
        max(float(np.max(drawn[t] @ unit(track[t] + others).T)) for track in candidates)
        for t in (0, len(drawn) // 2)
    )
    assert nearest == pytest.approx(1.0, abs=1e-5)


def test_neighbours_and_covariance_are_those_of_real_tracks(rng):
    scales = np.linspace(0.3, 1.5, DIM)
    tracks = tracks_of(rng, n_tracks=150, scales=scales)
    sampler = FingerprintSampler(tracks, sharpness=0.0)
    drawn = [sampler.draw(rng) for _ in range(150)]
    assert neighbour_cosine(drawn) == pytest.approx(neighbour_cosine(tracks), abs=0.02)
    real = second_moments(tracks)
    assert np.linalg.norm(second_moments(drawn) - real) < 0.1 * np.linalg.norm(real)
    # Of rows in no order the neighbours would have a cosine of about 0.
    assert neighbour_cosine(tracks) > 0.5


def test_sharpness_scales_directions_by_a_power_of_their_variance(rng):
    variances = np.repeat([1.0, 0.25], DIM // 2)
    tracks = tracks_of(rng, n_tracks=200, scales=np.sqrt(variances))
    sharpness = 0.5

    def ratio(each):
        diagonal = np.diag(second_moments(each))
        return diagonal[DIM // 2 :].mean() / diagonal[: DIM // 2].mean()

    sampler = FingerprintSampler(tracks, sharpness)
    drawn = [sampler.draw(rng) for _ in range(200)]
    # Scaled by v**p, a variance v becomes v**(1 + 2 p).
    assert ratio(drawn) == pytest.approx(ratio(tracks) ** (1 + 2 * sharpness), rel=0.15)


def test_sampled_rows_are_no_copies(rng):
    tracks = tracks_of(rng, n_tracks=20)
    real = np.concatenate(tracks)
    sampler = FingerprintSampler(tracks)
    for _ in range(5):
        assert np.max(sampler.draw(rng) @ real.T, axis=1).mean() < 0.85


def test_rows_that_cancel_each_other_become_real_ones():
    one = np.eye(DIM, dtype=np.float32)[:1]
    sampler = FingerprintSampler([one, -one] * (FEWEST_TRACKS // 2))
    drawn = np.concatenate([sampler.draw(np.random.default_rng(i)) for i in range(20)])
    np.testing.assert_allclose(np.abs(drawn @ one[0]), 1.0, atol=1e-5)


def test_best_scores_are_those_of_a_double_loop(rng):
    queries = np.stack([ar_track(rng, 5) for _ in range(3)])
    track = ar_track(rng, 12)
    found = best_scores(queries, track, lengths=(1, 3, 5))
    for i, query in enumerate(queries):
        for j, length in enumerate((1, 3, 5)):
            by_hand = max(
                sum(float(query[k] @ track[start + k]) for k in range(length)) / length
                for start in range(len(track) - length + 1)
            )
            assert found[i, j] == pytest.approx(by_hand, abs=1e-5)


def test_a_query_may_overhang_a_shorter_track(rng):
    query, track = ar_track(rng, 5), ar_track(rng, 2)
    expected = (query[0] @ track[0] + query[1] @ track[1]) / 5
    assert best_scores(query[None], track, lengths=(5,))[0, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("n_tracks", "sharpness", "word"), [(9, 0.2, "9 tracks"), (12, -1.0, "-1"), (12, np.nan, "nan")]
)
def test_what_cannot_be_sampled_from_is_refused(rng, n_tracks, sharpness, word):
    with pytest.raises(FingerprintError, match=word):
        FingerprintSampler(tracks_of(rng, n_tracks), sharpness)


# ----------------------------------------------------------------------------- in an index


class WaveformFingerprinter:
    """Stands for a network: 1 where segments coincide, near 0 elsewhere."""

    sample_rate_hz = RATE_HZ
    grid = SegmentGrid(RATE_HZ, duration_s=1.0, hop_s=0.5)
    embedding_dim = DIM
    calibration = None
    has_codes = False

    def __init__(self, identity):
        self.identity = identity
        self.config = nafp.get_config()
        rng = np.random.default_rng(0)
        self._projection = rng.normal(size=(self.grid.n_samples, DIM))

    @classmethod
    def load(cls, folder):
        return cls(**json.loads((Path(folder) / "model.json").read_text()))

    def embed_segments(self, segments):
        return unit(segments @ self._projection)


@pytest.fixture(scope="module", autouse=True)
def quick_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_recognizer, "Fingerprinter", WaveformFingerprinter)
        yield


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for seed in range(3):
        samples = synthesize_track(seed, 12.0, RATE_HZ)
        soundfile.write(folder / f"{seed}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, music):
    """A neural index and one of landmarks, of all music."""
    folder = tmp_path_factory.mktemp("indexes")
    model = folder / "model"
    model.mkdir()
    (model / "model.json").write_text(json.dumps({"identity": "one"}))
    create_or_open(folder / "neural", model=model).add_files([music], progress=False)
    create_or_open(folder / "landmarks", method="landmarks").add_files([music], progress=False)
    return folder


@pytest.fixture(params=["neural", "landmarks"])
def any_index(request, indexes, tmp_path):
    return shutil.copytree(indexes / request.param, tmp_path / "songs.index")


@pytest.fixture
def index(indexes, tmp_path):
    return shutil.copytree(indexes / "neural", tmp_path / "songs.index")


@pytest.fixture
def fit(tmp_path, index):
    """A store of real music by the same model."""
    like = Store.open(index)
    store = Store.create(tmp_path / "fit.store", like.recognizer, like.columns)
    with store.writer() as writer:
        for number, rows in enumerate(tracks_of(np.random.default_rng(1), 20)):
            writer.add(str(number), {COLUMN: rows}, len(rows) / 2, f"/music/{number}")
    return store.folder


def names_in(index):
    return [track.name for track in Store.open(index).tracks]


def assert_finds_its_references(index, music):
    recognizer = open_recognizer(index)
    for path in sorted(music.iterdir()):
        samples, _ = soundfile.read(path, dtype="float32")
        answer = recognizer.identify(samples[4 * RATE_HZ : 9 * RATE_HZ], sample_rate_hz=RATE_HZ)
        best = answer.matches[0]
        assert (best.track, best.reference_start_s) == (str(path), pytest.approx(4.0, abs=0.05))


def test_sampled_distractors_are_added_up_to_the_hours_and_hide_nothing(index, fit, music):
    report = add_sampled(index, fit, 0.5, progress=False)
    counts = count_roles(Store.open(index).tracks)
    assert counts["references"]["tracks"] == 3
    assert counts["distractors"]["tracks"] == len(report.added) == len(set(report.added))
    # Whole tracks of at most a minute.
    assert 1800 <= counts["distractors"]["duration_s"] < 1860
    # A segment more than half seconds in each track.
    assert counts["distractors"]["rows"] == pytest.approx(
        2 * counts["distractors"]["duration_s"] - len(report.added)
    )
    assert all(name.startswith(PREFIX) for name in report.added)
    assert_finds_its_references(index, music)


def test_the_same_seed_draws_the_same_whatever_was_there_before(index, fit, tmp_path):
    other = shutil.copytree(index, tmp_path / "other.index")
    add_sampled(index, fit, 0.1, seed=3, progress=False)
    again = add_sampled(index, fit, 0.2, seed=3, progress=False)
    assert len(again.skipped) and len(again.added)
    add_sampled(other, fit, 0.2, seed=3, progress=False)
    assert Store.open(index).content_id == Store.open(other).content_id
    add_sampled(other, fit, 0.1, seed=4, progress=False)
    rows = sequences_named(other)
    first_of = [min(n for n in rows if n.endswith("/000000") and f"-{s}/" in n) for s in (3, 4)]
    assert not np.array_equal(*(rows[name][:40] for name in first_of))


def sequences_named(index):
    store = Store.open(index)
    rows = store.column(COLUMN)
    return {t.name: rows[t.first_row : t.first_row + t.n_rows] for t in store.tracks}


def test_an_interrupted_call_leaves_whole_tracks_and_is_continued(
    index, fit, tmp_path, monkeypatch
):
    whole = shutil.copytree(index, tmp_path / "whole.index")
    add_sampled(whole, fit, 0.2, progress=False)
    draw, n_drawn = FingerprintSampler.draw, 0

    def interrupted(sampler, rng):
        nonlocal n_drawn
        n_drawn += 1
        if n_drawn == 4:
            raise KeyboardInterrupt
        return draw(sampler, rng)

    monkeypatch.setattr(FingerprintSampler, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add_sampled(index, fit, 0.2, progress=False)
    store = Store.open(index)
    store.verify()
    assert count_roles(store.tracks)["distractors"]["tracks"] == 3
    monkeypatch.undo()
    monkeypatch.setattr(neural_recognizer, "Fingerprinter", WaveformFingerprinter)
    add_sampled(index, fit, 0.2, progress=False)
    assert Store.open(index).content_id == Store.open(whole).content_id


def test_removing_distractors_leaves_the_index_as_it_was(index, fit):
    before = Store.open(index).content_id
    n_added = len(add_sampled(index, fit, 0.1, progress=False).added)
    assert remove_distractors(index) == n_added
    assert Store.open(index).content_id == before
    assert remove_distractors(index) == 0


def test_what_was_sampled_is_not_sampled_from(index, fit):
    before = set(sequences_of(Store.open(fit)))
    add_sampled(fit, fit, 0.1, progress=False)
    assert set(sequences_of(Store.open(fit))) == before


def test_audio_as_distractors(any_index, music, tmp_path):
    for seed in (7, 8):
        soundfile.write(tmp_path / f"{seed}.wav", synthesize_track(seed, 6.0, RATE_HZ), RATE_HZ)
    report = add_audio(any_index, [tmp_path / "7.wav", music], progress=False)
    assert report.added == [str(tmp_path / "7.wav")]
    assert sorted(report.skipped) == sorted(map(str, music.iterdir()))
    again = add_audio(any_index, [tmp_path / "7.wav", tmp_path / "8.wav"], progress=False)
    assert (len(again.added), len(again.skipped)) == (1, 1)
    assert names_in(any_index)[3:] == [f"{PREFIX}{tmp_path}/{seed}.wav" for seed in (7, 8)]
    assert_finds_its_references(any_index, music)


def test_derived_distractors_do_not_take_the_place_of_what_they_derive_from(any_index, music):
    # All six speeds of all three files are 0.0608 hours.
    report = add_derived(any_index, [music], 0.055, progress=False)
    names = names_in(any_index)[3:]
    assert names == report.added
    assert all(name.startswith(f"{PREFIX}derived/") for name in names)
    assert not any(t.resolved_path for t in Store.open(any_index).tracks[3:])
    assert_finds_its_references(any_index, music)


def test_derived_distractors_have_another_speed(index, music):
    add_derived(index, [music / "0.wav"], 0.002, seed=1, progress=False)
    (track,) = Store.open(index).tracks[3:]
    semitones = int(track.name.split("/")[1])
    assert 3 <= abs(semitones) <= 5
    assert track.duration_s == pytest.approx(12.0 / 2 ** (semitones / 12), abs=0.01)


def test_more_than_can_be_derived_is_said_and_what_was_derived_is_kept(index, music):
    with pytest.raises(FingerprintError, match=r"Only 0\.02 hours"):
        add_derived(index, [music / "0.wav"], 1.0, progress=False)
    assert len(names_in(index)) == 3 + 6


def test_synthesised_distractors_come_from_the_seed(any_index, music, monkeypatch):
    monkeypatch.setattr("fingerprint.evaluation.audio_distractors._SYNTHESISED_S", 8.0)
    first = add_synthesised(any_index, 0.003, seed=5, progress=False)
    again = add_synthesised(any_index, 0.006, seed=5, progress=False)
    assert again.skipped == first.added
    assert names_in(any_index)[3:] == first.added + again.added
    assert count_roles(Store.open(any_index).tracks)["distractors"]["duration_s"] == 24.0
    assert_finds_its_references(any_index, music)


def test_bad_requests_get_a_sentence(index, indexes, fit, music, tmp_path):
    refused = {
        "0 hours": lambda: add_sampled(index, fit, 0.0),
        "nan hours": lambda: add_synthesised(index, float("nan")),
        "inf hours": lambda: add_derived(index, [music], float("inf")),
        "seed is -1": lambda: add_sampled(index, fit, 1.0, seed=-1),
        "neural indexes only": lambda: add_sampled(indexes / "landmarks", fit, 1.0),
        "holds no fingerprints": lambda: add_sampled(index, tmp_path / "nothing", 1.0),
        "3 tracks to draw": lambda: add_sampled(index, index, 1.0),
        "does not exist": lambda: add_audio(index, [tmp_path / "nothing"]).failed[0][1],
    }
    for words, request in refused.items():
        if words == "does not exist":
            assert words in request()
            continue
        with pytest.raises(FingerprintError, match=words):
            request()
    assert len(names_in(index)) == 3


def test_fingerprints_of_another_model_are_refused(index, fit):
    header = json.loads((fit / "store.json").read_text())
    header["recognizer"]["identity"] = "another"
    (fit / "store.json").write_text(json.dumps(header))
    with pytest.raises(FingerprintError, match=r"with the model one, but .* with another"):
        add_sampled(index, fit, 1.0)


# ----------------------------------------------------------------------------- the command line


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_the_command_line_adds_counts_and_removes(index, fit, capsys):
    sampled = ("distractors", index, "--from", "sampled", "--fit", fit, "--hours", 0.1)
    status, out, _ = run(capsys, *sampled)
    assert status == 0
    n = len(names_in(index)) - 3
    summary, references, distractors = out.splitlines()
    assert summary == f"{n} added, 0 already there, 0 failed"
    assert references.startswith("references: 3 tracks, 0.01 h, ")
    assert distractors.startswith(f"distractors: {n} tracks, 0.1")
    assert run(capsys, *sampled)[1].startswith(f"0 added, {n} already there")
    assert run(capsys, "distractors", index, "--remove")[:2] == (0, f"{n} removed\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "sampled", "--hours", "1"], "--from sampled needs --fit."),
        (["--from", "sampled", "--fit", "x"], "--from sampled needs --hours."),
        (["--from", "audio"], "--from audio needs a PATH."),
        (["a.wav", "--from", "audio", "--hours", "1"], "--from audio goes without --hours."),
        (["--from", "derived", "--hours", "1"], "--from derived needs a PATH."),
        (["a.wav", "--from", "synthesised", "--hours", "1"], "goes without a PATH."),
        (["--remove", "--hours", "1"], "--remove goes without --hours."),
    ],
)
def test_the_command_line_says_which_option_is_wrong(index, arguments, sentence, capsys):
    status, _, err = run(capsys, "distractors", index, *arguments)
    assert (status, sentence in err) == (2, True)


def test_the_command_line_refuses_no_hours(index, fit, capsys):
    arguments = ("--from", "sampled", "--fit", fit, "--hours", 0)
    status, _, err = run(capsys, "distractors", index, *arguments)
    assert status == 1
    assert "0 hours" in err
