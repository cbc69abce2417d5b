import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint.errors import ConfigError
from fingerprint.pairs import Banks, degraded_queries, load_banks, make_pairs
from fingerprint.until_exit import UntilExit
from fingerprint.waveform_bank import WaveformBank

RATE_HZ = 8000


@pytest.fixture
def config():
    """The published chain on eight pairs, ramped over 20 steps."""
    config = nafp.get_config()
    config.pairs.n_pairs = 8
    config.augmentation.ramp.n_steps = 20
    return config


def switch_off(config):
    for name in ("background", "gain", "room", "device", "filters", "level"):
        config.augmentation[name] = None


def tone(frequency_hz, n_samples=40_000):
    wave = np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / RATE_HZ)
    return (10_000 * wave).astype(np.int16)


def frequency_hz(waveform):
    """Frequency of the strongest bin, 1 Hz each for a second of audio."""
    return np.argmax(np.abs(np.fft.rfft(waveform))) * RATE_HZ / len(waveform)


def track_frequency_hz(track):
    return 400 + 50 * track


@pytest.fixture
def banks(tmp_path, rng):
    """Twenty tones, each of its own frequency, white noise and short decays."""
    noise = [(3000 * rng.normal(size=9000)).astype(np.int16) for _ in range(3)]
    decay = np.exp(-np.arange(800) / 100) * rng.normal(size=(4, 800)) * 0.03
    decay[:, 3] = 1
    items = {
        "music": [tone(track_frequency_hz(track)) for track in range(20)],
        "backgrounds": noise,
        "rooms": decay.astype(np.float32),
        "devices": decay[:2, :50].astype(np.float32),
    }
    return Banks(
        **{
            name: WaveformBank.create(
                tmp_path / name, ((f"{name} {i}", wave) for i, wave in enumerate(waves)), RATE_HZ
            )
            for name, waves in items.items()
        }
    )


def batches(banks, config, start_step, n_batches, **hosts):
    dataset = make_pairs(banks, config, start_step=start_step, **hosts)
    return list(dataset.take(n_batches).as_numpy_iterator())


def test_resumed_run_sees_the_batches_of_an_uninterrupted_one(banks, config):
    tf.random.set_seed(1)
    uninterrupted = batches(banks, config, 0, 15)
    tf.random.set_seed(2)
    resumed = batches(banks, config, 5, 10, num_parallel_calls=1)
    for batch, same in zip(uninterrupted[5:], resumed, strict=True):
        for name in ("original", "replica"):
            assert batch[name].shape == (8, 8000)
            assert batch[name].dtype == np.float32
            np.testing.assert_array_equal(batch[name], same[name])
    assert len({batch["replica"].tobytes() for batch in uninterrupted}) == 15


@pytest.mark.parametrize(
    ("step", "samples"),
    [
        (3, [-0.6225, 0.1778, -0.2268, 0.4328, -0.2966, -0.0088, -0.6769, 0.0055]),
        (30, [-0.0552, -0.0717, 0.0686, 0.0238, -0.0629, 0.1024, 0.1624, 0.0823]),
    ],
)
def test_batches_are_those_of_earlier_versions(banks, config, step, samples):
    """One sample of each replica, computed before there was more than one positive."""
    replicas = batches(banks, config, step, 1)[0]["replica"]
    np.testing.assert_allclose(replicas[:, 4000], samples, atol=2e-4)


def test_replicas_of_an_original_differ_and_stand_together(banks, config):
    config.augmentation.filters = None
    config.pairs.n_positives = 3
    batch = batches(banks, config, 100, 1)[0]
    assert batch["replica"].shape == (24, 8000)
    originals = [round(frequency_hz(wave)) for wave in batch["original"]]
    replicas = [round(frequency_hz(wave)) for wave in batch["replica"]]
    assert replicas == list(np.repeat(originals, 3))
    assert len({wave.tobytes() for wave in batch["replica"]}) == 24


