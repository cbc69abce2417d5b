"""The evaluation of the shipped model: what is made once, and what is counted."""

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fingerprint.evaluation.answers import Answer, Candidate, write_header
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.query_settings import QuerySettings
from fingerprint.evaluation.statistics import bootstrap_interval
from fingerprint.music_synthesis import synthesize_track
from fingerprint.recognizer import describe_index

RATE_HZ = 16_000
MODULES = ("plan", "material", "repeats", "figures", "report")


@pytest.fixture(scope="module")
def modules(load_benchmark):
    """The program and what it is made of, by their last name."""
    names = {"main": "shipped_model"} | {each: f"shipped_model_{each}" for each in MODULES}
    return {each: load_benchmark(name) for each, name in names.items()}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A collection with a manifest: four recordings and one noise of each split."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(["test"] * 4 + ["train"] * 4):
        rows.append((f"{split}{number}.flac", "music", split, synthesize_track(number, 12.0)))
    for split in ("test", "train"):
        rows.append((f"noise-{split}.flac", "noise", split, 0.1 * rng.standard_normal(80_000)))
        decay = np.exp(-np.arange(8_000) / 1_000) * rng.standard_normal(8_000)
        rows.append((f"room-{split}.flac", "room_ir", split, decay / 10))
        rows.append((f"device-{split}.flac", "device_ir", split, np.array([0.9, 0.3, 0.1])))
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "kind", "split"])
        for name, kind, split, samples in rows:
            soundfile.write(folder / name, samples, 8_000)
            writer.writerow([name, kind, split])
    return folder


@pytest.fixture
def material(modules, audio, tmp_path):
    scale = modules["plan"].Scale(derived_h=100 / 3600, synthesised_h=1 / 3600, n_queries=6)
    return modules["material"].Material(audio, tmp_path / "work", scale, {})


def a_set(modules, **changes):
    fields = {"noise": "audio", "snr_db": (10.0,)}
    plan = {"name": "some", "title": "some noise", "fields": fields, "durations_s": (2.0, 5.0)}
    return modules["plan"].Set(**(plan | changes))


# ----------------------------------------------------------------------------- the plan


def test_every_set_can_be_made_and_every_name_is_one(modules):
    plan = modules["plan"]
    for names in ([each.name for each in plan.SETS], [each.name for each in plan.SYSTEMS]):
        assert len(set(names)) == len(names)
    for each in plan.SETS:
        QuerySettings(durations_s=each.durations_s, n_queries=each.n_queries, **each.fields)
    assert plan.WHOLE.derived_h + plan.WHOLE.synthesised_h > 50
    (main,) = (each for each in plan.SETS if each.database == plan.MAIN)
    assert main.unknown
    assert main.durations_s == (1.0, 2.0, 3.0, 5.0, 10.0)


def test_phones_become_worse_from_one_to_the_next(modules):
    fields = [each.fields for each in modules["plan"].PHONES]
    for name, sign in {"snr_db": -1, "equaliser_db": 1, "suppression": 1}.items():
        values = [sign * each[name][0] for each in fields]
        assert values == sorted(set(values))


# ----------------------------------------------------------------------------- material


def test_distractors_are_made_once_and_enough_of_them(material, monkeypatch, modules):
    monkeypatch.setattr(modules["material"], "_SYNTHESISED_S", 1.0)
    made = material.distractors()
    derived = [path for path in made if "derived" in path]
    assert sum(soundfile.info(path).duration for path in derived) >= 100
    assert sum(soundfile.info(path).duration for path in derived[:-1]) < 100
    assert sum("synthesised" in path for path in made) == 1
    assert len(set(made)) == len(made)
    times_ns = [os.stat(path).st_mtime_ns for path in made]
    os.remove(made[0])
    assert material.distractors() == made
    assert [os.stat(path).st_mtime_ns for path in made][1:] == times_ns[1:]
    assert not list((material.folder / "distractors").glob(".*"))


def test_a_distractor_is_its_recording_at_another_speed(material, audio, monkeypatch, modules):
    monkeypatch.setattr(modules["material"], "_SYNTHESISED_S", 1.0)
    path = material.distractors()[0]
    _, _, shift, stem = Path(path).stem.split("_")
    seconds = soundfile.info(audio / f"{stem}.flac").duration
    expected_s = seconds / 2 ** (int(shift) / 12)
    assert 3 <= abs(int(shift)) <= 5
    assert soundfile.info(path).duration == pytest.approx(expected_s, abs=0.01)


