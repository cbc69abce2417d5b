import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fingerprint.errors import ConfigError
from fingerprint.losses import build_loss, ntxent
from fingerprint.triplets import triplet_shuffled

TEMPERATURE = 0.05

loss_of = jax.jit(functools.partial(ntxent, temperature=TEMPERATURE))


def unit_rows(rng, n_rows, d):
    rows = rng.standard_normal((n_rows, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(rng, n_pairs=8, d=16, n_positives=1):
    """Hard enough that the loss is not a small difference of large numbers."""
    originals = unit_rows(rng, n_pairs, d)
    replicas = np.repeat(originals, n_positives, axis=0)
    replicas = replicas + 2.0 * unit_rows(rng, n_pairs * n_positives, d)
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


SECTIONS = {
    "ntxent": ({"name": "ntxent", "temperature": 0.05}, 1),
    "infonce": ({"name": "infonce", "temperature": 0.1}, 1),
    "np": ({"name": "triplet_np", "margin": 0.4}, 3),
    "np as published": ({"name": "triplet_np", "margin": 0.4, "mean_over": "all"}, 3),
    "np squared": ({"name": "triplet_np", "margin": 0.1, "squared": True}, 1),
    "nmfp": ({"name": "triplet_nmfp", "margin": 0.5}, 1),
    "nmfp in groups": ({"name": "triplet_nmfp", "margin": 0.1}, 3),
    "shuffled": ({"name": "triplet_shuffled", "margin": 0.2}, 1),
}


def loop_infonce(a, b, temperature):
    rows = []
    for i in range(len(a)):
        against_all = [np.exp(a[i] @ b[k] / temperature) for k in range(len(b))]
        rows.append(-np.log(against_all[i] / sum(against_all)))
    return np.mean(rows)


def loop_triplet_np(a, b, margin, squared=False, mean_over="violating"):
    def distance(x, y):
        return np.sum((x - y) ** 2) if squared else np.linalg.norm(x - y)

    n_positives = len(b) // len(a)
    cells = []
    for i in range(len(a)):
        own = range(i * n_positives, (i + 1) * n_positives)
        hardest = max(distance(a[i], b[p]) for p in own)
        for column, y in enumerate([*b, *a]):
            if column in own or column == len(b) + i:
                cells.append(0.0)
            else:
                cells.append(max(hardest - distance(a[i], y) + margin, 0.0))
    n_cells = len(cells) if mean_over == "all" else np.count_nonzero(cells)
    return sum(cells) / n_cells


def loop_triplet_nmfp(a, b, margin):
    n_positives = len(b) // len(a)
    rows = [(i, x) for i, x in enumerate(a)] + [(i // n_positives, x) for i, x in enumerate(b)]
    losses, n_fallbacks = [], 0
    for i, (group, x) in enumerate(rows):
        distances = [(g, np.sum((x - y) ** 2)) for j, (g, y) in enumerate(rows) if j != i]
        positive = max(d for g, d in distances if g == group)
        negatives = [d for g, d in distances if g != group]
        semi_hard = [d for d in negatives if positive < d < positive + margin]
        n_fallbacks += not semi_hard
        losses.append(max(positive - min(semi_hard or negatives) + margin, 0.0))
    assert 0 < n_fallbacks < len(rows), "the example has to reach both branches"
    return np.mean(losses)


def loop_triplet_shuffled(a, b, margin):
    total = 0.0
    for i in range(len(a)):
        negative = a[(i + 1) % len(a)]
        total += max(np.sum((a[i] - b[i]) ** 2) - np.sum((a[i] - negative) ** 2) + margin, 0.0)
    return total


LOOPS = {
    "ntxent": loop_ntxent,
    "infonce": loop_infonce,
    "triplet_np": loop_triplet_np,
    "triplet_nmfp": loop_triplet_nmfp,
    "triplet_shuffled": loop_triplet_shuffled,
}


@pytest.mark.parametrize("which", SECTIONS)
def test_every_loss_equals_a_double_loop(rng, which):
    section, n_positives = SECTIONS[which]
    originals, replicas = pairs(rng, 12, 6, n_positives)
    loss = jax.jit(build_loss(section, n_positives))(originals, replicas)
    settings = {key: value for key, value in section.items() if key != "name"}
    expected = LOOPS[section["name"]](
        originals.astype(np.float64), replicas.astype(np.float64), **settings
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.05


@pytest.mark.parametrize("which", SECTIONS)
def test_eight_devices_have_the_loss_and_gradient_of_one_big_batch(rng, which):
    section, n_positives = SECTIONS[which]
    loss = build_loss(section, n_positives)
    originals, replicas = pairs(rng, 16, 16, n_positives)
    weights = rng.standard_normal((16, 16)).astype(np.float32) / 4

    def objective(weights, originals, replicas, axis_name):
        embeddings = [x @ weights for x in (originals, replicas)]
        unit = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in embeddings]
        return loss(*unit, axis_name=axis_name)

    differentiate = jax.value_and_grad(objective)
    expected, expected_gradient = jax.jit(differentiate, static_argnums=3)(
        weights, originals, replicas, None
    )

    def step(weights, originals, replicas):
        return jax.lax.pmean(differentiate(weights, originals, replicas, "batch"), "batch")

    n_devices = jax.local_device_count()
    shards = [x.reshape(n_devices, -1, 16) for x in (originals, replicas)]
    parallel = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0), out_axes=None)
    value, gradient = jax.block_until_ready(parallel(weights, *shards))
    assert n_devices == 8
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    tolerance = 1e-5 * float(jnp.abs(expected_gradient).max())
    assert tolerance > 0
    np.testing.assert_allclose(gradient, expected_gradient, atol=tolerance)


@pytest.mark.parametrize("which", SECTIONS)
def test_gradients_are_finite_where_replicas_equal_their_originals(rng, which):
    section, n_positives = SECTIONS[which]
    originals = unit_rows(rng, 4, 8)
    replicas = np.repeat(originals, n_positives, axis=0)
    gradients = jax.jit(jax.grad(build_loss(section, n_positives), (0, 1)))(originals, replicas)
    assert all(bool(jnp.all(jnp.isfinite(gradient))) for gradient in gradients)


def test_satisfied_triplets_fade_from_the_mean_over_all_alone():
    """One anchor violates against one negative by a tenth; all others are satisfied."""
    angles = np.deg2rad([0.0, 20.0, 120.0, 240.0])
    originals = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    margin = float(np.linalg.norm(originals[0] - originals[1])) + 0.1
    losses = {
        mean_over: float(
            build_loss({"name": "triplet_np", "margin": margin, "mean_over": mean_over})(
                originals, originals
            )
        )
        for mean_over in ("violating", "all")
    }
    # Rows 0 and 1 violate against each other's original and replica: 4 of 4 x 8 cells.
    assert losses["violating"] == pytest.approx(0.1, abs=1e-3)
    assert losses["all"] == pytest.approx(0.1 * 4 / 32, abs=1e-3)


def test_a_lone_pair_has_no_shuffled_negative(rng):
    originals, replicas = pairs(rng, n_pairs=1)
    with pytest.raises(ConfigError, match="n_pairs is 1"):
        triplet_shuffled(originals, replicas, margin=0.2)


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
        ({"name": "infonce", "temperature": -1.0}, "-1.0"),
        ({"name": "infonce", "temperature": "cold"}, "'cold'"),
        ({"name": "triplet_np"}, "'margin', 'mean_over' if wanted, 'squared' if wanted"),
        ({"name": "triplet_np", "margin": 0.0}, "loss.margin is 0.0"),
        ({"name": "triplet_np", "margin": 0.4, "squared": 2}, "loss.squared is 2"),
        ({"name": "triplet_np", "margin": 0.4, "mean_over": "rows"}, "'rows'"),
        ({"name": "triplet_nmfp", "margin": 0.4, "squared": True}, "squared"),
        ({"name": "triplet_shuffled", "temperature": 0.1}, "takes exactly 'margin'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(section, words):
    with pytest.raises(ConfigError, match=words):
        build_loss(section)


@pytest.mark.parametrize("which", ["ntxent", "infonce", "shuffled"])
def test_losses_of_pairs_refuse_several_replicas(which):
    with pytest.raises(ConfigError, match="n_positives is 4"):
        build_loss(SECTIONS[which][0], n_positives=4)
