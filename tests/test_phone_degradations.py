"""What loudspeakers, people and telephones do to a query."""

import numpy as np
import pytest
import scipy.signal

from fingerprint.babble import babble, voice
from fingerprint.evaluation import degradations
from fingerprint.evaluation.query_recipes import Chunk, Recipe
from fingerprint.evaluation.query_settings import CONDITIONS, QueryError, QuerySettings
from fingerprint.evaluation.query_synthesis import synthesise
from fingerprint.evaluation.table_text import condition_text

RATE_HZ = 16_000


def lag_of(changed, original):
    correlation = scipy.signal.correlate(changed, original, method="fft")
    return int(np.argmax(correlation)) - (len(original) - 1)


def power_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def band(samples, low_hz, high_hz):
    sections = scipy.signal.butter(8, [low_hz, high_hz], "bandpass", fs=RATE_HZ, output="sos")
    return scipy.signal.sosfiltfilt(sections, samples)


def test_an_equaliser_has_the_gains_that_it_is_given_and_moves_nothing(rng):
    noise = rng.normal(size=20 * RATE_HZ)
    gains_db = 6 * rng.standard_normal(degradations.n_equaliser_knots(RATE_HZ))
    shaped = degradations.equalise(noise, RATE_HZ, gains_db)
    frequencies_hz, before = scipy.signal.welch(noise, RATE_HZ, nperseg=8192)
    after = scipy.signal.welch(shaped, RATE_HZ, nperseg=8192)[1]
    found_db = 10 * np.log10(after / before)
    # Half octaves from 62.5 Hz on: the seventh knot is at 500 Hz, the ninth at 1 kHz.
    for knot, hz in ((6, 500.0), (8, 1000.0), (12, 4000.0)):
        near = np.abs(np.log2(np.maximum(frequencies_hz, 1) / hz)) < 0.01
        assert found_db[near].mean() == pytest.approx(gains_db[knot], abs=0.5)
    assert lag_of(shaped, noise) == 0
    flat = degradations.equalise(noise, RATE_HZ, np.zeros_like(gains_db))
    np.testing.assert_allclose(flat, noise, atol=1e-5)


@pytest.mark.parametrize(("rate_hz", "n_knots"), [(8_000, 13), (16_000, 15), (44_100, 18)])
def test_an_equaliser_reaches_half_the_sample_rate(rate_hz, n_knots):
    assert degradations.n_equaliser_knots(rate_hz) == n_knots


def test_steady_noise_is_suppressed_and_what_moves_is_not(rng):
    times_s = np.arange(8 * RATE_HZ) / RATE_HZ
    # Clicks of 1 kHz, half a second apart, in hiss.
    pulses = np.sin(2 * np.pi * 1000 * times_s) * (times_s % 0.5 < 0.1)
    hiss = 0.1 * rng.normal(size=len(times_s))
    suppressed = degradations.suppress_noise(pulses + hiss, RATE_HZ, 1.0)
    pause = (times_s % 0.5 > 0.25) & (times_s % 0.5 < 0.45) & (times_s > 1)
    pulse = (times_s % 0.5 > 0.03) & (times_s % 0.5 < 0.07) & (times_s > 1)
    assert power_db(suppressed[pause]) < power_db(hiss[pause]) - 8
    tones_db = [power_db(band(each, 950, 1050)[pulse]) for each in (pulses, suppressed)]
    assert tones_db[0] - tones_db[1] < 2
    assert lag_of(suppressed, pulses) == 0
    untouched = degradations.suppress_noise(pulses + hiss, RATE_HZ, 0.0)
    np.testing.assert_allclose(untouched[2 * RATE_HZ :], (pulses + hiss)[2 * RATE_HZ :], atol=1e-4)


def test_silence_has_no_noise_to_suppress():
    silence = np.zeros(RATE_HZ, np.float32)
    assert not degradations.suppress_noise(silence, RATE_HZ, 1.0).any()


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 7.0])
def test_mixing_is_at_the_ratio_asked_for(rng, snr_db):
    sound, noise = rng.normal(size=(2, RATE_HZ)) * [[0.3], [5.0]]
    mixed = degradations.mix(sound, noise, snr_db)
    assert power_db(sound) - power_db(mixed - sound) == pytest.approx(snr_db, abs=1e-6)
    assert degradations.mix(sound, np.zeros(RATE_HZ), snr_db) is sound


def test_a_voice_has_a_pitch_syllables_and_the_band_of_speech():
    made = voice(np.random.default_rng(3), 10 * RATE_HZ, RATE_HZ)
    assert made.shape == (10 * RATE_HZ,)
    assert np.isfinite(made).all()
    speech_db = power_db(band(made, 200, 3500))
    assert speech_db > power_db(made) - 1.5
    assert power_db(band(made, 4500, 7500)) < speech_db - 15
    # Levels of tenths of a second differ as those of syllables and pauses do.
    levels_db = [power_db(part + 1e-9) for part in np.split(made, 100)]
    assert np.quantile(levels_db, 0.9) - np.quantile(levels_db, 0.1) > 6


