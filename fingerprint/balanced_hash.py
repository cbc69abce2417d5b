"""A head that gives fingerprints binary codes whose 2^K buckets are equally full.

Singh et al., "Simultaneously learning robust audio embeddings and balanced hash codes for
query-by-example" (arXiv 2211.11060). The head maps a fingerprint to a unit vector q of K numbers;
the signs of q are its bucket. The 2^K centroids are fixed, ``c_k in {-1, +1}^K / sqrt(K)``, and
``s_k = q . c_k`` scores a bucket. During training each code is assigned to a bucket k* under the
constraint that all buckets get equally many (entropic optimal transport), and the code is pulled
there:

    L = w_c L_c + w_h L_h + w_r L_r
    L_c   contrastive loss of the fingerprints (`losses`)
    L_h   the same on codes: InfoNCE, originals against replicas
    L_r   -[log p(k*|x) + log p(k*|x+)],  p(k|x) = softmax_k(s(x) / temperature)

**How many rows the balance needs.** The assignment balances the codes of the global batch and of
a queue of past ones, R rows together (2B + queue with "swapped"). With R below 2^K not even one
row falls on each bucket: the constraint then spreads these rows apart, but it cannot tell a bucket
that is too full from one that is not. R >= 4 * 2^K makes a bucket's share well determined: 1,024
rows for K = 8, 4,096 for K = 10, 16,384 for K = 12. The assignment holds R * 2^K float32 numbers,
divided among the devices, and some copies: 1 MB, 17 MB and 270 MB for those three; K = 16 would
want 262,144 rows and 69 GB. `build_hash` accepts smaller sizes, as the published batch of 512 with
K = 16 is. They may do: a head of 10 bits on the small NAFP, trained with R = 768 or 4,352, filled
its buckets equally well (entropy 9.6 of 10 bits on other tracks in either case).
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from fingerprint.encoders.head import unit_norm
from fingerprint.encoders.norm import batch_norm
from fingerprint.errors import ConfigError
from fingerprint.losses import infonce
from fingerprint.sinkhorn import bucket_numbers, bucket_scores, bucket_signs, sinkhorn

MAX_BITS = 16
ASSIGNMENTS = ("mean", "original", "swapped")
ASSIGNMENT_LOSSES = ("cross_entropy", "as_printed")


class HashHead(nn.Module):
    """Fingerprints to codes: dense layer with batch norm and ReLU, dense layer, unit norm.

    75,280 parameters for d = 128 and K = 16: 66,048 + 1,024 + 8,208, scale and offset of the batch
    norm included, its running mean and variance not.

    Attributes:
        n_bits: K.
        hidden_units: Units of the first layer.
        axis_name: Axis of ``jax.pmap`` over which batch statistics are averaged in training.
    """

    n_bits: int
    hidden_units: int = 512
    axis_name: str | None = None

    @nn.compact
    def __call__(self, fingerprints: jax.Array, train: bool = False) -> jax.Array:
        """``(b, d)`` -> ``(b, n_bits)`` float32, unit norm; ``train`` uses batch statistics."""
        x = nn.Dense(self.hidden_units, name="hidden")(fingerprints.astype(jnp.float32))
        x = nn.relu(batch_norm(train, self.axis_name, jnp.float32, "hidden_norm")(x))
        return unit_norm(nn.Dense(self.n_bits, name="code")(x))


@dataclasses.dataclass(frozen=True)
class BalancedHash:
    """The hash head's part of a training step; the fields are those of ``config.hash``.

    Attributes:
        n_bits: K, the length of a code.
        hidden_units: Units of the head's hidden layer.
        temperature: Divides the cosines in L_h and L_r.
        epsilon: Entropy of the balanced assignment; see `sinkhorn.sinkhorn`.
        n_iterations: Sinkhorn iterations per step.
        queue_rows: Past codes that are balanced together with the batch; 0: none. A multiple of
            the number of devices.
        assignment: What k* is found for: the "mean" of both codes of a pair, the "original", or
            each code, of which the other is then pulled there ("swapped", as SwAV does).
        assignment_loss: L_r as "cross_entropy", or "as_printed" on the poster, without logarithm.
        weights: Of L_c, L_h and L_r.
        train_encoder: False trains the head alone, on a frozen encoder.
    """

    n_bits: int
    hidden_units: int = 512
    temperature: float = 0.1
    epsilon: float = 0.05
    n_iterations: int = 3
    queue_rows: int = 0
    assignment: str = "mean"
    assignment_loss: str = "cross_entropy"
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    train_encoder: bool = True

    @property
    def contrastive_weight(self) -> float:
        """Weight of L_c, which is not computed here."""
        return self.weights[0]

    def head(self, axis_name: str | None = None) -> HashHead:
        """The network."""
        return HashHead(self.n_bits, self.hidden_units, axis_name)

    def queue_rows_per_device(self, n_devices: int) -> int:
        """Rows of the queue that each device balances.

        Raises:
            ConfigError: the devices cannot share the queue equally.
        """
        if self.queue_rows % n_devices:
            raise ConfigError(
                f"hash.queue_rows is {self.queue_rows}, which {n_devices} devices cannot share "
                f"equally: choose a multiple of {n_devices}."
            )
        return self.queue_rows // n_devices

    def initial_queue(self, key: jax.Array) -> jax.Array:
        """Random codes, ``(queue_rows, n_bits)`` of unit norm, that real ones push out."""
        return unit_norm(jax.random.normal(key, (self.queue_rows, self.n_bits)))

    def loss(
        self,
        codes_original: jax.Array,
        codes_replica: jax.Array,
        queue: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        """``w_h L_h + w_r L_r`` of this device's pairs, and the queue of the next step.

        Gradients reach the two arrays of codes alone: the assignment is a constant. Average the
        loss and its gradients over ``axis_name`` outside ``jax.grad``, as with any loss of
        `losses`; the new queue is the same on all devices.

        Args:
            codes_original: ``(b, n_bits)``, unit norm.
            codes_replica: ``(b, n_bits)``, unit norm; row i is the replica of original i.
            queue: ``(queue_rows, n_bits)``, the same on all devices.
            axis_name: Axis of ``jax.pmap`` over which the batch is spread.

        Returns:
            The loss, the metrics ``hash_contrastive`` (L_h), ``hash_assignment`` (L_r),
            ``hash_flipped_bits`` (share of the bits in which a replica differs from its original)
            and ``hash_balance`` (entropy of the bucket sizes over all assigned codes, as a share
            of K bits), and the new queue.

        Raises:
            ConfigError: the queue cannot be shared equally among the devices.
        """
        pair = jnp.stack([codes_original, codes_replica]).astype(jnp.float32)
        targets, queue, balance = self._assign(jax.lax.stop_gradient(pair), queue, axis_name)
        contrastive = infonce(*pair, temperature=self.temperature, axis_name=axis_name)
        assignment = jnp.sum(jnp.mean(self._pull(pair, targets), axis=1))
        metrics = {
            "hash_contrastive": contrastive,
            "hash_assignment": assignment,
            "hash_flipped_bits": jnp.mean((pair[0] > 0) != (pair[1] > 0)),
            "hash_balance": balance,
        }
        metrics = jax.tree.map(jax.lax.stop_gradient, metrics)
        _, contrastive_weight, assignment_weight = self.weights
        loss = contrastive_weight * contrastive + assignment_weight * assignment
        return loss, metrics, queue

    def _assign(
        self, pair: jax.Array, queue: jax.Array, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Buckets ``(2, b)`` that the codes are pulled to, the next queue and its balance."""
        if self.assignment == "mean":
            own = unit_norm(pair[0] + pair[1])[None]
        elif self.assignment == "original":
            own = pair[:1]
        else:
            own = pair
        rows = jnp.concatenate([own.reshape(-1, self.n_bits), self._share(queue, axis_name)])
        transport = sinkhorn(
            bucket_scores(rows),
            epsilon=self.epsilon,
            n_iterations=self.n_iterations,
            axis_name=axis_name,
        )
        assigned = jnp.argmax(transport[: own.shape[0] * own.shape[1]], axis=1)
        # Swapped: each of the two is pulled to the bucket of the other.
        targets = jnp.broadcast_to(assigned.reshape(own.shape[:2])[::-1], pair.shape[:2])
        if axis_name is not None:
            own = jax.lax.all_gather(own, axis_name, axis=1, tiled=True)
        newest = own.reshape(-1, self.n_bits)
        everything = jnp.concatenate([queue, newest])
        return targets, everything[len(newest) :], bucket_entropy(everything) / self.n_bits

    def _share(self, queue: jax.Array, axis_name: str | None) -> jax.Array:
        """The part of the queue that this device balances."""
        if axis_name is None:
            return queue
        n_rows = self.queue_rows_per_device(jax.lax.axis_size(axis_name))
        return jax.lax.dynamic_slice_in_dim(queue, jax.lax.axis_index(axis_name) * n_rows, n_rows)

    def _pull(self, pair: jax.Array, targets: jax.Array) -> jax.Array:
        """L_r of each code, ``(2, b)``.

        The softmax over all sign patterns is a product over bits: with z = q_b / (sqrt(K) t), bit
        b of the bucket has the probability exp(+-z) / (exp(z) + exp(-z)).
        """
        signs = bucket_signs(targets, self.n_bits)
        logits = 2.0 * signs * pair / (self.n_bits**0.5 * self.temperature)
        log_probability = jnp.sum(jax.nn.log_sigmoid(logits), axis=-1)
        if self.assignment_loss == "cross_entropy":
            return -log_probability
        return -jnp.exp(log_probability)


