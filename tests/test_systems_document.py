"""SYSTEMS.md tells what its commands print, and names every system there is."""

import runpy

import pytest

from fingerprint.landmark_settings import PRESETS
from fingerprint.searchers import KINDS


@pytest.fixture(scope="module")
def document(repository):
    return (repository / "SYSTEMS.md").read_text(encoding="utf-8")


def test_costs_of_networks_are_those_of_the_command(document, repository):
    benchmark = runpy.run_path(str(repository / "benchmarks" / "systems.py"))
    for row in benchmark["network_rows"]():
        assert f"| {' | '.join(row)} |" in document


def test_every_configuration_has_its_row(document, repository):
    names = {path.stem for path in (repository / "configs").glob("*.py")} - {"__init__", "demo"}
    published = {name for name in names if not name.endswith("_small")}
    assert [name for name in sorted(published) if f"| `{name}` |" not in document] == []
    costed = {name for name in names if not name.endswith(("_published", "_hash"))}
    costed.add("balanced_hash")
    assert [name for name in sorted(costed) if f"(configs/{name}.py)" not in document] == []


def test_every_preset_and_searcher_has_its_row(document):
    assert [
        name for name in PRESETS if name != "default" and f"--preset {name}`" not in document
    ] == []
    assert [name for name in KINDS if name != "auto" and f"| `{name}` |" not in document] == []
