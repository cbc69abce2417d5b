"""What a run was made with is written down, and read again."""

import importlib.metadata
import os
import subprocess

import pytest

import fingerprint
from fingerprint.evaluation import record


def test_the_program_and_its_libraries_are_named(repository):
    made_with = record.provenance(["evaluate", "my songs.index"])
    assert made_with["version"] == fingerprint.__version__
    assert made_with["libraries"]["numpy"] == importlib.metadata.version("numpy")
    assert made_with["command"] == "fingerprint evaluate 'my songs.index'"
    assert made_with["cpu_count"] == os.cpu_count()
    # Nothing that the user has not given says where on the machine this runs.
    assert str(repository) not in str(made_with)


def test_the_commit_is_that_of_the_checkout(repository):
    if not (repository / ".git").exists():
        assert record.commit() is None
        return
    command = ["git", "-C", str(repository), "log", "-1", "--format=%H"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert record.commit() == ran.stdout.strip()


def test_an_installed_program_has_a_version_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "fingerprint" / "__init__.py"))
    made_with = record.provenance()
    assert (made_with["commit"], made_with["uncommitted_changes"]) == (None, None)
    assert made_with["command"] is None


def test_a_record_is_read_as_it_was_saved(tmp_path):
    record.save_record(tmp_path, {"systems": ["é"]})
    record.save_record(tmp_path, {"systems": ["é", "b"]})
    assert record.read_record(tmp_path)["systems"] == ["é", "b"]
    assert [path.name for path in tmp_path.iterdir()] == [record.RECORD]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "x"}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / record.RECORD).write_text(text)
    with pytest.raises(record.RecordError, match="is damaged"):
        record.read_record(tmp_path)


def test_a_record_of_another_format_is_refused(tmp_path):
    (tmp_path / record.RECORD).write_text(
        '{"format": "fingerprint evaluation", "format_version": 2}'
    )
    with pytest.raises(record.RecordError, match="is of the format"):
        record.read_record(tmp_path)
