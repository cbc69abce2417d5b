import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from fingerprint.errors import ConfigError
from fingerprint.features import input_shape, log_mel, mel_filterbank, spec_augment

RATE_HZ = 8000
SETTINGS = {
    "n_fft": 1024,
    "hop_length": 256,
    "n_mels": 256,
    "f_min_hz": 300.0,
    "f_max_hz": 4000.0,
    "dynamic_range_db": 80.0,
}
MASK = {
    "probability": 1.0,
    "hole_mel_fraction": (0.1, 0.5),
    "hole_frame_fraction": (0.1, 0.5),
    "stripe_bins": (5, 20),
}

compute = jax.jit(functools.partial(log_mel, sample_rate_hz=RATE_HZ, **SETTINGS))


def tone_in_noise(rng, n_samples=RATE_HZ):
    time_s = np.arange(n_samples) / RATE_HZ
    noise = 1e-3 * rng.standard_normal(n_samples)
    return (np.sin(2 * np.pi * 700 * time_s) + noise).astype(np.float32)


def librosa_log_mel(waveform, sample_rate_hz, settings):
    mels = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=sample_rate_hz,
        n_fft=settings["n_fft"],
        hop_length=settings["hop_length"],
        n_mels=settings["n_mels"],
        fmin=settings["f_min_hz"],
        fmax=settings["f_max_hz"],
        power=1,
        norm="slaney",
        htk=False,
        center=True,
        pad_mode="constant",
    )
    range_db = settings["dynamic_range_db"]
    level_db = 20 * np.log10(np.maximum(mels / mels.max(), 1e-30))
    return 1 + 2 * np.maximum(level_db, -range_db) / range_db


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "n_mels", "f_min_hz", "f_max_hz"),
    [
        (8000, 1024, 256, 300.0, 4000.0),
        (8000, 1024, 128, 160.0, 4000.0),
        (16000, 512, 64, 0.0, 8000.0),
        (44100, 4096, 40, 20.0, 900.0),
    ],
)
# At 256 mels some of the lowest filters lie between two bins and are empty, as published.
@pytest.mark.filterwarnings("ignore:Empty filters detected")
def test_filters_equal_librosa(rate_hz, n_fft, n_mels, f_min_hz, f_max_hz):
    expected = librosa.filters.mel(
        sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max_hz
    )
    filters = mel_filterbank(rate_hz, n_fft, n_mels, f_min_hz, f_max_hz)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, expected.T, atol=1e-6 * expected.max())


def test_log_mel_equals_librosa(rng):
    waveforms = np.stack([tone_in_noise(rng), rng.standard_normal(RATE_HZ).astype(np.float32)])
    for waveform, mels in zip(waveforms, compute(waveforms), strict=True):
        np.testing.assert_allclose(mels, librosa_log_mel(waveform, RATE_HZ, SETTINGS), atol=1e-4)


def test_a_hop_that_does_not_divide_the_window_equals_librosa(rng):
    settings = {**SETTINGS, "n_fft": 512, "hop_length": 160, "n_mels": 64, "dynamic_range_db": 60.0}
    waveform = tone_in_noise(rng)
    mels = log_mel(waveform[None], sample_rate_hz=RATE_HZ, **settings)[0]
    np.testing.assert_allclose(mels, librosa_log_mel(waveform, RATE_HZ, settings), atol=1e-4)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(8000, 32), (16000, 63)])
def test_published_shapes(n_samples, n_frames):
    shape = jax.eval_shape(compute, jnp.zeros((2, n_samples))).shape
    assert shape == (2, 256, n_frames)
    segment = {"duration_s": n_samples / RATE_HZ, "hop_s": 0.5}
    config = {"sample_rate_hz": RATE_HZ, "segment": segment, "features": SETTINGS}
    assert input_shape(config) == (256, n_frames)


def test_each_segment_has_its_own_level(rng):
    tone = tone_in_noise(rng)
    mels = np.asarray(compute(np.stack([tone, 1e-6 * tone, 30 * tone, np.zeros_like(tone)])))
    np.testing.assert_array_equal(mels[:3].max((1, 2)), 1.0)
    assert mels.min() >= -1.0
    np.testing.assert_allclose(mels[1], mels[0], atol=1e-4)
    np.testing.assert_allclose(mels[2], mels[0], atol=1e-4)
    np.testing.assert_array_equal(mels[3], -1.0)
    np.testing.assert_allclose(compute(tone[None])[0], mels[0], atol=1e-4)


def test_what_lies_below_the_range_is_silence():
    click = np.zeros((1, RATE_HZ), np.float32)
    click[0, :100] = np.hanning(100)
    mels = np.asarray(compute(click))[0]
    np.testing.assert_array_equal(mels[:, 8:], -1.0)
    assert mels[:, 0].max() == 1.0


@pytest.mark.parametrize("band_hz", [(300.0, 5000.0), (900.0, 300.0), (-1.0, 300.0)])
def test_an_impossible_band_is_refused(band_hz):
    with pytest.raises(ConfigError, match=str(int(band_hz[1]))):
        mel_filterbank(RATE_HZ, 1024, 64, *band_hz)


@functools.cache
def masks(n=400, **changes):
    """``n`` independent masks (n_mels, n_frames), True where a batch of two was silenced."""
    mels = jnp.full((2, 64, 32), 0.5)
    augment = functools.partial(spec_augment, mels=mels, **{**MASK, **changes})
    augmented = np.asarray(jax.jit(jax.vmap(augment))(jax.random.split(jax.random.key(3), n)))
    np.testing.assert_array_equal(augmented[:, 0], augmented[:, 1])
    assert set(np.unique(augmented)) <= {np.float32(-1.0), np.float32(0.5)}
    return augmented[:, 0] == -1.0


def test_spec_augment_cuts_one_hole_and_one_stripe():
    for mask in masks():
        stripe = mask.all(axis=1)
        hole = mask & ~stripe[:, None]
        assert 5 <= stripe.sum() <= 20
        assert np.ptp(np.flatnonzero(stripe)) == stripe.sum() - 1
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        if len(rows):  # else the stripe covers the hole
            assert np.ptp(rows) + 1 <= 32 and 3 <= len(columns) <= 16
            assert np.ptp(columns) == len(columns) - 1
            inside = np.zeros_like(mask)
            inside[np.ix_(range(rows[0], rows[-1] + 1), columns)] = True
            np.testing.assert_array_equal(mask, inside | stripe[:, None])


def test_spec_augment_reaches_all_sizes_and_places():
    many = masks()
    stripes = many.all(axis=2)
    assert set(stripes.sum(axis=1)) == set(range(5, 21))
    assert stripes.any(axis=0).all()
    holes = many & ~stripes[:, :, None]
    assert set(holes.any(axis=1).sum(axis=1)) >= set(range(3, 17))
    assert holes.any(axis=(0, 1)).all() and holes.any(axis=(0, 2)).all()


def test_spec_augment_happens_with_its_probability():
    assert not masks(probability=0.0).any()
    changed = masks(probability=0.25).any(axis=(1, 2)).mean()
    assert 0.17 < changed < 0.33
