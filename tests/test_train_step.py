import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from ml_collections import ConfigDict
from test_training import make_batch, tiny_config

from fingerprint import parallel
from fingerprint.balanced_hash import build_hash
from fingerprint.encoders import build_encoder
from fingerprint.errors import ConfigError
from fingerprint.losses import build_loss
from fingerprint.model import Fingerprinter, ModelError, save_model
from fingerprint.train_step import build_step, initial_state, masked_log_mels

ATTENTION = {"name": "attention", "widths": (4, 8), "embedding_dim": 8, "head_units": 4}
WOO = {"name": "woo", "widths": (4, 4, 8), "dense_units": 8, "embedding_dim": 8}
TRANSFORMER = {
    **{"name": "transformer", "patch_frames": 4, "d_model": 8, "n_layers": 1, "n_heads": 2},
    **{"feed_forward_units": 16, "hidden_units": 16, "embedding_dim": 8},
}
HASH = {"n_bits": 4, "hidden_units": 8, "queue_rows": 32, "weights": (0.5, 2.0, 3.0)}


def changed(initial_model="", **sections):
    """The tiny configuration with whole sections put in place of its own."""
    config = tiny_config()
    config.features.hop_length = 64
    config.training.initial_model = str(initial_model)
    for name, values in sections.items():
        config[name] = ConfigDict(values) if isinstance(values, dict) else values
    return config


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Most of the time here would go into optimising programs that run for a second."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def first_step(config, batch):
    """State and metrics after one compiled step on all devices, and the gradient it took."""
    step = parallel.over_devices(build_step(config))
    state, metrics = step(parallel.replicate(initial_state(config)), parallel.split_batch(batch))
    state = parallel.to_host(state)
    # After one step Adam's first moment is a tenth of the gradient.
    (adam,) = [s for s in state.opt_state if isinstance(s, optax.ScaleByAdamState)]
    return state, parallel.to_host(metrics), jax.tree.map(lambda m: 10 * m, adam.mu)


def gradients_of_first_step(config, batch):
    """Loss and gradient by the encoder's parameters, of one compiled step on all devices."""
    _, metrics, grads = first_step(config, batch)
    return metrics["loss"], grads["encoder"]


def step_on_the_big_batch(config, batch):
    """Loss, gradient and new model state by plain differentiation on one device."""
    encoder = build_encoder(config.encoder)
    contrastive = build_loss(config.loss, config.pairs.n_positives)
    hashing = config.hash and build_hash(config.hash)
    n_pairs = config.pairs.n_pairs
    before = initial_state(config)

    def loss_of(params, mels):
        variables = {"params": params["encoder"], "batch_stats": before.model_state["encoder"]}
        rows = mels.reshape(-1, *mels.shape[2:])
        embeddings, updated = encoder.apply(variables, rows, train=True, mutable=["batch_stats"])
        state = {"encoder": updated.get("batch_stats", {})}
        originals = embeddings[:n_pairs]
        replicas = jnp.stack(
            [
                embeddings[(1 + replica) * n_pairs + pair]
                for pair in range(n_pairs)
                for replica in range(config.pairs.n_positives)
            ]
        )
        loss = contrastive(originals, replicas)
        for beginning, weight in (config.l2 or {}).items():
            for path, values in traverse_util.flatten_dict(params["encoder"]).items():
                if path[-1] == "kernel" and path[-2].startswith(beginning):
                    loss += weight * (values**2).sum()
        if hashing:
            head = {"params": params["hash_head"], "batch_stats": before.model_state["hash_head"]}
            codes, updated = hashing.head().apply(
                head, embeddings, train=True, mutable=["batch_stats"]
            )
            code_loss, _, queue = hashing.loss(
                codes[:n_pairs], codes[n_pairs:], before.model_state["queue"]
            )
            loss = hashing.contrastive_weight * loss + code_loss
            state |= {"hash_head": updated["batch_stats"], "queue": queue}
        return loss, state

    @jax.jit
    def differentiate(params, batch):
        mels = masked_log_mels(config, jnp.zeros((), jnp.int32), batch, n_pairs)
        return jax.value_and_grad(loss_of, has_aux=True)(params, mels[0])

    (loss, state), grads = differentiate(before.params, batch)
    return loss, grads, state


def gradients_of_the_big_batch(config, batch):
    """Loss and gradient by the encoder's parameters, of one device with the whole batch."""
    loss, grads, _ = step_on_the_big_batch(config, batch)
    return loss, grads["encoder"]