def test_each_track_may_give_several_segments(banks, config):
    config.pairs.segments_per_track = 2
    batch = batches(banks, config, 0, 1)[0]
    originals = [round(frequency_hz(wave)) for wave in batch["original"]]
    assert originals[::2] == originals[1::2]
    assert len(set(originals)) == 4


def test_seed_changes_the_batches(banks, config):
    first = batches(banks, config, 3, 1)[0]
    config.seed = 1
    assert (first["original"] != batches(banks, config, 3, 1)[0]["original"]).any()


def test_pairs_are_of_one_track_and_batches_of_many(banks, config):
    config.augmentation.filters = None
    for batch in batches(banks, config, 100, 4):
        originals = [round(frequency_hz(wave)) for wave in batch["original"]]
        replicas = [round(frequency_hz(wave)) for wave in batch["replica"]]
        assert originals == replicas
        assert len(set(originals)) == 8
        assert (batch["original"] != batch["replica"]).all(axis=1).sum() == 8


def test_hosts_get_their_share_of_pairs_from_tracks_of_their_own(banks, config):
    seen = []
    for host in range(2):
        shard = batches(banks, config, 0, 6, host_index=host, n_hosts=2)
        originals = np.concatenate([batch["original"] for batch in shard])
        assert len(originals) == 6 * 4
        seen.append({round(frequency_hz(wave)) for wave in originals})
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {track_frequency_hz(track) for track in range(20)}


def test_hosts_draw_different_degradations(tmp_path, config):
    """Two hosts whose only tracks are alike: the draws of the chain alone tell them apart."""
    config.pairs.n_pairs = 2
    config.augmentation.ramp = None
    alike = [("a", tone(440, 8000)), ("b", tone(440, 8000))]
    banks = Banks(WaveformBank.create(tmp_path / "alike", alike, RATE_HZ))
    one, other = (batches(banks, config, 0, 1, host_index=h, n_hosts=2)[0] for h in range(2))
    np.testing.assert_array_equal(one["original"], other["original"])
    assert (one["replica"] != other["replica"]).any()


def test_ramp_reaches_the_batches(banks, config):
    """At step 0 noise at 25 dB or more is all that is added."""
    config.augmentation.gain = None
    config.augmentation.level = None
    config.augmentation.ramp.offset_s = 0.0
    first = batches(banks, config, 0, 1)[0]
    error = first["replica"] - first["original"]
    snr_db = 10 * np.log10(np.mean(first["original"] ** 2, axis=1) / np.mean(error**2, axis=1))
    assert snr_db.min() > 24.9
    assert snr_db.max() < 35.1
    last = batches(banks, config, 20, 1)[0]
    error = last["replica"] - last["original"]
    snr_db = 10 * np.log10(np.mean(last["original"] ** 2, axis=1) / np.mean(error**2, axis=1))
    assert snr_db.max() < 10.1


def test_replicas_alone_are_played_at_another_speed(banks, config):
    """The tones of the originals are those of their tracks; half severity is half as many."""
    switch_off(config)
    plain = batches(banks, config, 10, 1)[0]
    config.augmentation.speed.probability = 1.0
    config.augmentation.speed.max_fraction = 0.1
    played = batches(banks, config, 10, 1)[0]
    np.testing.assert_array_equal(played["original"], plain["original"])
    same = (played["replica"] == plain["replica"]).all(axis=1)
    assert 1 <= same.sum() <= 7
    for batch in batches(banks, config, 20, 3):
        ratios = [
            frequency_hz(replica) / frequency_hz(original)
            for original, replica in zip(batch["original"], batch["replica"], strict=True)
        ]
        assert 0.89 < min(ratios) < 0.97
        assert 1.03 < max(ratios) < 1.11


def test_music_alone_is_enough(banks, config):
    config.augmentation.history_s = 0.0
    batch = batches(Banks(banks.music), config, 30, 1)[0]
    assert batch["replica"].shape == (8, 8000)
    assert np.abs(batch["replica"]).max(axis=1).min() >= 0.0999


def test_uneven_hosts_are_refused(banks, config):
    with pytest.raises(ConfigError, match="does not divide by 3 hosts"):
        make_pairs(banks, config, start_step=0, n_hosts=3)


