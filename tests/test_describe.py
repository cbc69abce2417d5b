import jax
import jax.numpy as jnp
import pytest
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint.describe import describe, multiply_adds
from fingerprint.errors import ConfigError

FRAME_STRIDES = (2, 2, 2, 2, 1, 2, 1, 2)


def published_multiply_adds(n_mels, n_frames, widths, d, units=32):
    """Three taps per output and pair of channels in every convolution, then the head."""
    total, c_in = 0, 1
    for width, stride in zip(widths, FRAME_STRIDES, strict=True):
        n_frames = -(-n_frames // stride)
        total += 3 * c_in * width * n_mels * n_frames
        n_mels = -(-n_mels // 2)
        total += 3 * width * width * n_mels * n_frames
        c_in = width
    h = n_mels * n_frames * c_in
    return total + h * units + d * units


def test_nafp_is_as_published():
    facts = describe(nafp.get_config())
    assert list(facts) == [
        "name",
        "input_shape",
        "embedding_dim",
        "parameters",
        "encoder_parameters",
        "macs_per_segment",
        "macs_per_second_of_audio",
        "bytes_per_hour_of_audio",
    ]
    assert facts["name"] == "nafp"
    assert facts["input_shape"] == [256, 32]
    assert facts["embedding_dim"] == 128
    assert facts["parameters"] == facts["encoder_parameters"] == 16_939_008
    assert round(facts["macs_per_segment"] / 1e6, 1) == 303.6
    assert facts["macs_per_second_of_audio"] == 2 * facts["macs_per_segment"]
    assert facts["bytes_per_hour_of_audio"] == 7200 * 128 * 4


@pytest.mark.parametrize(
    ("duration_s", "widths", "million"),
    [
        (1.0, (128, 128, 256, 256, 512, 512, 1024, 1024), 303.6),
        (2.0, (128, 128, 256, 256, 512, 512, 1024, 1024), 597.7),
        (1.0, (64, 64, 128, 128, 256, 256, 1024, 1024), 89.7),
        (1.0, (16, 16, 32, 32, 64, 64, 1024, 1024), 21.1),
    ],
)
def test_multiply_adds_of_every_layer(duration_s, widths, million):
    config = nafp.get_config()
    config.segment.duration_s = duration_s
    config.encoder.widths = widths
    facts = describe(config)
    n_mels, n_frames = facts["input_shape"]
    assert facts["macs_per_segment"] == published_multiply_adds(n_mels, n_frames, widths, 128)
    assert round(facts["macs_per_segment"] / 1e6, 1) == million


def test_the_hop_decides_what_a_second_costs():
    config = nafp.get_config()
    config.segment.hop_s = 0.1
    facts = describe(config)
    assert facts["macs_per_second_of_audio"] == 10 * facts["macs_per_segment"]


def test_products_inside_nested_functions_are_counted():
    @jax.jit
    def inner(x):
        return jax.nn.relu(x @ jnp.ones((5, 7)))  # relu is a custom_jvp

    def outer(x):
        return jnp.einsum("bij,bjk->bik", inner(x), jnp.ones((2, 7, 3)))

    jaxpr = jax.make_jaxpr(outer)(jnp.ones((2, 4, 5))).jaxpr
    assert multiply_adds(jaxpr) == 2 * 4 * 5 * 7 + 2 * 4 * 7 * 3


@pytest.mark.parametrize(
    ("encoder", "n_frames", "parameters", "million_macs"),
    [("attention", 96, 19_853_568, 555), ("transformer", 100, 7_716_352, 51)],
)
def test_networks_at_16_khz_are_as_published(encoder, n_frames, parameters, million_macs):
    config = nafp.get_config()
    config.sample_rate_hz = 16_000
    config.segment.update(duration_s=(n_frames - 1) / 100, hop_s=0.1)
    config.features.update(n_fft=512, hop_length=160, n_mels=64, f_min_hz=0.0, f_max_hz=8000.0)
    config.encoder = ConfigDict({"name": encoder})
    config.hash = ConfigDict({"n_bits": 16})
    facts = describe(config)
    assert facts["input_shape"] == [64, n_frames]
    assert facts["encoder_parameters"] == parameters
    assert facts["parameters"] == parameters + 75_280
    assert facts["macs_per_segment"] / 1e6 == pytest.approx(million_macs, rel=0.02)
    assert facts["bytes_per_hour_of_audio"] == 36_000 * 128 * 4


def test_products_in_a_loop_are_counted_each_time():
    def looped(x):
        return jax.lax.scan(lambda y, _: (y @ jnp.ones((5, 5)), None), x, length=7)[0]

    assert multiply_adds(jax.make_jaxpr(looped)(jnp.ones((2, 5))).jaxpr) == 7 * 2 * 5 * 5


def test_an_unknown_encoder_is_refused():
    config = nafp.get_config()
    config.encoder.name = "resnet"
    with pytest.raises(ConfigError, match="resnet"):
        describe(config)


def test_a_misspelt_key_is_a_sentence():
    config = nafp.get_config()
    config.segment.hop = 0.1
    with pytest.raises(ConfigError, match=r"'segment\.hop'; did you mean 'segment\.hop_s'"):
        describe(config)


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("features", "f_max_hz", 5000.0, "f_max_hz 5000.0: choose .* 4000, half the sample rate"),
        ("features", "mel_scale", "bark", "features.mel_scale is 'bark'"),
        ("features", "power", 3.0, "features.power is 3.0"),
        ("crop", "n_frames", 33, "33 frames, but a segment has 256 and 32"),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(section, key, value, sentence):
    config = nafp.get_config()
    config.crop = ConfigDict({"n_mels": 50, "n_frames": 20, "mode": "contiguous", "shared": True})
    describe(config)
    config[section][key] = value
    with pytest.raises(ConfigError, match=sentence):
        describe(config)
