"""Files of every kind are written, cut and damaged; the oracle is the sine that went in."""

import itertools
import os
import tracemalloc

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile

from fingerprint import audio
from fingerprint.audio import (
    AudioError,
    find_audio,
    from_array,
    iter_blocks,
    read_audio,
    read_duration_s,
)
from fingerprint.errors import FingerprintError

# librosa 0.11 imports audioread, which imports modules that Python 3.13 drops.
pytestmark = pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)':DeprecationWarning")

RATE = 8000
FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "wav24": {"format": "WAV", "subtype": "PCM_24"},
    "wav8": {"format": "WAV", "subtype": "PCM_U8"},
    "float": {"format": "WAV", "subtype": "FLOAT"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "flac24": {"format": "FLAC", "subtype": "PCM_24"},
    "mp3": {"format": "MP3"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {"format": "AIFF", "subtype": "PCM_16"},
}


def sine(duration_s, rate_hz, frequency_hz=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(duration_s * rate_hz) / rate_hz)


def write(path, samples, rate_hz, **kind):
    """In blocks: libsndfile's Ogg writer keeps each block on the stack."""
    channels = samples.shape[1] if samples.ndim == 2 else 1
    with soundfile.SoundFile(path, "w", rate_hz, channels, **kind) as sound:
        for start in range(0, len(samples), 16384):
            sound.write(samples[start : start + 16384])
    return str(path)


@pytest.fixture
def mixture(rng):
    """Three seconds of noise and a tone at 44.1 kHz, two channels that differ."""
    noise = 0.05 * rng.standard_normal((3 * 44100, 2))
    return noise + np.stack([sine(3, 44100, 500.0), sine(3, 44100, 1500.0)], axis=1)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_sine_that_went_in_comes_out(tmp_path, kind, rate_hz):
    if kind == "opus" and rate_hz == 44100:
        pytest.skip("Opus knows 8, 12, 16, 24 and 48 kHz")
    left, right = sine(3, rate_hz, 440.0), sine(3, rate_hz, 1000.0)
    path = write(tmp_path / "a", np.stack([left, right], axis=1), rate_hz, **FORMATS[kind])
    heard = read_audio(path, RATE)
    assert heard.dtype == np.float32
    assert abs(len(heard) - 3 * RATE) <= 1
    expected = (sine(3, RATE, 440.0) + sine(3, RATE, 1000.0)) / 2
    middle = slice(RATE // 4, 2 * RATE)
    tolerance = 0.05 if kind in ("mp3", "ogg", "opus") else 0.01
    assert np.abs(heard[middle] - expected[middle]).max() < tolerance


@pytest.mark.parametrize("rate_hz", [11025, 16000, 22050, 44100, 96000])
def test_resampling_agrees_with_librosa_and_scipy(tmp_path, rng, rate_hz):
    # Noise below 3 kHz, so that the different slopes of the resamplers do not matter.
    low_pass = scipy.signal.firwin(501, 3000, fs=rate_hz)
    samples = scipy.signal.lfilter(low_pass, 1, 0.3 * rng.standard_normal(2 * rate_hz))
    path = write(tmp_path / "a.wav", samples, rate_hz, subtype="FLOAT")
    heard = read_audio(path, RATE)
    by_librosa, _ = librosa.load(path, sr=RATE)
    by_scipy = scipy.signal.resample_poly(samples, RATE, rate_hz, window=("kaiser", 12.0))
    n = min(len(heard), len(by_librosa), len(by_scipy))
    inside = slice(200, n - 200)
    np.testing.assert_allclose(heard[inside], by_librosa[inside], atol=1e-4)
    np.testing.assert_allclose(heard[inside], by_scipy[inside], atol=5e-3)


def test_what_lies_above_the_new_band_does_not_fold_back(tmp_path):
    path = write(tmp_path / "a.wav", sine(2, 44100, 700) + sine(2, 44100, 5000, 0.4), 44100)
    inside = slice(RATE // 4, -RATE // 4)
    np.testing.assert_allclose(
        read_audio(path, RATE)[inside], sine(2, RATE, 700)[inside], atol=1e-3
    )


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6])
def test_channels_are_averaged(tmp_path, rng, n_channels):
    samples = rng.uniform(-0.9, 0.9, (4000, n_channels))
    for subtype in ("PCM_16", "FLOAT"):
        path = write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
        np.testing.assert_allclose(read_audio(path, RATE), samples.mean(1), atol=1e-4)


@pytest.mark.parametrize("block_s", [0.037, 0.5, 100.0])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_blocks_are_the_whole(tmp_path, mixture, kind, block_s):
    path = write(tmp_path / "a", mixture, 44100, **FORMATS[kind])
    blocks = list(iter_blocks(path, RATE, block_s))
    assert max(map(len, blocks)) <= block_s * RATE + 500
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path, RATE), atol=1e-4)


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_is_whole_at_the_borders_of_blocks(tmp_path, rng, bitrate_mode):
    """Clicks take bits that their frames had to borrow from the frames before."""
    time_s = np.arange(12 * 44100) / 44100
    clicks = np.exp(-12 * (4 * time_s % 1)) * rng.uniform(-0.5, 0.5, len(time_s))
    kind = {"format": "MP3", "bitrate_mode": bitrate_mode, "compression_level": 0.5}
    path = write(tmp_path / "a.mp3", clicks + 0.2 * np.sin(1400 * time_s), 44100, **kind)
    whole, _ = soundfile.read(path, dtype="float32")
    for block_s in (0.3, 5.0):
        blocks = np.concatenate(list(iter_blocks(path, 44100, block_s)))
        np.testing.assert_allclose(blocks, np.clip(whole, -1, 1), atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_length_is_known_without_decoding(tmp_path, mixture, kind):
    rate_hz = 48000 if kind == "opus" else 44100
    path = write(tmp_path / "a", mixture, rate_hz, **FORMATS[kind])
    length_s = len(read_audio(path, RATE)) / RATE
    assert read_duration_s(path) == pytest.approx(length_s, abs=1e-3)
    with pytest.raises(AudioError, match="nowhere"):
        read_duration_s(tmp_path / "nowhere")


@pytest.mark.parametrize(("start_s", "duration_s"), [(0, 1.0), (0.4, 0.7), (1.63, None), (2.5, 9)])
@pytest.mark.parametrize("kind", ["wav", "flac24", "mp3", "ogg", "opus"])
def test_an_excerpt_is_that_part_of_the_whole(tmp_path, mixture, kind, start_s, duration_s):
    rate_hz = 48000 if kind == "opus" else 44100
    path = write(tmp_path / "a", mixture, rate_hz, **FORMATS[kind])
    start = round(start_s * RATE)
    whole = read_audio(path, RATE)[start:]
    expected = whole if duration_s is None else whole[: round(duration_s * RATE)]
    np.testing.assert_allclose(read_audio(path, RATE, start_s, duration_s), expected, atol=1e-3)


@pytest.mark.parametrize(("start_s", "duration_s"), [(-1, 1), (0, 0), (0, -1), (float("nan"), 1)])
def test_an_excerpt_has_to_be_possible(tmp_path, start_s, duration_s):
    path = write(tmp_path / "a.wav", sine(1, RATE), RATE)
    with pytest.raises(AudioError, match="no excerpt"):
        read_audio(path, RATE, start_s, duration_s)


def test_an_excerpt_behind_the_end_is_refused(tmp_path):
    path = write(tmp_path / "a.wav", sine(1, RATE), RATE)
    with pytest.raises(AudioError, match=r"a\.wav ends after 1\.00 s"):
        read_audio(path, RATE, 1.0)


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak_bytes(duration_s):
        path = write(tmp_path / "a.wav", np.tile(sine(1, 16000), duration_s), 16000)
        tracemalloc.start()
        for block in iter_blocks(path, RATE, block_s=5.0):
            del block
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(600) < 1.2 * peak_bytes(60)


def test_loud_samples_are_clipped(tmp_path):
    path = write(tmp_path / "a.wav", sine(1, RATE, amplitude=2.0), RATE, subtype="FLOAT")
    assert np.abs(read_audio(path, RATE)).max() == 1.0


# ---- What cannot be used ----


def refused(path, match):
    """The same sentence from both readers: one line that names the path."""
    for read in (lambda: read_audio(path, RATE), lambda: list(iter_blocks(path, RATE, 0.5))):
        with pytest.raises(AudioError, match=match) as caught:
            read()
        sentence = str(caught.value)
        assert str(path) in sentence
        assert sentence.endswith(".") and "\n" not in sentence
        assert isinstance(caught.value, FingerprintError)


def test_empty_and_missing_files(tmp_path):
    empty = tmp_path / "empty.wav"
    empty.touch()
    refused(empty, "is empty")
    refused(tmp_path / "nowhere.wav", "No such file")
    refused(tmp_path, "Is a directory")


def test_a_forbidden_file(tmp_path, monkeypatch):
    path = write(tmp_path / "secret.wav", sine(1, RATE), RATE)

    def forbid(name, mode):
        raise PermissionError(13, "Permission denied", name)

    # The super-user of a container may read everything, so that a mode of 0 would not do.
    monkeypatch.setattr("builtins.open", forbid)
    refused(path, "Permission denied")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "a pipe or a device")


