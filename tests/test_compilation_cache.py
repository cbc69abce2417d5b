import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import pytest

from fingerprint import compilation_cache
from fingerprint.compilation_cache import keep_compiled_programs

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_enable_compilation_cache",
)


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """A jax without cache, a home and a folder of temporary files, all of this test's own."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_under_the_users_cache_folder(tmp_path, monkeypatch):
    folder = keep_compiled_programs()
    assert folder.parent == tmp_path / "home" / ".cache" / "fingerprint"
    assert str(folder) == jax.config.jax_compilation_cache_dir
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.iterdir()) == []
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert keep_compiled_programs().parent == tmp_path / "xdg" / "fingerprint"


def test_a_relative_xdg_cache_home_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.chdir(tmp_path)
    assert keep_compiled_programs().parent == tmp_path / "home" / ".cache" / "fingerprint"
    assert not (tmp_path / "somewhere").exists()


def test_a_cache_that_jax_has_already_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "chosen"))
    assert keep_compiled_programs() == tmp_path / "chosen"
    assert list((tmp_path / "home").iterdir()) == []


def test_jax_may_be_told_to_keep_nothing(tmp_path):
    jax.config.update("jax_enable_compilation_cache", False)
    assert keep_compiled_programs() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_where_the_cache_folder_cannot_be_made_the_temporary_one_serves(tmp_path):
    (tmp_path / "home" / ".cache").write_text("a file in its place")
    folder = keep_compiled_programs()
    assert folder.parent.parent == tmp_path / "temporary"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", ["a file", "written by others", "a link"])
def test_a_folder_that_others_could_fill_is_not_used(tmp_path, how):
    place = tmp_path / "home" / ".cache" / "fingerprint"
    place.parent.mkdir()
    if how == "a file":
        place.write_text("")
    elif how == "a link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o777)
    assert keep_compiled_programs().parent.parent == tmp_path / "temporary"


def test_a_file_system_that_is_full_or_read_only_is_not_used(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(compilation_cache.tempfile, "TemporaryFile", refuse)
    assert keep_compiled_programs() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_without_any_place_everything_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "home" / "nowhere" / "x"))
    (tmp_path / "home" / ".cache").write_text("")
    (tmp_path / "home" / "nowhere").write_text("")
    assert keep_compiled_programs() is None


def test_each_kind_of_processor_has_its_own_programs(monkeypatch):
    mine = keep_compiled_programs()
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(compilation_cache.platform, "machine", lambda: "another")
    assert keep_compiled_programs() != mine


def test_small_programs_of_another_process_are_kept_there(tmp_path):
    code = (
        "import jax, jax.numpy as jnp\n"
        "from fingerprint.compilation_cache import keep_compiled_programs\n"
        "print(keep_compiled_programs())\n"
        "print(jax.jit(lambda x: x * 3 + 1)(jnp.float32(2)))\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))
    }
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    folder, result = ran.stdout.split()
    assert result == "7.0"
    assert any(each.name.startswith("jit_") for each in pathlib.Path(folder).iterdir())
