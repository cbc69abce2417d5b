import encoder_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import (
    assert_trees_close,
    count,
    parameter_shapes,
    random_mels,
    random_variables,
)

from fingerprint.encoders import build_encoder
from fingerprint.encoders.norm import normalize, normalize_on_cpu
from fingerprint.encoders.separable import AxisConv, conv_native, conv_taps, resolve_conv_impl

SMALL, _ = encoder_cases.SMALL["nafp"]
FULL = {"name": "nafp"}


def random_params(section_items=(), n_frames=32):
    return random_variables({**SMALL, **dict(section_items)}, 32, n_frames)


def embed(mels, dtype="float32", **changes):
    encoder = build_encoder({**SMALL, **changes}, dtype=dtype)
    return jax.jit(encoder.apply)(random_params(), mels)


@pytest.mark.parametrize(("n_frames", "expected"), [(32, 16_939_008), (63, 19_224_576)])
def test_published_parameter_counts(n_frames, expected):
    assert count(parameter_shapes(FULL, 256, n_frames)) == expected


def test_parameters_of_each_block_are_as_published():
    shapes = parameter_shapes(FULL, 256, 32)
    convs = [49_792, 98_560, 295_424, 393_728, 1_180_672, 1_573_888, 4_720_640, 6_293_504]
    norms = [1_572_864, 393_216, 196_608, 49_152, 49_152, 12_288, 12_288, 6_144]
    for block, (n_conv, n_norm) in enumerate(zip(convs, norms, strict=True), start=1):
        parts = [f"block{block}_frames", f"block{block}_mels"]
        assert sum(count(shapes[part]) for part in parts) == n_conv
        assert sum(count(shapes[f"{part}_norm"]) for part in parts) == n_norm
    assert count(shapes["head"]) == 41_088


def test_channel_norm_has_one_scale_and_bias_per_channel():
    joint, channel = (
        count(parameter_shapes({**FULL, "norm_affine": affine}, 256, 32))
        for affine in ("joint", "channel")
    )
    joint_norms = 1_572_864 + 393_216 + 196_608 + 2 * 49_152 + 2 * 12_288 + 6_144
    channel_norms = 2 * 2 * 2 * (128 + 256 + 512 + 1024)
    assert joint - channel == joint_norms - channel_norms


@pytest.mark.parametrize("embedding_dim", [16, 32, 64, 128])
def test_every_published_size_of_embedding(embedding_dim):
    encoder = build_encoder({**FULL, "embedding_dim": embedding_dim})
    embeddings, variables = jax.eval_shape(
        encoder.init_with_output, jax.random.key(0), jnp.zeros((3, 256, 32))
    )
    assert embeddings.shape == (3, embedding_dim)
    assert embeddings.dtype == jnp.float32
    per_slice = 32 * (1024 // embedding_dim) + 32 + 32 + 1
    assert count(variables["params"]["head"]) == embedding_dim * per_slice


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_by_taps_equals_the_native_one(rng, axis, stride):
    inputs = []
    for length, c_in in [(1, 5), (2, 5), (3, 1), (7, 5), (8, 5), (8, 1)]:
        shape = [2, 4, 4, c_in]
        shape[axis] = length
        x = rng.standard_normal(shape).astype(np.float32)
        inputs.append((x, rng.standard_normal((3, c_in, 6)).astype(np.float32)))

    def run(convolve):
        """Outputs and both gradients for a cotangent that differs from place to place."""

        def objective(inputs):
            outputs = [convolve(x, kernel, axis, stride) for x, kernel in inputs]
            return sum(jnp.sum(jnp.sin(out)) for out in outputs), outputs

        return jax.jit(jax.grad(objective, has_aux=True))(inputs)

    assert_trees_close(run(conv_taps), run(conv_native))


def test_convolutions_start_glorot_uniform_without_bias():
    x = jnp.zeros((1, 4, 4, 20))
    params = AxisConv(features=40, axis=1, stride=2).init(jax.random.key(0), x)["params"]
    bound = np.sqrt(6 / (3 * 20 + 3 * 40))
    assert 0.98 * bound < np.abs(params["kernel"]).max() <= bound
    assert float(jnp.std(params["kernel"])) == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert not params["bias"].any()


def test_convolution_pads_at_the_end_first(rng):
    x = rng.standard_normal((1, 6, 2, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 2)).astype(np.float32)
    expected = np.zeros((1, 3, 2, 2))
    for row in range(3):
        for tap in range(3):
            if 2 * row + tap < 6:
                expected[:, row] += x[:, 2 * row + tap] @ kernel[tap]
    for convolve in (conv_taps, conv_native):
        np.testing.assert_allclose(convolve(x, kernel, 1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("affine_shape", [(6, 4, 3), (1, 1, 3)])
def test_norm_for_cpu_equals_the_plain_one_and_numpy(rng, affine_shape):
    x = rng.normal(0.5, 2.0, (5, 6, 4, 3)).astype(np.float32)
    scale, bias = (rng.standard_normal(affine_shape).astype(np.float32) for _ in range(2))
    dy = rng.standard_normal(x.shape).astype(np.float32)

    def run(norm):
        out, vjp = jax.vjp(norm, x, scale, bias)
        return out, *vjp(dy)

    assert_trees_close(jax.jit(run, static_argnums=0)(normalize_on_cpu), run(normalize))
    rows = x.reshape(5, -1).astype(np.float64)
    normal = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    expected = normal.reshape(x.shape) * scale + bias
    np.testing.assert_allclose(normalize(x, scale, bias), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("block_order", "norm_affine", "n_frames"),
    [
        ("conv_norm_relu", "joint", 32),
        pytest.param("conv_elu_norm", "channel", 63, marks=pytest.mark.slow),
        pytest.param("conv_norm_relu", "channel", 63, marks=pytest.mark.slow),
        pytest.param("conv_elu_norm", "joint", 32, marks=pytest.mark.slow),
    ],
)
def test_formulations_agree_in_embeddings_and_gradients(rng, block_order, norm_affine, n_frames):
    changes = {"block_order": block_order, "norm_affine": norm_affine}
    mels = random_mels(n_frames=n_frames)
    params = random_params(tuple(changes.items()), n_frames)
    weights = rng.standard_normal((3, 16)).astype(np.float32)

    def run(conv_impl):
        encoder = build_encoder({**SMALL, **changes, "conv_impl": conv_impl})

        def objective(params):
            embeddings = encoder.apply(params, mels)
            return jnp.sum(embeddings * weights), embeddings

        return jax.jit(jax.grad(objective, has_aux=True))(params)

    (gradients, embeddings), (expected_gradients, expected) = run("taps"), run("native")
    assert_trees_close(embeddings, expected)
    # Rounding grows on the way back through sixteen layers.
    assert_trees_close(gradients, expected_gradients, tolerance=5e-5)


def test_block_orders_differ():
    mels = random_mels()
    difference = embed(mels) - embed(mels, block_order="conv_elu_norm")
    assert float(jnp.max(jnp.abs(difference))) > 1e-3


def test_taps_on_this_cpu():
    assert resolve_conv_impl("auto") == "taps"
    assert resolve_conv_impl("native") == "native"
