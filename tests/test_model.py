import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint import model, model_folder
from fingerprint.balanced_hash import build_hash
from fingerprint.config import check_config
from fingerprint.describe import network_shapes
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


def initial_variables(config):
    mels = np.zeros((1, *input_shape(config)), np.float32)
    return jax.jit(build_encoder(config.encoder).init)(jax.random.key(0), mels)


@pytest.fixture(scope="module")
def variables(config):
    return initial_variables(config)


@pytest.fixture(scope="module")
def transformer():
    """A model whose network has batch norm, with a hash head, and its parts."""
    config = nafp.get_config()
    config.features.n_mels = 16
    config.encoder = ConfigDict(
        {
            **{"name": "transformer", "patch_frames": 8, "d_model": 8, "n_layers": 1},
            **{"n_heads": 2, "feed_forward_units": 16, "hidden_units": 16, "embedding_dim": 12},
        }
    )
    config.hash = ConfigDict({"n_bits": 5, "hidden_units": 8})
    generator = np.random.default_rng(3)

    def drawn(shape):
        return (1 + 0.1 * generator.standard_normal(shape.shape)).astype(np.float32)

    embedding, shapes = network_shapes(config)
    head = build_hash(config.hash).head()
    head_shapes = jax.eval_shape(head.init, jax.random.key(0), embedding)
    return config, jax.tree.map(drawn, shapes), jax.tree.map(drawn, head_shapes)


@pytest.fixture(scope="module")
def segments():
    generator = np.random.default_rng(7)
    return (0.1 * generator.standard_normal((1030, 8000))).astype(np.float32)


@pytest.fixture
def folder(tmp_path, config, variables):
    save_model(tmp_path / "model", config, variables, CALIBRATION)
    return tmp_path / "model"


def test_embeddings_are_those_of_front_end_and_encoder(config, variables, segments):
    encoder = build_encoder(config.encoder)

    @jax.jit
    def embed(waveforms):
        mels = log_mel(waveforms, sample_rate_hz=8000, **config.features)
        return encoder.apply(variables, mels)

    expected = embed(segments[:5])
    embeddings = Fingerprinter(config, variables).embed_segments(segments[:5])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


def test_embedding_is_the_same_alone_in_a_batch_and_on_all_devices(config, variables, segments):
    fingerprinter = Fingerprinter(config, variables)
    together = fingerprinter.embed_segments(segments)
    assert together.shape == (1030, 16)
    for row in (0, 511, 512, 1023, 1024, 1029):
        alone = fingerprinter.embed_segments(segments[row : row + 1])
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-5)
    np.testing.assert_allclose(
        fingerprinter.embed_segments(segments[:70]), together[:70], atol=1e-5
    )


@pytest.mark.parametrize("sizes", [(1, 8, 64), (8, 64)])
@pytest.mark.parametrize("n_devices", [1, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 9, 64, 65, 300, 1030])
def test_batches_cover_every_row_once_with_little_padding(n, n_devices, sizes):
    batches = list(model._batches(n, n_devices, sizes))
    covered = [row for start, size, _ in batches for row in range(start, min(n, start + size))]
    assert covered == list(range(n))
    assert sum(size for _, size, _ in batches) <= max(sizes[0], 2 * n)
    assert len({size for _, size, _ in batches}) <= 4


def test_embed_cuts_audio_by_the_grid(config, variables, segments):
    fingerprinter = Fingerprinter(config, variables)
    samples = segments[:3].reshape(-1)
    embeddings = fingerprinter.embed(samples)
    assert embeddings.shape == (5, 16)
    np.testing.assert_allclose(
        embeddings[1:2], fingerprinter.embed_segments(samples[None, 4000:12000]), atol=1e-5
    )


def test_no_segments_no_embeddings(config, variables):
    fingerprinter = Fingerprinter(config, variables)
    assert fingerprinter.embed(np.zeros(0, np.float32)).shape == (0, 16)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_input_that_is_not_finite_is_refused(config, variables, segments, bad):
    damaged = segments[:3].copy()
    damaged[1, 17] = bad
    with pytest.raises(ModelError, match="NaN or Inf"):
        Fingerprinter(config, variables).embed_segments(damaged)


