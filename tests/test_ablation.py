"""The ablation of the package's network: its split, and that every change can be trained."""

import csv
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from fingerprint.config import check_config, load_config

SCRIPT = REPOSITORY / "benchmarks" / "ablation_split.py"


@pytest.fixture(scope="module")
def ablation():
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        import ablation
    finally:
        sys.path.pop(0)
    return ablation


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
