import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import SMALL, count, counts, parameter_shapes, random_mels, random_variables

from fingerprint.encoders import build_encoder
from fingerprint.encoders.transformer import TransformerLayer, sinusoidal_positions
from fingerprint.errors import ConfigError

FULL = {"name": "transformer"}
SECTION, SHAPE = SMALL["transformer"]


def test_published_parameter_count():
    assert count(parameter_shapes(FULL, 64, 100)) == 7_716_352


def test_parameters_of_each_layer_are_as_published():
    attention = 4 * (128 * 128 + 128)
    feed_forward = (128 * 2048 + 2048) + (2048 * 128 + 128)
    layer = attention + feed_forward + 2 * 2 * 128
    assert counts(parameter_shapes(FULL, 64, 100)) == {
        "patch": 64 * 10 * 128 + 128,
        **{f"layer{number}": layer for number in range(1, 9)},
        "hidden": 10 * 128 * 2048 + 2048,
        "hidden_norm": 2 * 2048,
        "out": 2048 * 128 + 128,
        "out_norm": 2 * 128,
    }


@pytest.mark.parametrize("d_model", [6, 7])
def test_positions_by_their_formula(d_model):
    positions = sinusoidal_positions(5, d_model)
    assert positions.dtype == np.float32
    for p in range(5):
        for i in range(d_model):
            angle = p / 10_000 ** ((i - i % 2) / d_model)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert positions[p, i] == pytest.approx(expected, abs=1e-6)


def layer_norm_by_numpy(x, params):
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return normal * params["scale"] + params["bias"]


def layer_by_loops(tokens, params):
    """One segment, one token and one head at a time, in float64."""
    attention = params["attention"]

    def project(name, token):
        kernel, bias = attention[name]["kernel"], attention[name]["bias"]
        return np.einsum("c,chu->hu", token, np.float64(kernel)) + bias

    out = []
    for token in tokens:
        query = project("query", token)
        attended = np.array(attention["out"]["bias"], np.float64)
        for head in range(query.shape[0]):
            keys = np.stack([project("key", other)[head] for other in tokens])
            weights = np.exp(keys @ query[head] / math.sqrt(query.shape[1]))
            weights /= weights.sum()
            values = np.stack([project("value", other)[head] for other in tokens])
            attended = attended + (weights @ values) @ attention["out"]["kernel"][head]
        x = layer_norm_by_numpy(token + attended, params["attention_norm"])
        hidden = np.maximum(x @ params["expand"]["kernel"] + params["expand"]["bias"], 0)
        contracted = hidden @ params["contract"]["kernel"] + params["contract"]["bias"]
        out.append(layer_norm_by_numpy(x + contracted, params["feed_forward_norm"]))
    return np.stack(out)


def test_layer_against_loops(rng):
    tokens = rng.standard_normal((2, 4, 16)).astype(np.float32)
    params = random_variables(SECTION, *SHAPE)["params"]["layer1"]
    layer = TransformerLayer(n_heads=4, feed_forward_units=24, dtype=jnp.float32)
    out = layer.apply({"params": params}, tokens)
    for row in range(2):
        np.testing.assert_allclose(out[row], layer_by_loops(tokens[row], params), atol=1e-4)


def network_by_numpy(mels, variables, scrambled):
    """One segment ``(n_mels, n_frames)``, patch by patch."""
    params, stats = variables["params"], variables["batch_stats"]
    kernel = params["patch"]["kernel"].reshape(mels.shape[0], 5, -1)
    starts = range(0, mels.shape[1] - 4, 5)
    patches = [np.einsum("mf,mfd->d", mels[:, start : start + 5], kernel) for start in starts]
    tokens = np.stack(patches) + params["patch"]["bias"]
    if scrambled:
        # The memory of (channels, patches), read as (patches, channels).
        tokens = np.ascontiguousarray(tokens.T).ravel().reshape(tokens.shape)
    tokens = tokens + sinusoidal_positions(*tokens.shape)
    x = layer_by_loops(tokens, params["layer1"]).ravel()
    for dense, norm in (("hidden", "hidden_norm"), ("out", "out_norm")):
        x = x @ params[dense]["kernel"] + params[dense]["bias"]
        x = (x - stats[norm]["mean"]) / np.sqrt(stats[norm]["var"] + 1e-5)
        x = x * params[norm]["scale"] + params[norm]["bias"]
        x = np.maximum(x, 0) if dense == "hidden" else x
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("tokens", ["transposed", "scrambled"])
def test_the_whole_network_against_numpy(tokens):
    mels = random_mels(2, *SHAPE)
    variables = random_variables(SECTION, *SHAPE)
    embeddings = jax.jit(build_encoder({**SECTION, "tokens": tokens}).apply)(variables, mels)
    for row in range(2):
        expected = network_by_numpy(mels[row], variables, tokens == "scrambled")
        np.testing.assert_allclose(embeddings[row], expected, atol=1e-4)


def test_frames_that_fill_no_patch_are_left_out():
    assert parameter_shapes(SECTION, 16, 24) == parameter_shapes(SECTION, 16, 20)
    mels = random_mels(2, 16, 24)
    apply = build_encoder(SECTION).apply
    variables = random_variables(SECTION, *SHAPE)
    longer, shorter = apply(variables, mels), apply(variables, mels[:, :, :20])
    np.testing.assert_array_equal(longer, shorter)


def test_a_segment_shorter_than_a_patch_is_refused():
    with pytest.raises(ConfigError, match=r"patch_frames is 5, but a segment has only 4 frames"):
        parameter_shapes(SECTION, 16, 4)
