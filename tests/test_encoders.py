"""The contract of every encoder, one test per clause."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import (
    BATCH_NORM,
    SMALL,
    assert_trees_close,
    random_mels,
    random_variables,
    variable_shapes,
)

from fingerprint.encoders import build_encoder
from fingerprint.encoders.head import unit_norm
from fingerprint.errors import ConfigError

every_encoder = pytest.mark.parametrize("name", SMALL)


@functools.cache
def compiled_in_use(name, dtype="float32"):
    return jax.jit(build_encoder(SMALL[name][0], dtype=dtype).apply)


def embed(name, mels, dtype="float32"):
    section, shape = SMALL[name]
    return compiled_in_use(name, dtype)(random_variables(section, *shape), mels)


@functools.cache
def compiled_in_training(name):
    """variables, mels -> gradients of the parameters, embeddings, changed collections."""
    encoder = build_encoder(SMALL[name][0])

    def run(variables, mels):
        def objective(params):
            embeddings, changed = encoder.apply(
                {**variables, "params": params}, mels, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(embeddings), (embeddings, changed)

        gradients, aux = jax.grad(objective, has_aux=True)(variables["params"])
        return gradients, *aux

    return jax.jit(run)


@every_encoder
def test_shape_dtype_and_collections(name):
    section, shape = SMALL[name]
    encoder = build_encoder(section)
    mels = jax.ShapeDtypeStruct((5, *shape), np.float32)
    embeddings, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(0), mels)
    assert embeddings.shape == (5, section["embedding_dim"])
    assert embeddings.dtype == jnp.float32
    assert set(variables) == ({"params", "batch_stats"} if name in BATCH_NORM else {"params"})
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@every_encoder
def test_unit_norm_and_no_influence_of_the_other_rows(name):
    mels = random_mels(3, *SMALL[name][1])
    embeddings = embed(name, mels)
    assert embeddings.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    assert np.abs(embeddings[1] - embeddings[2]).max() > 1e-3
    among_others = embed(name, np.stack([mels[1], mels[1], mels[0]]))
    np.testing.assert_allclose(among_others, embeddings[np.array([1, 1, 0])], atol=1e-6)


@every_encoder
def test_zeros_give_finite_values_and_gradients(name):
    section, shape = SMALL[name]
    zeros = jax.tree.map(np.zeros_like, random_variables(section, *shape))
    results = compiled_in_training(name)(zeros, np.zeros((16, *shape), np.float32))
    in_use = compiled_in_use(name)(zeros, np.zeros((3, *shape), np.float32))
    for leaf in jax.tree.leaves((results, in_use)):
        assert np.isfinite(leaf).all()


@every_encoder
def test_bfloat16_stays_close_and_keeps_float32_outside(name):
    mels = random_mels(3, *SMALL[name][1])
    exact, rounded = embed(name, mels), embed(name, mels, dtype="bfloat16")
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1.0, atol=1e-5)
    assert float(jnp.min(jnp.sum(exact * rounded, axis=1))) > 0.99
    assert float(jnp.max(jnp.abs(exact - rounded))) > 0


@every_encoder
def test_training_changes_the_statistics_of_a_batch_and_nothing_else(name):
    section, shape = SMALL[name]
    variables, mels = random_variables(section, *shape), random_mels(16, *shape)
    gradients, embeddings, changed = compiled_in_training(name)(variables, mels)
    kernels = [
        gradient
        for path, gradient in jax.tree_util.tree_leaves_with_path(gradients)
        if path[-1].key.endswith("kernel")
    ]
    assert len(kernels) >= 4
    assert all(np.abs(kernel).max() > 1e-6 for kernel in kernels)
    in_use = embed(name, mels[:3])
    if name not in BATCH_NORM:
        assert changed == {}
        np.testing.assert_allclose(embeddings[:3], in_use, atol=1e-6)
        return
    assert np.abs(embeddings[:3] - in_use).max() > 1e-3
    assert list(changed) == ["batch_stats"]
    before, after = variables["batch_stats"], changed["batch_stats"]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.abs(old - new).min() > 0


@every_encoder
def test_use_changes_no_statistics(name):
    section, shape = SMALL[name]
    variables, mels = random_variables(section, *shape), random_mels(1, *shape)
    apply = functools.partial(build_encoder(section).apply, mutable=True)
    _, changed = jax.eval_shape(apply, variables, mels)
    assert set(changed) == set(variables)
    jaxpr = jax.make_jaxpr(lambda v: apply(v, mels)[1])(variables).jaxpr
    assert jaxpr.outvars == jaxpr.invars


@pytest.mark.parametrize("name", BATCH_NORM)
def test_statistics_of_eight_devices_are_those_of_the_whole_batch(name):
    section, shape = SMALL[name]
    variables, mels = random_variables(section, *shape), random_mels(16, *shape)
    _, expected, changed = compiled_in_training(name)(variables, mels)

    encoder = build_encoder(section, axis_name="devices")
    spread = jax.pmap(
        lambda mels: encoder.apply(variables, mels, train=True, mutable=["batch_stats"]),
        axis_name="devices",
    )
    embeddings, states = jax.block_until_ready(spread(mels.reshape(8, 2, *shape)))
    np.testing.assert_allclose(embeddings.reshape(expected.shape), expected, atol=1e-4)
    for device in (0, 7):
        state = jax.tree.map(lambda x, d=device: x[d], states)
        assert_trees_close(state, changed, tolerance=1e-4)


def test_unit_norm_is_that_of_numpy_and_zeros_stay_zeros(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    x[0] = 0.0
    expected = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    np.testing.assert_allclose(unit_norm(x), expected, atol=1e-6)
    assert unit_norm(x.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("nafp", {"name": "resnet"}, "encoder.name is 'resnet'; choose one of nafp, attention"),
        ("nafp", {"width": 3}, "encoder.width is not a setting of nafp"),
        ("nafp", {"dtype": "float32"}, "encoder.dtype "),
        ("nafp", {"embedding_dim": 24}, "24"),
        ("nafp", {"embedding_dim": 0}, "0"),
        ("nafp", {"widths": (4, 4)}, "8 blocks"),
        ("nafp", {"widths": (4, 4, 8, 8, 8, 8, 0, 32)}, "widths"),
        ("nafp", {"head_units": 0}, "head_units is 0"),
        ("nafp", {"block_order": "relu"}, "conv_norm_relu"),
        ("nafp", {"norm_affine": "none"}, "joint"),
        ("nafp", {"conv_impl": "fft"}, "native"),
        ("attention", {"axis_name": "x"}, "encoder.axis_name "),
        ("attention", {"widths": ()}, "widths is "),
        ("attention", {"widths": (4, -1)}, "widths is "),
        ("attention", {"widths": (4, 2.5)}, "widths is "),
        ("attention", {"embedding_dim": 3}, "embedding_dim is 3, but the last width, 8"),
        ("attention", {"attention": "no"}, "attention is 'no'; choose one of True, False"),
        ("attention", {"mask_scale": 0.0}, "mask_scale is 0.0"),
        ("attention", {"mask_init_std": -1.0}, "mask_init_std is -1.0"),
        ("transformer", {"n_heads": 3}, "n_heads is 3, but d_model, 16"),
        ("transformer", {"n_layers": 0}, "n_layers is 0"),
        ("transformer", {"tokens": "view"}, "transposed, scrambled"),
        ("transformer", {"patch_frames": 1.5}, "patch_frames is 1.5"),
        ("woo", {"dense_units": 0}, "dense_units is 0"),
        ("woo", {"embedding_dim": -10}, "embedding_dim is -10"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(name, change, words):
    with pytest.raises(ConfigError, match=words) as error:
        build_encoder({**SMALL[name][0], **change})
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@every_encoder
def test_an_unknown_dtype_is_refused(name):
    with pytest.raises(ConfigError, match="float64"):
        build_encoder(SMALL[name][0], dtype="float64")


@every_encoder
def test_settings_read_from_json_are_the_same(name):
    section, shape = SMALL[name]
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in section.items()}
    assert build_encoder(lists) == build_encoder(section)
    assert variable_shapes(lists, *shape) == variable_shapes(section, *shape)