def test_a_name_in_no_encoding(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    soundfile.write(os.fsencode(path), sine(1, RATE), RATE)
    assert find_audio([tmp_path]) == [path]
    assert len(read_audio(path, RATE)) == RATE


def test_a_raw_file(tmp_path):
    path = tmp_path / "samples.raw"
    path.write_bytes(bytes(5000))
    refused(path, "not an audio file")


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 500, bytes(5000), b"RIFF", b"\xff\xfb"])
def test_files_that_are_no_audio(tmp_path, content):
    path = tmp_path / "letter.mp3"
    path.write_bytes(content)
    refused(path, "not an audio file")


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_file_without_samples(tmp_path, kind):
    path = write(tmp_path / "a", np.zeros(0), RATE, **FORMATS[kind])
    refused(path, "holds no audio|is empty")


@pytest.mark.parametrize("kind", FORMATS)
def test_silence(tmp_path, kind):
    refused(write(tmp_path / "a", np.zeros(2 * 48000), 48000, **FORMATS[kind]), "is silent")


def test_silence_in_an_excerpt(tmp_path):
    path = write(tmp_path / "a.wav", np.concatenate([sine(1, RATE), np.zeros(4 * RATE)]), RATE)
    assert len(read_audio(path, RATE)) == 5 * RATE
    with pytest.raises(AudioError, match=rf"^Seconds 2 to 3 of {path} are silent.*cut out a part"):
        read_audio(path, RATE, 2.0, 1.0)


