"""FFmpeg encodes what went in; with a lossless codec that is what has to come out."""

import av
import numpy as np
import pytest
import soundfile

from fingerprint.audio import AudioError, find_audio, iter_blocks, read_audio, read_duration_s
from fingerprint.container_audio import ContainerFile

RATE = 44100


def sweep(duration_s, rate_hz, n_channels=2):
    """A tone that rises, other in each channel: ``(n, n_channels)``."""
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    tones = [0.4 * np.sin(2 * np.pi * (300 + 500 * c + 100 * times_s) * times_s) for c in (0, 1)]
    return np.stack(tones[:n_channels], axis=1).astype(np.float32)


def encode(path, kind, codec, samples, rate_hz=RATE, video=False, **options):
    """Write samples ``(n, n_channels)``; with a video, a few black pictures beside them."""
    layout = "stereo" if samples.shape[1] == 2 else "mono"
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        pictures = container.add_stream("mpeg4", rate=10) if video else None
        if pictures:
            pictures.width = pictures.height = 64
            for _ in range(20):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode_at(path, kind, codec, samples, pts_of):
    """Like `encode`, at 48 kHz, with each packet at another time: ``pts_of(pts)``, in samples."""
    rate_hz, layout = 48000, "stereo"
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            packet.pts = packet.dts = pts_of(packet.pts)
            container.mux(packet)
    return path


def refused(path, match):
    for read in (lambda: read_audio(path, 8000), lambda: list(iter_blocks(path, 8000))):
        with pytest.raises(AudioError, match=match) as error:
            read()
        assert str(path) in str(error.value)


@pytest.mark.parametrize(("kind", "video"), [("ipod", False), ("mp4", True), ("matroska", False)])
def test_lossless_audio_is_what_went_in(tmp_path, kind, video):
    samples = sweep(3.3, RATE)
    path = encode(tmp_path / "clip.m4a", kind, "alac", samples, video=video)
    np.testing.assert_allclose(read_audio(path, RATE), samples.mean(axis=1), atol=1e-6)
    assert read_duration_s(path) == pytest.approx(3.3)


@pytest.mark.parametrize(
    ("kind", "codec", "rate_hz", "n_channels", "delay"),
    [
        ("ipod", "aac", 44100, 2, 0),
        ("3gp", "aac", 16000, 1, 0),
        ("webm", "libopus", 48000, 2, 0),
        ("adts", "aac", 44100, 2, 1024),  # it has no place to say what the encoder put before
        ("matroska", "aac", 44100, 2, 0),
    ],
)
def test_what_telephones_record_begins_where_it_began(
    tmp_path, kind, codec, rate_hz, n_channels, delay
):
    samples = sweep(4, rate_hz, n_channels)
    path = encode(tmp_path / "clip", kind, codec, samples, rate_hz)
    found = read_audio(path, rate_hz)
    expected = samples.mean(axis=1)
    # The last frame is filled up.
    assert 0 <= len(found) - delay - len(expected) <= 1024
    middle = slice(rate_hz, 2 * rate_hz)
    heard = found[delay:][middle]
    assert np.corrcoef(heard, expected[middle])[0, 1] > 0.99
    assert np.corrcoef(heard[5:], expected[middle][:-5])[0, 1] < 0.95


def test_speech_coders_of_telephones(tmp_path):
    samples = sweep(3, 8000, 1)
    path = encode(tmp_path / "memo.amr", "amr", "libopencore_amrnb", samples, 8000)
    found, expected = read_audio(path, 8000), samples[:, 0]
    assert abs(len(found) - len(expected)) < 0.03 * 8000
    # The tone rises from 500 to 700 Hz in that second.
    power = np.abs(np.fft.rfft(found[8000:16000])) ** 2
    assert power[480:720].sum() > 0.9 * power.sum()


def test_an_excerpt_is_that_part_of_the_whole(tmp_path):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(6, RATE))
    whole = read_audio(path, 8000)
    excerpt = read_audio(path, 8000, start_s=2.5, duration_s=1.25)
    np.testing.assert_allclose(excerpt, whole[20000:30000], atol=1e-5)
    with pytest.raises(AudioError, match=r"ends after 6\.00 s"):
        read_audio(path, 8000, start_s=7.0)


def test_blocks_are_the_whole(tmp_path):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(5, RATE))
    blocks = list(iter_blocks(path, 8000, block_s=0.7))
    assert len(blocks) > 5
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path, 8000), atol=1e-6)


@pytest.mark.parametrize("kind", ["mp4", "webm", "matroska"])
@pytest.mark.parametrize(
    "pts_of",
    [
        lambda pts: pts + 96000,  # after the pictures of a video
        lambda pts: pts + 144000 * (pts > 96000),  # a recording that was paused
        lambda pts: round(1.03 * pts),  # by the clock of the system, which is another
        lambda pts: round(0.97 * pts),
    ],
)
def test_times_of_packets_are_not_how_long_the_audio_is(tmp_path, kind, pts_of):
    samples = sweep(4, 48000)
    codec = "alac" if kind == "mp4" else "libopus"
    path = encode_at(tmp_path / "clip", kind, codec, samples, pts_of)
    found, expected = read_audio(path, 48000), samples.mean(axis=1)
    assert abs(len(found) - len(expected)) <= 0.01 * 48000
    n = min(map(len, (found, expected)))
    assert np.corrcoef(found[:n], expected[:n])[0, 1] > 0.99