def test_too_small_a_collection_is_said(material, modules):
    wanted = dataclasses.replace(material.scale, derived_h=1.0)
    with pytest.raises(modules["material"].ShippedModelError, match="are all that"):
        dataclasses.replace(material, scale=wanted).distractors()


def test_what_nobody_holds_is_neither_a_reference_nor_a_distractor(material):
    held, unknown = material.other_recordings()
    assert len(held) + len(unknown) == 4
    assert not set(held) & set(unknown)
    assert not set(material.references()) & {*held, *unknown}
    assert set(material._derived_files()) == {*material.references(), *held}


def test_queries_are_made_once_and_others_are_refused(material, modules):
    wanted = a_set(modules)
    made = material.queries(wanted)
    assert len(made) == 6
    assert material.queries(wanted).identity == made.identity
    assert {truth.conditions["noise"] for truth in made.truths()} == {"noise-test.flac"}
    other = a_set(modules, fields={"noise": "audio", "snr_db": (0.0,)})
    with pytest.raises(modules["material"].ShippedModelError, match="made with snr_db"):
        material.queries(other)


# ----------------------------------------------------------------------------- figures


def answer(query, track, start_s, verdict="match", answerable=True):
    found = (Candidate(track, start_s, 1.0),) if track else ()
    return Answer(query, 2.0, verdict, found, answerable=answerable, cpu_s=0.1)


@pytest.fixture
def answered(material, modules):
    """Queries with answers of three systems, of which is known how many are right."""
    wanted = a_set(modules, database="main", unknown=True, durations_s=(2.0,))
    queries = material.queries(wanted)
    truths = list(queries.truths())
    known = [t for t in truths if Path(t.track).name.startswith("test")]
    systems = [s for s in modules["plan"].SYSTEMS if s.name in ("landmarks", "wang", "dejavu")]
    # So many right, so many of them at the right second.
    for system, (n_right, n_exact) in zip(systems, [(4, 3), (5, 1), (1, 0)], strict=True):
        path = material.answers(system, wanted)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            database = {"tracks": 4, "duration_s": 48.0, "rows": 10, "bytes": 80}
            write_header(
                file, system=system.name, queries=queries.identity, durations_s=(2.0,),
                database=database,
            )  # fmt: skip
            for truth in truths:
                if truth in known:
                    number = known.index(truth)
                    track = os.path.relpath(truth.track, queries.root)
                    error_s = 0.04 if number < n_exact else 0.06
                    found = track if number < n_right else "other"
                    line = answer(truth.id, found, truth.start_s + error_s)
                else:
                    line = answer(truth.id, "other", 0.0, answerable=False)
                file.write(line.to_line())
    return wanted, systems


def test_shares_are_counted_among_the_right_queries(material, modules, answered):
    wanted, systems = answered
    found = modules["figures"].figures(material, [wanted], systems)
    rows = {row["system"]: row for row in found["results"]}
    assert rows["landmarks"]["top1"]["n"] == 6
    assert rows["landmarks"]["top1"]["rate"] == pytest.approx(4 / 6, abs=1e-6)
    # Wilson by hand, 4 of 6: centre and half width of the score interval.
    assert rows["landmarks"]["top1"]["low"] == pytest.approx(0.2999, abs=1e-3)
    assert rows["landmarks"]["top1"]["high"] == pytest.approx(0.9032, abs=1e-3)
    truths = material.queries(wanted).truths()
    tracks = [t.track for t in truths if Path(t.track).name.startswith("test")]
    low, high = bootstrap_interval([i < 4 for i in range(6)], tracks, n_resamples=1000)
    top1 = rows["landmarks"]["top1"]
    assert (top1["track_low"], top1["track_high"]) == pytest.approx((low, high), abs=1e-6)
    assert rows["landmarks"]["start"] == rows["landmarks"]["start"] | {"n": 4, "rate": 0.75}
    assert rows["wang"]["start"]["rate"] == pytest.approx(0.2)
    assert rows["landmarks"]["match_wrong"]["rate"] == pytest.approx(2 / 6, abs=1e-6)
    assert rows["landmarks"]["false_alarm"]["rate"] == 1.0
    assert rows["landmarks"]["false_alarm"]["n"] == 6
    assert found["databases"][0]["duration_s"] == 48.0


