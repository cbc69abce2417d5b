"""Comparisons of trained systems, and the published orderings as one of them."""

import csv
import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from encoder_cases import random_variables

from fingerprint.config import check_config, load_config
from fingerprint.evaluation.answers import Answer, Candidate, write_header
from fingerprint.evaluation.judging import Truth
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.record import write_json
from fingerprint.experiments import (
    Bound,
    Cell,
    Contrast,
    Experiment,
    ExperimentError,
    Measurement,
    Queries,
    References,
    Suite,
    System,
    Table,
    Training,
    command,
    material,
    training_runs,
)
from fingerprint.experiments.figures import Figures, outcome, verdict
from fingerprint.experiments.shares import Shares
from fingerprint.experiments.workspace import Workspace
from fingerprint.features import input_shape
from fingerprint.model_folder import save_model
from fingerprint.music_synthesis import synthesize_track

TINY = """
from fingerprint_configs import nafp_small


def get_config():
    config = nafp_small.get_config()
    config.name = "tiny"
    config.features.n_mels = 32
    config.encoder.widths = (4, 4, 4, 4, 4, 4, 8, 8)
    config.encoder.embedding_dim = 8
    config.encoder.head_units = 2
    return config
"""
RATE_HZ = 8000


@pytest.fixture(scope="module")
def orderings(load_benchmark):
    """The modules of the published orderings."""
    return load_benchmark("orderings").SUITE, load_benchmark("ordering_runs")


# ------------------------------------------------------------- the published orderings, as data


def test_every_training_is_a_configuration_that_can_be_used(orderings):
    suite, _ = orderings
    for training in suite.trainings:
        config = load_config(REPOSITORY / training.config).lock()
        config.update_from_flattened_dict(dict(training.overrides))
        check_config(config)
        assert config.training.evaluate_every_steps == config.training.n_steps


def test_equal_samples_are_equal(orderings):
    suite, runs = orderings
    fewer = {"hash_head", "attention", "attention_no_mask"}
    fewer |= {each.name for each in suite.trainings if "steps500" in each.name}
    for training in suite.trainings:
        n_pairs, n_steps = (
            training.overrides[f"{key}"] for key in ("pairs.n_pairs", "training.n_steps")
        )
        config = load_config(REPOSITORY / training.config)
        rows = n_pairs * n_steps * (1 + config.pairs.n_positives)
        if training.name not in fewer and "in_attention" not in training.name:
            assert rows == pytest.approx(2 * runs.N_PAIRS, rel=1e-3), training.name
    equal = [suite.training_named(name) for name in ("attention", "nafp_in_attention")]
    assert equal[0].overrides == equal[1].overrides


def test_every_row_of_the_source_is_there(orderings):
    suite, _ = orderings
    assert [each.key for each in suite.experiments] == [str(row) for row in range(1, 16)]
    for experiment in suite.experiments:
        claims = [c for c in (*experiment.contrasts, *experiment.bounds) if c.is_claim]
        assert claims, experiment.key


def test_nafp_in_the_attention_recipe_differs_in_the_encoder_alone():
    ours = load_config(REPOSITORY / "benchmarks/ordering_configs/nafp_in_attention_small.py")
    theirs = load_config(REPOSITORY / "configs/attention_small.py")
    assert ours.encoder == load_config(REPOSITORY / "configs/nafp_small.py").encoder
    for key in set(ours) - {"name", "encoder"}:
        assert ours[key] == theirs[key], key
    variables = random_variables(ours.encoder.to_dict(), *input_shape(ours))
    assert variables["params"]


def test_some_rows_alone_take_what_they_need(orderings):
    suite, _ = orderings
    chosen = suite.only(["9"])
    assert [each.name for each in chosen.trainings] == ["base", "hash_head"]
    with pytest.raises(ExperimentError, match="'99' stands for 0"):
        suite.only(["99"])


