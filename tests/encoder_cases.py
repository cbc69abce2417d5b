"""What the tests of several encoders share: small networks, and variables drawn by numpy."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from fingerprint.encoders import build_encoder

# Section of the configuration and (n_mels, n_frames): every network, small enough to compile.
SMALL = {
    "nafp": (
        {"name": "nafp", "widths": (4, 4, 8, 8, 8, 8, 16, 32), "embedding_dim": 16},
        (32, 32),
    ),
    "attention": ({"name": "attention", "widths": (4, 8), "embedding_dim": 4}, (8, 10)),
    "transformer": (
        {
            "name": "transformer",
            "patch_frames": 5,
            "d_model": 16,
            "n_layers": 1,
            "n_heads": 4,
            "feed_forward_units": 24,
            "hidden_units": 32,
            "embedding_dim": 8,
        },
        (16, 20),
    ),
    "woo": (
        {"name": "woo", "widths": (4, 5, 6), "dense_units": 16, "embedding_dim": 10},
        (22, 24),
    ),
}
BATCH_NORM = ("attention", "transformer")


def variable_shapes(section, n_mels, n_frames):
    mels = jnp.zeros((1, n_mels, n_frames))
    return jax.eval_shape(build_encoder(section).init, jax.random.key(0), mels)


def parameter_shapes(section, n_mels, n_frames):
    return variable_shapes(section, n_mels, n_frames)["params"]


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def counts(params):
    """Parameters of each part of a network."""
    return {name: count(part) for name, part in params.items()}


def random_variables(section, n_mels, n_frames):
    """Scales, biases and statistics too; compiling ``init`` would take longer than any test."""
    return _random_variables(json.dumps(section), n_mels, n_frames)


@functools.cache
def _random_variables(section_json, n_mels, n_frames):
    rng = np.random.default_rng(11)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return rng.uniform(centre - 0.3, centre + 0.3, leaf.shape).astype(np.float32)

    shapes = variable_shapes(json.loads(section_json), n_mels, n_frames)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_mels(n_segments=3, n_mels=32, n_frames=32):
    """The first segment is silent."""
    mels = np.random.default_rng(7).uniform(-1, 1, (n_segments, n_mels, n_frames))
    mels[0] = -1.0
    return mels.astype(np.float32)


def assert_trees_close(actual, expected, tolerance=1e-5):
    """Finite, and differences relative to the largest value of each leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.all(np.isfinite(e))
        largest = float(np.max(np.abs(e))) or 1.0
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * largest)
