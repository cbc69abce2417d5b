import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_train_step import gradients_of_the_big_batch
from test_training import make_batch, params_of, tiny_config

from fingerprint import parallel
from fingerprint.errors import ConfigError

# One of two processes with two devices each: it feeds its half of every batch.
PROGRAM = """
import sys
import numpy as np
from fingerprint import parallel

port, process_id, folder = sys.argv[1:]
parallel.start_processes(f"127.0.0.1:{port}", 2, int(process_id))

import jax
from flax import traverse_util
from test_train_step import gradients_of_first_step
from test_training import batches_of, make_batch, tiny_config
from fingerprint.training import run

assert (jax.device_count(), jax.local_device_count()) == (4, 2)


def my_half(k, n_pairs):
    batch = make_batch(k, n_pairs)
    return {name: np.split(rows, 2)[int(process_id)] for name, rows in batch.items()}


config = tiny_config(n_steps=4)
config.training.checkpoint_every_steps = 2
loss, grads = gradients_of_first_step(config, my_half(0, config.pairs.n_pairs))
np.savez(
    f"{folder}/gradients{process_id}.npz",
    loss=loss,
    **traverse_util.flatten_dict(grads, sep="/"),
)
run(config, f"{folder}/run", batches_of(config, my_half))
config.training.n_steps = 6
run(config, f"{folder}/run", batches_of(config, my_half))
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run_processes(program, n_processes, folder, timeout_s):
    """Run the program in several processes; all of them are killed when the time is over."""
    tests = os.path.dirname(__file__)
    environment = dict(
        os.environ,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
        PJRT_NPROC="8",
        PYTHONPATH=tests,
    )
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, port, str(i), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for i in range(n_processes)
    ]
    try:
        outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


@pytest.mark.slow
def test_two_processes_compute_the_gradients_of_one_big_batch(tmp_path):
    run_processes(PROGRAM, 2, tmp_path, timeout_s=400)
    config = tiny_config(n_steps=4)
    expected_loss, expected = gradients_of_the_big_batch(
        config, make_batch(0, config.pairs.n_pairs)
    )
    leaves = {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(expected)
    }
    largest = max(float(np.abs(leaf).max()) for leaf in leaves.values())
    for process_id in (0, 1):
        with np.load(tmp_path / f"gradients{process_id}.npz") as gradients:
            np.testing.assert_allclose(gradients["loss"], expected_loss, rtol=1e-5)
            assert set(gradients.files) == {"loss", *leaves}
            for name, wanted in leaves.items():
                np.testing.assert_allclose(
                    gradients[name], wanted, rtol=1e-5, atol=1e-5 * largest, err_msg=name
                )
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["2", "4", "6"]
    assert params_of(tmp_path / "run" / "model").keys() == leaves.keys()


def test_a_batch_is_split_over_the_local_devices_in_order():
    rows = np.arange(16, dtype=np.float32).reshape(16, 1)
    split = parallel.split_batch({"original": rows}, stop=True)
    assert split["original"].shape == (8, 2, 1)
    np.testing.assert_array_equal(split["original"].reshape(16, 1), rows)
    np.testing.assert_array_equal(split["stop"], np.ones(8))


def test_replicated_arrays_come_back_from_the_host():
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array(7, np.int32)}
    placed = parallel.replicate(tree)
    assert len(placed["a"].addressable_shards) == 8
    back = parallel.to_host(placed)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert back["step"].dtype == np.int32 and back["step"] == 7


def test_simulated_devices_take_one_step_at_a_time():
    assert parallel.n_steps_ahead() == 0


@pytest.mark.parametrize("given", [("host:1", None, None), (None, 2, None), ("host:1", 2, None)])
def test_half_a_description_of_the_processes_is_refused(given):
    with pytest.raises(ConfigError, match="give all three or none"):
        parallel.start_processes(*given)