def test_another_place_with_the_same_sound_is_counted_apart(
    material, modules, answered, monkeypatch
):
    wanted, systems = answered
    asked = []

    def first_alone(path, start_s, found_s, duration_s, tolerance_s):
        asked.append((Path(path).parent, round(found_s - start_s, 3), duration_s, tolerance_s))
        return len(asked) == 1

    monkeypatch.setattr(modules["figures"], "is_repeated", first_alone)
    found = modules["figures"].figures(material, [wanted], systems)
    # Of landmarks one start of four is wrong, of Wang's four of five, of Dejavu's the only one.
    assert asked == [(material.audio, 0.06, 2.0, 0.05)] * 6
    rows = {row["system"]: row for row in found["results"]}
    assert rows["landmarks"]["start_or_repeat"]["rate"] == 1.0
    assert rows["landmarks"]["start"]["rate"] == 0.75
    assert rows["wang"]["start_or_repeat"]["rate"] == rows["wang"]["start"]["rate"]
    elsewhere = dataclasses.replace(wanted, database="references")
    for row in modules["figures"].figures(material, [elsewhere], systems)["results"]:
        assert row["start_or_repeat"]["n"] == 0
    assert len(asked) == 6


def test_a_repetition_is_one_of_the_waveform(modules, tmp_path):
    is_repeated = modules["repeats"].is_repeated
    rng = np.random.default_rng(0)
    phrase, other = (0.2 * rng.standard_normal(16_000) for _ in range(2))
    alike = phrase + 0.06 * rng.standard_normal(16_000)
    unlike = phrase + 0.2 * rng.standard_normal(16_000)
    path = str(tmp_path / "loop.wav")
    soundfile.write(path, np.concatenate([phrase, other, alike, unlike, phrase / 8]), 8_000)
    # 1 / sqrt(1 + 0.3 ** 2) is 0.958, 1 / sqrt(2) is 0.707.
    assert is_repeated(path, 0.0, 4.0, 2.0, 0.05)
    assert is_repeated(path, 0.0, 4.04, 2.0, 0.05)
    assert not is_repeated(path, 0.0, 4.06, 2.0, 0.05)
    assert not is_repeated(path, 0.0, 6.0, 2.0, 0.05)
    assert not is_repeated(path, 0.0, 2.0, 2.0, 0.05)
    assert is_repeated(path, 0.0, 8.0, 2.0, 0.05)
    # Beyond the ends there is silence.
    assert not is_repeated(path, 0.5, -1.0, 2.0, 0.05)
    assert not is_repeated(path, 0.5, 11.0, 2.0, 0.05)


def test_who_has_not_answered_everything_is_left_out(material, modules, answered, capsys):
    wanted, systems = answered
    path = material.answers(systems[0], wanted)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = modules["figures"].figures(material, [wanted], systems)
    assert systems[0].name not in {row["system"] for row in found["results"]}
    assert f"{systems[0].name} has answered 11 of 12 questions" in capsys.readouterr().err


def test_systems_are_compared_with_the_best_preset(material, modules, answered):
    wanted, systems = answered
    found = modules["figures"].figures(material, [wanted], systems)["comparisons"]
    by_first = {each["first"]: each for each in found}
    assert set(by_first) == {"landmarks", "dejavu"}
    assert all(each["second"] == "wang" for each in found)
    assert by_first["dejavu"]["only_second"] == 4
    assert by_first["dejavu"]["only_first"] == 0
    # Four of four on one side: 2 / 2 ** 4.
    assert by_first["dejavu"]["p_value"] == pytest.approx(0.125)


def test_answers_to_other_queries_are_refused(material, modules, answered):
    wanted, systems = answered
    path = material.answers(systems[0], wanted)
    first, *others = path.read_text().splitlines(keepends=True)
    header = json.loads(first) | {"queries": "of-another-set"}
    path.write_text(json.dumps(header) + "\n" + "".join(others))
    with pytest.raises(modules["material"].ShippedModelError, match="other queries"):
        modules["figures"].figures(material, [wanted], systems)