@pytest.mark.parametrize("shape", [(8000,), (2, 7999), (1, 2, 8000)])
def test_segments_of_another_shape_are_refused(config, variables, shape):
    with pytest.raises(ModelError, match="8000"):
        Fingerprinter(config, variables).embed_segments(np.zeros(shape, np.float32))


def test_a_saved_model_comes_back(folder, config, variables, segments):
    loaded = Fingerprinter.load(folder)
    made = Fingerprinter(config, variables)
    np.testing.assert_array_equal(
        loaded.embed_segments(segments[:3]), made.embed_segments(segments[:3])
    )
    assert loaded.identity == made.identity == identity_of(config, variables)
    assert len(loaded.identity) == 16
    assert loaded.calibration == CALIBRATION
    assert (loaded.sample_rate_hz, loaded.embedding_dim) == (8000, 16)
    assert loaded.grid == made.grid
    assert loaded.config.to_dict() == config.to_dict()


def test_identity_changes_with_what_defines_a_fingerprint_alone(config, variables):
    identity = identity_of(config, variables)
    other = tiny_config()
    other.name = "renamed"
    other.training.n_steps = 3
    assert identity_of(other, variables) == identity
    other.segment.hop_s = 0.25
    assert identity_of(other, variables) != identity
    changed = jax.tree.map(np.array, variables)
    changed["params"]["head"]["hidden_bias"][0, 0] += 1e-6
    assert identity_of(config, changed) != identity


def test_models_from_before_keep_their_identity(repository):
    fingerprinter = Fingerprinter.load(repository / "results" / "nafp_small" / "model")
    assert fingerprinter.identity == "a41f6910f49b722d"
    config, variables = fingerprinter.config, fingerprinter._variables
    assert identity_of(config, variables) == fingerprinter.identity
    # What it does not state are the values that it was trained with.
    check_config(config)
    assert config.spec_augment.hole_mel_fraction == (0.1, 0.5)
    assert config.search.neighbours == nafp.get_config().search.neighbours
    assert config.augmentation.get("white_noise") is None


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("features", "mel_scale", "htk"),
        ("features", "power", 2.0),
        ("features", "scaling", "linear"),
    ],
)
def test_later_settings_change_the_identity(config, variables, section, key, value):
    other = tiny_config()
    other[section][key] = value
    assert identity_of(other, variables) != identity_of(config, variables)


def test_a_crop_and_batch_statistics_change_the_identity(transformer):
    config, variables, _ = transformer
    identity = identity_of(config, variables)
    other = config.copy_and_resolve_references()
    other.crop = ConfigDict({"n_mels": 8, "n_frames": 8, "mode": "contiguous", "shared": True})
    assert identity_of(other, variables) != identity
    changed = jax.tree.map(np.array, variables)
    changed["batch_stats"]["out_norm"]["mean"][0] += 1e-6
    assert identity_of(config, changed) != identity


def test_batch_statistics_and_hash_head_come_back(tmp_path, transformer, segments):
    config, variables, head = transformer
    made = Fingerprinter(config, variables, hash_head=head)
    assert save_model(tmp_path / "model", config, variables, hash_head=head) == made.identity
    loaded = Fingerprinter.load(tmp_path / "model")
    assert loaded.has_codes and loaded.embedding_dim == 12
    embeddings = made.embed_segments(segments[:3])
    np.testing.assert_array_equal(loaded.embed_segments(segments[:3]), embeddings)
    np.testing.assert_array_equal(loaded.codes(embeddings), made.codes(embeddings))
    without_head = save_model(tmp_path / "without", config, variables)
    assert without_head == made.identity
    assert not (tmp_path / "without" / "hash_head.npz").exists()


