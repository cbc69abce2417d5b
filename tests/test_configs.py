"""Every file of configs/ can be used as it stands and as its header says; its figures are right."""

import ast
import re

import jax
import jax.numpy as jnp
import pytest
from conftest import REPOSITORY
from fingerprint_configs import attention, nafp

from fingerprint.balanced_hash import build_hash
from fingerprint.config import check_config, config_from_json, config_to_json, load_config
from fingerprint.describe import describe
from fingerprint.encoders import build_encoder
from fingerprint.errors import ConfigError
from fingerprint.features import input_shape, spectrograms
from fingerprint.losses import build_loss
from fingerprint.segments import SegmentGrid

PATHS = sorted(path for path in (REPOSITORY / "configs").glob("*.py") if path.stem != "__init__")
every_config = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)

OVERRIDE = r"--config\.([\w.]+)=(\([^)]*\)|[^\s`),;]+)"
# (n_mels, n_frames), parameters of the encoder, million multiply-adds per segment.
FIGURES = {
    "nafp": ((256, 32), 16_939_008, 303.6),
    "nafp_small": ((128, 32), 444_912, 2.7),
    "now_playing": ((256, 32), 16_939_008, 303.6),
    "now_playing_small": ((128, 32), 444_912, 2.7),
    "nmfp_triplet": ((256, 32), 16_939_008, 303.6),
    "nmfp_triplet_small": ((128, 32), 444_912, 2.7),
    "attention": ((64, 96), 19_853_568, 555.6),
    "attention_small": ((64, 96), 539_968, 29.2),
    "balanced_hash": ((64, 100), 7_716_352, 51.1),
    "balanced_hash_small": ((64, 100), 438_720, 2.6),
    "woo": ((50, 50), 85_423_754, 182.9),
    "woo_small": ((50, 50), 257_018, 2.1),
    "woo_published": ((50, 50), 85_423_754, 182.9),
}


def read(name, **overrides):
    """A locked configuration with SECTION__KEY=TEXT set, as the command line would."""
    config = load_config(REPOSITORY / "configs" / f"{name}.py").lock()
    for key, text in overrides.items():
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        config.update_from_flattened_dict({key.replace("__", "."): value})
    return config


@every_config
def test_can_be_used_as_it_stands(path):
    config = load_config(path)
    assert config.name == path.stem
    config.lock()
    check_config(config)
    build_encoder(config.encoder, dtype=config.training.dtype)
    build_loss(config.loss, config.pairs.n_positives)
    if config.hash is not None:
        build_hash(config.hash)
    assert config_from_json(config_to_json(config)).to_dict() == config.to_dict()


