import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fingerprint.errors import ConfigError
from fingerprint.losses import build_loss, ntxent

TEMPERATURE = 0.05

loss_of = jax.jit(functools.partial(ntxent, temperature=TEMPERATURE))


def unit_rows(rng, n_rows, d):
    rows = rng.standard_normal((n_rows, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(rng, n_pairs=8, d=16):
    """Hard enough that the loss is not a small difference of large numbers."""
    originals = unit_rows(rng, n_pairs, d)
    replicas = originals + 2.0 * unit_rows(rng, n_pairs, d)
    return originals, replicas / np.linalg.norm(replicas, axis=1, keepdims=True)


def loop_ntxent(originals, replicas, temperature):
    """The two row losses of the NAFP paper, term by term; the mean over all rows."""
    a, b = originals.astype(np.float64), replicas.astype(np.float64)
    n = len(a)
    rows = []
    for i in range(n):
        for own, other in ((a, b), (b, a)):
            positive = np.exp(own[i] @ other[i] / temperature)
            total = sum(np.exp(own[i] @ other[k] / temperature) for k in range(n))
            total += sum(np.exp(own[i] @ own[k] / temperature) for k in range(n) if k != i)
            rows.append(-np.log(positive / total))
    return np.mean(rows)


def test_equals_a_double_loop(rng):
    originals, replicas = pairs(rng)
    expected = loop_ntxent(originals, replicas, TEMPERATURE)
    assert float(loss_of(originals, replicas)) == pytest.approx(expected, rel=1e-5)


def test_equals_optax_in_value_and_gradient(rng):
    originals, replicas = pairs(rng)
    labels = jnp.repeat(jnp.arange(8), 2)

    def by_optax(originals, replicas):
        interleaved = jnp.stack([originals, replicas], axis=1).reshape(16, -1)
        return optax.losses.ntxent(interleaved, labels, temperature=TEMPERATURE)

    def normalized(loss):
        """Optax normalises again, which changes gradients along the embeddings."""

        def of_any_rows(a, b):
            return loss(*(x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)))

        return jax.jit(jax.value_and_grad(of_any_rows, (0, 1)))

    with jax.numpy_rank_promotion("allow"):
        expected, expected_gradients = normalized(by_optax)(originals, replicas)
    loss, gradients = normalized(loss_of)(originals, replicas)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize("d", [64, 128])
def test_random_embeddings_lose_what_theory_says(rng, d):
    # Variance of an inner product of random unit vectors: 1 / d.
    n_pairs = 1024
    loss = float(loss_of(unit_rows(rng, n_pairs, d), unit_rows(rng, n_pairs, d)))
    expected = np.log(2 * n_pairs - 1) + 1 / (2 * d * TEMPERATURE**2)
    assert loss == pytest.approx(expected, abs=0.15)


def test_eight_devices_have_the_loss_and_gradient_of_one_big_batch(rng):
    originals, replicas = pairs(rng, n_pairs=16)
    weights = rng.standard_normal((16, 16)).astype(np.float32) / 4

    def objective(weights, originals, replicas, axis_name):
        embeddings = [x @ weights for x in (originals, replicas)]
        unit = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in embeddings]
        return ntxent(*unit, temperature=TEMPERATURE, axis_name=axis_name)

    differentiate = jax.value_and_grad(objective)
    expected, expected_gradient = jax.jit(differentiate, static_argnums=3)(
        weights, originals, replicas, None
    )

    def step(weights, originals, replicas):
        return jax.lax.pmean(differentiate(weights, originals, replicas, "batch"), "batch")

    n_devices = jax.local_device_count()
    shards = [x.reshape(n_devices, -1, 16) for x in (originals, replicas)]
    parallel = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0), out_axes=None)
    loss, gradient = jax.block_until_ready(parallel(weights, *shards))
    assert n_devices == 8
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    tolerance = 1e-5 * float(jnp.abs(expected_gradient).max())
    np.testing.assert_allclose(gradient, expected_gradient, atol=tolerance)


def test_bfloat16_embeddings_are_compared_in_float32(rng):
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in pairs(rng)]
    loss = loss_of(*rounded)
    assert loss.dtype == jnp.float32
    expected = loop_ntxent(*(np.asarray(x, np.float64) for x in rounded), TEMPERATURE)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_small_temperatures_do_not_overflow(rng):
    originals, _ = pairs(rng)
    cold = functools.partial(ntxent, temperature=1e-3)
    gradient = jax.jit(jax.grad(cold))(originals, originals)
    assert bool(jnp.all(jnp.isfinite(gradient)))


def test_build_loss_passes_the_section_on(rng):
    originals, replicas = pairs(rng)
    loss = build_loss({"name": "ntxent", "temperature": 0.1})(originals, replicas)
    assert float(loss) == pytest.approx(loop_ntxent(originals, replicas, 0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"name": "hinge", "temperature": 0.1}, "hinge"),
        ({"temperature": 0.1}, "None"),
        ({"name": "ntxent"}, "temperature"),
        ({"name": "ntxent", "temperature": 0.1, "margin": 1.0}, "margin"),
        ({"name": "ntxent", "temperature": 0.0}, "0.0"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(section, words):
    with pytest.raises(ConfigError, match=words):
        build_loss(section)
