import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fingerprint.balanced_hash import BalancedHash, HashHead, bucket_entropy, build_hash
from fingerprint.errors import ConfigError
from fingerprint.sinkhorn import bucket_numbers, bucket_scores, bucket_signs
from fingerprint.sinkhorn import sinkhorn as sinkhorn_by_operations

sinkhorn = jax.jit(sinkhorn_by_operations, static_argnames=["epsilon", "n_iterations", "axis_name"])
SETTINGS = {
    "n_bits": 4,
    "temperature": 0.2,
    "epsilon": 0.1,
    "n_iterations": 20,
    "queue_rows": 32,
    "weights": (1.0, 0.5, 2.0),
}
METRICS = {"hash_contrastive", "hash_assignment", "hash_flipped_bits", "hash_balance"}


def unit_rows(rng, *shape):
    rows = rng.standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def centroids(n_bits):
    """All sign patterns, materialised: pattern k has +1 in component b where bit b of k is set."""
    bits = (np.arange(2**n_bits)[:, None] >> np.arange(n_bits)) & 1
    return (2.0 * bits - 1.0) / np.sqrt(n_bits)


def skewed_rows(rng, n_rows, n_bits):
    """Codes of which most lie in few of the buckets."""
    rows = rng.standard_normal((n_rows, n_bits)) + 0.7
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sinkhorn_by_matrices(scores, epsilon, n_iterations):
    """The published recipe, in float64 and without logarithms."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon)
    q /= q.sum()
    for _ in range(n_iterations):
        q /= q.sum(axis=0, keepdims=True) * q.shape[1]
        q /= q.sum(axis=1, keepdims=True) * q.shape[0]
    return q * q.shape[0]


def loop_terms(original, replica, queue, settings):
    """L_h and L_r of a batch with all centroids, one row after the other."""
    a, b = original.astype(np.float64), replica.astype(np.float64)
    c, temperature, n = centroids(settings.n_bits), settings.temperature, len(a)
    mean = a + b
    own = {
        "mean": mean / np.linalg.norm(mean, axis=1, keepdims=True),
        "original": a,
        "swapped": np.concatenate([a, b]),
    }[settings.assignment]
    scores = np.concatenate([own, queue]) @ c.T
    transport = sinkhorn_by_matrices(scores, settings.epsilon, settings.n_iterations)
    assigned = transport[: len(own)].argmax(axis=1)
    of_a, of_b = (assigned, assigned) if len(own) == n else (assigned[n:], assigned[:n])

    contrastive, pulls = [], []
    for i in range(n):
        against = np.exp(b @ a[i] / temperature)
        contrastive.append(-np.log(against[i] / against.sum()))
        for code, bucket in ((a[i], of_a[i]), (b[i], of_b[i])):
            likelihood = np.exp(c @ code / temperature)
            p = likelihood[bucket] / likelihood.sum()
            pulls.append(-np.log(p) if settings.assignment_loss == "cross_entropy" else -p)
    return np.mean(contrastive), 2 * np.mean(pulls)


class TestBuckets:
    def test_scores_are_products_with_all_sign_patterns(self, rng):
        codes = unit_rows(rng, 20, 6)
        np.testing.assert_allclose(bucket_scores(codes), codes @ centroids(6).T, atol=1e-6)

    def test_the_best_bucket_is_the_sign_pattern(self, rng):
        codes = unit_rows(rng, 50, 10)
        brute_force = np.argmax(codes @ centroids(10).T, axis=1)
        np.testing.assert_array_equal(bucket_numbers(codes), brute_force)

    def test_component_0_is_the_lowest_bit(self):
        assert int(bucket_numbers(jnp.array([0.9, -0.1, 0.3]))) == 0b101
        np.testing.assert_array_equal(bucket_signs(jnp.array([0b101]), 3), [[1, -1, 1]])

    def test_entropy_counts_buckets(self):
        everywhere = centroids(3).astype(np.float32)
        assert float(bucket_entropy(everywhere)) == pytest.approx(3.0, abs=1e-5)
        assert float(bucket_entropy(everywhere[[5, 5, 5, 5]])) == pytest.approx(0.0, abs=1e-5)
        half = everywhere[[0, 0, 1, 2]]
        assert float(bucket_entropy(half)) == pytest.approx(1.5, abs=1e-5)


class TestSinkhorn:
    @pytest.mark.parametrize("n_iterations", [1, 3, 50])
    def test_equals_the_recipe_with_matrices(self, rng, n_iterations):
        scores = skewed_rows(rng, 96, 4) @ centroids(4).T.astype(np.float32)
        expected = sinkhorn_by_matrices(scores, 0.05, n_iterations)
        actual = np.exp(sinkhorn(scores, epsilon=0.05, n_iterations=n_iterations))
        np.testing.assert_allclose(actual, expected, atol=2e-4)

    def test_columns_of_skewed_scores_are_equally_full_after_50_iterations(self, rng):
        n_rows, n_bits = 512, 5
        scores = bucket_scores(skewed_rows(rng, n_rows, n_bits))
        nearest = np.bincount(np.argmax(scores, axis=1), minlength=2**n_bits)
        assert nearest.max() > 4 * n_rows / 2**n_bits, "the example has to be unbalanced"

        transport = np.exp(sinkhorn(scores, epsilon=0.1, n_iterations=50))
        np.testing.assert_allclose(transport.sum(axis=1), 1.0, atol=1e-4)
        np.testing.assert_allclose(transport.sum(axis=0), n_rows / 2**n_bits, rtol=1e-3)
        assigned = np.bincount(np.argmax(transport, axis=1), minlength=2**n_bits)
        assert assigned.max() <= 2 * n_rows / 2**n_bits

    def test_scores_beyond_the_range_of_exp_stay_finite(self, rng):
        scores = bucket_scores(unit_rows(rng, 64, 4))
        log_transport = sinkhorn(scores, epsilon=1e-3, n_iterations=20)
        assert bool(jnp.all(jnp.isfinite(log_transport)))
        np.testing.assert_allclose(np.exp(log_transport).sum(axis=1), 1.0, atol=1e-3)

    def test_eight_devices_equal_one(self, rng):
        scores = np.asarray(bucket_scores(skewed_rows(rng, 64, 4)))
        expected = sinkhorn(scores, epsilon=0.05, n_iterations=10)
        spread = jax.pmap(
            lambda rows: sinkhorn(rows, epsilon=0.05, n_iterations=10, axis_name="batch"),
            axis_name="batch",
        )(scores.reshape(8, 8, 16))
        np.testing.assert_allclose(np.exp(spread).reshape(64, 16), np.exp(expected), atol=1e-5)


class TestHead:
    def test_has_the_published_number_of_parameters(self):
        shapes = jax.eval_shape(HashHead(16).init, jax.random.key(0), jnp.zeros((1, 128)))
        assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes["params"])) == 75_280
        assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes["batch_stats"])) == 1_024

    def test_codes_have_unit_norm_and_do_not_depend_on_the_batch_in_use(self, rng):
        head = HashHead(8, hidden_units=32)
        fingerprints = unit_rows(rng, 6, 16)
        variables = jax.jit(head.init)(jax.random.key(0), fingerprints)
        apply = jax.jit(head.apply)
        codes = apply(variables, fingerprints)
        assert codes.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(apply(variables, fingerprints[:1]), codes[:1], atol=1e-6)

    def test_batch_statistics_are_those_of_all_devices(self, rng):
        fingerprints = unit_rows(rng, 16, 16)
        variables = jax.jit(HashHead(8, 32).init)(jax.random.key(0), fingerprints)

        def train(head, rows):
            return head.apply(variables, rows, train=True, mutable=["batch_stats"])

        codes, state = jax.jit(lambda rows: train(HashHead(8, 32), rows))(fingerprints)
        spread, spread_state = jax.pmap(
            lambda rows: train(HashHead(8, 32, axis_name="batch"), rows),
            axis_name="batch",
            out_axes=(0, None),
        )(fingerprints.reshape(8, 2, 16))
        np.testing.assert_allclose(spread.reshape(16, 8), codes, atol=1e-5)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), spread_state, state)


class TestLoss:
    def example(self, rng):
        original = skewed_rows(rng, 16, 4)
        replica = original + 0.5 * unit_rows(rng, 16, 4)
        replica /= np.linalg.norm(replica, axis=1, keepdims=True)
        return original, replica, skewed_rows(rng, 32, 4)

    @pytest.mark.parametrize("assignment", ["mean", "original", "swapped"])
    @pytest.mark.parametrize("assignment_loss", ["cross_entropy", "as_printed"])
    def test_equals_a_loop_over_all_centroids(self, rng, assignment, assignment_loss):
        settings = build_hash(
            SETTINGS | {"assignment": assignment, "assignment_loss": assignment_loss}
        )
        example = self.example(rng)
        contrastive, pull = loop_terms(*example, settings)
        loss, metrics, _ = jax.jit(settings.loss)(*example)
        assert set(metrics) == METRICS
        assert float(metrics["hash_contrastive"]) == pytest.approx(contrastive, rel=1e-4)
        assert float(metrics["hash_assignment"]) == pytest.approx(pull, rel=1e-4)
        assert float(loss) == pytest.approx(0.5 * contrastive + 2.0 * pull, rel=1e-4)
        flipped = np.mean((example[0] > 0) != (example[1] > 0))
        assert float(metrics["hash_flipped_bits"]) == pytest.approx(flipped)

    @pytest.mark.parametrize("assignment", ["mean", "swapped"])
    def test_eight_devices_have_the_loss_gradient_and_queue_of_one(self, rng, assignment):
        settings = build_hash(SETTINGS | {"assignment": assignment})
        original, replica, queue = self.example(rng)

        def objective(original, replica, queue, axis_name=None):
            loss, metrics, queue = settings.loss(original, replica, queue, axis_name)
            return loss, (metrics, queue)

        differentiate = jax.value_and_grad(objective, (0, 1), has_aux=True)
        (loss, (metrics, new_queue)), gradients = jax.jit(differentiate)(original, replica, queue)

        def step(original, replica, queue):
            (loss, (metrics, queue)), gradients = differentiate(original, replica, queue, "batch")
            return jax.lax.pmean((loss, metrics), "batch"), queue, gradients

        parallel = jax.pmap(step, axis_name="batch", in_axes=(0, 0, None), out_axes=(None, None, 0))
        shards = [x.reshape(8, 2, 4) for x in (original, replica)]
        actual, spread_queue, spread_gradients = parallel(*shards, queue)
        assert float(actual[0]) == pytest.approx(float(loss), rel=1e-5)
        for name in METRICS:
            assert float(actual[1][name]) == pytest.approx(float(metrics[name]), rel=1e-5), name
        np.testing.assert_allclose(spread_queue, new_queue, atol=1e-6)
        for spread, gradient in zip(spread_gradients, gradients, strict=True):
            # Each device's rows enter its own loss, of which the mean over devices is taken.
            np.testing.assert_allclose(spread.reshape(16, 4) / 8, gradient, atol=1e-6)

    def test_gradients_reach_codes_alone(self, rng):
        settings = build_hash(SETTINGS)
        original, replica, queue = self.example(rng)

        def objective(original, replica, queue):
            return settings.loss(original, replica, queue)[0]

        of_original, of_replica, of_queue = jax.jit(jax.grad(objective, (0, 1, 2)))(
            original, replica, queue
        )
        assert float(jnp.abs(of_original).min(axis=1).min()) > 0
        assert float(jnp.abs(of_replica).min(axis=1).min()) > 0
        assert float(jnp.abs(of_queue).max()) == 0

    @pytest.mark.parametrize(
        ("assignment", "queue_rows"), [("original", 40), ("swapped", 40), ("original", 8)]
    )
    def test_the_queue_drops_its_oldest_codes_first(self, rng, assignment, queue_rows):
        settings = build_hash(SETTINGS | {"assignment": assignment, "queue_rows": queue_rows})
        original, replica, _ = self.example(rng)
        queue = jax.jit(settings.initial_queue)(jax.random.key(0))
        np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1.0, atol=1e-5)
        _, _, new_queue = jax.jit(settings.loss)(original, replica, queue)
        newest = [original, replica] if assignment == "swapped" else [original]
        expected = np.concatenate([queue, *newest])[-queue_rows:]
        np.testing.assert_array_equal(new_queue, expected)

    def test_a_batch_without_a_queue_is_balanced_alone(self, rng):
        settings = build_hash(SETTINGS | {"queue_rows": 0})
        original, replica, queue = self.example(rng)
        _, metrics, queue = jax.jit(settings.loss)(original, replica, queue[:0])
        expected = loop_terms(original, replica, np.zeros((0, 4)), settings)[1]
        assert float(metrics["hash_assignment"]) == pytest.approx(expected, rel=1e-4)
        assert queue.shape == (0, 4)

    def test_the_queue_has_to_be_shared_equally(self, rng):
        settings = build_hash(SETTINGS | {"queue_rows": 30})
        original, replica, _ = (x.reshape(8, -1, 4) for x in self.example(rng))
        queue = settings.initial_queue(jax.random.key(0))
        with pytest.raises(ConfigError, match="queue_rows is 30, which 8 devices"):
            jax.pmap(lambda a, b: settings.loss(a, b, queue, "batch")[0], axis_name="batch")(
                original, replica
            )


def test_training_a_head_balances_buckets_and_keeps_pairs_together(rng):
    """Fingerprints on a few directions: an untrained head crowds them into few buckets."""
    import optax

    settings = build_hash({"n_bits": 4, "hidden_units": 32, "queue_rows": 256, "n_iterations": 10})
    head = settings.head()
    fingerprints = unit_rows(rng, 256, 16) + 1.0
    replicas = fingerprints + 0.3 * unit_rows(rng, 256, 16)
    variables = jax.jit(head.init)(jax.random.key(0), fingerprints)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def encode(variables):
        return [head.apply(variables, x) for x in (fingerprints, replicas)]

    @jax.jit
    def step(variables, opt_state, queue):
        def objective(params):
            both = jnp.concatenate([fingerprints, replicas])
            codes, state = head.apply(
                variables | {"params": params}, both, train=True, mutable=["batch_stats"]
            )
            loss, _, new_queue = settings.loss(codes[:256], codes[256:], queue)
            return loss, (state, new_queue)

        gradients, (state, queue) = jax.grad(objective, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(gradients, opt_state)
        return (
            {"params": optax.apply_updates(variables["params"], updates)} | state,
            (opt_state),
            queue,
        )

    untrained = float(bucket_entropy(encode(variables)[0]))
    opt_state = optimizer.init(variables["params"])
    queue = settings.initial_queue(jax.random.key(1))
    for _ in range(100):
        variables, opt_state, queue = step(variables, opt_state, queue)
    original, replica = encode(variables)
    assert untrained < 3.5
    assert float(bucket_entropy(original)) > 3.9
    assert float(jnp.mean((original > 0) == (replica > 0))) > 0.9


def test_defaults_and_lists_of_json_are_understood():
    settings = build_hash({"n_bits": 10, "weights": [1.0, 2.0, 3.0]})
    assert settings == BalancedHash(n_bits=10, weights=(1.0, 2.0, 3.0))
    assert settings.contrastive_weight == 1.0
    assert isinstance(settings.head(), nn.Module)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_bits": None}, "n_bits is None"),
        ({"n_bits": 17}, "n_bits is 17"),
        ({"n_bits": True}, "n_bits is True"),
        ({"hidden_units": 0}, "hidden_units is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": "cold"}, "temperature is 'cold'"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"n_iterations": 0}, "n_iterations is 0"),
        ({"queue_rows": -1}, "queue_rows is -1"),
        ({"queue_rows": 10.5}, "queue_rows is 10.5"),
        ({"assignment": "replica"}, "'replica', but it has to be one of mean, original, swapped"),
        ({"assignment_loss": "log"}, "assignment_loss is 'log'"),
        ({"weights": (1.0, 1.0)}, "weights is"),
        ({"weights": (1.0, -1.0, 1.0)}, "weights is"),
        ({"weights": (1.0, 0.0, 0.0)}, "not both 0"),
        ({"train_encoder": "no"}, "train_encoder is 'no'"),
        ({"centroids": 3}, "hash.centroids is not a setting"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(settings, words):
    with pytest.raises(ConfigError, match=words):
        build_hash({"n_bits": 8} | settings)


def test_the_number_of_bits_has_no_default():
    with pytest.raises(ConfigError, match="n_bits is missing"):
        build_hash({"temperature": 0.1})
