"""README's commands are run: what stands there works as it stands there."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from fingerprint.music_synthesis import synthesize_track

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def transcript():
    """The commands of the console blocks, each with the output that README shows for it."""
    text = "".join(blocks("console"))
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What README's reader has at hand: a folder of music and a noisy clip of one of its tracks."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "music").mkdir()
    for seed in range(4):
        track = synthesize_track(seed, 30.0, 16_000)
        soundfile.write(folder / "music" / f"track{seed}.flac", track, 16_000)
        if seed == 2:
            clip = track[12 * 16_000 : 18 * 16_000]
            noise = clip.std() * np.random.default_rng(0).standard_normal(len(clip))
            soundfile.write(folder / "clip.wav", 0.1 * (clip + noise) / clip.std(), 16_000)
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def run(command, folder, **environment):
    """Run a line as a shell with the installed command on its path would."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_first_two_blocks_set_everything_up_themselves():
    main_job, tests = blocks("sh")[:2]
    for block in (main_job, tests):
        assert block.count("\n") == 1
        assert block.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert main_job.rstrip().endswith("&& .venv/bin/fingerprint demo")
    assert tests.rstrip().endswith("&& .venv/bin/python -m pytest")
    assert (ROOT / "constraints.txt").exists()


def test_what_is_installed_is_what_setup_cfg_names():
    named = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for source, package in (("fingerprint", "fingerprint"), ("data", "fingerprint_data")):
        for init in (ROOT / source).rglob("__init__.py"):
            parts = (package, *init.parent.relative_to(ROOT / source).parts)
            assert f"\n    {'.'.join(parts)}\n" in named


def test_the_transcript_is_what_the_commands_print(folder):
    commands = transcript()
    assert {shlex.split(command)[1] for command, _ in commands} >= {
        *("index", "query", "list", "remove", "info", "describe"),
    }
    for command, shown in commands:
        result = run(command, folder)
        assert result.returncode == 0, result.stderr
        assert shape(result.stdout) == shape(shown), f"{command}\n{result.stdout}"


def shape(text):
    """The words of an output, without its numbers and the folders of its paths."""
    if text.startswith("{"):
        return [keys(json.loads(line)) for line in text.splitlines()]
    return re.sub(r"[\d.,:]+", "0", text).split()


def keys(value):
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else type(value).__name__


def test_the_python_example_runs(folder):
    (example,) = blocks("python")
    run("test -d songs.index || fingerprint index songs.index music", folder)
    (folder / "example.py").write_text(example, encoding="utf-8")
    result = run(f"{shlex.quote(sys.executable)} example.py", folder)
    assert result.returncode == 0, result.stderr
    assert "track2.flac" in result.stdout


def test_every_file_that_is_named_exists():
    named = re.findall(r"\]\(([^)#:]+)\)", README)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_demo_runs(tmp_path):
    result = run("fingerprint demo", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "runs" / "demo" / "match.png").stat().st_size > 10_000
    assert re.search(r"10 s +\d+\.\d % .* \d+\.\d %", result.stdout)
