import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from fingerprint_configs import nafp

from fingerprint import model
from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape, log_mel
from fingerprint.model import Fingerprinter, ModelError, identity_of, save_model

CALIBRATION = {
    "n_segments": [1, 3],
    "score_mean": [0.4, 0.3],
    "score_std": [0.1, 0.05],
    "score_growth": [0.02, 0.01],
    "n_reference_segments": 500,
}


def tiny_config():
    config = nafp.get_config()
    config.encoder.widths = (8, 8, 8, 8, 16, 16, 32, 32)
    config.encoder.embedding_dim = 16
    config.encoder.head_units = 4
    config.features.n_mels = 64
    return config


@pytest.fixture(scope="module")
def config():
    return tiny_config()


@pytest.fixture(scope="module")
def params(config):
    mels = np.zeros((1, *input_shape(config)), np.float32)
    return jax.jit(build_encoder(config.encoder).init)(jax.random.key(0), mels)["params"]


@pytest.fixture(scope="module")
def segments():
    generator = np.random.default_rng(7)
    return (0.1 * generator.standard_normal((1030, 8000))).astype(np.float32)


@pytest.fixture
def folder(tmp_path, config, params):
    save_model(tmp_path / "model", config, params, CALIBRATION)
    return tmp_path / "model"


def test_embeddings_are_those_of_front_end_and_encoder(config, params, segments):
    encoder = build_encoder(config.encoder)

    @jax.jit
    def embed(waveforms):
        mels = log_mel(waveforms, sample_rate_hz=8000, **config.features)
        return encoder.apply({"params": params}, mels)

    expected = embed(segments[:5])
    embeddings = Fingerprinter(config, params).embed_segments(segments[:5])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


def test_embedding_is_the_same_alone_in_a_batch_and_on_all_devices(config, params, segments):
    fingerprinter = Fingerprinter(config, params)
    together = fingerprinter.embed_segments(segments)
    assert together.shape == (1030, 16)
    for row in (0, 511, 512, 1023, 1024, 1029):
        alone = fingerprinter.embed_segments(segments[row : row + 1])
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-5)
    np.testing.assert_allclose(
        fingerprinter.embed_segments(segments[:70]), together[:70], atol=1e-5
    )


@pytest.mark.parametrize("n_devices", [1, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 9, 64, 65, 300, 1030])
def test_batches_cover_every_row_once_with_little_padding(n, n_devices):
    batches = list(model._batches(n, n_devices))
    covered = [row for start, size, _ in batches for row in range(start, min(n, start + size))]
    assert covered == list(range(n))
    assert sum(size for _, size, _ in batches) <= max(1, 2 * n)
    assert len({size for _, size, _ in batches}) <= 4


def test_embed_cuts_audio_by_the_grid(config, params, segments):
    fingerprinter = Fingerprinter(config, params)
    samples = segments[:3].reshape(-1)
    embeddings = fingerprinter.embed(samples)
    assert embeddings.shape == (5, 16)
    np.testing.assert_allclose(
        embeddings[1:2], fingerprinter.embed_segments(samples[None, 4000:12000]), atol=1e-5
    )


def test_no_segments_no_embeddings(config, params):
    fingerprinter = Fingerprinter(config, params)
    assert fingerprinter.embed(np.zeros(0, np.float32)).shape == (0, 16)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_input_that_is_not_finite_is_refused(config, params, segments, bad):
    damaged = segments[:3].copy()
    damaged[1, 17] = bad
    with pytest.raises(ModelError, match="NaN or Inf"):
        Fingerprinter(config, params).embed_segments(damaged)


@pytest.mark.parametrize("shape", [(8000,), (2, 7999), (1, 2, 8000)])
def test_segments_of_another_shape_are_refused(config, params, shape):
    with pytest.raises(ModelError, match="8000"):
        Fingerprinter(config, params).embed_segments(np.zeros(shape, np.float32))


