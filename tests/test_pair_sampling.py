import hashlib
import itertools

import numpy as np
import pytest
from scipy import stats

from fingerprint.errors import ConfigError
from fingerprint.pair_sampling import PairSampler, draw_noise, draw_segments
from fingerprint.playback_speed import PlaybackSpeed
from fingerprint.waveform_bank import WaveformBank

RATE_HZ = 8000
N_SEGMENT = 100
N_HISTORY = 50
OFFSET = 20


def numbered_bank(folder, lengths):
    """Tracks whose samples tell which track and where: 1000 * track + position + 1, as float."""
    items = (
        (f"track {i}", (1000 * i + 1 + np.arange(n)).astype(np.float32))
        for i, n in enumerate(lengths)
    )
    return WaveformBank.create(folder, items, RATE_HZ)


@pytest.fixture
def music(tmp_path):
    return numbered_bank(tmp_path / "music", [600] * 10)


def sampler(music, backgrounds=None, **changes):
    settings = {
        "n_pairs": 4,
        "n_segment": N_SEGMENT,
        "n_history": N_HISTORY,
        "spacing": N_SEGMENT + 2 * OFFSET,
        "seed": 3,
    }
    return PairSampler(music, backgrounds, **(settings | changes))


def first_track_and_start(segments):
    return np.divmod(segments[:, 0].astype(int) - 1, 1000)


def test_batch_is_a_function_of_seed_step_and_host(music):
    batch = sampler(music).cut(7, OFFSET)
    other_order = sampler(music)
    other_order.cut(100, OFFSET)
    for array, same in zip(batch, other_order.cut(7, OFFSET), strict=True):
        np.testing.assert_array_equal(array, same)
    for other in (
        sampler(music).cut(8, OFFSET),
        sampler(music, seed=4).cut(7, OFFSET),
        sampler(music, n_pairs=8, n_hosts=2, host_index=1).cut(7, OFFSET),
    ):
        assert (batch[0] != other[0]).any()


def test_an_epoch_shows_no_track_twice_and_batches_do_not_straddle_epochs(music):
    pairs = sampler(music)
    for epoch in range(3):
        tracks = np.concatenate([pairs.tracks(2 * epoch), pairs.tracks(2 * epoch + 1)])
        assert len(set(tracks)) == 8
    assert len({tuple(pairs.tracks(step)) for step in range(20)}) == 20


def test_every_track_has_its_turn(music):
    pairs = sampler(music)
    seen = np.bincount(np.concatenate([pairs.tracks(step) for step in range(500)]), minlength=10)
    # Mean 200; a track is left out of an epoch of 250 with probability 0.2.
    assert seen.min() > 175
    assert seen.max() < 225


def test_hosts_share_no_track(music):
    hosts = [sampler(music, n_pairs=6, n_hosts=3, host_index=h) for h in range(3)]
    tracks = [set(np.concatenate([host.tracks(k) for k in range(30)])) for host in hosts]
    assert set.union(*tracks) == set(range(10))
    assert all(not a & b for a, b in itertools.combinations(tracks, 2))
    assert hosts[0].cut(0, OFFSET)[0].shape == (2, N_SEGMENT)


def test_originals_start_anywhere_with_equal_chance(music):
    pairs = sampler(music)
    starts = np.concatenate(
        [first_track_and_start(pairs.cut(step, OFFSET)[0])[1] for step in range(1000)]
    )
    assert (starts.min(), starts.max()) == (0, 500)
    assert stats.kstest(starts / 500, "uniform").pvalue > 0.01


def test_originals_are_cut_from_the_chosen_tracks(music):
    pairs = sampler(music)
    tracks, starts = first_track_and_start(pairs.cut(5, OFFSET)[0])
    np.testing.assert_array_equal(tracks, pairs.tracks(5))
    expected = (1000 * tracks + 1 + starts)[:, None] + np.arange(N_SEGMENT)
    np.testing.assert_array_equal(pairs.cut(5, OFFSET)[0], expected)


def test_batches_are_those_of_earlier_versions(tmp_path):
    """Resumed runs and recorded results rest on this."""
    music = numbered_bank(tmp_path / "music", [600, 90, 1500])
    noise = numbered_bank(tmp_path / "noise", [900, 90])
    pairs = sampler(music, noise, n_pairs=7)
    digest = hashlib.sha256()
    for step in (0, 1, 50):
        for array in pairs.cut(step, OFFSET):
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    assert digest.hexdigest() == (
        "d6c4c0651f973ca3bbccb6101bfb013d489904a8230d8df6e9cf4082e2d30827"
    )