def test_codes_are_those_of_the_head_in_use(transformer, rng):
    config, variables, head = transformer
    embeddings = rng.standard_normal((75, 12)).astype(np.float32)
    codes = Fingerprinter(config, variables, hash_head=head).codes(embeddings)
    assert codes.dtype == np.float32 and codes.shape == (75, 5)
    np.testing.assert_allclose(
        codes, build_hash(config.hash).head().apply(head, embeddings), atol=1e-6
    )
    none = Fingerprinter(config, variables, hash_head=head).codes(embeddings[:0])
    assert none.shape == (0, 5)


def test_codes_that_cannot_be_are_refused(config, variables, transformer):
    with pytest.raises(ModelError, match="'nafp' has no hash head"):
        Fingerprinter(config, variables).codes(np.zeros((1, 16), np.float32))
    config, variables, head = transformer
    with pytest.raises(ModelError, match=r"shape \(1, 16\), but this model makes \(m, 12\)"):
        Fingerprinter(config, variables, hash_head=head).codes(np.zeros((1, 16), np.float32))


def test_saving_again_replaces_the_model_and_leaves_nothing_else(folder, config, variables):
    changed = jax.tree.map(lambda x: x + np.float32(1), variables)
    identity = save_model(folder, config, changed)
    assert Fingerprinter.load(folder).identity == identity
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "parameters.npz"]


def test_saving_never_replaces_a_folder_of_something_else(tmp_path, config, variables):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.wav").write_bytes(b"RIFF")
    with pytest.raises(ModelError, match="music exists and is not a model folder"):
        save_model(tmp_path / "music", config, variables)
    assert (tmp_path / "music" / "song.wav").exists()


def test_a_save_that_fails_leaves_the_old_model(folder, config, variables, monkeypatch):
    before = Fingerprinter.load(folder).identity

    def full_disk(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, config, variables)
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
            {"format": model_folder.FORMAT, "format_version": 1})), "calibration is missing"),
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


def test_a_file_is_no_model_folder(tmp_path):
    (tmp_path / "nafp.py").write_text("config")
    with pytest.raises(ModelError, match=r"nafp.py is not a model folder: .* give the folder"):
        Fingerprinter.load(tmp_path / "nafp.py")


def test_pickled_parameters_are_refused(folder):
    np.savez(folder / "parameters.npz", evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match="missing or damaged"):
        Fingerprinter.load(folder)


def test_parameters_of_another_encoder_are_refused(tmp_path, config, variables):
    params = {name: value for name, value in variables["params"].items() if name != "head"}
    save_model(tmp_path / "model", config, {"params": params})
    with pytest.raises(ModelError, match=r"encoder 'nafp' .* params/head/hidden_bias is None"):
        Fingerprinter.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "batch_stats.npz").unlink(), "is damaged: its parameters are not"),
        (lambda f: truncate(f / "batch_stats.npz"), "missing or damaged"),
        (lambda f: (f / "hash_head.npz").unlink(), "hash_head.npz is missing or damaged"),
        (lambda f: edit_description(f, hash_head_sha256="0" * 64), "hash_head.npz is damaged"),
        (lambda f: np.savez(f / "hash_head.npz", a=np.zeros(3)), "hash_head.npz is damaged"),
    ],
)
def test_damage_beside_the_parameters_is_refused(tmp_path, transformer, damage, sentence):
    config, variables, head = transformer
    save_model(tmp_path / "model", config, variables, hash_head=head)
    damage(tmp_path / "model")
    with pytest.raises(ModelError, match=sentence):
        Fingerprinter.load(tmp_path / "model")


def test_a_hash_head_of_another_program_is_refused(tmp_path, transformer):
    config, variables, head = transformer
    head = {**head, "params": {**head["params"], "more": np.zeros(2, np.float32)}}
    save_model(tmp_path / "model", config, variables, hash_head=head)
    with pytest.raises(ModelError, match=r"not fit the hash head .*params/more is"):
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


@pytest.fixture(scope="module")
def large_numbers(config, variables):
    """Parameters as training leaves them: of many sizes, and none a float16."""
    generator = np.random.default_rng(11)
    return jax.tree.map(
        lambda x: (x + 0.01 * generator.standard_normal(x.shape)).astype(np.float32), variables
    )


def rounded_by_hand(tree):
    return jax.tree.map(lambda x: np.asarray(x).astype(np.float16).astype(np.float32), tree)