@pytest.mark.parametrize("duration_s", [1.0, 4.5])
def test_queries_are_degraded_clips_of_the_tracks_named(banks, config, duration_s, monkeypatch):
    monkeypatch.setattr("fingerprint.pairs._CHUNK_SAMPLES", 100_000)
    config.augmentation.filters = None
    arguments = {"n_queries": 25, "duration_s": duration_s, "seed": 7}
    queries, tracks, starts = degraded_queries(banks.music, banks, config, **arguments)
    n_samples = round(duration_s * RATE_HZ)
    assert queries.shape == (25, n_samples)
    assert queries.dtype == np.float32
    for query, track in zip(queries, tracks, strict=True):
        assert abs(frequency_hz(query) - track_frequency_hz(track)) < 1
    assert set(tracks) == set(range(20))
    clean = banks.music.windows(tracks, starts, n_samples)
    assert (queries != clean).any(axis=1).all()
    assert starts.min() >= 0
    assert (starts + n_samples <= 40_000).all()
    again = degraded_queries(banks.music, banks, config, **arguments)
    for array, same in zip((queries, tracks, starts), again, strict=True):
        np.testing.assert_array_equal(array, same)


def test_queries_at_another_speed_say_where_they_begin(tmp_path, config):
    """On a track that tells its position, a query's samples tell where it runs from and to."""
    switch_off(config)
    position = np.arange(32_000)
    music = WaveformBank.create(
        tmp_path / "positions", [("ramp", (position / 32_000).astype(np.float32))], RATE_HZ
    )
    arguments = {"n_queries": 40, "duration_s": 2.0, "seed": 1}
    plain, _, plain_starts = degraded_queries(music, Banks(music), config, **arguments)
    config.augmentation.speed.probability = 0.7
    played, _, starts = degraded_queries(music, Banks(music), config, **arguments)
    speeds = np.median(np.diff(played, axis=1), axis=1) * 32_000
    assert (starts != plain_starts).mean() == pytest.approx(0.7, abs=0.2)
    assert 0.969 < speeds.min() < 0.98
    assert 1.02 < speeds.max() < 1.031
    inside = (starts > 10) & (starts + 16_000 * speeds < 31_990)
    assert inside.sum() > 25
    np.testing.assert_allclose(played[inside, 0] * 32_000, starts[inside], atol=1)
    np.testing.assert_allclose(played[inside, 8000], plain[inside, 8000], atol=1e-5)


def test_queries_start_where_they_say(banks, config):
    switch_off(config)
    queries, tracks, starts = degraded_queries(
        banks.music, banks, config, n_queries=6, duration_s=2.0, seed=1
    )
    np.testing.assert_array_equal(queries, banks.music.windows(tracks, starts, 16_000))


def synthetic(kind, n_tracks):
    return ConfigDict({"builder": "synthetic", "kind": kind, "n_tracks": n_tracks, "first_seed": 0})


@pytest.mark.parametrize(("name", "kind"), [("rooms", "noise"), ("backgrounds", "room_ir")])
def test_a_source_of_the_wrong_sort_is_refused(tmp_path, config, name, kind):
    config.data.music = synthetic("music", 2)
    for other in ("backgrounds", "rooms", "devices"):
        config.data[other] = None
    config.data[name] = synthetic(kind, 1)
    config.data.n_validation_tracks = 0
    with pytest.raises(ConfigError, match=f"'synthetic' gives {kind}, but data.music"):
        load_banks(config, tmp_path)