def assert_close(got, expected, rtol=1e-5):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    largest = max((float(jnp.abs(x).max()) for x in jax.tree.leaves(expected)), default=0.0)
    for path, wanted in jax.tree_util.tree_leaves_with_path(expected):
        value = got
        for key in path:
            value = value[key.key]
        np.testing.assert_allclose(
            value, wanted, rtol=rtol, atol=rtol * largest, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize(
    ("sections", "n_positives", "grad_cache_pairs"),
    [
        pytest.param(
            {"encoder": WOO, "loss": {"name": "triplet_np", "margin": 0.4}},
            2,
            1,
            id="groups in parts",
        ),
        pytest.param(
            {
                "encoder": ATTENTION,
                "l2": {"conv": 0.1, "shortcut": 0.2},
                "crop": {"n_mels": 32, "n_frames": 12, "mode": "random_bins", "shared": False},
            },
            *(1, 0),
            id="batch norm, l2 and crop",
        ),
        pytest.param({"encoder": TRANSFORMER, "hash": HASH}, 1, 0, id="batch norm and codes"),
    ],
)
def test_a_step_on_eight_devices_is_that_of_one_big_batch(sections, n_positives, grad_cache_pairs):
    assert jax.device_count() == 8
    config = changed(**sections)
    config.pairs.n_positives = n_positives
    config.training.grad_cache_pairs = grad_cache_pairs
    batch = make_batch(0, config.pairs.n_pairs, n_positives)
    state, metrics, grads = first_step(config, batch)
    expected_loss, expected, expected_state = step_on_the_big_batch(config, batch)
    np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-5)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(expected)) > 1e-3
    assert_close(grads, expected, rtol=2e-5)
    assert_close(state.model_state, expected_state)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(expected), rtol=1e-4)


def mels_of(config, step=0, batch=None, chunk_pairs=2):
    batch = batch or make_batch(0, 4, config.pairs.n_positives)
    masked = jax.jit(lambda step: masked_log_mels(config, step, batch, chunk_pairs))
    return np.asarray(masked(step))


def test_the_mask_changes_with_the_step_alone():
    config = tiny_config()
    first, second = mels_of(config, 0), mels_of(config, 1)
    assert first.shape == (2, 2, 2, 64, 16)
    np.testing.assert_array_equal(first, mels_of(config, 0))
    silent = (first == -1).all(axis=(0, 1, 2))
    assert 0 < silent.mean() < 1
    assert (silent != (second == -1).all(axis=(0, 1, 2))).any()


def test_originals_can_be_spared_the_mask():
    config = tiny_config()
    config.pairs.n_positives = 2
    masked = mels_of(config)
    config.spec_augment.masked = "replicas"
    spared = mels_of(config)
    config.spec_augment.probability = 0.0
    clear = mels_of(config)
    assert clear.shape == (2, 3, 2, 64, 16)
    np.testing.assert_allclose(spared[:, 0], clear[:, 0], atol=1e-6)
    np.testing.assert_allclose(spared[:, 1:], masked[:, 1:], atol=1e-6)
    assert np.abs(spared[:, 1:] - clear[:, 1:]).max() > 0.1


def test_what_is_removed_without_a_logarithm_is_zero():
    config = tiny_config()
    config.features.scaling = "linear"
    assert mels_of(config).min() == 0.0