def test_voices_together_never_pause_as_one_does():
    def spread_db(samples):
        levels_db = [power_db(part + 1e-9) for part in np.split(samples, 50)]
        return np.quantile(levels_db, 0.9) - np.quantile(levels_db, 0.1)

    one = voice(np.random.default_rng(0), 10 * RATE_HZ, RATE_HZ)
    many = babble(np.random.default_rng(0), 10 * RATE_HZ, RATE_HZ)
    assert spread_db(many) < spread_db(one) / 2
    np.testing.assert_array_equal(many, babble(np.random.default_rng(0), 10 * RATE_HZ, RATE_HZ))
    assert not np.array_equal(many, babble(np.random.default_rng(1), 10 * RATE_HZ, RATE_HZ))


def recipe(excerpt=0, **condition):
    return Recipe(
        id="0", excerpt=excerpt, track="track", start=RATE_HZ, sample_rate_hz=RATE_HZ,
        n_history=0, reverberate="all", gain_control=False,
        chunks=(Chunk(2 * RATE_HZ, 0, (), None, None, None),), t60_s=(),
        condition=dict.fromkeys(CONDITIONS) | condition, seed=0,
    )  # fmt: skip


@pytest.fixture
def read(rng):
    track = rng.uniform(-0.5, 0.5, 4 * RATE_HZ).astype(np.float32)
    return lambda path, sample_rate_hz: track


def test_voices_are_added_at_the_ratio_asked_for(read):
    clean = synthesise(recipe(), read)
    mixed = synthesise(recipe(babble_db=5.0), read).astype(np.float64)
    # What is left of the mixture when the recording in it is taken out.
    scale = np.dot(mixed, clean) / np.dot(clean, clean)
    voices = mixed - scale * clean
    assert power_db(scale * clean) - power_db(voices) == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize("name", ["equaliser_db", "babble_db", "suppression"])
def test_an_excerpt_has_its_own_draw_and_keeps_it(read, name):
    made = synthesise(recipe(**{name: 0.9}), read)
    assert np.abs(made).max() == pytest.approx(1.0)
    assert not np.allclose(made, synthesise(recipe(), read), atol=1e-3)
    np.testing.assert_array_equal(made, synthesise(recipe(**{name: 0.9}), read))
    if name != "suppression":
        assert not np.allclose(made, synthesise(recipe(excerpt=1, **{name: 0.9}), read), atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_filters_are_drawn_for_the_share_asked_for(read, share):
    cut = {"low": 0, "high": 0}
    for excerpt in range(40):
        spectra = [
            scipy.signal.welch(synthesise(r, read), RATE_HZ, nperseg=512)[1]
            for r in (recipe(excerpt, band_share=share), recipe(excerpt))
        ]
        gain_db = 10 * np.log10(spectra[0] / spectra[1])
        middle_db = gain_db[32:48].mean()  # 1 to 1.5 kHz: no corner is there
        cut["low"] += gain_db[1] < middle_db - 6
        cut["high"] += gain_db[250] < middle_db - 6
    for n_cut in cut.values():
        # Three standard deviations of a binomial count of 40.
        assert n_cut == pytest.approx(40 * share, abs=3 * np.sqrt(40 * share * (1 - share)))


def test_unevenness_is_that_of_the_setting(read):
    """Loudspeaker and microphone in a row: a spread of sqrt(1 + 1/4) times the setting."""
    gains_db = []
    for excerpt in range(20):
        spectra = [
            scipy.signal.welch(synthesise(r, read), RATE_HZ, nperseg=2048)[1]
            for r in (recipe(excerpt, equaliser_db=4.0), recipe(excerpt))
        ]
        gain_db = 10 * np.log10(spectra[0] / spectra[1])
        # At 500, 1000, 2000 and 4000 Hz, less the level of all.
        gains_db.append(gain_db[[64, 128, 256, 512]] - gain_db[[64, 128, 256, 512]].mean())
    # Deviations from a mean of four have three of four parts of the variance.
    assert np.sqrt(np.mean(np.square(gains_db)) * 4 / 3) == pytest.approx(4 * 1.25**0.5, rel=0.25)


def test_recipes_of_earlier_versions_are_made_as_before(read):
    old = recipe()
    for name in ("equaliser_db", "band_share", "babble_db", "suppression"):
        del old.condition[name]
    np.testing.assert_array_equal(synthesise(old, read), synthesise(recipe(), read))


@pytest.mark.parametrize(
    ("name", "value"), [("equaliser_db", 40.0), ("babble_db", -90.0), ("suppression", 1.5)]
)
def test_values_that_make_no_sense_are_refused(name, value):
    with pytest.raises(QueryError, match=f"{name} {value:g} is not between"):
        QuerySettings(**{name: (value,)})


def test_conditions_read_as_words():
    assert condition_text("equaliser_db=6 babble_db=3") == "uneven by 6 dB, babble at 3 dB"