def test_an_mp4_in_fragments(tmp_path):
    samples, flags = sweep(4, RATE), "frag_keyframe+empty_moov+default_base_moof"
    path = encode(tmp_path / "clip.mp4", "mp4", "alac", samples, movflags=flags)
    np.testing.assert_allclose(read_audio(path, RATE), samples.mean(axis=1), atol=1e-6)


def test_speech_coders_that_pause(tmp_path):
    """While nobody speaks, a telephone sends frames of five bytes, or none (3GPP TS 26.101)."""
    path = encode(tmp_path / "memo.amr", "amr", "libopencore_amrnb", sweep(3, 8000, 1), 8000)
    content, n_frame = path.read_bytes(), 13
    magic, frames = content[:6], content[6:]
    assert magic == b"#!AMR\n" and not len(frames) % n_frame and frames[0] == frames[n_frame]
    silent = b"\x44" + bytes(5) + 4 * b"\x7c"
    path.write_bytes(magic + frames[: 75 * n_frame] + silent + frames[80 * n_frame :])
    assert len(read_audio(path, 8000)) == len(frames) // n_frame * 160


def test_a_track_that_nobody_can_decode(tmp_path):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(3, RATE))
    start, end = path.read_bytes().split(b"stsd")
    # As in a file that was bought under protection.
    path.write_bytes(start + b"stsd" + end.replace(b"alac", b"drms", 1))
    refused(path, "not an audio file")


@pytest.mark.parametrize("second", [(22050, 2), (44100, 1)])
def test_audio_that_becomes_another_kind_is_refused(tmp_path, second):
    parts = [(RATE, 2), second]
    paths = [
        encode(tmp_path / f"{i}.aac", "adts", "aac", sweep(2, rate_hz, n), rate_hz)
        for i, (rate_hz, n) in enumerate(parts)
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(each.read_bytes() for each in paths))
    refused(path, "or it is damaged or cut off")


def test_a_matroska_file_that_was_cut_is_refused(tmp_path):
    path = encode(tmp_path / "clip.mka", "matroska", "alac", sweep(6, RATE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "or it is damaged or cut off")


@pytest.mark.parametrize("flags", [{}, {"movflags": "faststart"}])
@pytest.mark.parametrize("share", [0.3, 0.77, 0.99])
def test_a_file_that_was_cut_is_refused(tmp_path, flags, share):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(9, RATE), **flags)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    # Without the index, which stands at the end unless it was moved, nothing can be decoded.
    refused(path, r"can be decoded \(.*\), or it is damaged or cut off")


def test_what_was_trimmed_away_is_not_heard_and_not_missed(tmp_path):
    """The editor of a telephone leaves the packets there, and says from which second on it is."""
    samples = sweep(6, 48000)
    path = encode_at(tmp_path / "clip.m4a", "mp4", "alac", samples, lambda pts: pts - 96000)
    np.testing.assert_allclose(read_audio(path, 48000), samples[96000:].mean(axis=1), atol=1e-6)


def test_a_damaged_file_is_refused(tmp_path, rng):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(9, RATE))
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 9000] = rng.bytes(9000)
    path.write_bytes(content)
    refused(path, "or it is damaged or cut off")


def test_a_video_without_sound(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    refused(path, "not an audio file")


def test_a_recording_of_nothing(tmp_path):
    path = tmp_path / "clip.m4a"
    with av.open(str(path), "w", format="ipod") as container:
        container.add_stream("alac", rate=RATE, layout="stereo")
        container.start_encoding()
    refused(path, "holds no audio|not an audio file")


def test_silence_and_channels_that_cancel_out(tmp_path):
    refused(encode(tmp_path / "a.m4a", "ipod", "alac", 0 * sweep(2, RATE)), "is silent")
    samples = sweep(2, RATE)
    samples[:, 1] = -samples[:, 0]
    refused(encode(tmp_path / "b.m4a", "ipod", "alac", samples), "cancel each other out")


def test_a_list_of_addresses_is_not_followed(tmp_path):
    """A playlist names other files, which FFmpeg would open, wherever they are."""
    inside = encode(tmp_path / "inside.aac", "adts", "aac", sweep(2, RATE))
    listed = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inside}\n#EXT-X-ENDLIST\n"
    for name, text in (("clip.m4a", listed), ("list.aac", f"ffconcat version 1.0\nfile {inside}")):
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, "not an audio file")


def test_what_libsndfile_refuses_is_not_tried_again(tmp_path):
    """FFmpeg would read what there is of it, and nobody would know that it is not all."""
    path = tmp_path / "cut.flac"
    soundfile.write(path, sweep(4, RATE), RATE)
    path.write_bytes(b"junk" + path.read_bytes()[4:])
    refused(path, "not an audio file")


def test_folders_are_searched_for_them(tmp_path):
    names = ["a.m4a", "b.mp4", "c.3gp", "d.AMR", "e.aac", "f.txt", "g.mkv"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert find_audio([tmp_path]) == [str(tmp_path / name) for name in names[:5]]


def test_it_tells_where_it_is(tmp_path):
    path = encode(tmp_path / "clip.m4a", "ipod", "alac", sweep(2, RATE))
    with ContainerFile(str(path)) as sound:
        assert (sound.samplerate, sound.channels, sound.frames) == (RATE, 2, 2 * RATE)
        sound.seek(1000)
        assert sound.tell() == 1000
        block = sound.read(np.empty((500, 2), np.float32))
        np.testing.assert_allclose(block, sweep(2, RATE)[1000:1500], atol=1e-6)
        assert sound.tell() == 1500
        assert len(sound.read(np.empty((3 * RATE, 2), np.float32))) == 2 * RATE - 1500
        assert not len(sound.read(np.empty((10, 2), np.float32)))
