"""Corpora become datasets: the right files, exact samples, reuse, and sentences for the rest."""

import csv
import socket

import fingerprint_data
import numpy as np
import pytest
import soundfile
from fingerprint_data.corpus import CorpusError, read_impulse_response

from fingerprint import music_synthesis
from fingerprint.audio import AudioError
from fingerprint.errors import ConfigError

RATE_HZ = 8000


def write(path, seed=0, n_samples=4000, rate_hz=RATE_HZ, channels=1):
    """A file of noise, and what it holds as int16 ``(n_samples, channels)``."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(-20000, 20000, (n_samples, channels)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz)
    return samples


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def prepare(section, root, cache):
    return fingerprint_data.prepare(
        section, root=root and str(root), cache_dir=str(cache), sample_rate_hz=RATE_HZ
    )


def examples(builder):
    """Everything in a prepared dataset, by name of the track."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split="all", read_config=config)
    return {example["track"].decode(): example for example in dataset.as_numpy_iterator()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def manifest_folder(tmp_path_factory):
    """Two training songs, one for testing, one noise, an impulse response and a broken file."""
    folder = tmp_path_factory.mktemp("manifest")
    write(folder / "music/one.wav", 1)
    write(folder / "music/two.flac", 2, rate_hz=16000)
    write(folder / "music/held_out.wav", 3)
    write(folder / "noise/rain.wav", 4)
    write(folder / "rooms/hall.wav", 5, channels=2)
    (folder / "music/broken.wav").write_bytes(b"this is not audio")
    write_table(
        folder / "manifest.csv",
        [
            ("path", "kind", "split", "duration_s", "title"),
            ("music/one.wav", "music", "train", "0.5", "One"),
            ("music/two.flac", "music", "train", "0.25", "Two, with a comma"),
            ("music/broken.wav", "music", "train", "1", ""),
            ("music/missing.wav", "music", "train", "1", ""),
            ("music/held_out.wav", "music", "test", "0.5", ""),
            ("noise/rain.wav", "noise", "train", "0.5", ""),
            ("rooms/hall.wav", "room_ir", "train", "0.5", ""),
        ],
    )
    return folder


TRAIN_MUSIC = {"builder": "audio_folder", "source": ".", "kind": "music", "split": "train"}


def test_a_manifest_chooses_files_by_kind_and_split(manifest_folder, cache):
    found = examples(prepare(TRAIN_MUSIC, manifest_folder, cache))
    assert sorted(found) == ["music/one.wav", "music/two.flac"]
    assert {example["kind"] for example in found.values()} == {b"music"}
    one = found["music/one.wav"]["audio"]
    assert one.dtype == np.int16
    np.testing.assert_array_equal(
        one, soundfile.read(manifest_folder / "music/one.wav", dtype="int16")[0]
    )
    assert len(found["music/two.flac"]["audio"]) == 2000  # 4000 samples at twice the rate


def test_a_manifest_may_name_files_outside_its_folder(manifest_folder, tmp_path):
    song = manifest_folder / "music/one.wav"
    write_table(tmp_path / "manifest.csv", [("path",), (str(song),)])
    section = {"builder": "audio_folder", "kind": "music"}
    assert list(examples(prepare(section, tmp_path, tmp_path / "cache"))) == [song.as_posix()]


def test_files_that_cannot_be_read_are_named_on_stderr(manifest_folder, tmp_path, capsys):
    prepare(TRAIN_MUSIC, manifest_folder, tmp_path)
    captured = capsys.readouterr()
    assert "2 of 4 files could not be read" in captured.err
    assert "music/broken.wav" in captured.err and "music/missing.wav" in captured.err
    assert captured.out == ""


def test_the_same_corpus_is_not_decoded_twice(manifest_folder, cache, monkeypatch):
    first = prepare(TRAIN_MUSIC, manifest_folder, cache)
    with monkeypatch.context() as patch:
        patch.setattr("fingerprint_data.corpus.audio.read_audio", None)
        again = prepare(TRAIN_MUSIC, manifest_folder, cache)
        assert again.data_dir == first.data_dir
        assert sorted(examples(again)) == ["music/one.wav", "music/two.flac"]


def test_a_manifest_of_real_recordings_is_read_as_it_is(shared_audio, cache):
    section = {**TRAIN_MUSIC, "kind": "device_ir"}
    with (shared_audio / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "device_ir"]
    found = examples(prepare(section, shared_audio, cache))
    assert sorted(found) == sorted(row["path"] for row in rows if row["split"] == "train")


@pytest.mark.parametrize("change", ["section", "file", "files", "rate"])
def test_another_corpus_is_another_dataset(tmp_path, change):
    folder = tmp_path / "audio"
    write(folder / "a.wav", 1)
    write(folder / "b.wav", 2)
    section, rate_hz = {"builder": "audio_folder", "source": "audio"}, RATE_HZ
    args = {"root": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    before = fingerprint_data.prepare(section, sample_rate_hz=rate_hz, **args)
    if change == "section":
        section["kind"] = "noise"
    elif change == "file":
        write(folder / "b.wav", 3)
    elif change == "files":
        (folder / "b.wav").unlink()
    else:
        rate_hz = 4000
    after = fingerprint_data.prepare(section, sample_rate_hz=rate_hz, **args)
    assert after.data_dir != before.data_dir
    assert sum(len(example["audio"]) for example in examples(after).values()) == {
        "section": 8000, "file": 8000, "files": 4000, "rate": 4000
    }[change]  # fmt: skip


def test_a_folder_without_manifest_is_taken_whole(tmp_path):
    write(tmp_path / "audio/deep/er/a.wav", 1)
    write(tmp_path / "audio/b.flac", 2)
    (tmp_path / "audio/notes.txt").write_text("not audio")
    builder = prepare({"builder": "audio_folder", "source": "audio"}, tmp_path, tmp_path / "cache")
    assert sorted(examples(builder)) == ["b.flac", "deep/er/a.wav"]


def test_impulse_responses_keep_their_first_channel_at_peak_one(manifest_folder, cache):
    section = {**TRAIN_MUSIC, "kind": "room_ir"}
    (example,) = examples(prepare(section, manifest_folder, cache)).values()
    first = soundfile.read(manifest_folder / "rooms/hall.wav")[0][:, 0]
    assert example["audio"].dtype == np.float32
    np.testing.assert_allclose(example["audio"], first / np.abs(first).max(), atol=1e-6)


def test_music_is_no_impulse_response(tmp_path):
    write(tmp_path / "song.wav", n_samples=30 * RATE_HZ)
    with pytest.raises(AudioError, match=r"song.wav is 30 s long, more than the 25 s"):
        read_impulse_response(tmp_path / "song.wav", RATE_HZ)


def test_no_network_is_asked(manifest_folder, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"network access: {args}")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(examples(prepare(TRAIN_MUSIC, manifest_folder, tmp_path))) == 2


@pytest.mark.parametrize(
    ("section", "error", "sentence"),
    [
        ({"builder": "gtzan"}, ConfigError, "The builder 'gtzan' is not one of audio_folder,"),
        ({}, ConfigError, "The builder None is not one of"),
        ({**TRAIN_MUSIC, "shuffle": 1}, ConfigError, "takes the settings source, kind, split: .*"),
        ({**TRAIN_MUSIC, "kind": "songs"}, ConfigError, "'songs' of `kind` is not one of 'music'"),
        ({**TRAIN_MUSIC, "split": "dev"}, CorpusError, "no row of kind 'music' and split 'dev'"),
        ({**TRAIN_MUSIC, "source": "nowhere"}, CorpusError, "nowhere does not exist: put the"),
        (
            {**TRAIN_MUSIC, "source": "bad_header"},
            CorpusError,
            "needs a header with a column `path`",
        ),
        (
            {**TRAIN_MUSIC, "source": "short_row"},
            CorpusError,
            "in each row the path of a file",
        ),
        ({**TRAIN_MUSIC, "source": "latin"}, CorpusError, "cannot be read as a table in UTF-8"),
        ({**TRAIN_MUSIC, "source": "no_split"}, CorpusError, "has no column `split`"),
        ({**TRAIN_MUSIC, "source": "empty"}, CorpusError, "empty holds no audio files"),
        (
            {**TRAIN_MUSIC, "source": "broken"},
            CorpusError,
            "None of the 1 music files could be read",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(manifest_folder, tmp_path, section, error, sentence):
    if not (manifest_folder / "empty").exists():
        (manifest_folder / "empty").mkdir()
        write_table(manifest_folder / "bad_header/manifest.csv", [("file",), ("a.wav",)])
        write_table(manifest_folder / "short_row/manifest.csv", [("kind", "path"), ("music",)])
        (manifest_folder / "latin").mkdir()
        (manifest_folder / "latin/manifest.csv").write_bytes("path\nété.wav".encode("latin-1"))
        write_table(manifest_folder / "no_split/manifest.csv", [("path",), ("a.wav",)])
        write_table(
            manifest_folder / "broken/manifest.csv", [("path", "split"), ("a.wav", "train")]
        )
    with pytest.raises(error, match=sentence) as caught:
        prepare(section, manifest_folder, tmp_path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_relative_source_needs_a_root(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.data\.root, which is not set"):
        prepare(TRAIN_MUSIC, None, tmp_path)


# --- synthetic ---


@pytest.mark.parametrize("kind", ["music", "noise", "room_ir", "device_ir"])
def test_synthetic_tracks_are_those_of_their_seeds(kind, cache):
    section = {"builder": "synthetic", "kind": kind, "n_tracks": 3, "first_seed": 7}
    if kind in ("music", "noise"):
        section["duration_s"] = 1.5
    found = examples(prepare(section, None, cache))
    assert sorted(found) == [f"{kind}/{seed:06d}" for seed in (7, 8, 9)]
    samples = found[f"{kind}/000008"]["audio"]
    if kind == "music":
        expected = music_synthesis.synthesize_track(8, 1.5, RATE_HZ)
        np.testing.assert_allclose(samples / 32768, expected, atol=1 / 32768)
    if kind == "device_ir":
        np.testing.assert_array_equal(samples, music_synthesis.synthesize_device(8, RATE_HZ))
    if kind.endswith("_ir"):
        assert np.abs(samples).max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_tracks": 0}, "n_tracks is 0"),
        ({"first_seed": -1}, "first_seed -1"),
        ({"duration_s": 0}, "duration_s is 0.0, but it has to be positive"),
        ({"kind": "room_ir", "duration_s": 1.0}, "the kind 'room_ir' has none"),
    ],
)
def test_synthetic_settings_that_cannot_be(settings, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        prepare({"builder": "synthetic", **settings}, None, tmp_path)


# --- corpora: small replicas of their layouts ---


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    for number in (2, 5, 134):
        write(root / f"fma/fma_small/000/{number:06d}.wav", number)
    (root / "fma/fma_small/README.txt").write_text("not audio")
    write_table(
        root / "fma/fma_metadata/tracks.csv",
        [
            ("", "album", "set", "set", "track"),
            ("", "title", "split", "subset", "title"),
            ("track_id", "", "", "", ""),
            ("2", "A, b", "training", "small", "Food"),
            ("5", "A, b", "training", "small", "This World"),
            ("134", "C", "test", "small", "Street Music"),
            ("140", "D", "test", "large", "Not in the small set"),
        ],
    )
    for name in ("1-100032-A-0", "1-100038-A-14", "5-9032-A-0"):
        write(root / f"ESC-50/audio/{name}.wav")
    write_table(
        root / "ESC-50/meta/esc50.csv",
        [
            ("filename", "fold", "target", "category", "esc10", "src_file", "take"),
            ("1-100032-A-0.wav", "1", "0", "dog", "True", "100032", "A"),
            ("1-100038-A-14.wav", "1", "14", "chirping_birds", "False", "100038", "A"),
            ("5-9032-A-0.wav", "5", "0", "dog", "True", "9032", "A"),
        ],
    )
    for name in ("music/fma/music-fma-0000", "speech/librivox/speech-librivox-0000",
                 "noise/free-sound/noise-free-sound-0000"):  # fmt: skip
        write(root / f"musan/{name}.wav", rate_hz=16000)
    (root / "musan/noise/free-sound/ANNOTATIONS").write_text("text")
    write(root / "mit_ir/Audio/h001_Bedroom_65txts.wav", rate_hz=32000)
    write(root / "mit_ir/Audio/h002_Bedroom_33txts.wav", rate_hz=32000)
    write(root / "openair/hall/b-format/s1r1.wav", 1, channels=4)
    write(root / "openair/hall/stereo/s1r1.wav", 2, channels=2)
    write(root / "openair/church/mono/s1.wav", 3)
    return root


@pytest.mark.parametrize(
    ("section", "kind", "tracks"),
    [
        ({"builder": "fma"}, "music", ["000/000002.wav", "000/000005.wav", "000/000134.wav"]),
        ({"builder": "fma", "split": "training"}, "music", ["000/000002.wav", "000/000005.wav"]),
        ({"builder": "fma", "split": "test"}, "music", ["000/000134.wav"]),
        ({"builder": "esc50", "folds": (1,)}, "noise", ["1-100032-A-0.wav", "1-100038-A-14.wav"]),
        (
            {"builder": "musan"},
            "noise",
            [
                "noise/free-sound/noise-free-sound-0000.wav",
                "speech/librivox/speech-librivox-0000.wav",
            ],
        ),
        ({"builder": "musan", "parts": ("music",)}, "music", ["music/fma/music-fma-0000.wav"]),
        (
            {"builder": "mit_ir"},
            "room_ir",
            ["Audio/h001_Bedroom_65txts.wav", "Audio/h002_Bedroom_33txts.wav"],
        ),
        ({"builder": "openair", "places": ("church",)}, "room_ir", ["church/mono/s1.wav"]),
        (
            {"builder": "openair"},
            "room_ir",
            ["church/mono/s1.wav", "hall/b-format/s1r1.wav", "hall/stereo/s1r1.wav"],
        ),
    ],
)
def test_a_corpus_is_read_in_its_own_layout(corpora, cache, section, kind, tracks):
    builder = prepare(section, corpora, cache)
    found = examples(builder)
    assert sorted(found) == tracks
    assert {example["kind"].decode() for example in found.values()} == {kind}
    expected_dtype = np.float32 if kind == "room_ir" else np.int16
    assert all(example["audio"].dtype == expected_dtype for example in found.values())
    assert builder.name == section["builder"]


def test_the_omnidirectional_channel_of_b_format_is_taken(corpora):
    samples = soundfile.read(corpora / "openair/hall/b-format/s1r1.wav")[0]
    taken = read_impulse_response(corpora / "openair/hall/b-format/s1r1.wav", RATE_HZ)
    np.testing.assert_allclose(taken, samples[:, 0] / np.abs(samples[:, 0]).max(), atol=1e-6)


@pytest.mark.parametrize(
    ("section", "error", "sentence"),
    [
        ({"builder": "fma", "subset": "huge"}, ConfigError, "'huge' of `subset` is not one of"),
        ({"builder": "fma", "split": "train"}, ConfigError, "'train' of `split` is not one of"),
        ({"builder": "fma", "subset": "large"}, CorpusError, "fma_large does not exist: .*mdeff"),
        ({"builder": "fma", "split": "validation"}, CorpusError, "no audio that the section asks"),
        ({"builder": "esc50", "source": "fma"}, CorpusError, "esc50.csv does not exist: .*ESC-50"),
        ({"builder": "esc50", "source": "none"}, CorpusError, "none does not exist: .*ESC-50"),
        ({"builder": "esc50", "folds": (6,)}, CorpusError, "no audio that the section asks"),
        ({"builder": "musan", "source": "fma"}, CorpusError, "noise does not exist: .*openslr"),
        ({"builder": "musan", "parts": ("rain",)}, ConfigError, "'rain' of `parts` is not one of"),
        ({"builder": "mit_ir", "source": "ESC-50/meta"}, CorpusError, "no audio files: .*Reverb"),
        ({"builder": "openair", "source": "none"}, CorpusError, "does not exist: .*openair.hosted"),
        ({"builder": "openair", "places": ("cave",)}, ConfigError, "not one of 'church', 'hall'"),
    ],
)
def test_a_wrong_layout_says_where_to_get_the_corpus(corpora, cache, section, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        prepare(section, corpora, cache)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
