import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fingerprint_configs import nafp

from fingerprint import parallel
from fingerprint.checkpoints import CheckpointError, Checkpoints
from fingerprint.train_step import TrainState


def state_of(step):
    """A state in miniature, replicated on all devices."""
    params = {"layer": {"kernel": np.full((2, 3), step, np.float32)}}
    opt_state = ({"count": jnp.asarray(step, jnp.int32)}, ())
    model_state = {"encoder": {}, "queue": np.full((4, 2), step, np.float32)}
    return parallel.replicate(
        TrainState(jnp.asarray(step, jnp.int32), params, model_state, opt_state)
    )


@pytest.fixture
def config():
    config = nafp.get_config()
    config.training.keep_checkpoints = 2
    return config


def test_the_newest_comes_back_and_only_so_many_are_kept(tmp_path, config):
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.restore(state_of(0)) is None
        for step in (10, 20, 30):
            checkpoints.save(step, state_of(step))
    with Checkpoints(tmp_path, config) as checkpoints:
        restored = checkpoints.restore(state_of(0))
    assert isinstance(restored, TrainState)
    assert jax.tree.structure(restored) == jax.tree.structure(state_of(0))
    assert int(restored.step) == 30
    np.testing.assert_array_equal(restored.params["layer"]["kernel"], np.full((2, 3), 30))
    np.testing.assert_array_equal(restored.model_state["queue"], np.full((4, 2), 30))
    assert restored.step.sharding == state_of(0).step.sharding
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["20", "30"]


def test_a_step_that_is_there_is_left_and_a_passed_one_refused(tmp_path, config):
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(20, state_of(20))
        checkpoints.save(20, state_of(99))
        with pytest.raises(CheckpointError, match=r"Step 10 was not saved in .*step 20"):
            checkpoints.save(10, state_of(10))
        assert int(checkpoints.restore(state_of(0)).step) == 20


def test_a_run_of_an_earlier_version_goes_on(tmp_path, config):
    # Earlier versions had no such setting; what they did is what its default does.
    older = config.copy_and_resolve_references()
    del older["pairs"]["segments_per_track"]
    with Checkpoints(tmp_path, older) as checkpoints:
        checkpoints.save(20, state_of(20))
    with Checkpoints(tmp_path, config) as checkpoints:
        assert int(checkpoints.restore(state_of(0)).step) == 20
    config.pairs.segments_per_track = 2
    with (
        Checkpoints(tmp_path, config) as checkpoints,
        pytest.raises(CheckpointError, match=r"segments_per_track is 2, .* with 1"),
    ):
        checkpoints.restore(state_of(0))


def test_a_torn_checkpoint_is_passed_over(tmp_path, config):
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(20, state_of(20))
    # What a kill in the middle of a write leaves behind.
    torn = tmp_path / "checkpoints" / "30.orbax-checkpoint-tmp"
    torn.mkdir()
    (torn / "half").write_bytes(b"\0")
    with Checkpoints(tmp_path, config) as checkpoints:
        assert int(checkpoints.restore(state_of(0)).step) == 20


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("encoder", "widths", (128, 128, 256, 256, 512, 512, 1024, 512)),
        ("loss", "temperature", 0.1),
        ("data", "root", "/elsewhere"),
        ("pairs", "n_pairs", 8),
        ("training", "dtype", "bfloat16"),
        ("segment", "hop_s", 0.25),
    ],
)
def test_another_configuration_is_refused_by_its_key(tmp_path, config, section, key, value):
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(20, state_of(20))
    config[section][key] = value
    with (
        Checkpoints(tmp_path, config) as checkpoints,
        pytest.raises(CheckpointError, match=rf"{section}\.{key} is "),
    ):
        checkpoints.restore(state_of(0))


def test_what_does_not_change_the_parameters_may_differ(tmp_path, config):
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(20, state_of(20))
    config.training.n_steps = 7
    config.training.log_every_steps = 1
    config.evaluation.n_queries = 5
    config.search.neighbours = 3
    config.reference.pad_to_s = 30.0
    config.data.cache_dir = "/elsewhere"
    with Checkpoints(tmp_path, config) as checkpoints:
        assert int(checkpoints.restore(state_of(0)).step) == 20