@every_config
def test_is_a_document(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    header = ast.get_docstring(tree)
    assert header.splitlines()[0].endswith(".")
    assert f"python train.py --config=configs/{path.name} --workdir=DIR" in header
    (get_config,) = (node for node in tree.body if getattr(node, "name", "") == "get_config")
    assert ast.get_docstring(get_config)


@every_config
def test_the_overrides_of_its_header_exist(path):
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    for key, text in re.findall(OVERRIDE, header):
        config = read(path.stem, **{key.replace(".", "__"): text.rstrip(".")})
        check_config(config)


@pytest.mark.parametrize("name", FIGURES)
def test_shape_parameters_and_multiply_adds(name):
    shape, parameters, million = FIGURES[name]
    facts = describe(read(name))
    assert tuple(facts["input_shape"]) == shape
    assert facts["encoder_parameters"] == parameters
    assert round(facts["macs_per_segment"] / 1e6, 1) == million


@pytest.mark.parametrize("name", set(FIGURES) - {"nafp", "nafp_small"})
def test_the_header_has_the_figures_that_are_counted(name):
    _, parameters, million = FIGURES[name]
    source = (REPOSITORY / "configs" / f"{name}.py").read_text(encoding="utf-8")
    header = " ".join(ast.get_docstring(ast.parse(source)).split())
    assert f"fingerprint describe configs/{name}.py" in header
    assert f"{parameters:,} parameters" in header
    assert f"{million} million multiply-adds" in header


@pytest.mark.parametrize(
    ("name", "overrides", "shape", "parameters"),
    [
        ("now_playing", {"segment__duration_s": "2.0"}, (256, 63), 19_224_576),
        ("now_playing", {"encoder__embedding_dim": "64"}, (256, 32), 16_934_848),
        ("attention", {"encoder__attention": "False"}, (64, 96), 19_792_128),
        ("balanced_hash", {"encoder__tokens": "scrambled"}, (64, 100), 7_716_352),
        (
            "woo",
            {
                "features__n_mels": "128",
                "features__hop_length": "62",
                "crop__n_mels": "128",
                "crop__n_frames": "128",
            },
            (128, 128),
            822_572_682,
        ),
        (
            "woo_published",
            {"crop__n_mels": "128", "crop__n_frames": "128"},
            (128, 128),
            822_572_682,
        ),
    ],
)
def test_published_variants(name, overrides, shape, parameters):
    facts = describe(read(name, **overrides))
    assert tuple(facts["input_shape"]) == shape
    assert facts["encoder_parameters"] == parameters
    assert facts["embedding_dim"] == int(
        overrides.get("encoder__embedding_dim", read(name).encoder.embedding_dim)
    )


def test_the_published_mean_of_the_triplet_and_that_of_nmfp():
    published = read("now_playing", loss__mean_over="all")
    build_loss(published.loss, published.pairs.n_positives)
    nmfp = read("nmfp_triplet")
    assert nmfp.loss.to_dict() == {"name": "triplet_nmfp", "margin": 0.5}
    assert (nmfp.pairs.n_pairs, nmfp.pairs.n_positives) == (768, 1)


def test_the_hash_head_of_the_paper_and_on_a_frozen_encoder():
    config = read("balanced_hash")
    facts = describe(config)
    assert facts["parameters"] - facts["encoder_parameters"] == 75_280
    assert not build_hash(read("balanced_hash", hash__train_encoder="False").hash).train_encoder
    small = read("balanced_hash_small").hash
    assert small.queue_rows >= 4 * 2**small.n_bits


@pytest.mark.parametrize("key", ["crop__mels", "hash__bits", "encoder__width"])
def test_an_override_that_does_not_exist_is_refused(key):
    with pytest.raises(KeyError, match=key.rsplit("_", 1)[1]):
        read("woo", **{key: "1"})


def differences(first, second, prefix=""):
    """Dotted names of the values in which two configurations differ."""
    found = set()
    for key in {*first, *second}:
        a, b = first.get(key), second.get(key)
        if a == b:
            continue
        both = isinstance(a, dict) and isinstance(b, dict)
        found |= differences(a, b, f"{prefix}{key}.") if both else {prefix + key}
    return found


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        (
            "now_playing_small",
            "nafp_small",
            {"loss.name", "loss.temperature", "loss.margin", "loss.squared", "loss.mean_over"}
            | {"pairs.n_pairs", "pairs.n_positives"},
        ),
        ("nmfp_triplet_small", "nafp_small", {"loss.name", "loss.temperature", "loss.margin"}),
        (
            "woo_small",
            "woo",
            {"encoder.widths", "encoder.dense_units", "pairs.n_pairs"},
        ),
        (
            "attention_small",
            "attention",
            {"encoder.widths", "encoder.mask_init_std", "pairs.n_pairs", "augmentation.ramp"},
        ),
        (
            "balanced_hash_small",
            "balanced_hash",
            {f"encoder.{key}" for key in ("d_model", "n_layers", "n_heads")}
            | {"encoder.feed_forward_units", "encoder.hidden_units"}
            | {f"hash.{key}" for key in ("n_bits", "hidden_units", "queue_rows")}
            | {"pairs.n_pairs", "augmentation.ramp"},
        ),
    ],
)
def test_small_configurations_differ_from_what_they_are_compared_with_as_said(
    name, other, expected
):
    found = differences(read(name).to_dict(), read(other).to_dict())
    recipe = {key for key in found if key.startswith(("optimizer.", "training."))}
    assert found - recipe - {"name"} == expected
    if other == "nafp_small":
        assert not recipe
    assert 1e5 < describe(read(name))["encoder_parameters"] < 6e5


@pytest.mark.parametrize("name", ["attention", "woo", "now_playing"])
def test_the_front_end_gives_what_the_encoder_takes(name):
    config = read(name)
    n_samples = SegmentGrid(config.sample_rate_hz, **config.segment).n_samples
    waveforms = jax.ShapeDtypeStruct((2, n_samples), jnp.float32)
    mels = jax.eval_shape(lambda x: spectrograms(x, config), waveforms)
    assert mels.shape == (2, *input_shape(config))


def test_configurations_do_not_share_sections():
    attention.get_config().features.n_mels = 3
    assert attention.get_config().features.n_mels == 64
    assert nafp.get_config().features.n_mels == 256


def test_a_positive_too_many_is_refused():
    config = read("attention", pairs__n_positives="2")
    with pytest.raises(ConfigError, match="n_positives is 2"):
        build_loss(config.loss, config.pairs.n_positives)