def test_silence_at_the_beginning(tmp_path):
    path = write(tmp_path / "late.wav", np.concatenate([np.zeros(4 * RATE), sine(1, RATE)]), RATE)
    with pytest.raises(AudioError, match=rf"^The first 3 s of {path} are silent"):
        read_audio(path, RATE, duration_s=3.0)
    silent = write(tmp_path / "silent.wav", np.zeros(2 * RATE), RATE)
    for duration_s in (2.0, 60.0):
        with pytest.raises(AudioError, match=rf"^{silent} is silent"):
            read_audio(silent, RATE, duration_s=duration_s)


@pytest.mark.parametrize("kind", ["wav", "wav8", "float"])
def test_channels_that_cancel_out(tmp_path, kind):
    channels = np.stack([sine(2, RATE), -sine(2, RATE)], axis=1)
    # Steps that 8 bits have, for rounding would leave a difference.
    channels = np.round(channels * 128) / 128
    path = write(tmp_path / "a.wav", channels, RATE, **FORMATS[kind])
    refused(path, "channels of .* cancel each other out.* give one of them alone")
    with pytest.raises(AudioError, match="channels of the array cancel each other out"):
        from_array(channels, RATE, RATE)
    # What can be heard in one place is heard.
    channels[-100:] = 0.5
    assert len(read_audio(write(tmp_path / "b.wav", channels, RATE, **FORMATS[kind]), RATE))


@pytest.mark.parametrize("rate_hz", [8000, 4000, 44100])
@pytest.mark.parametrize("kind", ["wav", "flac", "float"])
def test_one_sample(tmp_path, kind, rate_hz):
    refused(write(tmp_path / "a", np.full(1, 0.5), rate_hz, **FORMATS[kind]), "holds")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [slice(None), slice(12345, 12346)])
def test_samples_that_are_no_numbers(tmp_path, value, at):
    samples = np.stack([sine(2, RATE)] * 2, axis=1)
    samples[at, 1] = value
    path = write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    refused(path, rf"NaN or infinite samples, the first at {(at.start or 0) / RATE:.3f} s")


def test_floats_on_the_scale_of_integers(tmp_path):
    path = write(tmp_path / "a.wav", 32767 * sine(1, RATE, amplitude=1), RATE, subtype="FLOAT")
    refused(path, "peaks at 32767")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["wav", "wav24", "flac", "aiff", "mp3"])
