import functools
import itertools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from fingerprint.errors import ConfigError
from fingerprint.features import (
    crop,
    input_shape,
    log_mel,
    mel_filterbank,
    silence_level,
    spec_augment,
    spectrograms,
)

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


def librosa_mels(waveform, sample_rate_hz, settings):
    htk = settings.get("mel_scale") == "htk"
    return librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=sample_rate_hz,
        n_fft=settings["n_fft"],
        hop_length=settings["hop_length"],
        n_mels=settings["n_mels"],
        fmin=settings["f_min_hz"],
        fmax=settings["f_max_hz"],
        power=settings.get("power", 1.0),
        norm=None if htk else "slaney",
        htk=htk,
        center=True,
        pad_mode="constant",
    )


def librosa_log_mel(waveform, sample_rate_hz, settings):
    mels = librosa_mels(waveform, sample_rate_hz, settings)
    range_db = settings["dynamic_range_db"]
    db_per_decade = 20 / settings.get("power", 1.0)
    level_db = db_per_decade * np.log10(np.maximum(mels / mels.max(), 1e-30))
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
@pytest.mark.parametrize(
    ("mel_scale", "conventions"),
    [("slaney", {"htk": False, "norm": "slaney"}), ("htk", {"htk": True, "norm": None})],
)
def test_filters_equal_librosa(rate_hz, n_fft, n_mels, f_min_hz, f_max_hz, mel_scale, conventions):
    expected = librosa.filters.mel(
        sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max_hz, **conventions
    )
    filters = mel_filterbank(rate_hz, n_fft, n_mels, f_min_hz, f_max_hz, mel_scale)
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


# The front-end of Singh's networks, as torchaudio computes it by default.
TORCHAUDIO = {
    "n_fft": 512,
    "hop_length": 160,
    "n_mels": 64,
    "f_min_hz": 0.0,
    "f_max_hz": 8000.0,
    "dynamic_range_db": 80.0,
    "mel_scale": "htk",
    "power": 2.0,
}


@pytest.mark.filterwarnings("ignore:Empty filters detected")
@pytest.mark.parametrize(("dynamic_range_db", "power"), [(60.0, 2.0), (80.0, 2.0), (80.0, 4.0)])
def test_power_spectrogram_in_decibels_equals_librosa(rng, dynamic_range_db, power):
    settings = TORCHAUDIO | {"dynamic_range_db": dynamic_range_db, "power": power}
    waveform = tone_in_noise(rng, 15_200)
    waveform[8000:] *= 1e-3
    mels = log_mel(waveform[None], sample_rate_hz=16_000, **settings)[0]
    assert mels.shape == (64, 96)
    np.testing.assert_allclose(mels, librosa_log_mel(waveform, 16_000, settings), atol=1e-4)


@pytest.mark.filterwarnings("ignore:Empty filters detected")
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_linear_scaling_leaves_mels_as_they_are(rng, power):
    settings = TORCHAUDIO | {"power": power, "scaling": "linear"}
    waveform = 3 * tone_in_noise(rng)
    mels = log_mel(waveform[None], sample_rate_hz=16_000, **settings)[0]
    expected = librosa_mels(waveform, 16_000, settings)
    np.testing.assert_allclose(mels, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scaling", ["segment_db", "linear"])
@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
def test_silence_is_finite_in_every_variant(power, scaling, mel_scale):
    features = SETTINGS | {"power": power, "scaling": scaling, "mel_scale": mel_scale}
    mels = log_mel(jnp.zeros((1, 2000)), sample_rate_hz=RATE_HZ, **features)
    np.testing.assert_array_equal(mels, silence_level(features))


@pytest.mark.parametrize(("key", "value"), [("power", 3.0), ("scaling", "db"), ("mel_scale", "k")])
def test_unknown_choices_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"features.{key} is {value!r}"):
        log_mel(jnp.zeros((1, 2000)), sample_rate_hz=RATE_HZ, **(SETTINGS | {key: value}))


def test_envelope_is_the_mean_of_neighbouring_mels_over_the_segment(rng):
    segments = tone_in_noise(rng)[None]
    plain, centred = (
        np.asarray(log_mel(segments, sample_rate_hz=RATE_HZ, **SETTINGS, envelope_mels=width))
        for width in (0, 33)
    )
    for mel in (0, 5, 128, 250, 255):
        near = plain[0, max(0, mel - 16) : mel + 17]
        np.testing.assert_allclose(centred[0, mel], plain[0, mel] - near.mean(), atol=1e-5)


def test_colour_that_all_frames_share_leaves_with_the_envelope(rng):
    """A filter of one gain below and one above 2 kHz changes only mels near its edge."""
    segments = rng.standard_normal((1, RATE_HZ)).astype(np.float32)
    spectrum = np.fft.rfft(segments)
    spectrum[:, np.fft.rfftfreq(RATE_HZ, 1 / RATE_HZ) > 2000] *= 0.1
    filtered = np.fft.irfft(spectrum).astype(np.float32)
    settings = SETTINGS | {"envelope_mels": 15}
    before, after = (
        np.asarray(log_mel(each, sample_rate_hz=RATE_HZ, **settings))[0, :, 3:-3]
        for each in (segments, filtered)
    )
    edge = np.searchsorted(mel_centres_hz(), 2000)
    # Half the envelope and a few mels for the edge of the filter within a window.
    np.testing.assert_allclose(after[: edge - 12], before[: edge - 12], atol=0.01)
    np.testing.assert_allclose(after[edge + 12 :], before[edge + 12 :], atol=0.01)