def test_memory_is_counted_per_minute_of_each_database(orderings, monkeypatch):
    import ordering_measures

    facts = {
        "d64": {"method": "neural", "duration_s": 120.0, "rows": 238, "bytes": 238 * 256},
        "landmarks_dejavu": {
            "method": "landmarks", "duration_s": 60.0, "rows": 9_000, "bytes": 72_000
        },
    }  # fmt: skip
    monkeypatch.setattr(ordering_measures, "describe_index", facts.get)
    figures = ordering_measures.bytes_per_minute({name: name for name in facts}, {}, None)
    assert figures["fingerprints, product-quantised"] == 119 * 64
    assert figures["fingerprints, float32"] == 119 * 256
    assert figures["Dejavu's keys as stored here"] == 72_000
    assert figures["Dejavu's table over quantised"] == pytest.approx(9_000 * 17 / (119 * 64))


def test_bounds_name_figures_that_are_measured(orderings, monkeypatch, tmp_path):
    import ordering_measures

    def report(vectors, segments, encode, out):
        line = {"recall": [0.0, 1.0]}
        names = (
            *(ordering_measures.candidates.LEARNT, "random hyperplanes", "principal directions"),
            "p-stable LSH",
        )
        curves = {
            name: line | {"examined": [0.0, top]}
            for name, top in zip(names, (0.1, 0.3, 0.05, 0.2), strict=True)
        }
        balance = {
            names[0]: {"entropy_share": 0.96, "share_in_tolerance": 0.8},
            names[1]: {"entropy_share": 0.9, "share_in_tolerance": 0.5},
            names[2]: {"entropy_share": 0.95, "share_in_tolerance": 0.9},
        }
        content = {"curves": {"all segments": curves}, "balance": balance}
        (out / "candidates.json").write_text(json.dumps(content))

    class Index:
        open = load = classmethod(lambda cls, path: cls())
        codes = None

        def column(self, name):
            return np.zeros((3, 2))

    monkeypatch.setattr(ordering_measures, "Store", Index)
    monkeypatch.setattr(ordering_measures, "Fingerprinter", Index)
    monkeypatch.setattr(ordering_measures.candidates, "embed_queries", lambda *_: None)
    monkeypatch.setattr(ordering_measures.candidates, "report", report)
    figures = ordering_measures.candidate_shares({"a": tmp_path}, {"b": tmp_path}, tmp_path)
    suite, _ = orderings
    for experiment in suite.experiments:
        for bound in experiment.bounds:
            assert bound.measurement == "memory" or bound.figure in figures
    assert figures["random hyperplanes examine at recall 0.9, times learnt codes"] == (
        pytest.approx(3.0)
    )
    assert figures["share_in_tolerance, more than random hyperplanes"] == pytest.approx(0.3)


# --------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "at_least", "expected"),
    [
        (0.05, 0.15, [0.1, 0.1], 0.0, "holds"),
        (0.05, 0.15, [0.2, -0.01], 0.0, "undecided"),
        (-0.01, 0.15, [0.1, 0.1], 0.0, "undecided"),
        (-0.05, 0.015, [-0.01], 0.0, "fails"),
        (-0.15, -0.05, [-0.1], 0.0, "fails"),
        (0.05, 0.15, [0.1], 0.2, "fails"),
        (0.15, 0.25, [0.21], 0.2, "undecided"),
        (0.25, 0.35, [0.3], 0.2, "holds"),
    ],
)
def test_outcomes_follow_the_rules(low, high, by_seed, at_least, expected):
    assert outcome(low, high, by_seed, at_least) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["holds", "holds"], "reproduced"),
        (["holds", "fails", "undecided"], "not reproduced"),
        (["holds", "undecided"], "undecided"),
        (["holds", "not run yet"], "not run yet"),
        ([], "not run yet"),
    ],
)
def test_a_claim_is_reproduced_if_all_of_it_holds(outcomes, expected):
    assert verdict(outcomes) == expected


