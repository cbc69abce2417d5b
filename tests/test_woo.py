import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import count, counts, parameter_shapes, random_variables
from scipy.signal import correlate2d

from fingerprint.encoders import build_encoder
from fingerprint.errors import ConfigError

FULL = {"name": "woo"}
TINY = {"name": "woo", "widths": (2, 3, 2), "dense_units": 5, "embedding_dim": 3}


@pytest.mark.parametrize(("size", "expected"), [(50, 85_423_754), (128, 822_572_682)])
def test_parameter_counts(size, expected):
    assert count(parameter_shapes(FULL, size, size)) == expected


def test_parameters_of_each_layer_are_as_published():
    # Penalties on parameters go by how these names begin.
    assert counts(parameter_shapes(FULL, 50, 50)) == {
        "conv1": 1_280,
        "conv2": 147_584,
        "conv3": 295_168,
        "dense1": 84_938_752,
        "dense2": 40_970,
    }


def conv_relu_by_scipy(x, params):
    out = [
        sum(
            correlate2d(x[..., c_in], params["kernel"][..., c_in, c_out], mode="valid")
            for c_in in range(x.shape[2])
        )
        + params["bias"][c_out]
        for c_out in range(params["kernel"].shape[3])
    ]
    return np.maximum(np.stack(out, axis=-1), 0)


def max_pool_by_loops(x):
    n_mels, n_frames = x.shape[0] // 2, x.shape[1] // 2
    return np.array(
        [
            [x[2 * m : 2 * m + 2, 2 * f : 2 * f + 2].max(axis=(0, 1)) for f in range(n_frames)]
            for m in range(n_mels)
        ]
    )


def test_the_whole_network_against_numpy(rng):
    mels = rng.uniform(-1, 1, (2, 19, 21)).astype(np.float32)
    variables = random_variables(TINY, 19, 21)
    params = variables["params"]
    embeddings = jax.jit(build_encoder(TINY).apply)(variables, mels)
    for row in range(2):
        x = conv_relu_by_scipy(mels[row, ..., None], params["conv1"])
        x = conv_relu_by_scipy(max_pool_by_loops(x), params["conv2"])
        x = conv_relu_by_scipy(max_pool_by_loops(x), params["conv3"]).ravel()
        x = np.maximum(x @ params["dense1"]["kernel"] + params["dense1"]["bias"], 0)
        x = x @ params["dense2"]["kernel"] + params["dense2"]["bias"]
        np.testing.assert_allclose(embeddings[row], x / np.linalg.norm(x), atol=1e-4)


def test_layers_start_he_uniform_without_bias():
    section = {**TINY, "widths": (40,), "dense_units": 60}
    params = build_encoder(section).init(jax.random.key(0), jnp.zeros((1, 6, 6)))["params"]
    for name, fan_in in (("conv1", 9), ("dense1", 4 * 4 * 40), ("dense2", 60)):
        bound = np.sqrt(6 / fan_in)
        assert 0.95 * bound < np.abs(params[name]["kernel"]).max() <= bound
        assert not params[name]["bias"].any()


@pytest.mark.parametrize("shape", [(17, 50), (50, 17), (2, 50), (3, 3)])
def test_an_input_that_the_convolutions_use_up_is_refused(shape):
    with pytest.raises(ConfigError, match=f"{shape[0]} mels x {shape[1]} frames"):
        parameter_shapes(FULL, *shape)


def test_the_smallest_input_leaves_one_value_per_channel():
    assert counts(parameter_shapes(FULL, 18, 18))["dense1"] == 256 * 4096 + 4096