def test_truncated_files_name_what_was_declared(tmp_path, mixture, kind, kept):
    path = tmp_path / "a"
    write(path, mixture, 44100, **FORMATS[kind])
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(path, r"is truncated.* declares (\d{6} bytes|3\.00 s) of audio, but .*\d+")


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_truncated_streams_lack_their_last_page(tmp_path, mixture, kind, kept):
    path = tmp_path / "a"
    rate_hz = 48000 if kind == "opus" else 44100
    write(path, np.tile(mixture, (5, 1)), rate_hz, **FORMATS[kind])
    assert len(read_audio(path, RATE)) > 0
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(path, r"is truncated: no page of it ends the stream after the \d+ samples")


@pytest.mark.parametrize("rate_hz", [16000, 44100])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_without_a_header_is_read_to_its_end(
    tmp_path, rng, bitrate_mode, n_channels, rate_hz
):
    """As an encoder writes it to a pipe; near silence first, so that the bit rate rises."""
    path = tmp_path / "a.mp3"
    level = np.repeat([1e-3, 1.0], 3 * rate_hz)[:, None]
    samples = level * rng.uniform(-0.5, 0.5, (6 * rate_hz, n_channels))
    kind = {"format": "MP3", "bitrate_mode": bitrate_mode, "compression_level": 0.3}
    write(path, samples, rate_hz, **kind)
    whole = read_audio(path, rate_hz)
    content = path.read_bytes()
    tag = max(content.find(b"Xing"), content.find(b"Info"))
    # The first frame holds no sound but the length; each frame starts with the same two bytes.
    frames = content[content.index(content[:2], tag) :]
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x20" + bytes(32) + frames)
    heard = read_audio(path, rate_hz)
    # The header also held the encoder's delay and padding, now heard as a little more silence.
    assert 0 <= len(heard) - len(whole) < 0.4 * rate_hz
    delay = np.argmax(scipy.signal.correlate(heard, whole, "valid", method="fft"))
    np.testing.assert_allclose(heard[delay : delay + len(whole)], whole, atol=0.05)
    np.testing.assert_allclose(
        np.concatenate(list(iter_blocks(path, rate_hz, 0.5))), heard, atol=1e-4
    )

    path.write_bytes(frames[: len(frames) // 2])
    assert 0.2 * len(whole) < len(read_audio(path, rate_hz)) < 0.9 * len(whole)


@pytest.mark.parametrize("placeholder", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_has_no_declared_length(tmp_path, placeholder):
    path = tmp_path / "a.wav"
    write(path, sine(2, RATE), RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = placeholder.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path, RATE), sine(2, RATE), atol=1e-4)


def test_a_damaged_flac_says_where_decoding_stopped(tmp_path, mixture):
    path = tmp_path / "a.flac"
    write(path, mixture, 44100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    path.write_bytes(content)
    refused(path, r"damaged: it declares 3\.00 s of audio, but decoding breaks off after 1\.")


def test_a_flac_from_a_pipe_is_refused(tmp_path, mixture):
    path = tmp_path / "a.flac"
    write(path, mixture, 44100)
    content = bytearray(path.read_bytes())
    # The last 36 bits of the first 18 bytes of STREAMINFO: the number of samples.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    refused(path, "does not declare its length")


def test_a_sample_rate_that_is_none(tmp_path):
    refused(write(tmp_path / "a.wav", sine(1, 500, 50), 500), "sample rate is 500 Hz")


def test_no_file_stays_open(tmp_path, mixture):
    path = write(tmp_path / "a.wav", mixture, 44100)
    blocks = iter_blocks(path, RATE, 0.1)
    next(blocks)
    blocks.close()
    opened = {
        os.path.realpath(link)
        for link in map("/proc/self/fd/{}".format, os.listdir("/proc/self/fd"))
    }
    assert os.path.realpath(path) not in opened


# ---- Arrays ----


@pytest.mark.parametrize(
    ("dtype", "scale", "middle"),
    [("int8", 2**7, 0), ("uint8", 2**7, 128), ("int16", 2**15, 0), ("int32", 2**31, 0)],
)
def test_integer_arrays_are_taken_on_their_full_scale(dtype, scale, middle):
    samples = sine(1, RATE)
    integers = np.round(samples * (scale - 1) + middle).astype(dtype)
    np.testing.assert_allclose(from_array(integers, RATE, RATE), samples, atol=2 / scale + 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_array_is_heard_as_the_file(tmp_path, mixture, dtype):
    path = write(tmp_path / "a.wav", mixture, 44100, subtype="FLOAT")
    heard = from_array(mixture.astype(dtype), 44100, RATE)
    np.testing.assert_allclose(
        heard, read_audio(path, RATE), atol=2e-3 if dtype == "float16" else 1e-5
    )


def test_an_array_is_left_as_it_was(mixture):
    before = mixture.copy()
    from_array(mixture, 44100, RATE)[:] = 0
    from_array(mixture[:, 0].astype(np.float32), RATE, RATE)[:] = 0
    np.testing.assert_array_equal(mixture, before)


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros(0), "no audio"),
        (np.zeros((0, 2)), "no audio"),
        (np.zeros(RATE), "silent"),
        (np.full(1, 0.5), "less than 1 ms"),
        (np.full(RATE, np.nan), "NaN"),
        (np.full(RATE, 500.0), "peaks at 500"),
        (np.ones((2, RATE)), "shape"),
        (np.ones((4, 4, 4)), "shape"),
        (np.float32(1), "shape"),
        (np.ones(RATE, complex), "complex128"),
        (np.ones(RATE, np.int64), "int64"),
        (np.ones(RATE, bool), "bool"),
        (np.array(["a"] * 9), "<U1"),
    ],
)
def test_arrays_that_are_no_audio(samples, match):
    with pytest.raises(AudioError, match=match):
        from_array(samples, RATE, RATE)


@pytest.mark.parametrize("rates", [(0, RATE), (RATE, -1), (44100.5, RATE), (float("nan"), RATE)])
def test_rates_that_are_none(rates):
    with pytest.raises(AudioError, match="sample rate"):
        from_array(sine(1, RATE), *rates)


# ---- Finding files ----


def test_files_come_as_given_and_folders_sorted(tmp_path):
    for name in (
        "b/2.WAV",
        "b/1.mp3",
        "a.opus",
        "b/c/x.flac",
        "b/notes.txt",
        "b/._1.mp3",
        "odd.bin",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = find_audio([tmp_path / "odd.bin", str(tmp_path), tmp_path / "a.opus"])
    expected = ["odd.bin", "a.opus", "b/1.mp3", "b/2.WAV", "b/c/x.flac"]
    assert found == [str(tmp_path / name) for name in expected]
    assert all(suffix == suffix.lower() for suffix in audio.AUDIO_SUFFIXES)


def test_linked_folders_are_walked_once_and_last(tmp_path):
    music = tmp_path / "music"
    for path in (music / "z" / "1.wav", tmp_path / "disk" / "deep" / "2.wav"):
        path.parent.mkdir(parents=True)
        path.touch()
    for name, target in {
        "a": "z",
        "disk": tmp_path / "disk",
        "loop": music,
        "other_disk": tmp_path / "disk",
        "z/up": "..",
    }.items():
        (music / name).symlink_to(target)
    expected = [str(music / "z/1.wav"), str(music / "disk/deep/2.wav")]
    assert find_audio([music]) == expected
    (music / "above").symlink_to(tmp_path)
    assert find_audio([music]) == [expected[0], str(music / "above/disk/deep/2.wav")]
    assert find_audio([music / "a"])[0] == str(music / "a/1.wav")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(AudioError, match="nowhere does not exist"):
        find_audio([tmp_path / "nowhere"])
    with pytest.raises(AudioError, match="holds no audio files"):
        find_audio([tmp_path])


def test_what_cannot_be_reached_is_said(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AudioError, match=r"loop cannot be reached: Too many levels"):
        find_audio([tmp_path / "loop"])


def test_a_forbidden_folder_is_listed_for_the_reader_to_find_out(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    (tmp_path / "a.wav").touch()
    scandir = os.scandir

    def forbid(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    assert find_audio([tmp_path]) == [str(tmp_path / "a.wav"), str(tmp_path / "secret")]


def test_real_recordings_decode_to_their_stated_length(shared_audio):
    header, *lines = (shared_audio / "manifest.csv").read_text().splitlines()
    assert header.startswith("path,kind,split,duration_s")
    for line in itertools.islice(lines, 0, None, 60):
        path, _, _, duration_s = line.split(",")[:4]
        n_samples = len(read_audio(shared_audio / path, RATE))
        assert n_samples / RATE == pytest.approx(float(duration_s), abs=0.05)
