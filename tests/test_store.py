"""Stores are written, killed, damaged, extended and compared with a dictionary."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerprint.errors import FingerprintError
from fingerprint.store import Store, StoreError
from fingerprint.store_format import whole_folder

RECOGNIZER = {"method": "neural", "identity": "0123abcd", "settings": {"hop_s": 0.5}}
COLUMNS = {"vectors": ("float32", (4,)), "frames": ("uint32", ())}


def rows_of(seed, n):
    """The rows of a track, from a seed."""
    rng = np.random.default_rng(seed)
    return {
        "vectors": rng.standard_normal((n, 4), dtype=np.float32),
        "frames": rng.integers(0, 2**32, n, dtype=np.uint32),
    }


def holds(store, expected):
    """The store holds exactly these tracks: name -> rows, in this order."""
    assert [track.name for track in store.tracks] == list(expected)
    assert store.n_rows == sum(len(rows["frames"]) for rows in expected.values())
    for track in store.tracks:
        for name in COLUMNS:
            rows = store.column(name)[track.first_row : track.first_row + track.n_rows]
            np.testing.assert_array_equal(rows, expected[track.name][name])
    store.verify()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def filled(folder):
    """A store of three tracks (one without rows), and what is in it."""
    expected = {f"track {i}": rows_of(i, n) for i, n in enumerate([5, 0, 7])}
    store = Store.create(folder, RECOGNIZER, COLUMNS)
    with store.writer() as writer:
        for name, rows in expected.items():
            writer.add(name, rows, duration_s=2.5, resolved_path=f"/music/{name}.flac")
    return store, expected


def test_a_new_store_is_empty(folder):
    store = Store.create(folder, RECOGNIZER, COLUMNS)
    assert (store.n_rows, store.tracks, store.recognizer) == (0, [], RECOGNIZER)
    assert store.columns == COLUMNS
    assert store.column("vectors").shape == (0, 4)
    assert store.column("frames").dtype == np.uint32
    store.verify()


def test_what_was_added_is_there_and_when_opened_again(filled):
    store, expected = filled
    holds(store, expected)
    again = Store.open(str(store.folder))
    holds(again, expected)
    assert again.recognizer == RECOGNIZER and again.columns == COLUMNS
    assert again.tracks == store.tracks
    assert (again.tracks[2].duration_s, again.tracks[2].first_row) == (2.5, 5)
    assert again.tracks[0].resolved_path == "/music/track 0.flac"
    assert again.content_id == store.content_id


def test_rows_are_mapped_and_read_only(filled):
    store, _ = filled
    for rows in (store.column("vectors"), Store.open(store.folder).column("vectors")):
        assert isinstance(rows, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            rows[0, 0] = 1


def test_a_column_may_come_in_blocks(folder):
    rows = rows_of(1, 100)
    with Store.create(folder, RECOGNIZER, COLUMNS).writer() as writer:
        blocks = {
            "vectors": (rows["vectors"][i : i + 7] for i in range(0, 100, 7)),
            "frames": [rows["frames"][:60], rows["frames"][60:60], rows["frames"][60:]],
        }
        assert writer.add("song", blocks, 1.0).n_rows == 100
    holds(Store.open(folder), {"song": rows})


def test_blocks_are_taken_from_all_columns_in_turn(folder):
    taken = []

    def blocks(name):
        for i in range(3):
            taken.append((i, name))
            yield rows_of(0, 2)[name]

    with Store.create(folder, RECOGNIZER, COLUMNS).writer() as writer:
        writer.add("song", {name: blocks(name) for name in COLUMNS}, 1.0)
    assert taken == sorted(taken, key=lambda item: item[0])


def test_a_long_track_needs_memory_for_a_block_only(folder):
    store = Store.create(folder, RECOGNIZER, {"vectors": ("float16", (128,))})
    block = np.ones((1000, 128), np.float16)
    tracemalloc.start()
    with store.writer() as writer:
        writer.add("long", {"vectors": (block for _ in range(200))}, 1.0)
    store.verify()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.column("vectors").nbytes > 50e6
    assert peak < 20e6


def test_half_precision_is_stored_as_asked(folder, rng):
    vectors = rng.standard_normal((9, 3)).astype(np.float32)
    store = Store.create(folder, RECOGNIZER, {"vectors": ("float16", (3,))})
    with store.writer() as writer:
        writer.add("song", {"vectors": vectors}, 1.0)
    np.testing.assert_array_equal(store.column("vectors"), vectors.astype(np.float16))
    assert (folder / "data-0" / "vectors.bin").stat().st_size == 9 * 3 * 2


def test_names_may_hold_anything(folder):
    names = ["Ünïcode 音楽", 'a "quoted"\nname', os.fsdecode(b"not utf-8 \xff")]
    with Store.create(folder, RECOGNIZER, COLUMNS).writer() as writer:
        for name in names:
            writer.add(name, rows_of(0, 1), 1.0, resolved_path=name)
    assert [track.name for track in Store.open(folder).tracks] == names


# ---- Removing ----


def test_removal_keeps_the_others(filled):
    store, expected = filled
    mapped_before = store.column("vectors")
    copy_before = np.array(mapped_before)
    reader = Store.open(store.folder)
    with store.writer() as writer:
        assert writer.remove(["track 0"]) == 1
        del expected["track 0"]
        holds(store, expected)
        writer.add("late", rows_of(9, 3), 1.0)
        expected["late"] = rows_of(9, 3)
    holds(store, expected)
    holds(Store.open(store.folder), expected)
    # Who has the old rows mapped keeps them.
    np.testing.assert_array_equal(mapped_before, copy_before)
    assert reader.n_rows == 12
    reader.verify()
    assert not (store.folder / "data-0").exists()


def test_tracks_are_numbered_by_name_as_they_are_now(filled):
    store, _ = filled
    names = [track.name for track in store.tracks]
    assert [store.number_of(name) for name in names] == list(range(len(names)))
    assert store.number_of("unheard of") is None
    with store.writer() as writer:
        writer.remove([names[0]])
    assert store.number_of(names[0]) is None
    assert store.number_of(names[1]) == 0


def test_everything_can_be_removed(filled):
    store, expected = filled
    with store.writer() as writer:
        assert writer.remove(list(expected)) == 3
        assert writer.remove([]) == 0
    holds(Store.open(store.folder), {})


def test_removing_what_is_not_there_removes_nothing(filled):
    store, expected = filled
    with store.writer() as writer, pytest.raises(StoreError, match="no track 'nobody'"):
        writer.remove(["track 0", "nobody"])
    holds(Store.open(store.folder), expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=25), st.booleans())
def test_any_sequence_agrees_with_a_dictionary(tmp_path_factory, steps, reopen):
    """A step adds the track of that number, or removes it where it is there."""
    folder = tmp_path_factory.mktemp("model") / "index"
    store, expected, seen = Store.create(folder, RECOGNIZER, COLUMNS), {}, set()
    seen.add(store.content_id)
    for step, (number, n_rows) in enumerate(steps):
        name = f"track {number}"
        with store.writer() as writer:
            if name in expected:
                writer.remove([name])
                del expected[name]
            else:
                expected[name] = rows_of(step, n_rows)
                writer.add(name, expected[name], 1.0)
        if reopen:
            store = Store.open(folder)
        holds(store, expected)
        seen.add(store.content_id)
    assert len(seen) > 1 or not steps


# ---- Content and caches ----


def test_the_content_id_follows_the_content(filled):
    store, _ = filled
    before = store.content_id
    with store.writer() as writer:
        writer.add("new", rows_of(3, 2), 1.0)
        with_new = store.content_id
        writer.remove(["new"])
    assert with_new != before
    assert store.content_id == before == Store.open(store.folder).content_id


def test_equal_lengths_are_not_equal_contents(tmp_path):
    stores = [Store.create(tmp_path / str(seed), RECOGNIZER, COLUMNS) for seed in range(2)]
    for seed, store in enumerate(stores):
        with store.writer() as writer:
            writer.add("song", rows_of(seed, 4), 1.0)
    assert stores[0].content_id != stores[1].content_id


def test_caches_of_earlier_contents_are_deleted(filled):
    store, _ = filled
    (store.derived_folder() / "index").write_text("old")
    old_reader = Store.open(store.folder)
    with store.writer() as writer:
        writer.add("new", rows_of(3, 2), 1.0)
    cache = store.derived_folder()
    (cache / "index").write_text("new")
    assert [path.name for path in (store.folder / "derived").iterdir()] == [store.content_id]
    # A reader that still shows the old content must not delete the newer cache.
    assert old_reader.derived_folder() != cache
    assert (Store.open(store.folder).derived_folder() / "index").read_text() == "new"


# ---- What is not the store's ----


def foreign_files(folder):
    """Files of somebody else in the folder of a store, some in folders that look like ours."""
    names = (
        *("data-2019/raw/a.txt", "data-7/vectors.bin", "data-7/notes.txt", "data-old/vectors.bin"),
        *("data-007/frames.bin", "derived/masters/b.txt", "derived/readme"),
    )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return [folder / name for name in names]


def test_what_the_store_has_not_made_is_never_deleted(filled):
    store, expected = filled
    foreign = foreign_files(store.folder)
    (store.folder / "data-3").mkdir()
    (store.folder / "data-3" / "vectors.bin").write_text("left by a kill")
    with store.writer() as writer:
        writer.add("new", rows_of(7, 3), 1.0)
        store.derived_folder()
        writer.remove(["track 0", "new"])
    store.derived_folder()
    assert all(path.read_text() == "mine" for path in foreign)
    assert not any((store.folder / name).exists() for name in ("data-0", "data-3"))
    assert len(list((store.folder / "derived").glob("????????????????"))) == 1
    holds(Store.open(store.folder), {name: expected[name] for name in ("track 1", "track 2")})


def test_a_folder_that_is_in_the_way_is_kept(filled):
    store, expected = filled
    letter = store.folder / "data-1" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("Dear Mother")
    with store.writer() as writer, pytest.raises(StoreError, match=r"data-1 holds .* move it"):
        writer.remove(["track 0"])
    assert letter.read_text() == "Dear Mother"
    holds(Store.open(store.folder), expected)


@pytest.mark.parametrize("name", ["recordings/1.wav", "data-0/raw.bin", "data-1/vectors.bin"])
def test_creating_beside_folders_of_somebody_else_is_refused(folder, name):
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(StoreError, match=f"already holds {pathlib.Path(name).parent}: "):
        Store.create(folder, RECOGNIZER, COLUMNS)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]


def test_a_creation_that_was_killed_is_repeated(folder):
    Store.create(folder, {"method": "another"}, {"others": ("uint8", ())})
    (folder / "store.json").rename(folder / "store.json.tmp")
    store = Store.create(folder, RECOGNIZER, COLUMNS)
    assert {path.name for path in (folder / "data-0").iterdir()} == {
        *("vectors.bin", "frames.bin", "tracks.jsonl")
    }
    with store.writer() as writer:
        writer.add("song", rows_of(1, 3), 1.0)
    holds(Store.open(folder), {"song": rows_of(1, 3)})


@pytest.mark.parametrize("place", ["..", ".", "../here", "new/.."])
def test_a_whole_folder_is_no_folder_that_one_stands_in(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sentence = "cannot become an index: name a new folder, such as"
    with pytest.raises(StoreError, match=sentence), whole_folder(place) as new:
        Store.create(new, RECOGNIZER, COLUMNS)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


# ---- What is refused ----


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"frames": None}, "wants"),
        ({"extra": np.zeros(3, np.uint32)}, "wants"),
        ({"vectors": np.zeros((3, 5), np.float32)}, r"shape \(5,\), not \(4,\)"),
        ({"vectors": np.array(3, np.float32)}, "shape"),
        ({"vectors": np.zeros((2, 4), np.float32)}, "differ in their rows"),
        ({"vectors": np.full((3, 4), np.nan, np.float32)}, "NaN"),
        ({"frames": np.zeros(3, np.int64)}, "int64"),
        ({"frames": np.zeros(3, np.float32)}, "float32"),
        ({"vectors": [np.ones((1, 4), np.float32), np.full((2, 4), np.inf)]}, "infinite"),
    ],
)
def test_rows_that_do_not_fit_leave_the_store_as_it_was(filled, change, match):
    store, expected = filled
    rows = {name: value for name, value in (rows_of(5, 3) | change).items() if value is not None}
    with store.writer() as writer:
        with pytest.raises(StoreError, match=match):
            writer.add("bad", rows, 1.0)
        holds(Store.open(store.folder), expected)
        writer.add("good", rows_of(6, 3), 1.0)
    holds(Store.open(store.folder), expected | {"good": rows_of(6, 3)})


def test_values_too_large_for_half_precision_are_refused(folder):
    store = Store.create(folder, RECOGNIZER, {"vectors": ("float16", (1,))})
    with store.writer() as writer, pytest.raises(StoreError, match="infinite as float16"):
        writer.add("loud", {"vectors": np.full((1, 1), 1e6)}, 1.0)


def test_an_error_in_the_middle_of_a_track_leaves_the_store_as_it_was(filled):
    store, expected = filled

    def breaks_off():
        yield rows_of(5, 3)["vectors"]
        raise KeyboardInterrupt

    with store.writer() as writer:
        with pytest.raises(KeyboardInterrupt):
            writer.add("cut", {"vectors": breaks_off(), "frames": rows_of(5, 3)["frames"]}, 1.0)
        holds(store, expected)
        writer.add("next", rows_of(6, 2), 1.0)
    holds(Store.open(store.folder), expected | {"next": rows_of(6, 2)})


def test_a_full_disk_leaves_the_store_as_it_was(filled, monkeypatch):
    store, expected = filled

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with store.writer() as writer:
        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(StoreError, match="No space left on device"):
            writer.add("big", rows_of(5, 3), 1.0)
        monkeypatch.undo()
        holds(store, expected)
    holds(Store.open(store.folder), expected)


def test_a_name_is_unique(filled):
    store, expected = filled
    with store.writer() as writer, pytest.raises(StoreError, match="already holds a track"):
        writer.add("track 0", rows_of(5, 3), 1.0)
    holds(Store.open(store.folder), expected)


def test_creating_over_something_is_refused(filled, tmp_path):
    with pytest.raises(StoreError, match=r"already holds store\.json"):
        Store.create(filled[0].folder, RECOGNIZER, COLUMNS)
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.mp3").touch()
    with pytest.raises(StoreError, match=r"already holds song\.mp3"):
        Store.create(tmp_path / "music", RECOGNIZER, COLUMNS)
    assert [path.name for path in (tmp_path / "music").iterdir()] == ["song.mp3"]
    with pytest.raises(StoreError, match="cannot be written"):
        Store.create(tmp_path / "music" / "song.mp3", RECOGNIZER, COLUMNS)


@pytest.mark.parametrize(
    "columns", [{}, {"../up": ("float32", ())}, {"v": ("object", ())}, {"v": ("int8", (0,))}]
)
def test_impossible_columns_are_refused(folder, columns):
    with pytest.raises(ValueError, match=r"column|missing"):
        Store.create(folder, RECOGNIZER, columns)


def refused(folder, match):
    with pytest.raises(StoreError, match=match) as caught:
        Store.open(folder)
    sentence = str(caught.value)
    assert str(folder) in sentence and sentence.endswith(".") and "\n" not in sentence
    assert isinstance(caught.value, FingerprintError)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path, r"holds no fingerprints: it has no store\.json")
    refused(tmp_path / "nowhere", "holds no fingerprints")
    refused(tmp_path / "file", "holds no fingerprints")
    (tmp_path / "store.json").write_text('{"name": "shop", "articles": []}')
    refused(tmp_path, "of another program")
    (tmp_path / "store.json").write_text("[]")
    refused(tmp_path, "of another program")


def test_a_newer_format_is_refused(filled):
    path = filled[0].folder / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    refused(filled[0].folder, "format version 2, .* up to 1: update")


@pytest.mark.parametrize("content", ["", "{", "\xff\x00", '{"format": "fingerprint-store"}'])
def test_a_garbled_header_is_refused(filled, content):
    (filled[0].folder / "store.json").write_text(content)
    refused(filled[0].folder, "damaged")


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": "1"},
        {"n_rows": -1},
        {"n_rows": 11},
        {"n_rows": 12.0},
        {"n_tracks": 2},
        {"tracks_bytes": 10},
        {"tracks_sha256": "0" * 64},
        {"generation": 7},
        {"columns": {}},
        {"columns": {"../../etc": ["float32", [4]]}},
        {"columns": {"vectors": ["O", [4]]}},
        {"columns": {"vectors": ["nonsense", [4]]}},
        {"columns": ["vectors"]},
        {"unknown": 1},
    ],
)
def test_a_header_that_cannot_be_is_refused(filled, change):
    path = filled[0].folder / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(filled[0].folder, "damaged")


@pytest.mark.parametrize("name", ["vectors.bin", "frames.bin", "tracks.jsonl"])
def test_shortened_and_missing_files_are_refused(filled, name):
    path = filled[0].folder / "data-0" / name
    os.truncate(path, path.stat().st_size - 1)
    refused(filled[0].folder, rf"damaged: {name} holds \d+ of \d+ bytes")
    path.unlink()
    refused(filled[0].folder, f"damaged: .*{name} is missing")


def test_a_changed_table_is_refused(filled):
    path = filled[0].folder / "data-0" / "tracks.jsonl"
    path.write_bytes(path.read_bytes().replace(b"track 2", b"track 9"))
    refused(filled[0].folder, r"tracks\.jsonl is not what was written")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_row_is_found_by_verify(filled, column):
    store, _ = filled
    with open(store.folder / "data-0" / f"{column}.bin", "r+b") as file:
        file.seek(6 * (16 if column == "vectors" else 4))
        file.write(b"\x00\x01\x02")
    with pytest.raises(StoreError, match=f"column {column} of track 'track 2'"):
        Store.open(store.folder).verify()


# ---- Two writers, and writers that are killed ----

ADD_FOR_EVER = """
    import sys
    from test_store import rows_of
    from fingerprint.store import Store

    store = Store.open(sys.argv[1])
    with store.writer() as writer:
        print("writing", flush=True)
        for step in range(10**6):
            number = len(store.tracks) and int(store.tracks[-1].name) + 1
            writer.add(str(number), rows_of(number, 500), 1.0)
            if step % 7 == 6:
                writer.remove([store.tracks[len(store.tracks) // 2].name])
"""


@pytest.fixture
def start_writer():
    """Start processes that write until they are killed."""
    started = []

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ADD_FOR_EVER), str(folder)],
            env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_writer_gets_a_sentence(filled, start_writer):
    store, _ = filled
    with store.writer(), pytest.raises(StoreError, match=f"written by process {os.getpid()}"):
        Store.open(store.folder).writer().__enter__()
    with Store.open(store.folder).writer() as writer:
        writer.remove(["track 0", "track 1", "track 2"])
    process = start_writer(store.folder)
    with pytest.raises(StoreError, match=f"written by process {process.pid}: wait"):
        store.writer().__enter__()


def test_killed_at_any_moment_the_store_is_whole(folder, start_writer, rng):
    Store.create(folder, RECOGNIZER, COLUMNS)
    last_number = -1
    for _ in range(4):
        process = start_writer(folder)
        time.sleep(rng.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = Store.open(folder)
        holds(store, {track.name: rows_of(int(track.name), 500) for track in store.tracks})
        assert int(store.tracks[-1].name) > last_number
        last_number = int(store.tracks[-1].name)
        with store.writer() as writer:
            assert (folder / "data-0").exists() + len(list(folder.glob("data-*[1-9]*"))) == 1
            writer.add(str(last_number + 1), rows_of(last_number + 1, 500), 1.0)


def test_reading_goes_on_beside_a_writer(folder, start_writer):
    Store.create(folder, RECOGNIZER, COLUMNS)
    start_writer(folder)
    end = time.monotonic() + 1.0
    sizes = set()
    while time.monotonic() < end:
        store = Store.open(folder)
        holds(store, {track.name: rows_of(int(track.name), 500) for track in store.tracks})
        sizes.add(len(store.tracks))
    assert len(sizes) > 2


# Adding flushes three files and the header, renames it, flushes the folder; removing flushes two
# new folders, three files and the header, renames it, flushes the folder.
@pytest.mark.parametrize("survived", range(6 + 8))
def test_dying_at_any_step_leaves_old_or_new(filled, monkeypatch, survived):
    """Every flush and rename in turn is the first one that the writer does not live to see."""
    store, expected = filled
    crashed = store.folder.parent / "crashed"
    n_calls = 0

    def dying(real):
        def call(*args):
            nonlocal n_calls
            n_calls += 1
            if n_calls > survived:
                raise SystemExit
            return real(*args)

        return call

    with store.writer() as writer:
        # A writer that only fails tidies up: what a kill would leave is copied instead.
        monkeypatch.setattr(
            writer, "_show_committed", lambda: shutil.copytree(store.folder, crashed)
        )
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, dying(getattr(os, name)))
        with pytest.raises(SystemExit):
            writer.add("new", rows_of(7, 3), 1.0)
            writer.remove(["track 0"])
        monkeypatch.undo()

    added = expected | {"new": rows_of(7, 3)}
    removed = {name: rows for name, rows in added.items() if name != "track 0"}
    found = Store.open(crashed)
    names = [track.name for track in found.tracks]
    before, after = (expected, added) if survived < 6 else (added, removed)
    holds(found, after if names == list(after) else before)
    with found.writer() as writer:
        writer.add("late", rows_of(8, 2), 1.0)
    assert [track.name for track in Store.open(crashed).tracks] == [*names, "late"]