def test_sources_are_prepared_once_and_split_by_name(tmp_path, config, monkeypatch):
    config.data.music = synthetic("music", 5)
    config.data.music.duration_s = 3.0
    config.data.backgrounds = None
    config.data.rooms = synthetic("room_ir", 2)
    config.data.devices = synthetic("device_ir", 2)
    config.data.n_validation_tracks = 2
    banks, validation = load_banks(config, tmp_path)
    assert (len(banks.music), len(validation), len(banks.rooms)) == (3, 2, 2)
    assert not set(banks.music.names) & set(validation.names)
    assert banks.music.names == sorted(banks.music.names)
    assert banks.backgrounds is None
    assert banks.music.lengths.tolist() == [24_000] * 3
    assert np.abs(banks.rooms.windows([0, 1], [0, 0], 8000)).max(axis=1) == pytest.approx(1)

    def no_second_time(*_):
        raise AssertionError("the bank is written again")

    monkeypatch.setattr(WaveformBank, "create", no_second_time)
    again, _ = load_banks(config, tmp_path)
    np.testing.assert_array_equal(
        again.music.windows([1], [50], 100), banks.music.windows([1], [50], 100)
    )


def test_training_music_comes_at_every_speed_but_that_held_out_at_none(tmp_path, config):
    config.data.music = synthetic("music", 5)
    config.data.music.duration_s = 3.0
    for other in ("backgrounds", "rooms", "devices"):
        config.data[other] = None
    config.data.n_validation_tracks = 2
    alone, validation = load_banks(config, tmp_path)
    config.data.track_speeds = (1.0, 0.84, 1.19)
    banks, still = load_banks(config, tmp_path)
    assert still.names == validation.names
    names = alone.music.names
    assert banks.music.names == [
        *names,
        *(f"{name} at speed 0.84" for name in names),
        *(f"{name} at speed 1.19" for name in names),
    ]
    lengths = [24_000] * 3 + [round(24_000 / 0.84)] * 3 + [round(24_000 / 1.19)] * 3
    np.testing.assert_allclose(banks.music.lengths, lengths, atol=1)
    originals = [bank.music.windows([0, 1, 2], [0] * 3, 24_000) for bank in (alone, banks)]
    np.testing.assert_array_equal(*originals)
    config.pairs.n_pairs = 9
    assert batches(banks, config, 0, 1)[0]["original"].shape == (9, 8000)
    config.data.track_speeds = (1.19,)
    banks, still = load_banks(config, tmp_path)
    assert banks.music.names == [f"{name} at speed 1.19" for name in names]
    assert still.names == validation.names


def test_voices_join_the_backgrounds_or_are_all_there_is(tmp_path, config):
    config.data.music = synthetic("music", 3)
    config.data.backgrounds = synthetic("noise", 2)
    config.data.rooms = config.data.devices = None
    config.data.n_validation_tracks = 0
    recorded = load_banks(config, tmp_path)[0].backgrounds
    config.data.babble_clips = 2
    both = load_banks(config, tmp_path)[0].backgrounds
    voices = ["babble 0 of 1", "babble 1 of 2"]
    assert both.names == [*recorded.names, *voices]
    config.data.backgrounds = None
    assert load_banks(config, tmp_path)[0].backgrounds.names == voices


def test_speeds_are_checked_before_anything_is_prepared(tmp_path, config):
    config.data.track_speeds = (1.0, -0.5)
    with pytest.raises(ConfigError, match=r"data\.track_speeds is \(1\.0, -0\.5\)"):
        load_banks(config, tmp_path)


def test_music_has_to_be_given(tmp_path, config):
    config.data.music = None
    with pytest.raises(ConfigError, match="music is None"):
        load_banks(config, tmp_path)


def test_calls_end_when_python_exits():
    guarded = UntilExit(lambda step: step + 1)
    assert guarded(3) == 4
    guarded._wait_for_calls()
    with pytest.raises(StopIteration):
        guarded(4)


@pytest.mark.slow
def test_process_with_a_working_pipeline_exits():
    """Without the guard it hangs: the last batch is being made while the interpreter ends."""
    script = """
import time
import numpy as np, tensorflow as tf
from fingerprint.until_exit import UntilExit
def slow(step):
    time.sleep(0.2)
    return np.float32(step)
calls = UntilExit(slow)
steps = tf.data.Dataset.range(10**9)
batches = steps.map(lambda k: tf.numpy_function(calls, [k], tf.float32), 2).prefetch(2)
iterator = iter(batches)
print(float(next(iterator)), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, b"0.0")
