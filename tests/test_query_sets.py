import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from fingerprint import cli
from fingerprint.evaluation import query_set_writer
from fingerprint.evaluation.queries import make_queries
from fingerprint.evaluation.query_recipes import Recipe
from fingerprint.evaluation.query_set_writer import write_query_set
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QueryError, QuerySettings

RATE_HZ = 8000


@pytest.fixture
def audio(tmp_path, rng):
    """A collection: tracks, unknown tracks, noise and rooms, each in a folder."""
    root = tmp_path / "audio"
    lengths_s = {"music": (4, 4, 5, 1), "unknown": (4, 4), "noise": (2, 3), "rooms": (0.5, 0.5)}
    for kind, lengths in lengths_s.items():
        (root / kind).mkdir(parents=True)
        for number, length_s in enumerate(lengths):
            samples = rng.uniform(-0.5, 0.5, int(length_s * RATE_HZ))
            if kind == "rooms":
                samples *= 10 ** (-3 * np.arange(len(samples)) / RATE_HZ / (0.2 + 0.2 * number))
            soundfile.write(root / kind / f"{number}.wav", samples, RATE_HZ)
    return root


def settings_for(audio, **changed):
    settings = {
        "queries_from": str(audio / "music"),
        "noise": str(audio / "noise"),
        "room_ir": str(audio / "rooms"),
        "durations_s": (1.0, 2.0),
        "n_queries": 4,
        "sample_rate_hz": RATE_HZ,
        "snr_db": (0.0, 10.0),
        "room_share": 1.0,
    }
    return QuerySettings(**(settings | changed))


def make(folder, settings, **options):
    return write_query_set(folder, settings, progress=False, **options)