def test_a_saved_model_comes_back(folder, config, params, segments):
    loaded = Fingerprinter.load(folder)
    made = Fingerprinter(config, params)
    np.testing.assert_array_equal(
        loaded.embed_segments(segments[:3]), made.embed_segments(segments[:3])
    )
    assert loaded.identity == made.identity == identity_of(config, params)
    assert len(loaded.identity) == 16
    assert loaded.calibration == CALIBRATION
    assert (loaded.sample_rate_hz, loaded.embedding_dim) == (8000, 16)
    assert loaded.grid == made.grid
    assert loaded.config.to_dict() == config.to_dict()


def test_identity_changes_with_what_defines_a_fingerprint_alone(config, params):
    identity = identity_of(config, params)
    other = tiny_config()
    other.name = "renamed"
    other.training.n_steps = 3
    assert identity_of(other, params) == identity
    other.segment.hop_s = 0.25
    assert identity_of(other, params) != identity
    changed = jax.tree.map(np.array, params)
    changed["head"]["hidden_bias"][0, 0] += 1e-6
    assert identity_of(config, changed) != identity


def test_saving_again_replaces_the_model_and_leaves_nothing_else(folder, config, params):
    changed = jax.tree.map(lambda x: x + np.float32(1), params)
    identity = save_model(folder, config, changed)
    assert Fingerprinter.load(folder).identity == identity
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "parameters.npz"]


def test_saving_never_replaces_a_folder_of_something_else(tmp_path, config, params):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.wav").write_bytes(b"RIFF")
    with pytest.raises(ModelError, match="music exists and is not a model folder"):
        save_model(tmp_path / "music", config, params)
    assert (tmp_path / "music" / "song.wav").exists()


def test_a_save_that_fails_leaves_the_old_model(folder, config, params, monkeypatch):
    before = Fingerprinter.load(folder).identity

    def full_disk(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, config, params)
    assert Fingerprinter.load(folder).identity == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def edit_description(folder, **changes):
    description = json.loads((folder / "model.json").read_text())
    description.update(changes)
    (folder / "model.json").write_text(json.dumps(description))


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (shutil.rmtree, "holds no model.json"),
        (lambda f: (f / "model.json").unlink(), "holds no model.json"),
        (lambda f: (f / "model.json").write_text('{"half": '), "cannot be read"),
        (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda f: (f / "model.json").write_text("[]"), "another format"),
        (lambda f: edit_description(f, format="tensorflow"), "another format"),
        (lambda f: edit_description(f, format_version=2), "version 2.*update the program"),
        (lambda f: (f / "model.json").write_text(json.dumps(
            {"format": model.FORMAT, "format_version": 1})), "calibration is missing"),
        (lambda f: edit_description(f, identity="0" * 16), "is damaged"),
        (lambda f: edit_description(f, config={"name": "x"}), "config is incomplete"),
        (lambda f: edit_description(f, config=None), "config is incomplete"),
        (lambda f: (f / "parameters.npz").unlink(), "missing or damaged"),
        (lambda f: (f / "parameters.npz").write_bytes(b""), "missing or damaged"),
        (lambda f: truncate(f / "parameters.npz"), "missing or damaged"),
        (lambda f: flip_a_byte(f / "parameters.npz"), "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_folder_is_refused(folder, damage, sentence):
    damage(folder)
    with pytest.raises(ModelError, match=sentence):
        Fingerprinter.load(folder)


def test_pickled_parameters_are_refused(folder):
    np.savez(folder / "parameters.npz", evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match="missing or damaged"):
        Fingerprinter.load(folder)


def test_parameters_of_another_encoder_are_refused(tmp_path, config, params):
    without_head = {name: value for name, value in params.items() if name != "head"}
    save_model(tmp_path / "model", config, without_head)
    with pytest.raises(ModelError, match="parameter head/hidden_bias is None"):
        Fingerprinter.load(tmp_path / "model")


def test_identification_loads_no_training_library():
    script = (
        "import sys, fingerprint.model;"
        "print([m for m in ('optax', 'orbax', 'tensorflow', 'librosa') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