# ------------------------------------------------------------------- a small suite of its own


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Four synthetic recordings with a manifest."""
    folder = tmp_path_factory.mktemp("audio")
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "kind", "split"))
        for seed in range(4):
            name = f"{seed}.wav"
            soundfile.write(folder / name, synthesize_track(seed, 8.0, RATE_HZ), RATE_HZ)
            table.writerow((name, "music", "test"))
    return folder


def measure(indexes, queries, out):
    return {"n_indexes": len(indexes), "n_queries": len(QuerySet.open(queries["clean"]))}


def suite_of(config, trainings=("first", "second")):
    cells = [Cell(name, 2.0, "clean") for name in trainings]
    fields = {"n_queries": 6, "durations_s": (1.0, 2.0), "sample_rate_hz": RATE_HZ}
    return Suite(
        title="Two of them",
        trainings=[
            Training(name, str(config), {"training.n_steps": 5, "loss.temperature": t}, (0, 1))
            for name, t in zip(trainings, (0.1, 0.2), strict=True)
        ],
        systems=[
            System("landmarks", {"clean": (2.0,)}, method="landmarks"),
            *(System(name, {"clean": (1.0, 2.0)}, training=name) for name in trainings),
            System("first_once", {"moved": (1.0,)}, training="first", references="clips",
                   settings={"search.n_shifts": 1}),
        ],
        queries=[
            Queries("clean", fields),
            Queries("moved", fields, references="clips", offsets_s=(0.0, 0.25)),
        ],
        experiments=[
            Experiment(
                "a", "One is better", "nobody", "All is equal.",
                contrasts=[Contrast("first - second", cells[:1], cells[1:])],
                tables=[Table("Top-1", (*trainings, "landmarks"), "clean", (2.0,)),
                        Table("Moved", ("first_once",), "moved", (1.0,),
                              ("offset_s=0", "offset_s=0.25"))],
            ),
            Experiment("b", "Six are asked", "nobody", "Counted.",
                       bounds=[Bound("queries", "count", "n_queries", 6)]),
        ],
        measurements=[Measurement("count", ("first",), measure, ("clean",))],
        references=[References("whole"), References("clips", clip_s=4.0)],
    )  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return path


@pytest.fixture
def trained(monkeypatch):
    """In place of train.py: models drawn at random; the commands that were run."""
    commands = []

    def run(command, log):
        commands.append(command)
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in command[2:])
        if flags["config.name"] == "second" and flags["config.seed"] == "1":
            log.write_text("it went wrong\n")
            return 1
        config = load_config(flags["config"])
        config.seed, config.name = int(flags["config.seed"]), flags["config.name"]
        config.training.n_steps = int(flags["config.training.n_steps"])
        config.loss.temperature = float(flags["config.loss.temperature"])
        variables = random_variables(config.encoder.to_dict(), *input_shape(config))
        save_model(f"{flags['workdir']}/model", config, variables)
        line = json.dumps({"step": 5, "loss": 1.25})
        (log.parent / "metrics.jsonl").write_text(f"{line}\n")
        return 0

    monkeypatch.setattr(training_runs, "_run", run)
    return commands


def test_everything_is_made_once_and_a_failure_stops_nothing_else(
    audio, config, trained, tmp_path, capsys
):
    suite, output = suite_of(config), tmp_path / "out"
    arguments = ["--output", str(output), "--audio", str(audio)]
    assert command.main(suite, "", arguments) == 1
    assert "second_seed1 ended with status 1" in capsys.readouterr().err
    assert len(trained) == 4

    result = json.loads((output / "report" / "result.json").read_text())
    first, counted = result["experiments"]
    assert [run["state"] for run in result["runs"]] == ["done", "done", "done", "begun"]
    assert result["runs"][0]["final_loss"] == 1.25
    assert "--config.loss.temperature=0.1" in result["runs"][0]["command"]
    assert first["contrasts"][0]["seeds"] == [0] and not first["is_complete"]
    assert counted["verdict"] == "reproduced" and counted["bounds"][0]["by_seed"] == [6, 6]
    moved = first["tables"][1][0]
    assert [cell["n_queries"] for cell in moved] == [6, 6] and moved[0]["seeds"] == [0, 1]
    text = (output / "report" / "README.md").read_text()
    assert "## a. One is better" in text and "3 of 4 training runs are done" in text

    # Again: only the failed run is begun again, and nothing is asked twice.
    answers = sorted(output.glob("answers/*/*.jsonl"))
    before = [(path, path.read_text()) for path in answers]
    assert command.main(suite, "", arguments) == 1
    assert len(trained) == 5
    assert [(path, path.read_text()) for path in sorted(output.glob("answers/*/*.jsonl"))] == before
    # The tables alone need no recordings, and no training.
    assert command.main(suite, "", ["--output", str(output), "--report_only"]) == 0
    assert json.loads((output / "report" / "result.json").read_text()) == result


def test_what_is_not_trained_is_left_out(audio, config, trained, tmp_path, capsys):
    suite, output = suite_of(config), tmp_path / "out"
    arguments = ["--output", str(output), "--audio", str(audio), "--no_training", "--only", "a"]
    assert command.main(suite, "", arguments) == 0
    assert not trained
    result = json.loads((output / "report" / "result.json").read_text())
    assert [each["verdict"] for each in result["experiments"]] == ["not run yet"] * 2
    shown = [row[0]["rate"] for row in result["experiments"][0]["tables"][0]]
    assert shown[:2] == [None, None] and shown[2] is not None
    assert (
        "not run yet" in (output / "report" / "shares.csv").parent.joinpath("README.md").read_text()
    )
    assert command.main(suite, "", [*arguments[:2], "--list"]) == 0
    listed = capsys.readouterr().out
    assert "first, 0 min each; seed 0: not run yet" in listed


def test_queries_are_moved_to_a_distance_from_a_segment(audio, tmp_path):
    workspace = Workspace(tmp_path, audio)
    wanted = Queries(
        "moved",
        {"n_queries": 5, "durations_s": (1.0,), "sample_rate_hz": RATE_HZ},
        offsets_s=(0.0, 0.1, 0.25),
    )
    queries = list(material.queries(workspace, wanted, References("whole")))
    assert len(queries) == 15
    for number, query in enumerate(queries):
        offset_s = wanted.offsets_s[number % 3]
        assert query.conditions["condition"] == f"offset_s={offset_s:g}"
        assert query.start_s % 0.5 == pytest.approx(offset_s)
        track, _ = soundfile.read(query.track, dtype="float32")
        own = track[round(query.start_s * RATE_HZ) :][: len(query.samples)]
        assert np.corrcoef(own, query.samples)[0, 1] > 0.999
    with pytest.raises(ExperimentError, match="made with offsets_s"):
        material.queries(
            workspace, dataclasses.replace(wanted, offsets_s=(0.0,)), References("whole")
        )


# ------------------------------------------------------------------- figures from known answers


def answered(workspace, suite, system, seed, n_right):
    """Answers that are right for the first so many queries."""
    queries = QuerySet.open(workspace.queries("clean"))
    path = workspace.answers(suite.system_named(system), seed, "clean")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        write_header(file, system=system, queries=queries.identity, durations_s=(1.0, 2.0))
        for number, truth in enumerate(queries.truths()):
            track = str(truth.track).rpartition("/")[2] if number < n_right else "other"
            for duration_s in (1.0, 2.0):
                found = (Candidate(track, truth.start_s, 1.0),)
                file.write(Answer(truth.id, duration_s, None, found, answerable=True).to_line())


@pytest.fixture
def known(audio, config, tmp_path):
    """Of six queries one system answers six and five, the other one and two, by seed."""
    suite, workspace = suite_of(config), Workspace(tmp_path / "out", audio)
    material.queries(workspace, suite.queries_named("clean"), References("whole"))
    for name, counts in (("first", (6, 5)), ("second", (1, 2))):
        for seed, n_right in enumerate(counts):
            answered(workspace, suite, name, seed, n_right)
    return suite, workspace


def test_a_contrast_is_the_mean_over_seeds_of_paired_differences(known):
    suite, workspace = known
    row = Figures(suite, workspace).contrast(suite.experiments[0].contrasts[0])
    assert row["by_seed"] == [pytest.approx(5 / 6, abs=1e-4), 0.5]
    assert row["difference"] == pytest.approx(4 / 6, abs=1e-4)
    # Five, then three queries that the first alone answers: 2 / 2^5, 2 / 2^3.
    assert row["p_values"] == [0.0625, 0.25]
    assert row["low"] <= row["difference"] <= row["high"]
    assert (row["outcome"], row["is_complete"]) == ("holds", True)


def test_a_share_has_its_seeds(known):
    suite, workspace = known
    row = Figures(suite, workspace).share(Cell("second", 1.0, "clean"))
    assert row["by_seed"] == [pytest.approx(1 / 6, abs=1e-4), pytest.approx(2 / 6, abs=1e-4)]
    assert (row["rate"], row["n_queries"]) == (0.25, 6)


def test_a_difference_of_differences_pairs_excerpts(known):
    suite, workspace = known
    lengths = [[Cell(name, s, "clean") for s in (1.0, 2.0)] for name in ("first", "second")]
    contrast = Contrast("growth", [lengths[0][1], lengths[1][0]], [lengths[0][0], lengths[1][1]])
    row = Figures(suite, workspace).contrast(contrast)
    assert (row["difference"], row["outcome"]) == (0.0, "fails")


def test_answers_to_other_queries_are_refused(known):
    suite, workspace = known
    path = workspace.answers(suite.system_named("first"), 0, "clean")
    path.write_text(path.read_text().replace('"queries": "', '"queries": "x', 1))
    with pytest.raises(ExperimentError, match="answers to other queries"):
        Figures(suite, workspace).share(Cell("first", 1.0, "clean"))


def test_a_bound_holds_with_every_seed(known):
    suite, workspace = known
    (measurement,) = suite.measurements
    bound = suite.experiments[1].bounds[0]
    assert Figures(suite, workspace).bound(bound)["outcome"] == "not run yet"
    for counts, expected in (((6, 7), "holds"), ((5, 7), "undecided"), ((5, 5), "fails")):
        for seed, n in enumerate(counts):
            write_json(workspace.measured(measurement, seed), {"figures": {"n_queries": n}})
        assert Figures(suite, workspace).bound(bound)["outcome"] == expected


# ---------------------------------------------------------------------- runs of other programs


def test_a_run_of_another_program_is_taken_over(config, trained, tmp_path):
    suite, workspace = suite_of(config), Workspace(tmp_path / "out", tmp_path)
    training = suite.training_named("first")
    folder = workspace.run(training, 0)
    folder.mkdir(parents=True)
    flags = training_runs.command_of(workspace, training, 0)
    training_runs._run(flags, folder / "log.txt")
    assert training_runs.record_of(workspace, training, 0) is None
    (folder / "done").write_text("123 s\n")
    (folder / "command.txt").write_text("python train.py\n")
    record = training_runs.train(workspace, training, 0)
    assert (record["wall_s"], record["command"], record["commit"]) == (
        *(123.0, "python train.py"),
        None,
    )
    assert len(trained) == 1
    other = dataclasses.replace(training, overrides=training.overrides | {"loss.temperature": 0.5})
    with pytest.raises(ExperimentError, match=r"loss.temperature 0.1, but 0.5 is wanted"):
        training_runs.train(workspace, other, 0)


def test_what_another_process_trains_is_left_to_it(config, tmp_path):
    suite, workspace = suite_of(config), Workspace(tmp_path / "out", tmp_path)
    training = suite.training_named("first")
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", waiting, f"--workdir={workspace.run(training, 0)}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ExperimentError, match=f"trained by process {other.pid}"):
            training_runs.train(workspace, training, 0)
        other.stdin.close()


def test_a_step_that_never_happens_may_be_absent(config, trained, tmp_path):
    suite, workspace = suite_of(config), Workspace(tmp_path / "out", tmp_path)
    training = suite.training_named("first")
    training_runs.train(workspace, training, 0)
    path = workspace.model(training, 0) / "model.json"
    content = json.loads(path.read_text())
    del content["config"]["augmentation"]["white_noise"]
    path.write_text(json.dumps(content))
    assert training_runs.record_of(workspace, training, 0)["n_steps"] == 5
    content["config"]["augmentation"]["room"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ExperimentError, match=r"augmentation\.room"):
        training_runs.record_of(workspace, training, 0)


def test_names_that_are_missing_are_refused(config):
    suite = suite_of(config)
    with pytest.raises(ExperimentError, match="'nobody' stands for 0"):
        dataclasses.replace(suite, systems=[System("x", {}, training="nobody")])
    with pytest.raises(ExperimentError, match="which it is not asked"):
        table = Table("", ("first",), "clean", (9.0,))
        experiment = dataclasses.replace(suite.experiments[0], tables=[table])
        dataclasses.replace(suite, experiments=[experiment])


SYNTHETIC = """
    config.data.n_validation_tracks = 0
    for name, kind in (("music", "music"), ("backgrounds", "noise")):
        section = {"builder": "synthetic", "kind": kind, "n_tracks": 4, "duration_s": 4.0}
        config.data[name] = ConfigDict(section)
    for name, kind in (("rooms", "room_ir"), ("devices", "device_ir")):
        config.data[name] = ConfigDict({"builder": "synthetic", "kind": kind, "n_tracks": 2})
    return config