def bucket_entropy(codes: jax.Array) -> jax.Array:
    """Entropy in bits of how ``(n, n_bits)`` codes fall on buckets; K if all are equally full."""
    counts = jnp.zeros(2 ** codes.shape[1], jnp.float32).at[bucket_numbers(codes)].add(1.0)
    return jnp.log2(float(len(codes))) - jnp.sum(jax.scipy.special.xlogy(counts, counts)) / (
        len(codes) * jnp.log(2.0)
    )


def build_hash(section: Mapping) -> BalancedHash:
    """What ``config.hash`` describes.

    Raises:
        ConfigError: an unknown key, or a value that cannot work; the module's docstring tells
            which values work, but badly.
    """
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in dict(section).items()
    }
    known = [field.name for field in dataclasses.fields(BalancedHash)]
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"hash.{key} is not a setting of the hash head, which has {', '.join(known)}."
            )
    if "n_bits" not in settings:
        raise ConfigError("hash.n_bits is missing: say how many bits a code has, for example 10.")
    balanced_hash = BalancedHash(**settings)
    _check_settings(balanced_hash)
    return balanced_hash


def _check_settings(settings: BalancedHash) -> None:
    def require(condition: bool, name: str, what: str) -> None:
        if not condition:
            value = getattr(settings, name)
            raise ConfigError(f"hash.{name} is {value!r}, but it has to be {what}.")

    for name, lowest in (
        ("n_bits", 1),
        ("hidden_units", 1),
        ("n_iterations", 1),
        ("queue_rows", 0),
    ):
        value = getattr(settings, name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        require(is_whole and value >= lowest, name, f"a whole number from {lowest}")
    require(
        settings.n_bits <= MAX_BITS,
        "n_bits",
        f"at most {MAX_BITS}, as the assignment compares every code with all 2^K buckets",
    )
    for name in ("temperature", "epsilon"):
        value = getattr(settings, name)
        require(_is_number(value) and value > 0, name, "a positive number")
    for name, choices in (("assignment", ASSIGNMENTS), ("assignment_loss", ASSIGNMENT_LOSSES)):
        require(getattr(settings, name) in choices, name, f"one of {', '.join(choices)}")
    weights = settings.weights
    require(
        isinstance(weights, tuple)
        and len(weights) == 3
        and all(_is_number(weight) and weight >= 0 for weight in weights)
        and max(weights[1:]) > 0,
        "weights",
        "three numbers from 0 for L_c, L_h and L_r, of which the last two are not both 0",
    )
    require(isinstance(settings.train_encoder, bool), "train_encoder", "True or False")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
