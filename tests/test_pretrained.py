"""The model of the package: there, whole, in every way to install it, and as its card says."""

import re
import shutil
import subprocess
import sys
import tarfile

import pytest

from fingerprint import pretrained
from fingerprint.model import Fingerprinter, ModelError
from fingerprint.model_release import describe_model, without_absolute_paths
from fingerprint.music_synthesis import synthesize_track
from fingerprint.pretrained import default_model, find_model

MAX_BYTES = 8_000_000
# A version control system has neither.
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def facts():
    return describe_model(default_model())


def test_the_model_is_small_rounded_calibrated_and_names_no_paths(facts):
    assert facts["bytes"] <= MAX_BYTES
    assert facts["dtype"] == "float16"
    assert facts["calibrated"]
    config = Fingerprinter.load(default_model()).config
    assert without_absolute_paths(config).to_dict() == config.to_dict()


def test_the_model_fingerprints(facts):
    fingerprinter = Fingerprinter.load(default_model())
    assert fingerprinter.identity == facts["identity"]
    clip = synthesize_track(1, 5.0, fingerprinter.sample_rate_hz)
    embeddings = fingerprinter.embed(clip)
    assert embeddings.shape == (fingerprinter.grid.n_segments(len(clip)), facts["embedding_dim"])


def test_default_is_a_name_and_other_names_are_folders(tmp_path):
    assert find_model("default") == default_model()
    assert find_model(tmp_path) == find_model(str(tmp_path)) == tmp_path
    assert find_model("./default") != default_model()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    folder = shutil.copytree(default_model(), tmp_path / "default")
    monkeypatch.setattr(pretrained, "_FOLDER", folder)
    return folder


@pytest.mark.parametrize("name", ["model.json", "parameters.npz"])
def test_a_model_that_is_missing_is_a_sentence(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"incomplete .*{name} is missing.: install the package"):
        default_model()


def test_a_model_that_is_damaged_is_a_sentence(copy):
    content = bytearray((copy / "parameters.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (copy / "parameters.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"is .*damaged.*copy or train the model again"):
        Fingerprinter.load(default_model())


def setup(folder, *commands):
    """Run setuptools in a source tree, as pip does, but without asking the network for it."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", *commands],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )


def test_every_way_to_install_brings_the_model(tmp_path, repository):
    """A source distribution made from the checkout, and what a wheel holds, built from that."""
    checkout = tmp_path / "checkout"
    for name in ("fingerprint", "configs", "data"):
        shutil.copytree(repository / name, checkout / name, ignore=NOT_SOURCES)
    for name in (
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "MANIFEST.in",
        "MODEL_CARD.md",
    ):
        shutil.copy(repository / name, checkout)
    setup(checkout, "sdist", "--dist-dir", str(tmp_path / "dist"))
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    setup(source, "build", "--build-lib", str(tmp_path / "built"))
    shipped = tmp_path / "built" / "fingerprint" / "pretrained_models" / "default"
    assert contents(shipped) == contents(default_model())
    assert (source / "MODEL_CARD.md").is_file()
    modules = {path.name for path in (checkout / "fingerprint").glob("*.py")}
    assert modules == {path.name for path in (tmp_path / "built" / "fingerprint").glob("*.py")}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_card_is_of_this_model(repository, facts):
    card = (repository / "MODEL_CARD.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| ([^|]+?) \| `?([^|`]+?)`? \|$", card, re.MULTILINE))
    assert stated["identity"] == facts["identity"]
    assert stated["configuration"] == facts["name"]
    assert stated["stored as"] == facts["dtype"]
    for row, fact in (
        ("parameters", "parameters"),
        ("bytes in the package", "bytes"),
        ("multiply-adds per segment", "macs_per_segment"),
        ("numbers in a fingerprint", "embedding_dim"),
    ):
        assert int(stated[row].replace(",", "")) == facts[fact], row
