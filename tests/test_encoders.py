import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fingerprint.encoders import build_encoder
from fingerprint.encoders.norm import normalize, normalize_on_cpu
from fingerprint.encoders.separable import conv_native, conv_taps, resolve_conv_impl
from fingerprint.errors import ConfigError

SMALL = {"name": "nafp", "widths": (4, 4, 8, 8, 8, 8, 16, 32), "embedding_dim": 16}
FULL = {"name": "nafp"}


def parameter_shapes(section, n_mels, n_frames):
    mels = jnp.zeros((1, n_mels, n_frames))
    return jax.eval_shape(build_encoder(section).init, jax.random.key(0), mels)["params"]


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def random_mels(rng, n_segments=3, n_mels=64, n_frames=32):
    return rng.uniform(-1, 1, (n_segments, n_mels, n_frames)).astype(np.float32)


def assert_trees_close(actual, expected, tolerance=1e-5):
    """Differences relative to the largest value of each leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.max(jnp.abs(e))) or 1.0
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * largest)


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
    norms = 1_572_864 + 393_216 + 196_608 + 49_152 * 2 + 12_288 * 2 + 6_144
    assert joint - channel == norms - 2 * 2 * 2 * (128 + 256 + 512 + 1024)


@pytest.mark.parametrize("embedding_dim", [16, 32, 64, 128])
def test_every_published_size_of_embedding(rng, embedding_dim):
    encoder = build_encoder({**SMALL, "widths": (4,) * 7 + (128,), "embedding_dim": embedding_dim})
    mels = random_mels(rng)
    embeddings = encoder.apply(encoder.init(jax.random.key(0), mels), mels)
    assert embeddings.shape == (3, embedding_dim)
    assert embeddings.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("c_in", [1, 5])
def test_convolution_by_taps_equals_the_native_one(rng, axis, stride, length, c_in):
    shape = [2, 4, 4, c_in]
    shape[axis] = length
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, c_in, 6)), jnp.float32)

    def run(convolve):
        out, vjp = jax.vjp(functools.partial(convolve, axis=axis, stride=stride), x, kernel)
        return out, *vjp(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

    # Not by keyword: custom_vjp takes its static arguments by position.
    taps = run(lambda x, kernel, axis, stride: conv_taps(x, kernel, axis, stride))
    native = run(conv_native)
    assert_trees_close(taps, native)


def test_convolution_equals_a_loop_over_tensorflow_style_padding(rng):
    x = rng.standard_normal((1, 6, 2, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 2)).astype(np.float32)
    expected = np.zeros((1, 3, 2, 2))
    for row in range(3):
        for tap in range(3):
            if 2 * row + tap < 6:  # the one row of padding comes last
                expected[:, row] += x[:, 2 * row + tap] @ kernel[tap]
    np.testing.assert_allclose(conv_taps(x, kernel, 1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("affine_shape", [(6, 4, 3), (1, 1, 3)])
def test_norm_for_cpu_equals_the_plain_one_and_numpy(rng, affine_shape):
    x = jnp.asarray(rng.normal(0.5, 2.0, (5, 6, 4, 3)), jnp.float32)
    scale, bias = (jnp.asarray(rng.standard_normal(affine_shape), jnp.float32) for _ in range(2))
    dy = jnp.asarray(rng.standard_normal(x.shape), jnp.float32)

    def run(norm):
        out, vjp = jax.vjp(norm, x, scale, bias)
        return out, *vjp(dy)

    assert_trees_close(run(normalize_on_cpu), run(normalize))
    rows = np.asarray(x, np.float64).reshape(5, -1)
    normal = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    expected = normal.reshape(x.shape) * np.asarray(scale) + np.asarray(bias)
    np.testing.assert_allclose(normalize(x, scale, bias), expected, atol=1e-5)


@pytest.mark.parametrize("block_order", ["conv_norm_relu", "conv_elu_norm"])
@pytest.mark.parametrize("norm_affine", ["joint", "channel"])
@pytest.mark.parametrize("n_frames", [32, 63])
def test_formulations_agree_in_embeddings_and_gradients(rng, block_order, norm_affine, n_frames):
    section = {**SMALL, "block_order": block_order, "norm_affine": norm_affine}
    mels = random_mels(rng, n_frames=n_frames)
    params = build_encoder(section).init(jax.random.key(1), mels)
    weights = jnp.asarray(rng.standard_normal((3, 16)), jnp.float32)

    def run(conv_impl):
        encoder = build_encoder({**section, "conv_impl": conv_impl})

        @jax.jit
        def embed_and_differentiate(params):
            def objective(params):
                embeddings = encoder.apply(params, mels)
                return jnp.sum(embeddings * weights), embeddings

            return jax.grad(objective, has_aux=True)(params)

        return embed_and_differentiate(params)

    assert_trees_close(run("taps"), run("native"))


def test_block_orders_differ(rng):
    mels = random_mels(rng)
    encoders = [
        build_encoder({**SMALL, "block_order": order})
        for order in ("conv_norm_relu", "conv_elu_norm")
    ]
    params = encoders[0].init(jax.random.key(1), mels)
    first, second = (encoder.apply(params, mels) for encoder in encoders)
    assert float(jnp.max(jnp.abs(first - second))) > 1e-3


def test_bfloat16_stays_close_and_keeps_float32_outside(rng):
    mels = random_mels(rng)
    params = build_encoder(SMALL).init(jax.random.key(1), mels)
    exact = build_encoder(SMALL).apply(params, mels)
    rounded = build_encoder(SMALL, dtype="bfloat16").apply(params, mels)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1.0, atol=1e-5)
    cosine = jnp.sum(exact * rounded, axis=1)
    assert 0.99 < float(jnp.min(cosine)) and float(jnp.max(jnp.abs(exact - rounded))) > 0


def test_a_segment_has_one_embedding_alone_and_in_a_batch(rng):
    mels = random_mels(rng, n_segments=5)
    encoder = build_encoder(SMALL)
    params = encoder.init(jax.random.key(1), mels)
    together = encoder.apply(params, mels)
    for row in range(5):
        alone = encoder.apply(params, mels[row : row + 1])[0]
        np.testing.assert_allclose(alone, together[row], atol=1e-5)


def test_silence_has_a_finite_embedding_and_gradient():
    encoder = build_encoder(SMALL)
    mels = -jnp.ones((2, 64, 32))
    params = encoder.init(jax.random.key(1), mels)
    gradient = jax.grad(lambda p: jnp.sum(encoder.apply(p, mels)))(params)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))


def test_taps_on_this_cpu():
    assert resolve_conv_impl("auto") == "taps"
    assert resolve_conv_impl("native") == "native"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "resnet"}, "resnet"),
        ({"width": 3}, "encoder.width "),
        ({"embedding_dim": 24}, "24"),
        ({"embedding_dim": 0}, "0"),
        ({"widths": (4, 4)}, "8 blocks"),
        ({"block_order": "relu"}, "conv_norm_relu"),
        ({"norm_affine": "none"}, "joint"),
        ({"conv_impl": "fft"}, "native"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(change, words):
    with pytest.raises(ConfigError, match=words):
        build_encoder({**SMALL, **change})


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ConfigError, match="float64"):
        build_encoder(SMALL, dtype="float64")