"""


@pytest.mark.slow
def test_train_py_is_run_and_recorded(audio, config, tmp_path, monkeypatch):
    # One device: simulated ones are handed down to other processes.
    monkeypatch.setenv("XLA_FLAGS", "")
    header = "from ml_collections import ConfigDict\n"
    config.write_text(header + TINY.replace("    return config\n", SYNTHETIC))
    overrides = {"training.n_steps": 2, "training.log_every_steps": 1, "pairs.n_pairs": 4}
    training = Training("tiny", str(config), overrides)
    workspace = Workspace(tmp_path / "out", audio)
    record = training_runs.train(workspace, training, 3)
    assert (record["n_steps"], record["n_pairs"]) == (2, 4)
    assert record["cpu_s"] > 0 and record["final_loss"] > 0
    assert "--config.seed=3" in record["command"]
    assert training_runs.train(workspace, training, 3) == record
    broken = dataclasses.replace(training, name="broken", overrides={"pairs.n_pairs": 0})
    with pytest.raises(ExperimentError, match=r"ended with status 1: the end of .*log\.txt"):
        training_runs.train(workspace, broken, 0)


def test_a_recording_is_the_same_wherever_a_set_names_it_from(monkeypatch, tmp_path):
    """Noise from elsewhere moves the folder that the paths of a set are relative to."""
    truth = Truth("x", None, "", None, "7")
    sets = {
        "noise": (tmp_path / "audio", dataclasses.replace(truth, track="music/a.wav")),
        "white": (tmp_path, dataclasses.replace(truth, track="audio/music/a.wav")),
        "far": (tmp_path, dataclasses.replace(truth, track="/elsewhere/a.wav")),
    }
    monkeypatch.setattr(Shares, "_open_set", lambda _, name: SimpleNamespace(root=sets[name][0]))
    monkeypatch.setattr(Shares, "_read_truths", lambda _, name: {"q": sets[name][1]})
    shares = Shares(None, None)
    assert shares.tracks("noise") == shares.tracks("white")
    assert shares.tracks("noise") == {"7": str(tmp_path / "audio" / "music" / "a.wav")}
    assert shares.tracks("far") == {"7": "/elsewhere/a.wav"}