def test_the_report_says_what_was_counted(material, modules, answered, tmp_path):
    wanted, systems = answered
    wanted = dataclasses.replace(wanted, name="main")
    found = modules["figures"].figures(
        material, [dataclasses.replace(wanted, name="some")], systems
    )
    for row in found["results"] + found["comparisons"]:
        row["set"] = "main"
    names = modules["report"].write(found, [wanted], tmp_path / "report", "some command", {})
    assert {path.name for path in (tmp_path / "report").iterdir()} == set(names)
    text = (tmp_path / "report" / "README.md").read_text()
    top1 = next(row["top1"] for row in found["results"] if row["system"] == "landmarks")
    assert f"66.7 [{100 * top1['track_low']:.1f}, {100 * top1['track_high']:.1f}]" in text
    assert "0 : 4 wang, p 0.12" in text
    with open(tmp_path / "report" / "results.csv", newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert rows["wang"]["start_rate"] == "20.0"
    assert rows["wang"]["start_n"] == "5"
    assert json.loads((tmp_path / "report" / "result.json").read_text())["command"]


# ----------------------------------------------------------------------------- the program


def test_the_program_asks_once_and_goes_on(modules, audio, tmp_path, monkeypatch, capsys):
    plan, main = modules["plan"], modules["main"]
    sets = [
        a_set(modules, name="main", database="main", unknown=True),
        a_set(modules, name="snr", database="references"),
    ]
    monkeypatch.setattr(main, "SETS", sets)
    monkeypatch.setattr(main, "QUICK", plan.Scale(20 / 3600, 1 / 3600, 4))
    monkeypatch.setattr(modules["material"], "_SYNTHESISED_S", 1.0)
    arguments = ["--audio", audio, "--output", tmp_path / "work", "--quick", "--systems"]
    arguments = [*map(str, arguments), "landmarks,wang"]
    assert main.main([*arguments, "--prepare"]) == 0
    assert not (tmp_path / "work" / "quick" / "answers").exists()
    assert main.main(arguments) == 0
    report = tmp_path / "work" / "quick" / "report"
    before = (report / "results.csv").read_text()
    answers = sorted((tmp_path / "work").rglob("*.jsonl"))
    answers = [path for path in answers if path.parent.parent.name == "answers"]
    assert len(answers) == 4
    contents = [path.read_text() for path in answers]
    with open(report / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["set"] for row in rows} == {"main", "snr"}
    assert float(rows[0]["top1_n"]) == 4
    assert describe_index(tmp_path / "work/quick/indexes/main/wang")["tracks"] > 4
    assert describe_index(tmp_path / "work/quick/indexes/references/wang")["tracks"] == 4
    # An interruption leaves half of the answers.
    answers[0].write_text("".join(contents[0].splitlines(keepends=True)[:4]))
    assert main.main(arguments) == 0
    assert len(answers[0].read_text().splitlines()) == len(contents[0].splitlines())
    assert [path.read_text() for path in answers[1:]] == contents[1:]
    assert main.main([*arguments, "--report_only"]) == 0
    assert len(before.splitlines()) == len((report / "results.csv").read_text().splitlines())
    assert (report / "main.png").exists()
    assert (report / "robustness.png").exists()


@pytest.mark.parametrize(("option", "name"), [("--only", "snr_7"), ("--systems", "shazam")])
def test_names_that_nobody_has_are_said(modules, audio, tmp_path, capsys, option, name):
    arguments = ["--audio", str(audio), "--output", str(tmp_path / "work"), option, name]
    assert modules["main"].main(arguments) == 1
    assert f"There is no '{name}'" in capsys.readouterr().err


def test_a_report_of_nothing_is_refused(modules, audio, tmp_path, capsys):
    arguments = ["--audio", str(audio), "--output", str(tmp_path / "work"), "--report_only"]
    assert modules["main"].main(arguments) == 1
    assert "Nobody has been asked" in capsys.readouterr().err


def test_a_network_has_its_identity_in_the_names_of_its_files(modules, material, monkeypatch):
    monkeypatch.setattr(modules["material"], "_identity", lambda model: f"{model.name}0123456789")
    shipped = next(s for s in modules["plan"].SYSTEMS if s.name == "shipped")
    paths = [
        dataclasses.replace(material, models={"shipped": material.folder / name}).index(
            shipped, "main"
        )
        for name in ("one", "two")
    ]
    assert [path.name for path in paths] == ["shipped-one01234", "shipped-two01234"]


def test_sets_open_where_the_collection_was_moved_to(modules, material, audio):
    made = material.queries(a_set(modules))
    assert QuerySet.open(made.folder, root=audio).identity == made.identity