def test_replicas_stay_with_their_original():
    config = tiny_config()
    config.pairs.n_positives = 3
    config.spec_augment.probability = 0.0
    batch = make_batch(0, 4, 3)
    batch["replica"] = np.repeat(batch["original"], 3, axis=0)
    mels = mels_of(config, batch=batch)
    for replica in (1, 2, 3):
        np.testing.assert_allclose(mels[:, replica], mels[:, 0], atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_crops_are_drawn_per_pair(shared):
    config = changed(crop={"n_mels": 32, "n_frames": 8, "mode": "contiguous", "shared": shared})
    config.spec_augment.probability = 0.0
    original = np.tile(make_batch(0, 1)["original"], (8, 1))
    batch = {"original": original, "replica": original}
    mels = mels_of(config, batch=batch, chunk_pairs=8)[0]
    assert mels.shape == (2, 8, 32, 8)
    assert len(np.unique(mels[0].reshape(8, -1), axis=0)) > 4
    assert (mels[0] == mels[1]).all() == shared


def test_bfloat16_keeps_parameters_in_float32_and_learns_the_same_first_step():
    config, half = changed(encoder=WOO), changed(encoder=WOO)
    half.training.dtype = "bfloat16"
    batch = make_batch(0, config.pairs.n_pairs)
    loss, grads = gradients_of_first_step(half, batch)
    expected_loss, _ = gradients_of_the_big_batch(config, batch)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {np.dtype("float32")}
    np.testing.assert_allclose(loss, expected_loss, rtol=0.02)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A model that was trained for no step."""
    config = changed(encoder=TRANSFORMER)
    config.seed = 5
    folder = tmp_path_factory.mktemp("encoder") / "model"
    save_model(folder, config, initial_state(config).encoder_variables())
    return folder


def test_a_frozen_encoder_stays_as_it_is_while_its_head_learns(encoder_folder):
    config = changed(
        encoder=TRANSFORMER,
        hash=HASH | {"train_encoder": False},
        initial_model=encoder_folder,
    )
    config.optimizer.weight_decay = 0.1
    config.training.grad_cache_pairs = 1
    before = initial_state(config)
    state, _, grads = first_step(config, make_batch(0, config.pairs.n_pairs))
    assert set(grads) == {"hash_head"}
    given = Fingerprinter.load(encoder_folder)._variables
    for encoder in (before.encoder_variables(), state.encoder_variables()):
        jax.tree.map(np.testing.assert_array_equal, encoder, given)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), before.params["hash_head"], state.params["hash_head"]
    )
    assert all(jax.tree.leaves(moved))
    assert (state.model_state["queue"][:16] == before.model_state["queue"][16:]).all()


def test_a_frozen_encoder_has_to_be_given():
    config = changed(encoder=TRANSFORMER, hash=HASH | {"train_encoder": False})
    with pytest.raises(ConfigError, match=r"name its model folder as training\.initial_model"):
        initial_state(config)


@pytest.mark.parametrize("section", [HASH, None])
def test_training_goes_on_from_a_model(encoder_folder, section):
    config = changed(encoder=TRANSFORMER, hash=section, initial_model=encoder_folder)
    state, _, grads = first_step(config, make_batch(0, config.pairs.n_pairs))
    assert set(grads) == {"encoder"} | ({"hash_head"} if section else set())
    given = Fingerprinter.load(encoder_folder)._variables
    kernel, begun = (v["params"]["out"]["kernel"] for v in (state.encoder_variables(), given))
    assert 0 < np.abs(kernel - begun).max() < 0.01


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("features", "f_min_hz", 200.0), ("segment", "hop_s", 0.25), ("encoder", "n_layers", 2)],
)
def test_a_model_that_sees_something_else_is_no_beginning(encoder_folder, section, key, value):
    config = changed(encoder=TRANSFORMER, initial_model=encoder_folder)
    config[section][key] = value
    with pytest.raises(ModelError, match=rf"{section} is .*{key}.*was trained with"):
        initial_state(config)


@pytest.mark.parametrize(
    ("n_pairs", "grad_cache_pairs", "sentence"),
    [
        (12, 0, "n_pairs is 12, which 8 devices cannot share equally: choose a multiple of 8"),
        (4, 0, "n_pairs is 4, which 8 devices cannot share equally"),
        (32, 3, "grad_cache_pairs is 3, which does not divide the 4 pairs"),
    ],
)
def test_batches_that_the_devices_cannot_share_are_refused(n_pairs, grad_cache_pairs, sentence):
    config = tiny_config(n_pairs=n_pairs)
    config.training.grad_cache_pairs = grad_cache_pairs
    with pytest.raises(ConfigError, match=sentence):
        build_step(config)


def test_a_queue_that_the_devices_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="queue_rows is 30, which 8 devices cannot share"):
        build_step(changed(encoder=TRANSFORMER, hash=HASH | {"queue_rows": 30}))


def test_batch_norm_in_parts_is_refused():
    config = changed(encoder=TRANSFORMER)
    config.training.grad_cache_pairs = 1
    with pytest.raises(ConfigError, match=r"grad_cache_pairs is 1, but .*'transformer' has batch"):
        build_step(config)
    config.training.grad_cache_pairs = 2  # all pairs of a device
    build_step(config)


def test_l2_without_a_layer_is_refused():
    with pytest.raises(ConfigError, match=r"l2\.dense is 0\.1, but no layer .*block1_frames"):
        build_step(changed(l2={"dense": 0.1}))


def test_codes_of_several_replicas_are_refused():
    config = changed(hash=HASH, loss={"name": "triplet_np", "margin": 0.4})
    config.pairs.n_positives = 2
    with pytest.raises(ConfigError, match="n_positives is 2, but the losses of binary codes"):
        build_step(config)