def test_float16_is_the_rounded_model_in_half_the_space(tmp_path, config, large_numbers, segments):
    identity = save_model(tmp_path / "half", config, large_numbers, CALIBRATION, dtype="float16")
    rounded = rounded_by_hand(large_numbers)
    assert identity == identity_of(config, rounded) != identity_of(config, large_numbers)
    assert save_model(tmp_path / "whole", config, large_numbers, dtype="float32") != identity
    half, whole = (
        sum(values.nbytes for values in np.load(tmp_path / name / "parameters.npz").values())
        for name in ("half", "whole")
    )
    assert 2 * half == whole == 4 * sum(x.size for x in jax.tree.leaves(large_numbers))
    loaded = Fingerprinter.load(tmp_path / "half")
    assert loaded.identity == identity and loaded.calibration == CALIBRATION
    assert {x.dtype for x in jax.tree.leaves(loaded._variables)} == {np.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, dict(loaded._variables), dict(rounded))
    exact = Fingerprinter.load(tmp_path / "whole").embed_segments(segments[:8])
    cosines = np.sum(exact * loaded.embed_segments(segments[:8]), axis=1)
    assert cosines.min() > 0.9999 and not (cosines == 1).all()


def test_rounding_twice_changes_nothing(tmp_path, config, large_numbers):
    identity = save_model(tmp_path / "half", config, large_numbers, dtype="float16")
    read = model_folder.read_model(tmp_path / "half")
    assert read.dtype == "float16"
    assert save_model(tmp_path / "again", config, read.variables, dtype="float16") == identity
    assert save_model(tmp_path / "wide", config, read.variables) == identity
    assert model_folder.read_model(tmp_path / "wide").dtype == "float32"


def test_statistics_stay_exact_and_the_hash_head_is_rounded(tmp_path, transformer, segments):
    config, variables, head = transformer
    tiny = jax.tree.map(np.array, variables)
    tiny["batch_stats"]["out_norm"]["var"][:] = 1e-9
    save_model(tmp_path / "half", config, tiny, hash_head=head, dtype="float16")
    read = model_folder.read_model(tmp_path / "half")
    variance = read.variables["batch_stats"]["out_norm"]["var"]
    np.testing.assert_array_equal(variance, np.float32(1e-9))
    jax.tree.map(
        np.testing.assert_array_equal, read.hash_head["params"], rounded_by_hand(head["params"])
    )
    loaded = Fingerprinter.load(tmp_path / "half")
    exact = Fingerprinter(config, tiny, hash_head=head).codes(loaded.embed_segments(segments[:4]))
    codes = loaded.codes(loaded.embed_segments(segments[:4]))
    np.testing.assert_allclose(codes, exact, atol=5e-3)


@pytest.mark.parametrize("bad", [7e4, -np.inf, np.nan])
def test_what_float16_cannot_hold_is_refused(tmp_path, config, variables, bad):
    changed = jax.tree.map(np.array, variables)
    changed["params"]["head"]["hidden_bias"][0, 0] = bad
    with pytest.raises(ModelError, match="head/hidden_bias holds what float16 cannot"):
        save_model(tmp_path / "half", config, changed, dtype="float16")
    assert not (tmp_path / "half").exists()


def test_an_unknown_dtype_is_refused(tmp_path, config, variables):
    with pytest.raises(ModelError, match="'int4'; choose one of float32, float16"):
        save_model(tmp_path / "model", config, variables, dtype="int4")


def test_a_damaged_float16_model_is_refused(tmp_path, config, variables):
    save_model(tmp_path / "half", config, variables, dtype="float16")
    arrays = dict(np.load(tmp_path / "half" / "parameters.npz"))
    name = max(arrays, key=lambda each: arrays[each].size)
    arrays[name].flat[0] = np.nextafter(arrays[name].flat[0], np.float16(1))
    np.savez(tmp_path / "half" / "parameters.npz", **arrays)
    with pytest.raises(ModelError, match="is damaged: its parameters are not those"):
        Fingerprinter.load(tmp_path / "half")
