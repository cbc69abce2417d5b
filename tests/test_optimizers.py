import math

import numpy as np
import optax
import pytest

from fingerprint.errors import ConfigError
from fingerprint.optimizers import build_optimizer, learning_rate

SECTION = {
    "name": "adam",
    "learning_rate": 0.01,
    "final_fraction": 0.1,
    "warmup_steps": 0,
    "weight_decay": 0.0,
}


def cosine_by_hand(step, peak, final_fraction, warmup_steps, n_steps):
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / (n_steps - warmup_steps))
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2)


@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
def test_learning_rate_is_warm_up_then_cosine(warmup_steps):
    values = dict(peak=1e-4, final_fraction=1e-6, warmup_steps=warmup_steps, n_steps=100)
    schedule = learning_rate(**values)
    for step in (0, 1, 5, 9, 10, 11, 50, 99, 100, 200):
        # The cosine is computed in float32, whose rounding shows near the end.
        np.testing.assert_allclose(
            schedule(step), cosine_by_hand(step, **values), rtol=1e-5, atol=1e-11
        )


def test_learning_rate_is_that_of_optax_for_the_published_recipe():
    ours = learning_rate(peak=1e-4, final_fraction=1e-6, warmup_steps=0, n_steps=1000)
    theirs = optax.cosine_decay_schedule(1e-4, 1000, alpha=1e-6)
    for step in (0, 1, 500, 999, 1000):
        assert ours(step) == theirs(step)


def steps_of(section, params, gradients):
    """Parameters after each of the gradients, with the optimiser that is built."""
    optimizer, _ = build_optimizer(section, n_steps=10)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        yield params


def moments(gradients, b1=0.9, b2=0.999):
    """Bias-corrected first and second moment after each of the gradients, float64."""
    first, second = 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        yield first / (1 - b1**t), second / (1 - b2**t)


@pytest.fixture
def problem(rng):
    params = rng.standard_normal((3, 4)).astype(np.float32)
    return params, [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam_is_that_of_the_paper_with_decoupled_decay(problem, weight_decay):
    params, gradients = problem
    section = SECTION | {"weight_decay": weight_decay}
    expected = params.astype(np.float64)
    steps = zip(steps_of(section, params, gradients), moments(gradients), strict=True)
    for k, (got, (first, second)) in enumerate(steps):
        rate = cosine_by_hand(k, 0.01, 0.1, 0, 10)
        expected = expected - rate * (first / (np.sqrt(second) + 1e-8) + weight_decay * expected)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [1e-6, 0.3])
def test_lamb_scales_each_layer_by_its_trust_ratio(problem, weight_decay):
    params, gradients = problem
    section = SECTION | {"name": "lamb", "weight_decay": weight_decay}
    expected = params.astype(np.float64)
    steps = zip(steps_of(section, params, gradients), moments(gradients), strict=True)
    for k, (got, (first, second)) in enumerate(steps):
        update = first / (np.sqrt(second) + 1e-6) + weight_decay * expected
        trust_ratio = np.linalg.norm(expected) / np.linalg.norm(update)
        expected = expected - cosine_by_hand(k, 0.01, 0.1, 0, 10) * trust_ratio * update
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ConfigError, match="'sgd': choose adam or lamb"):
        build_optimizer(SECTION | {"name": "sgd"}, n_steps=10)


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_a_warm_up_that_never_ends_is_refused(warmup_steps):
    with pytest.raises(ConfigError, match=f"warmup_steps is {warmup_steps} and"):
        build_optimizer(SECTION | {"warmup_steps": warmup_steps}, n_steps=10)
