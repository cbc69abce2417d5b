"""The configurations of Rice's contrastive system hold what their headers say."""

import inspect

import jax
import numpy as np
import tensorflow as tf
from absl import flags
from fingerprint_configs import rice, rice_published, rice_small
from ml_collections import config_flags

from fingerprint.augmentation import degrade
from fingerprint.config import config_from_json, config_to_json
from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape, spectrograms

RATE_HZ = 8000


def header_arguments(module, first, last):
    """The ``--config.KEY=VALUE`` arguments of a header between two words of it."""
    header = inspect.getdoc(module)
    part = header[header.index(first) : header.index(last)]
    return [word for word in part.split() if word.startswith("--config.")]


def overridden(config, arguments):
    """The configuration that train.py makes of a file and arguments."""
    values = flags.FlagValues()
    argv = ["train.py", *arguments]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    values(argv)
    return values.config


def differences(one, other, prefix=""):
    """Keys of leaves at which two nested dicts differ."""
    for key in one:
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            yield from differences(one[key], other[key], f"{prefix}{key}.")
        elif one[key] != other[key]:
            yield prefix + key


def test_each_argument_repairs_one_defect_and_all_together_repair_the_system():
    repairs = header_arguments(rice_published, "These are its", "What it costs")
    published = rice_published.get_config()
    repaired_keys = []
    for argument in repairs:
        (key,) = differences(
            published.to_dict(), overridden(rice_published.get_config(), [argument]).to_dict()
        )
        repaired_keys.append(key)
    assert len(set(repaired_keys)) == len(repairs) == 11
    repaired = overridden(published, [*repairs, "--config.name=rice"])
    assert config_to_json(repaired) == config_to_json(rice.get_config())


def test_the_published_system_can_be_made_as_small_as_the_small_one():
    arguments = header_arguments(rice_published, "What it costs", "What is not")
    small, narrow = rice_small.get_config(), overridden(rice_published.get_config(), arguments)
    assert narrow.encoder.to_dict() == small.encoder.to_dict()
    assert (narrow.features.n_mels, narrow.training.n_steps) == (128, 6000)


def test_noise_at_no_snr_outlives_json():
    restored = config_from_json(config_to_json(rice_published.get_config()))
    assert restored.augmentation.background.snr_db is None


def test_parameters_are_those_of_the_published_network_and_one_block_that_sees_two_frames():
    config = rice_published.get_config()
    shapes = jax.eval_shape(
        build_encoder(config.encoder).init, jax.random.key(0), np.zeros((1, *input_shape(config)))
    )
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    published, n_mels, n_frames, n_in = 0, 256, 32, 1
    for width in (64, 64, 128, 128, 256, 256, 1024, 1024):
        n_frames = (n_frames + 1) // 2
        published += 3 * n_in * width + width + 2 * width * n_mels * n_frames
        n_mels //= 2
        published += 3 * width * width + width + 2 * width * n_mels * n_frames
        n_in = width
    published += 64 * (16 * 32 + 32 + 32 + 1)
    assert n_parameters == published + 12_288 == 12_318_720


def test_published_replicas_are_a_sum_and_a_product_of_spectra(rng):
    """Direct paths at time zero, as measured responses come; the code leaves others delayed."""
    windows, noise = rng.normal(size=(2, 6, 16_000)).astype(np.float32)
    rooms = rng.normal(size=(6, 6000)) * np.exp(-np.arange(6000) / 800) * 0.2
    rooms[:, 0] = 2.0
    degraded = degrade(
        windows,
        noise,
        rooms.astype(np.float32),
        None,
        seed=tf.constant((3, 1), tf.int64),
        severity=1.0,
        sample_rate_hz=RATE_HZ,
        config=rice_published.get_config().augmentation,
    )
    mixed = (windows + noise)[:, 8000:].astype(float)
    expected = np.fft.ifft(np.fft.fft(mixed) * np.fft.fft(rooms, 8000)).real
    np.testing.assert_allclose(degraded, expected, atol=1e-4)


def test_published_spectrograms_keep_the_level_and_repaired_ones_do_not(rng):
    waveforms = rng.normal(size=(1, RATE_HZ)).astype(np.float32)
    louder = {}
    for name, config in (("as is", rice_published), ("repaired", rice)):
        quiet, loud = (
            np.asarray(spectrograms(gain * waveforms, config.get_config())) for gain in (1.0, 2.0)
        )
        assert quiet.shape == (1, 256, 32)
        louder[name] = loud.sum() / quiet.sum()
    assert abs(louder["as is"] - 4) < 1e-3
    assert abs(louder["repaired"] - 1) < 1e-3
