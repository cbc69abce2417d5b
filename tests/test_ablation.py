"""The ablation of the package's network: its split, and that every change can be trained."""

import csv
import dataclasses
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from fingerprint.config import check_config, load_config
from fingerprint.experiments import ExperimentError, ablation_report, main

SCRIPT = REPOSITORY / "benchmarks" / "ablation_split.py"


@pytest.fixture(scope="module")
def ablation(load_benchmark):
    return load_benchmark("ablation")


@pytest.fixture(scope="module")
def ablation_split(load_benchmark):
    return load_benchmark("ablation_split")


def test_each_change_is_a_configuration_that_can_be_trained(ablation):
    for training in ablation.SUITE.trainings:
        config = load_config(REPOSITORY / training.config)
        unchanged = load_config(REPOSITORY / training.config)
        unchanged.update_from_flattened_dict(ablation.BUDGET)
        config.update_from_flattened_dict(dict(training.overrides))
        check_config(config)
        assert (config == unchanged) == (training.name == "whole")


def a_share(*by_seed):
    rate = sum(by_seed) / len(by_seed) if by_seed else None
    return {"rate": rate, "by_seed": by_seed, "n_queries": 300}


def test_the_report_compares_each_change_with_the_whole(ablation):
    suite = ablation.SUITE.only(["envelope", "voices"])
    whole = [a_share(0.70, 0.74, 0.75), a_share(0.9, 0.91, 0.92), a_share(1.0, 1.0, 1.0)]
    changed = {
        "envelope": [a_share(0.69), a_share(0.91), a_share(1.0)],
        "voices": [a_share(0.76), a_share(0.88), a_share()],
    }
    experiments = [
        {"key": each.key, "claim": each.claim, "tables": [[whole, changed[each.key]]] * 2}
        for each in suite.experiments
    ]
    text = "\n".join(ablation_report.sections(suite, experiments))
    assert text.count("## Top-1") == 2
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = {cells[1]: cells[2:5] for cells in ([c.strip() for c in x.split("|")] for x in lines)}
    assert rows["none: `whole`"] == ["73.0 (70.0 to 75.0)", "91.0 (90.0 to 92.0)",
                                     "100.0 (100.0 to 100.0)"]  # fmt: skip
    first, second = (next(v for k, v in rows.items() if f"`{name}`" in k) for name in changed)
    # What is within the seeds of the whole is no difference.
    assert first == ["**69.0 (-4.0)**", "91.0 (+0.0)", "100.0 (+0.0)"]
    assert second == ["**76.0 (+3.0)**", "**88.0 (-3.0)**", "not run yet"]


def test_the_whole_has_to_be_a_system(ablation):
    with pytest.raises(ExperimentError, match="'all' stands for 0"):
        dataclasses.replace(ablation.SUITE, changes_of="all")


def test_what_nobody_has_trained_yet_is_listed_and_reported(ablation, tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "runs"), "--only", "envelope"]
    assert main(ablation.SUITE, "", [*arguments, "--list"]) == 0
    assert "whole, " in capsys.readouterr().out
    assert main(ablation.SUITE, "", [*arguments, "--report_only"]) == 0
    assert "not reproduced" not in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "runs" / "report").iterdir()}
    assert names == {"README.md", "shares.csv", "runs.csv", "result.json"}
    assert "not run yet" in (tmp_path / "runs" / "report" / "README.md").read_text()


def test_split_is_of_train_files_alone_and_stays_when_files_come(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()

    def carved(n_files):
        rows = [(f"{kind}/{i}.wav", kind, "train") for kind in ("music", "noise")
                for i in range(n_files)]  # fmt: skip
        rows.append(("music/secret.wav", "music", "test"))
        with open(audio / "manifest.csv", "w", newline="") as file:
            csv.writer(file).writerows([("path", "kind", "split"), *rows])
        for path, _, _ in rows:
            (audio / path).parent.mkdir(exist_ok=True)
            (audio / path).touch()
        subprocess.run([sys.executable, SCRIPT, audio, tmp_path / "out"], check=True)
        with open(tmp_path / "out" / "manifest.csv", newline="") as file:
            return {row["path"]: (row["kind"], row["split"]) for row in csv.DictReader(file)}

    few, many = carved(400), carved(500)
    assert len(many) == 1000
    assert few.items() <= many.items()
    assert all((tmp_path / "out" / path).is_file() for path in many)
    assert not any("secret" in path for path in many)
    for kind, share in (("music", 1 / 8), ("noise", 1 / 5)):
        n_held_out = sum(value == (kind, "test") for value in many.values())
        assert n_held_out / 500 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("room_ir/train/Library__Bunker-1-Rear__6bfd.flac", "library__bunker"),
        ("room_ir/train/Library__Bunker-1-Front__dcba.flac", "library__bunker"),
        ("music/game__SALCON-fast__1.opus", "game__salcon"),
        ("music/game__JRPG_battle_loop__2.opus", "game__jrpg"),
        ("noise/rain_2.wav", "rain"),
    ],
)
def test_what_belongs_together_is_one_group(ablation_split, path, group):
    assert ablation_split.group_of(path) == group


def test_a_group_is_on_one_side(ablation_split):
    rooms = [f"room_ir/a__{name}-{place}__0.flac" for name in "abcdefgh" for place in range(9)]
    held_out = {}
    for room in rooms:
        key = ablation_split.group_of(room)
        held_out.setdefault(key, set()).add(ablation_split.is_held_out(room, "room_ir"))
    assert len(held_out) == 8
    assert all(len(sides) == 1 for sides in held_out.values())