def rows_of(folder):
    with open(folder / "truth.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


EVERYTHING = {
    "unknown": "unknown",
    "n_noises": 2,
    "gain_control": True,
    "t60_s": (0.2, 0.4),
    "low_pass_hz": (3000.0,),
    "high_pass_hz": (200.0,),
    "clipped_share": (0.01,),
    "level_db": (-6.0,),
    "codec": (None, "mp3:16"),
    "speed": (1.05,),
    "snr_db": (None, 0.0),
}


@pytest.mark.parametrize("per", ["query", "second"])
def test_a_recipe_has_the_samples_of_the_file_bit_for_bit(audio, tmp_path, per):
    more = EVERYTHING | {"unknown": str(audio / "unknown"), "per": per, "n_queries": 2}
    settings = settings_for(audio, **more)
    files = make(tmp_path / "files", settings)
    recipes = make(tmp_path / "recipes", settings, audio="recipe")
    assert not (tmp_path / "recipes" / "audio").exists()
    assert len(files) == len(recipes) == 2 * 2 * 8
    for one, other in zip(files, recipes, strict=True):
        assert one.samples.dtype == other.samples.dtype == np.float32
        np.testing.assert_array_equal(one.samples, other.samples)
        assert (one.id, one.track, one.start_s) == (other.id, other.track, other.start_s)
        assert one.conditions == other.conditions
        assert len(one.samples) == 2 * RATE_HZ
        np.testing.assert_array_equal(one.first(1.0), one.samples[:RATE_HZ])


def test_the_table_says_what_is_true(audio, tmp_path):
    made = make(tmp_path / "set", settings_for(audio, noise=None, room_ir=None))
    assert len(made) == 4
    for query in made:
        track, _ = soundfile.read(query.track)
        start = round(query.start_s * RATE_HZ)
        excerpt = track[start : start + 2 * RATE_HZ]
        np.testing.assert_allclose(query.samples, excerpt / np.abs(excerpt).max(), atol=1e-4)
        assert query.duration_s == 2.0
        assert query.conditions["snr_db"] is query.conditions["room"] is None
    assert made.description["n_files"] == {"asked": 3, "too_short": 1}


def test_every_excerpt_is_made_under_every_condition(audio, tmp_path):
    settings = settings_for(audio, codec=(None, "mp3:16"), t60_s=(0.2, 0.4), room_share=0.0)
    make(tmp_path / "set", settings)
    rows = rows_of(tmp_path / "set")
    assert sorted(row["query"] for row in rows) == [f"{i:06d}" for i in range(32)]
    by_excerpt = {}
    for row in rows:
        by_excerpt.setdefault(row["excerpt"], []).append(row)
        assert int(row["query"]) // 8 == int(row["excerpt"])
        wanted_s = 0.2 if "t60_s=0.2" in row["condition"] else 0.4
        assert float(row["t60_s"]) == pytest.approx(wanted_s, rel=0.1)
    for alike in by_excerpt.values():
        assert len({(row["track"], row["start_s"], row["noise"]) for row in alike}) == 1
        assert {row["snr_db"] for row in alike} == {"0.0", "10.0"}
        assert {row["codec"] for row in alike} == {"", "mp3:16"}
        assert len({row["condition"] for row in alike}) == 8


def test_a_query_depends_on_seed_and_number_alone(audio, tmp_path):
    def lines(name, **changed):
        make(tmp_path / name, settings_for(audio, **changed), audio="recipe")
        recipes = map(json.loads, (tmp_path / name / "recipes.jsonl").read_text().splitlines())
        return {recipe["id"]: recipe for recipe in recipes}

    few, more, other = lines("few"), lines("more", n_queries=9), lines("other", seed=1)
    assert few == {name: more[name] for name in few}
    assert len(more) == 18
    assert other["000000"]["start"] != few["000000"]["start"]


def test_seconds_differ_and_the_ratio_is_drawn(audio, tmp_path):
    settings = settings_for(audio, per="second", snr_range_db=(-5, 5), n_queries=20)
    made = make(tmp_path / "set", settings, audio="recipe")
    lines = (tmp_path / "set" / "recipes.jsonl").read_text().splitlines()
    chunks = [chunk for line in lines for chunk in Recipe.from_dict(json.loads(line)).chunks]
    assert len(chunks) == 2 * len(made) == 40
    snrs_db = [chunk.snr_db for chunk in chunks]
    assert -5 <= min(snrs_db) < -3 < 3 < max(snrs_db) <= 5
    offsets = [chunk.offset for chunk in chunks]
    assert -1600 <= min(offsets) < -1000 < 1000 < max(offsets) <= 1600
    assert {row["snr_db"] for row in rows_of(tmp_path / "set")} == {"varies"}
    assert {row["degradation"] for row in rows_of(tmp_path / "set")} == {"per_second"}


def test_unknown_recordings_are_ordinary_rows(audio, tmp_path):
    made = make(tmp_path / "set", settings_for(audio, unknown=str(audio / "unknown")))
    folders = [truth.track.split("/")[-2] for truth in made.truths()]
    assert sorted(set(folders)) == ["music", "unknown"]
    assert folders.count("music") == folders.count("unknown") == 8


def test_queries_that_are_not_kept_are_the_same(audio, tmp_path):
    settings = settings_for(audio)
    made = make(tmp_path / "set", settings)
    paths = [str(audio / "music" / f"{i}.wav") for i in range(3)]
    others = make_queries(
        paths,
        settings.surroundings(),
        n_queries=settings.n_queries,
        durations_s=settings.durations_s,
        snrs_db=settings.snr_db,
        seed=settings.seed,
        sample_rate_hz=settings.sample_rate_hz,
    )
    for one, other in zip(made, others, strict=True):
        assert (one.track, one.start_s) == (os.path.realpath(other.path), other.start_s)
        assert one.conditions["condition"] == f"snr_db={other.snr_db:g}"
        np.testing.assert_allclose(one.samples, other.samples, atol=1e-4)


def test_answered_queries_are_skipped(audio, tmp_path):
    for form in ("flac", "recipe"):
        made = make(tmp_path / form, settings_for(audio), audio=form)
        every = {query.id: query.samples for query in made}
        left = {query.id: query.samples for query in made.queries(skip={"000000", "000003"})}
        assert every.keys() - left.keys() == {"000000", "000003"}
        for name in left:
            np.testing.assert_array_equal(left[name], every[name])


def test_the_identity_is_that_of_truth_and_recipes(audio, tmp_path):
    one = make(tmp_path / "one", settings_for(audio), audio="recipe")
    again = make(tmp_path / "again", settings_for(audio), audio="recipe")
    other = make(tmp_path / "other", settings_for(audio, history_s=0.5), audio="recipe")
    assert one.identity == again.identity != other.identity


# ----------------------------------------------------------------------------- moving and failing


def test_a_set_is_moved_with_its_collection(audio, tmp_path):
    before = make(tmp_path / "sets" / "a", settings_for(audio), audio="recipe")
    samples = [query.samples for query in before]
    (tmp_path / "new").mkdir()
    for name in ("audio", "sets"):
        shutil.move(tmp_path / name, tmp_path / "new" / name)
    for query, expected in zip(QuerySet.open(tmp_path / "new/sets/a"), samples, strict=True):
        np.testing.assert_array_equal(query.samples, expected)


def test_a_collection_that_was_moved_is_named_with_the_root(audio, tmp_path):
    made = make(tmp_path / "set", settings_for(audio), audio="recipe")
    first = next(iter(made))
    shutil.move(audio, tmp_path / "elsewhere")
    with pytest.raises(QueryError, match=r"\.wav does not exist.*give the folder.* as the root"):
        next(iter(QuerySet.open(tmp_path / "set")))
    moved = next(iter(QuerySet.open(tmp_path / "set", root=tmp_path / "elsewhere")))
    np.testing.assert_array_equal(moved.samples, first.samples)
    assert moved.track == str(tmp_path / "elsewhere" / "music" / first.track.split("/")[-1])
    with pytest.raises(QueryError, match="is no folder"):
        QuerySet.open(tmp_path / "set", root=tmp_path / "nowhere")


def test_nothing_is_left_of_a_set_that_failed(audio, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(query_set_writer, "synthesise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "set", settings_for(audio))
    assert [path.name for path in tmp_path.iterdir()] == ["audio"]


def test_a_folder_that_is_there_is_left_alone(audio, tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(QueryError, match="exists already"):
        make(tmp_path / "set", settings_for(audio))
    assert not list((tmp_path / "set").iterdir())


def test_recordings_that_are_all_too_short_are_refused(audio, tmp_path):
    with pytest.raises(QueryError, match=r"None of the 4 recordings lasts .*9 s"):
        make(tmp_path / "set", settings_for(audio, durations_s=(9.0,)))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"per": "minute"}, "choose query or second"),
        ({"durations_s": ()}, "positive numbers"),
        ({"snr_db": ()}, "holds no value"),
        ({"snr_range_db": (5, 0)}, "from low to high"),
        ({"level_db": (3.0,)}, "level_db 3 is not between -60 and 0"),
        ({"speed": (3.0,)}, "speed 3 is not between"),
        ({"t60_s": (0.3,), "room_ir": None}, "give their impulse responses"),
        ({"low_pass_hz": (5000.0,)}, "5000 Hz does nothing"),
        ({"low_pass_hz": (300.0,), "high_pass_hz": (400.0,)}, "Nothing passes"),
        ({"codec": ("mp3",)}, "names no codec"),
        ({"codec": ("mp3:17",)}, "no 17 kbit/s: choose 8, 16"),
        ({"codec": ("opus:300",)}, "choose 6 to 256"),
        ({"codec": ("opus:16",), "sample_rate_hz": 11025}, "does not know the sample rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(audio, changed, sentence):
    with pytest.raises(Exception, match=sentence) as raised:
        settings_for(audio, **changed)
    assert type(raised.value).__name__ in ("QueryError", "DegradationError")
    assert "\n" not in str(raised.value)


def test_a_reverberation_time_that_no_room_has_is_refused(audio, tmp_path):
    with pytest.raises(QueryError, match=r"within 20% of 3 s: there are 0\.2, 0\.4"):
        make(tmp_path / "set", settings_for(audio, t60_s=(3.0,)))


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("truth.csv", lambda text: text.replace("000001,", "000000,"), "that of another query"),
        ("truth.csv", lambda text: "\n".join(text.split("\n")[:3]), "some are missing"),
        ("truth.csv", lambda text: text.replace("track", "song"), "the column 'track'"),
        ("queries.json", lambda text: text[:40], "does not describe"),
        ("queries.json", lambda text: text.replace('version": 1', 'version": 7'), "version 7"),
        ("recipes.jsonl", lambda text: text[:-30], "is damaged"),
        ("recipes.jsonl", lambda text: "\n".join(text.split("\n")[:3]), "no recipe for query"),
    ],
)
def test_a_damaged_set_is_refused(audio, tmp_path, name, damage, sentence):
    make(tmp_path / "set", settings_for(audio), audio="recipe")
    path = tmp_path / "set" / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(QueryError, match=sentence):
        list(QuerySet.open(tmp_path / "set"))


# ----------------------------------------------------------------------------- recorded queries


def recorded(folder, rng, rows, columns=("query", "track", "start_s")):
    folder.mkdir()
    for name, n_samples in (("a.wav", 3 * RATE_HZ), ("b.wav", RATE_HZ)):
        soundfile.write(folder / name, rng.uniform(-0.5, 0.5, n_samples), RATE_HZ)
    with open(folder / "truth.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


def test_a_folder_of_recordings_is_a_set_of_queries(tmp_path, rng):
    columns = ("query", "track", "start_s", "phone", "snr_db")
    rows = [("a.wav", "songs/x.flac", "12.5", "old", "-3"), ("b.wav", "", "", "", "")]
    made = QuerySet.open(recorded(tmp_path / "set", rng, rows, columns), root=tmp_path)
    first, second = made
    assert len(made) == 2
    assert (first.id, first.track, first.start_s) == (
        "a.wav", str(tmp_path / "songs/x.flac"), 12.5,
    )  # fmt: skip
    assert (first.duration_s, first.sample_rate_hz) == (3.0, RATE_HZ)
    assert first.conditions == {"phone": "old", "snr_db": -3.0}
    samples, _ = soundfile.read(tmp_path / "set" / "a.wav", dtype="float32")
    np.testing.assert_array_equal(first.samples, samples)
    assert second.track is second.start_s is None
    assert made.settings == {}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("c.wav", "x", "1")], "c.wav does not exist"),
        ([("a.wav", "x", "late")], "start_s 'late' is no time"),
        ([("a.wav", "x", "-1")], "start_s -1.0 is no time"),
        ([("a.wav", "x", "1"), ("a.wav", "y", "2")], "line 3: 'a.wav' is no name, or that of"),
        ([("a.wav",)], "the column 'track'"),
        ([], "holds 0 queries"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, rng, rows, sentence):
    with pytest.raises(QueryError, match=sentence):
        QuerySet.open(recorded(tmp_path / "set", rng, rows))


