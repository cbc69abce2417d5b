"""Collections are fingerprinted by a small fixed model; the oracle is each file on its own."""

import csv
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import soundfile
from fingerprint_configs import nafp

from fingerprint import generate as generation
from fingerprint.audio import read_audio
from fingerprint.errors import FingerprintError
from fingerprint.generate import (
    ManifestError,
    generate,
    merge_stores,
    neural_store,
    read_manifest,
)
from fingerprint.segments import SegmentGrid
from fingerprint.store import Store, StoreError

RATE = 8000


class Projection:
    """A Fingerprinter by its contract: a fixed random projection of each segment."""

    sample_rate_hz = RATE
    embedding_dim = 6
    grid = SegmentGrid(RATE, duration_s=1.0, hop_s=0.5)

    def __init__(self, seed=0, delay_s=0.0):
        self.identity = f"projection-{seed}"
        self.config = nafp.get_config()
        self.batch_sizes = []
        self._delay_s = delay_s
        matrix = np.random.default_rng(seed).standard_normal((self.grid.n_samples, 6))
        self._matrix = matrix.astype(np.float32)

    def embed_segments(self, segments):
        assert segments.dtype == np.float32 and segments.shape[1:] == (self.grid.n_samples,)
        self.batch_sizes.append(len(segments))
        time.sleep(self._delay_s)
        projected = segments @ self._matrix
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)

    def embed(self, samples):
        return self.embed_segments(self.grid.cut(samples))


@pytest.fixture
def model():
    return Projection()


def write_noise(path, seed, duration_s, rate_hz=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(duration_s * rate_hz))
    soundfile.write(path, noise, rate_hz)
    return str(path)


@pytest.fixture
def music(tmp_path):
    """Six files: shorter than a segment, odd lengths, several blocks of decoding, other rates."""
    lengths = [(0.4, RATE), (3.3, RATE), (61.7, RATE), (1.0, 16000), (7.77, 22050), (2.26, RATE)]
    return [
        write_noise(tmp_path / "music" / f"{i}.wav", i, duration_s, rate_hz)
        for i, (duration_s, rate_hz) in enumerate(lengths)
    ]


@pytest.fixture
def store(tmp_path, model):
    return neural_store(tmp_path / "index", model)


def holds(store, paths, *, atol=1e-5):
    """The store holds these files in this order, each as it is fingerprinted on its own."""
    store = Store.open(store.folder)
    store.verify()
    assert [track.name for track in store.tracks] == list(paths)
    rows = store.column("embeddings")
    for track in store.tracks:
        samples = read_audio(track.name, RATE)
        alone = Projection().embed(samples)
        assert track.n_rows == Projection.grid.n_segments(len(samples))
        np.testing.assert_allclose(
            rows[track.first_row : track.first_row + track.n_rows], alone, atol=atol
        )
        assert track.duration_s == len(samples) / RATE
        assert track.resolved_path == os.path.realpath(track.name)


@pytest.mark.parametrize("segments_per_batch", [1, 7, 64, 10_000])
def test_each_file_is_fingerprinted_as_if_alone(music, store, model, segments_per_batch):
    report = generate(music, model, store, progress=False, segments_per_batch=segments_per_batch)
    assert (report.added, report.skipped, report.failed) == (music, [], [])
    holds(store, music)


def test_batches_are_full_across_files(music, store, model):
    generate(music, model, store, progress=False, segments_per_batch=10)
    assert set(model.batch_sizes[:-1]) == {10}
    assert sum(model.batch_sizes) == store.n_rows


def test_half_precision(tmp_path, music, model):
    store = neural_store(tmp_path / "half", model, "float16")
    generate(music, model, store, progress=False)
    assert store.column("embeddings").dtype == np.float16
    holds(store, music, atol=1e-3)


def test_folders_are_walked(music, store, model):
    folder = pathlib.Path(music[0]).parent
    (folder / "notes.txt").write_text("not to be read")
    assert generate([folder], model, store, progress=False).added == music


def test_finished_files_are_skipped(music, store, model, monkeypatch):
    generate(music[:3], model, store, progress=False)
    n_embedded = sum(model.batch_sizes)
    monkeypatch.chdir(pathlib.Path(music[0]).parent)
    # Also under another name for the same file.
    report = generate(["1.wav", *music, music[5]], model, store, progress=False)
    assert report.skipped == ["1.wav", *music[:3]]
    assert report.added == music[3:]
    holds(store, music)
    assert sum(model.batch_sizes) - n_embedded == store.n_rows - store.tracks[3].first_row


