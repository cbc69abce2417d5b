"""train.py as a process of its own: usage, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

CONFIG = """
from fingerprint_configs import nafp
from ml_collections import ConfigDict


def get_config():
    config = nafp.get_config()
    config.name = "tiny"
    config.features.update(n_mels=64)
    config.encoder.update(
        widths=(8, 8, 8, 8, 16, 16, 32, 32), embedding_dim=16, head_units=4, norm_affine="channel"
    )
    config.pairs.n_pairs = 8
    config.optimizer.update(name="adam", learning_rate=1e-3)
    config.training.update(
        n_steps=40, log_every_steps=1, checkpoint_every_steps=4, evaluate_every_steps=10
    )
    config.evaluation.update(query_durations_s=(1.0, 2.0), n_queries=8)
    config.data.n_validation_tracks = 3
    config.data.music = ConfigDict(
        {"builder": "synthetic", "kind": "music", "n_tracks": 12, "duration_s": 5.0}
    )
    config.data.backgrounds = ConfigDict(
        {"builder": "synthetic", "kind": "noise", "n_tracks": 2, "duration_s": 5.0}
    )
    config.data.rooms = ConfigDict({"builder": "synthetic", "kind": "room_ir", "n_tracks": 2})
    config.data.devices = ConfigDict({"builder": "synthetic", "kind": "device_ir", "n_tracks": 2})
    return config
"""


def start(repository, *arguments):
    """train.py on one device, in a group of its own."""
    environment = dict(os.environ, XLA_FLAGS="", JAX_PLATFORMS="cpu")
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout_s=300):
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, output


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return path


def test_an_unknown_override_is_refused(repository, config_file, tmp_path):
    status, output = finish(
        start(
            repository,
            f"--config={config_file}",
            f"--workdir={tmp_path / 'run'}",
            "--config.encoder.widht=3",
        )
    )
    assert status != 0
    (sentence,) = (line for line in output.splitlines() if "widht" in line)
    assert sentence.startswith("The configuration cannot be used as asked")
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()


def wait_for_step(workdir, step, process, timeout_s=300):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and process.poll() is None:
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.02)
    _, output = finish(process, timeout_s=1)
    raise AssertionError(f"step {step} was not reached: {output}")


@pytest.mark.slow
def test_a_killed_run_resumes_bit_exactly(repository, config_file, tmp_path):
    def arguments(name):
        return (
            f"--config={config_file}",
            f"--workdir={tmp_path / name}",
            f"--config.data.cache_dir={tmp_path / 'datasets'}",
        )

    status, output = finish(start(repository, *arguments("whole")))
    assert status == 0, output
    assert f"the model is in {tmp_path / 'whole' / 'model'}" in output
    assert "Saving checkpoint" not in output
    assert "deprecated" not in output

    for step, stop_signal in ((9, signal.SIGKILL), (17, signal.SIGKILL), (26, signal.SIGTERM)):
        process = start(repository, *arguments("killed"))
        wait_for_step(tmp_path / "killed", step, process)
        os.kill(process.pid, stop_signal)
        status, output = finish(process)
        assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143}[stop_signal], output
    assert "the same command resumes it" in output
    status, output = finish(start(repository, *arguments("killed")))
    assert status == 0, output

    whole, killed = (
        np.load(tmp_path / name / "model" / "parameters.npz") for name in ("whole", "killed")
    )
    with whole, killed:
        assert whole.files == killed.files
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)
    descriptions = [
        json.loads((tmp_path / name / "model" / "model.json").read_text())
        for name in ("whole", "killed")
    ]
    assert descriptions[0] == descriptions[1]
    assert descriptions[0]["calibration"]["n_segments"] == [1, 3]