def mel_centres_hz():
    ends_hz = SETTINGS["f_min_hz"], SETTINGS["f_max_hz"]
    return librosa.mel_frequencies(SETTINGS["n_mels"] + 2, fmin=ends_hz[0], fmax=ends_hz[1])[1:-1]


def test_silence_is_zero_without_its_envelope():
    silence = np.zeros((1, RATE_HZ), np.float32)
    features = SETTINGS | {"envelope_mels": 33}
    mels = log_mel(silence, sample_rate_hz=RATE_HZ, **features)
    np.testing.assert_allclose(mels, np.full(mels.shape, silence_level(features)), atol=1e-6)


@pytest.mark.parametrize("width", [-1, 4])
def test_an_envelope_without_a_middle_is_refused(width):
    with pytest.raises(ConfigError, match=f"envelope_mels is {width}"):
        log_mel(np.zeros((1, RATE_HZ)), sample_rate_hz=RATE_HZ, **SETTINGS, envelope_mels=width)


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


def test_spectrograms_are_log_mels_and_their_fixed_crop(rng):
    waveforms = np.stack([tone_in_noise(rng), rng.standard_normal(RATE_HZ).astype(np.float32)])
    segment = {"duration_s": 1.0, "hop_s": 0.5}
    config = {"sample_rate_hz": RATE_HZ, "segment": segment, "features": SETTINGS}
    whole = np.asarray(log_mel(waveforms, sample_rate_hz=RATE_HZ, **SETTINGS))
    for without in (config, config | {"crop": None}):
        np.testing.assert_array_equal(spectrograms(waveforms, without), whole)
        assert input_shape(without) == (256, 32)
    section = {"n_mels": 50, "n_frames": 20, "mode": "contiguous", "shared": True}
    cropped = config | {"crop": section}
    np.testing.assert_array_equal(spectrograms(waveforms, cropped), whole[:, 103:153, 6:26])
    assert input_shape(cropped) == (50, 20)


# Three roles of forty rows whose values tell mel and frame: 100 * mel + frame.
NUMBERED = jnp.broadcast_to(
    (100 * np.arange(12)[:, None] + np.arange(9)).astype(np.float32), (3, 40, 12, 9)
)


def cropped_positions(**settings):
    """Which mels ``(roles, b, n)`` and frames ``(roles, b, n)`` a crop of `NUMBERED` keeps."""
    compiled = jax.jit(functools.partial(crop, n_mels=5, n_frames=4, **settings))
    values = np.asarray(compiled(NUMBERED)).astype(int)
    assert values.shape == (3, 40, 5, 4)
    mels, frames = values[..., :, 0] // 100, values[..., 0, :] % 100
    np.testing.assert_array_equal(values, 100 * mels[..., None] + frames[..., None, :])
    return mels, frames


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", ["contiguous", "random_bins"])
def test_crop_in_training_is_drawn_for_each_row(mode, shared):
    for kept, length in zip(
        cropped_positions(key=jax.random.key(5), mode=mode, shared=shared), (12, 9), strict=True
    ):
        steps = np.diff(kept, axis=-1)
        assert (steps == 1).all() if mode == "contiguous" else steps.min() == 1 < steps.max()
        assert set(kept.ravel()) == set(range(length))
        for one, other in itertools.combinations(kept, 2):
            assert (one == other).all() == shared


@pytest.mark.parametrize(
    ("mode", "mels", "frames"),
    [
        ("contiguous", [3, 4, 5, 6, 7], [2, 3, 4, 5]),
        ("random_bins", [1, 3, 6, 8, 10], [1, 3, 5, 7]),
    ],
)
def test_crop_in_use_is_fixed(mode, mels, frames):
    kept_mels, kept_frames = cropped_positions(mode=mode, shared=False)
    np.testing.assert_array_equal(kept_mels, np.broadcast_to(mels, (3, 40, 5)))
    np.testing.assert_array_equal(kept_frames, np.broadcast_to(frames, (3, 40, 4)))


def test_random_bins_are_drawn_with_equal_chance():
    mels = jnp.broadcast_to(jnp.arange(8.0)[:, None], (1, 4000, 8, 3))
    kept = crop(mels, key=jax.random.key(0), n_mels=3, n_frames=3, mode="random_bins", shared=True)
    counts = np.bincount(np.asarray(kept[..., 0]).astype(int).ravel(), minlength=8)
    np.testing.assert_allclose(counts / 4000, 3 / 8, atol=0.03)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"mode": "centre"}, "'centre'"), ({"n_mels": 13}, "13 mels"), ({"n_frames": 10}, "10 fra")],
)
def test_an_impossible_crop_is_refused(changes, words):
    settings = {"n_mels": 5, "n_frames": 4, "mode": "contiguous", "shared": True} | changes
    with pytest.raises(ConfigError, match=words):
        crop(NUMBERED, **settings)


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


def test_hole_is_sized_by_axis_and_may_stand_alone():
    """Rice's cutout: half of the mels, a tenth of the frames."""
    fixed = {"hole_mel_fraction": (0.5, 0.5), "hole_frame_fraction": (0.1, 0.1)}
    many = masks(50, **fixed, stripe_bins=(0, 0))
    assert (many.any(axis=2).sum(axis=1) == 32).all()
    assert (many.any(axis=1).sum(axis=1) == 3).all()
    assert (many.sum(axis=(1, 2)) == 96).all()


def test_what_is_removed_is_filled_as_told():
    mels = jnp.full((1, 64, 32), 0.5)
    augmented = spec_augment(jax.random.key(1), mels, **MASK, fill=0.0)
    assert set(np.unique(augmented)) == {0.0, 0.5}