def test_replicas_of_an_original_are_neighbours_with_offsets_and_noise_of_their_own(music):
    pairs = sampler(music, music, n_positives=4)
    offsets = []
    for step in range(200):
        originals, windows, noise = pairs.cut(step, OFFSET)
        assert (len(originals), len(windows), len(noise)) == (4, 16, 16)
        assert len(np.unique(noise[:, 0])) > 8
        tracks, starts = first_track_and_start(originals)
        replica_tracks, replica_starts = first_track_and_start(windows[:, N_HISTORY:])
        np.testing.assert_array_equal(replica_tracks, np.repeat(tracks, 4))
        offsets.append((replica_starts - np.repeat(starts, 4)).reshape(4, 4))
    offsets = np.concatenate(offsets)
    assert set(offsets.ravel()) == set(range(-OFFSET, OFFSET + 1))
    correlation = np.corrcoef(offsets.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.15


def test_originals_do_not_depend_on_the_number_of_positives(music):
    for step in (0, 9):
        np.testing.assert_array_equal(
            sampler(music).cut(step, OFFSET)[0], sampler(music, n_positives=3).cut(step, OFFSET)[0]
        )


def test_a_batch_may_have_several_segments_of_each_track(tmp_path):
    music = numbered_bank(tmp_path / "long", [900] * 10)
    pairs = sampler(music, n_pairs=12, segments_per_track=3)
    for epoch in range(5):
        seen = []
        for step in (2 * epoch, 2 * epoch + 1):
            tracks, starts = first_track_and_start(pairs.cut(step, OFFSET)[0])
            np.testing.assert_array_equal(np.bincount(tracks)[np.unique(tracks)], 3)
            for track in np.unique(tracks):
                assert np.diff(np.sort(starts[tracks == track])).min() >= N_SEGMENT + 2 * OFFSET
            seen.extend(np.unique(tracks))
        assert len(set(seen)) == 8


@pytest.mark.parametrize("largest", [0, OFFSET, 1000])
def test_replicas_start_near_their_originals_and_within_the_track(music, largest):
    pairs = sampler(music)
    offsets = []
    for step in range(200):
        originals, windows, _ = pairs.cut(step, largest)
        tracks, starts = first_track_and_start(originals)
        replica_tracks, replica_starts = first_track_and_start(windows[:, N_HISTORY:])
        np.testing.assert_array_equal(tracks, replica_tracks)
        assert replica_starts.min() >= 0
        assert replica_starts.max() <= 500
        offsets.append(replica_starts - starts)
    assert np.abs(offsets).max() <= largest
    if largest == OFFSET:
        assert set(np.concatenate(offsets)) == set(range(-OFFSET, OFFSET + 1))


def test_another_speed_moves_no_draw_and_keeps_the_middle(music):
    """Samples count positions, so that their steps are the speed."""
    speed = PlaybackSpeed(probability=0.5, max_fraction=0.1)
    n_played = 0
    for step in range(20):
        plain = sampler(music, music).cut(step, OFFSET)
        played = sampler(music, music, speed=speed).cut(step, OFFSET)
        np.testing.assert_array_equal(plain[0], played[0])
        np.testing.assert_array_equal(plain[2], played[2])
        for before, after in zip(plain[1], played[1], strict=True):
            segment = after[N_HISTORY + 20 : -20]
            n_played += (before != after).any()
            assert np.abs(np.diff(segment) - np.diff(segment)[0]).max() < 2e-3
            middle = N_HISTORY + N_SEGMENT // 2
            assert abs(after[middle] - before[middle]) < 2e-3
        early = sampler(music, music, speed=speed).cut(step, OFFSET, 0.0)
        np.testing.assert_array_equal(early[1], plain[1])
    assert 25 <= n_played <= 55


def test_windows_hold_the_past_of_the_segment_or_zeros_before_the_track(music):
    pairs = sampler(music)
    windows = np.concatenate([pairs.cut(step, 0)[1] for step in range(50)])
    _, starts = first_track_and_start(windows[:, N_HISTORY:])
    position = starts[:, None] + np.arange(-N_HISTORY, N_SEGMENT)
    track = windows[:, -1].astype(int) // 1000
    expected = np.where(position >= 0, 1000 * track[:, None] + 1 + position, 0)
    np.testing.assert_array_equal(windows, expected)
    assert (starts < N_HISTORY).any()


def test_segments_of_one_track_keep_apart_where_it_is_long_enough(tmp_path):
    music = numbered_bank(tmp_path / "long", [900, 900, 900])
    spacing = N_SEGMENT + 2 * OFFSET
    pairs = sampler(music, n_pairs=14)
    for step in range(50):
        tracks, starts = first_track_and_start(pairs.cut(step, OFFSET)[0])
        assert sorted(np.bincount(tracks)) == [4, 5, 5]
        for track in range(3):
            gaps = np.diff(np.sort(starts[tracks == track]))
            assert gaps.min() >= spacing
        assert starts.max() <= 800


def test_segments_of_a_track_that_is_too_short_are_spread_over_it(tmp_path):
    music = numbered_bank(tmp_path / "short", [300])
    starts = first_track_and_start(sampler(music, n_pairs=8).cut(0, 0)[0])[1]
    assert np.diff(np.sort(starts)).min() >= 200 // 8
    assert starts.max() <= 200


def test_track_shorter_than_a_segment_is_padded(tmp_path):
    music = numbered_bank(tmp_path / "tiny", [30])
    originals, windows, _ = sampler(music, n_pairs=1).cut(0, OFFSET)
    expected = np.pad(np.arange(1.0, 31), (0, 70))
    np.testing.assert_array_equal(originals[0], expected)
    np.testing.assert_array_equal(windows[0], np.pad(expected, (N_HISTORY, 0)))


def test_near_silence_is_drawn_again(tmp_path):
    """Half of each track is silent: one draw finds silence in 47 %, three in 11 %."""
    half = np.concatenate([np.zeros(1000), np.full(1000, 0.1)]).astype(np.float32)
    music = WaveformBank.create(tmp_path / "half", ((str(i), half) for i in range(400)), RATE_HZ)
    starts, segments = draw_segments(music, np.arange(400), N_SEGMENT, 0, np.random.default_rng(0))
    loud = np.sqrt(np.mean(np.square(segments), axis=1)) > 1e-3
    assert 0.85 < loud.mean() < 0.95
    np.testing.assert_array_equal(segments, music.windows(np.arange(400), starts, N_SEGMENT))


def test_silent_track_is_put_up_with(tmp_path):
    music = WaveformBank.create(
        tmp_path / "silent", [("silence", np.zeros(500, np.int16))], RATE_HZ
    )
    _, segments = draw_segments(music, np.zeros(3, int), 100, 100, np.random.default_rng(0))
    assert segments.shape == (3, 100)
    assert not segments.any()


def test_noise_is_weighted_by_length_and_repeats(tmp_path):
    bank = numbered_bank(tmp_path / "noise", [900, 90, 10])
    noise = draw_noise(bank, 5000, 50, np.random.default_rng(1)).astype(int)
    tracks, positions = np.divmod(noise - 1, 1000)
    assert (tracks == tracks[:, :1]).all()
    shares = np.bincount(tracks[:, 0]) / 5000
    np.testing.assert_allclose(shares, [0.9, 0.09, 0.01], atol=0.02)
    lengths = np.array([900, 90, 10])[tracks[:, :1]]
    np.testing.assert_array_equal(positions, (positions[:, :1] + np.arange(50)) % lengths)


def test_no_backgrounds_no_noise(music):
    assert sampler(music).cut(0, 0)[2].shape == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_pairs": 5, "n_hosts": 2}, "n_pairs is 5, which does not divide by 2 hosts"),
        ({"n_pairs": 24, "n_hosts": 12}, "10 training tracks for 12 hosts"),
        ({"n_pairs": 12, "n_hosts": 2, "segments_per_track": 4}, "6 pairs, which .* 4, does not"),
        ({"segments_per_track": 0}, "4 pairs, which .* 0, does not"),
    ],
)
def test_hosts_that_cannot_be_served_are_refused(music, changes, message):
    with pytest.raises(ConfigError, match=message):
        sampler(music, **changes)