def test_a_file_is_taken_once_however_it_is_named(music, store, model, tmp_path):
    link = tmp_path / "link.wav"
    link.symlink_to(music[1])
    report = generate([music[1], link], model, store, progress=False)
    assert (report.added, report.skipped) == ([music[1]], [str(link)])


def test_a_collection_that_was_moved_is_skipped_by_name(music, store, model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    generate(["music"], model, store, progress=False)
    shutil.move("music", "elsewhere")
    os.mkdir("new_home")
    shutil.move("elsewhere", "new_home/music")
    monkeypatch.chdir("new_home")
    report = generate(["music"], model, store, progress=False)
    assert report.skipped == [f"music/{i}.wav" for i in range(6)]


def test_another_file_of_the_same_name_is_not_silently_skipped(store, model, monkeypatch, tmp_path):
    for album in ("a", "b"):
        write_noise(tmp_path / album / "01.wav", ord(album), 2.0)
        monkeypatch.chdir(tmp_path / album)
        report = generate(["01.wav"], model, store, progress=False)
    ((path, sentence),) = report.failed
    assert path == "01.wav" and "already the name of" in sentence and "a/01.wav" in sentence
    assert generate([tmp_path / "b" / "01.wav"], model, store, progress=False).failed == []


def test_a_different_recording_is_not_taken_for_one_that_is_gone(
    store, model, monkeypatch, tmp_path
):
    gone, other = (tmp_path / disk / "CD 1" / "01.wav" for disk in ("disk1", "disk2"))
    write_noise(gone, 1, 2.0)
    write_noise(other, 2, 2.3)
    monkeypatch.chdir(tmp_path / "disk1")
    generate(["."], model, store, progress=False)
    gone.unlink()
    monkeypatch.chdir(tmp_path / "disk2")
    report = generate(["."], model, store, progress=False)
    assert (report.added, report.skipped) == ([], [])
    ((path, sentence),) = report.failed
    assert path == "CD 1/01.wav"
    assert f"already the name of {gone}, which is gone and was of another length, in" in sentence
    assert f"by its full path, {other}, or" in sentence
    assert f"`fingerprint remove {store.folder} 'CD 1/01.wav'`." in sentence
    assert generate([other], model, store, progress=False).added == [str(other)]


def test_a_collection_that_was_moved_is_recognised_by_other_paths(music, store, model, tmp_path):
    generate([tmp_path / "music"], model, store, progress=False)
    shutil.move(tmp_path / "music", tmp_path / "home")
    names = [str(tmp_path / "home" / f"{i}.wav") for i in range(6)]
    # Another length, and another name.
    write_noise(tmp_path / "home" / "0.wav", 0, 0.4 + 0.11)
    shutil.move(names[1], tmp_path / "home" / "one.wav")
    report = generate([tmp_path / "home"], model, store, progress=False)
    assert report.skipped == names[2:]
    assert report.added == [names[0], str(tmp_path / "home" / "one.wav")]
    assert report.failed == []


def test_which_of_several_tracks_was_moved_is_not_guessed(store, model, tmp_path):
    for folder in ("a", "b"):
        write_noise(tmp_path / "music" / folder / "01.wav", ord(folder), 2.0)
    generate([tmp_path / "music"], model, store, progress=False)
    # As long as its own file is there, a track was not moved.
    copy = write_noise(tmp_path / "c" / "01.wav", 3, 2.0)
    assert generate([copy], model, store, progress=False).added == [copy]
    shutil.move(tmp_path / "music", tmp_path / "home")
    report = generate([tmp_path / "home"], model, store, progress=False)
    assert (len(report.added), report.skipped) == (2, [])


def test_a_moved_file_that_cannot_be_opened_is_named(music, store, model, tmp_path):
    generate(music[:1], model, store, progress=False)
    os.remove(music[0])
    (tmp_path / "0.wav").write_text("not audio")
    report = generate([tmp_path / "0.wav"], model, store, progress=False)
    assert "not an audio file" in dict(report.failed)[str(tmp_path / "0.wav")]


def test_files_that_cannot_be_used_do_not_stop_the_others(music, store, model, tmp_path):
    bad = tmp_path / "bad"
    silent = write_noise(bad / "silent.wav", 0, 1.0)
    soundfile.write(silent, np.zeros(40 * RATE), RATE)
    (bad / "text.mp3").write_text("not audio")
    cut = bad / "cut.flac"
    write_noise(cut, 1, 200.0)
    cut.write_bytes(cut.read_bytes()[:-200_000])
    missing = str(tmp_path / "nowhere.wav")
    paths = [music[0], silent, music[1], str(cut), missing, str(bad / "text.mp3"), music[2]]
    report = generate(paths, model, store, progress=False, segments_per_batch=16)
    assert report.added == music[:3]
    failed = dict(report.failed)
    assert set(failed) == {silent, str(cut), missing, str(bad / "text.mp3")}
    for path, sentence in failed.items():
        assert path in sentence and sentence.endswith(".")
    assert "silent" in failed[silent] and "truncated" in failed[str(cut)]
    holds(store, music[:3])


def test_nothing_to_do_embeds_nothing(store, model):
    report = generate([], model, store, progress=False)
    assert (report.added, report.skipped, report.failed) == ([], [], [])
    assert model.batch_sizes == []


def test_progress_goes_to_standard_error(music, store, model, capsys):
    generate(music, model, store)
    shown = capsys.readouterr()
    assert "6/6" in shown.err and shown.out == ""
    generate(music, model, store, progress=False)
    assert capsys.readouterr().err == ""


def test_decoding_runs_beside_embedding_and_only_a_little_ahead(store, model, monkeypatch):
    produced, seen_ahead, threads = [], [], set()

    def blocks(path, sample_rate_hz):
        for number in range(40):
            produced.append(number)
            threads.add(threading.current_thread().name)
            yield np.full(RATE, 0.1 + number / 100, np.float32)

    monkeypatch.setattr(generation, "iter_blocks", blocks)
    real = model.embed_segments

    def embed(segments):
        time.sleep(0.02)
        seen_ahead.append(len(produced) - 2 - sum(model.batch_sizes) // 2)
        return real(segments)

    monkeypatch.setattr(model, "embed_segments", embed)
    path = pathlib.Path(store.folder, "../song.wav")
    path.touch()
    generate([path], model, store, progress=False, segments_per_batch=2)
    assert threads == {"decoding"}
    assert 3 < max(seen_ahead) <= 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_keeps_what_is_done_and_ends_the_thread(music, store, model, error):
    real, calls = model.embed_segments, []

    def interrupted(segments):
        calls.append(len(segments))
        if len(calls) > 2:
            raise error
        return real(segments)

    model.embed_segments = interrupted
    with pytest.raises(error):
        generate(music, model, store, progress=False, segments_per_batch=5)
    assert "decoding" not in {thread.name for thread in threading.enumerate()}
    holds(store, music[:1])
    model.embed_segments = real
    assert generate(music, model, store, progress=False).added == music[1:]
    holds(store, music)


def test_an_error_of_the_decoding_thread_is_raised(music, store, model, monkeypatch):
    def broken(path, sample_rate_hz):
        raise MemoryError("too large")

    monkeypatch.setattr(generation, "iter_blocks", broken)
    with pytest.raises(MemoryError, match="too large"):
        generate(music, model, store, progress=False)


def test_a_killed_run_is_continued(tmp_path, music, store, model):
    program = """
        import sys
        from test_generate import Projection
        from fingerprint.generate import generate, neural_store

        model = Projection(delay_s=0.15)
        print("started", flush=True)
        generate(sys.argv[2:], model, neural_store(sys.argv[1], model), segments_per_batch=8)
    """
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(store.folder), *music],
            env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout.readline() == "started\n"
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        done = [track.name for track in Store.open(store.folder).tracks]
        assert done == music[: len(done)] and len(done) < 6
        holds(store, done)
    report = generate(music, model, store, progress=False)
    assert (report.skipped, report.added) == (done, music[len(done) :])
    holds(store, music)


# ---- The rules of the model ----


def stored(store, name):
    """The rows of one track, and its duration in seconds."""
    (track,) = [track for track in store.tracks if track.name == name]
    rows = store.column("embeddings")[track.first_row : track.first_row + track.n_rows]
    return rows, track.duration_s


def at_starts(path, starts, n_samples):
    """Fingerprints of the segments of a file, then silence, at these samples."""
    padded = np.pad(read_audio(path, RATE), (0, n_samples))
    return Projection().embed_segments(np.stack([padded[s : s + RATE] for s in starts]))


@pytest.mark.parametrize("segments_per_batch", [7, 512])
def test_short_tracks_are_padded_with_silence(music, tmp_path, model, segments_per_batch):
    model.config.reference.pad_to_s = 10.0
    store = neural_store(tmp_path / "index", model)
    generate(music, model, store, progress=False, segments_per_batch=segments_per_batch)
    assert store.recognizer["settings"]["pad_to_s"] == 10.0
    for path in music:
        rows, duration_s = stored(store, path)
        n_samples = len(read_audio(path, RATE))
        assert duration_s == n_samples / RATE
        n_expected = model.grid.n_segments(max(n_samples, 10 * RATE))
        starts = np.arange(n_expected) * model.grid.hop_samples
        np.testing.assert_allclose(rows, at_starts(path, starts, 11 * RATE), atol=1e-5)


def delays_of(rows, path, grid, jitter_samples):
    """How much later than on the grid every fifth segment begins, found by trying all."""
    for i, row in list(enumerate(rows))[::5]:
        starts = i * grid.hop_samples + np.arange(jitter_samples + 1)
        distances = np.linalg.norm(at_starts(path, starts, 2 * RATE) - row, axis=1)
        assert distances.min() < 1e-4
        yield int(distances.argmin())


def test_jitter_starts_each_segment_a_little_late(music, tmp_path, model):
    model.config.reference.start_jitter_s = 0.05
    model.config.reference.pad_to_s = 4.0
    store = neural_store(tmp_path / "index", model)
    generate(music, model, store, progress=False, segments_per_batch=7)
    path = music[2]
    rows, duration_s = stored(store, path)
    assert duration_s == len(read_audio(path, RATE)) / RATE
    assert len(rows) == model.grid.n_segments(round(duration_s * RATE))
    delays = list(delays_of(rows, path, model.grid, 400))
    assert min(delays) < 80 and max(delays) > 320 and len(set(delays)) > 20
    assert [track.n_rows for track in store.tracks] == [
        model.grid.n_segments(max(4 * RATE, len(read_audio(path, RATE)))) for path in music
    ]


def test_jitter_is_the_same_alone_in_another_folder_and_in_other_blocks(
    music, tmp_path, model, monkeypatch
):
    model.config.reference.start_jitter_s = 0.2
    generate(music, model, together := neural_store(tmp_path / "together", model), progress=False)
    copy = tmp_path / "elsewhere" / "2.wav"
    copy.parent.mkdir()
    shutil.copy(music[2], copy)
    blocks = generation.iter_blocks
    monkeypatch.setattr(generation, "iter_blocks", lambda *given: blocks(*given, block_s=1.3))
    generate([copy], model, alone := neural_store(tmp_path / "alone", model), progress=False)
    np.testing.assert_allclose(
        stored(together, music[2])[0], stored(alone, str(copy))[0], atol=1e-5
    )
    other = write_noise(tmp_path / "other" / "7.wav", 2, 61.7)
    generate([other], model, alone, progress=False)
    assert not np.allclose(stored(alone, other)[0][:5], stored(alone, str(copy))[0][:5], atol=0.1)


def test_stores_cut_by_different_rules_are_not_merged(tmp_path, model, store):
    model.config.reference.pad_to_s = 10.0
    padded = neural_store(tmp_path / "padded", model)
    with pytest.raises(StoreError, match="cannot be merged"):
        merge_stores([padded], store)


def test_long_segments_come_in_smaller_batches(music, store, model, monkeypatch):
    monkeypatch.setattr(generation, "MAX_BATCH_SAMPLES", 3 * RATE + 1)
    generate(music, model, store, progress=False)
    assert set(model.batch_sizes[:-1]) == {3}
    holds(store, music)
    monkeypatch.setattr(generation, "MAX_BATCH_SAMPLES", RATE - 1)
    more = write_noise(pathlib.Path(store.folder, "../more.wav"), 9, 2.0)
    model.batch_sizes.clear()
    generate([more], model, store, progress=False)
    assert set(model.batch_sizes) == {1}


# ---- The store belongs to a model ----


def test_a_store_records_the_model(store, model):
    assert store.recognizer == {
        "method": "neural",
        "identity": "projection-0",
        "settings": {"sample_rate_hz": RATE, "duration_s": 1.0, "hop_s": 0.5},
    }
    assert store.columns == {"embeddings": ("float32", (6,))}
    assert neural_store(store.folder, model, "float32").recognizer == store.recognizer


def test_another_model_is_refused(store, music):
    with pytest.raises(StoreError, match=r"projection-0, not by the model projection-1"):
        neural_store(store.folder, Projection(1))
    with pytest.raises(StoreError, match="do not compare"):
        generate(music, Projection(1), store, progress=False)
    assert Store.open(store.folder).tracks == []


def test_a_store_of_another_kind_is_refused(tmp_path, model):
    Store.create(tmp_path / "l", {"method": "landmarks"}, {"hashes": ("uint32", ())})
    with pytest.raises(StoreError, match="made by landmarks"):
        neural_store(tmp_path / "l", model)


def test_another_dtype_is_refused(store, model):
    with pytest.raises(StoreError, match="holds float32 and not float16"):
        neural_store(store.folder, model, "float16")


# ---- Shards and merging ----


def test_shards_share_the_files_and_merge_into_the_whole(tmp_path, music, model, store):
    shards = [neural_store(tmp_path / f"shard{i}", model) for i in range(4)]
    added = []
    for i, each in enumerate(shards):
        report = generate(
            [pathlib.Path(music[0]).parent], model, each, progress=False, shard=(i, 4)
        )
        added.append(report.added)
    assert added == [music[i::4] for i in range(4)]
    assert merge_stores(shards[:2], store).added == added[0] + added[1]
    report = merge_stores(shards, store)
    assert (report.skipped, report.added) == (added[0] + added[1], added[2] + added[3])
    holds(store, [path for paths in added for path in paths])


def test_stores_are_merged_where_their_files_are_gone(tmp_path, store, model, monkeypatch):
    """Then nothing says that one was moved to where the other was."""
    shards = []
    for disk, duration_s in (("a", 2.0), ("b", 2.0), ("c", 2.3)):
        path = write_noise(tmp_path / disk / "01.wav", ord(disk), duration_s)
        shards.append(neural_store(tmp_path / f"shard {disk}", model))
        monkeypatch.chdir(tmp_path / disk)
        name = "01.wav" if disk == "c" else path
        generate([name], model, shards[-1], progress=False)
        os.remove(path)
    assert len(merge_stores(shards, store).added) == 3
    other = neural_store(tmp_path / "other", model)
    again = write_noise(tmp_path / "d" / "01.wav", 4, 1.9)
    monkeypatch.chdir(tmp_path / "d")
    generate(["01.wav"], model, other, progress=False)
    os.remove(again)
    ((path, sentence),) = merge_stores([other], store).failed
    assert path == "01.wav" and "gone and was of another length" in sentence


def test_a_shard_stays_the_same_when_it_is_continued(tmp_path, music, model):
    store = neural_store(tmp_path / "shard", model)
    generate([music[1]], model, store, progress=False)
    report = generate(music, model, store, progress=False, shard=(1, 2))
    assert (report.skipped, report.added) == ([music[1]], [music[3], music[5]])


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_refused(music, model, store, shard):
    with pytest.raises(FingerprintError, match="does not exist"):
        generate(music, model, store, progress=False, shard=shard)


def test_stores_of_different_models_are_not_merged(tmp_path, store):
    other = neural_store(tmp_path / "other", Projection(1))
    with pytest.raises(StoreError, match="cannot be merged"):
        merge_stores([other], store)


# ---- Manifests ----


@pytest.fixture
def manifest(tmp_path):
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["title", "path", "kind", "split"])
    table.writerow(["A, with a comma", "music/a.flac", "music", "train"])
    table.writerow(["B", "music/b.flac", "music", "test"])
    table.writerow(["C", str(tmp_path / "absolute.wav"), "noise", "test"])
    path = tmp_path / "manifest.csv"
    path.write_text("\ufeff" + text.getvalue(), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_table(manifest, tmp_path):
    names = ["music/a.flac", "music/b.flac", "absolute.wav"]
    assert read_manifest(manifest) == [str(tmp_path / name) for name in names]
    assert read_manifest(manifest, kind="music", split="test") == [str(tmp_path / names[1])]
    assert read_manifest(str(manifest), split="test") == [str(tmp_path / n) for n in names[1:]]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no column 'path'"),
        (b"file,kind\na,music\n", "no column 'path'"),
        (b"path\na.wav\n", "no column 'kind'"),
        (b"path,kind\na.wav,noise\n", "no rows of kind 'music'"),
        (b"path,kind\n\xff\xfe\n", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, match):
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=match) as caught:
        read_manifest(path, kind="music")
    assert str(path) in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.csv")


def test_a_real_manifest_lists_files_that_exist(shared_audio):
    paths = read_manifest(shared_audio / "manifest.csv", kind="music", split="test")
    assert len(paths) > 10
    assert all(pathlib.Path(path).is_file() for path in paths)


@pytest.mark.parametrize("row", ["music", "music,"])
def test_a_manifest_row_without_a_path_is_refused(tmp_path, row):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"kind,path\nmusic,a.wav\n{row}\n")
    with pytest.raises(ManifestError, match="has a row without a path"):
        read_manifest(manifest)
