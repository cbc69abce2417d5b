"""Models for release: what is said of one, and what an export keeps and drops."""

import json
import shutil

import numpy as np
import pytest
from fingerprint_configs import nafp

from fingerprint.cli import main
from fingerprint.config import load_config
from fingerprint.describe import describe
from fingerprint.model import Fingerprinter, ModelError, save_model
from fingerprint.model_folder import read_model
from fingerprint.model_release import describe_model, export_model, without_absolute_paths
from fingerprint.music_synthesis import synthesize_track


@pytest.fixture(scope="module")
def trained(tmp_path_factory, repository):
    """A trained model in float32, with the paths of the machine that trained it."""
    stored = read_model(repository / "results" / "nafp_small" / "model")
    values = stored.config.to_dict()
    values["data"] |= {"root": "/home/me/audio", "cache_dir": "/scratch/cache"}
    values["data"]["rooms"] |= {"source": "/mnt/rooms/mit_ir"}
    config = type(stored.config)(values)
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_model(folder, config, stored.variables, stored.calibration)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("exported") / "model"
    return folder, export_model(trained, folder)


def test_an_export_is_the_model_rounded(exported, trained):
    folder, facts = exported
    model, original = read_model(folder), read_model(trained)
    assert facts["identity"] == model.identity != original.identity == facts["exported_from"]
    assert model.calibration == original.calibration is not None
    assert facts["dtype"] == model.dtype == "float16"
    assert facts["bytes"] == sum(path.stat().st_size for path in folder.glob("*"))
    assert facts["bytes"] < 0.55 * describe_model(trained)["bytes"]


def test_the_cosines_are_those_of_the_two_models(exported, trained):
    folder, facts = exported
    clip = synthesize_track(0, 30.0, 8000)
    old, new = (Fingerprinter.load(each).embed(clip) for each in (trained, folder))
    assert len(old) == 59
    cosines = [np.dot(a.astype(float), b.astype(float)) for a, b in zip(old, new, strict=True)]
    assert facts["cosine_mean"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert facts["cosine_min"] == pytest.approx(min(cosines), abs=1e-6)
    assert 0.9999 < facts["cosine_min"] <= facts["cosine_mean"] < 1 + 1e-6


def test_an_export_names_no_path_of_the_machine(exported, trained):
    folder, _ = exported
    for secret in ("/home", "/scratch", "/mnt"):
        assert secret in (trained / "model.json").read_text()
        assert secret not in (folder / "model.json").read_text()
    data = read_model(folder).config.data
    assert data.root is None and data.cache_dir == "" and data.rooms.source == "mit_ir"


def test_a_configuration_without_paths_is_left_alone():
    config = nafp.get_config()
    assert without_absolute_paths(config).to_dict() == config.to_dict()


def test_float32_keeps_the_identity(trained, tmp_path):
    facts = export_model(trained, tmp_path / "model", dtype="float32")
    assert facts["identity"] == facts["exported_from"]
    assert facts["cosine_min"] == pytest.approx(1, abs=1e-6)


def test_a_model_is_not_exported_onto_itself(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "model")
    with pytest.raises(ModelError, match="model is the model itself: choose another folder"):
        export_model(copy, tmp_path / "." / "model")
    assert read_model(copy).dtype == "float32"


def test_other_folders_are_never_overwritten(trained, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"RIFF")
    with pytest.raises(ModelError, match="is not a model folder"):
        export_model(trained, tmp_path)


def test_facts_of_a_model_are_those_of_its_configuration_and_more(trained, repository):
    facts = describe_model(trained)
    small = describe(load_config(repository / "configs" / "nafp_small.py"))
    assert {name: facts[name] for name in small} == small
    assert {name: facts[name] for name in facts.keys() - small.keys()} == {
        "identity": "a41f6910f49b722d",
        "dtype": "float32",
        "bytes": sum(path.stat().st_size for path in trained.iterdir()),
        "calibrated": True,
        "hash_bits": None,
    }


def test_the_verbs(trained, tmp_path, capsys):
    out = str(tmp_path / "model")
    assert main(["export", str(trained), out, "--dtype", "float16", "--format", "json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["exported_from"] == "a41f6910f49b722d"
    assert main(["describe", out, "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts.items() < exported.items()
    assert main(["describe", "default", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == facts.keys()


def test_verbs_refuse_what_is_no_model(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "none is not a model folder" in capsys.readouterr().err
    assert main(["describe", str(tmp_path)]) == 1
    assert "is not a model folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
