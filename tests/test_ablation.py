"""The ablation of the package's network: its split, and that every change can be trained."""

import csv
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from fingerprint.config import check_config, load_config

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