def test_a_folder_without_a_table_is_no_set(tmp_path):
    with pytest.raises(QueryError, match=r"holds no truth\.csv"):
        QuerySet.open(tmp_path)


# ----------------------------------------------------------------------------- command line


def test_the_verb_makes_a_set(audio, tmp_path, capsys):
    options = (
        f"queries {tmp_path / 'set'} --queries_from {audio / 'music'} --noise {audio / 'noise'} "
        f"--room_ir {audio / 'rooms'} --n_queries 2 --durations_s 1,2 --snr_db none,0 --per second "
        "--codec none,mp3:16 --speed 0.98 --sample_rate_hz 8000 --audio recipe --level_db=-6,-12"
    )
    assert cli.main(options.split()) == 0
    assert "16 queries from 3 recordings (1 more are too short)" in capsys.readouterr().out
    settings = QuerySet.open(tmp_path / "set").settings
    assert settings["codec"] == [None, "mp3:16"]
    assert settings["level_db"] == [-6.0, -12.0]
    assert settings["per"] == "second"
    assert cli.main(options.split()) == 1
    assert "exists already" in capsys.readouterr().err


def test_settings_that_an_earlier_version_did_not_know_were_not_applied(audio, tmp_path):
    settings = QuerySettings(queries_from=str(audio / "music"), n_queries=1, durations_s=(1.0,))
    made = write_query_set(tmp_path / "set", settings, audio="recipe", progress=False)
    wanted = made.settings
    description = tmp_path / "set" / "queries.json"
    written = json.loads(description.read_text())
    del written["settings"]["babble_db"]
    description.write_text(json.dumps(written))
    assert QuerySet.open(tmp_path / "set").settings == wanted
    assert wanted["babble_db"] == [None]


@pytest.mark.parametrize("wrong", ["--snr_range_db 3", "--speed fast", "--per minute"])
def test_wrong_options_are_wrong_usage(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["queries", str(tmp_path / "set"), "--queries_from", "x", *wrong.split()])
    assert exit_.value.code == 2
    assert capsys.readouterr().err
