import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from fingerprint import cli
from fingerprint.arguments import parse
from fingerprint.identification import MAX_QUERY_S
from fingerprint.music_synthesis import synthesize_track
from fingerprint.store import Store, StoreError

RATE_HZ = 11_025
VERBS = [
    "index",
    "query",
    "list",
    "remove",
    "info",
    "describe",
    "export",
    "generate",
    "distractors",
    "queries",
    "evaluate",
    "demo",
]
MATCH_KEYS = [
    *("track", "score", "confidence"),
    *("reference_start_s", "reference_end_s", "query_start_s", "query_end_s"),
]


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder of four tracks of 20 s, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "more").mkdir()
    for seed, name in enumerate(["a.wav", "b.flac", "c.wav", "more/d.wav"]):
        soundfile.write(folder / name, synthesize_track(seed, 20.0, RATE_HZ), RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory, music):
    """Seconds 7 to 13 of track b with some noise."""
    audio, _ = soundfile.read(music / "b.flac")
    excerpt = audio[7 * RATE_HZ : 13 * RATE_HZ]
    noise = np.random.default_rng(0).normal(size=len(excerpt))
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    soundfile.write(path, 0.7 * excerpt + 0.05 * np.std(excerpt) * noise, RATE_HZ)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory, music):
    folder = tmp_path_factory.mktemp("built") / "songs.index"
    assert cli.main(["index", str(folder), str(music), "--method", "landmarks"]) == 0
    return folder


@pytest.fixture
def songs(built, tmp_path):
    """A landmark index of the four tracks that a test may change."""
    return shutil.copytree(built, tmp_path / "songs.index")


def run(capsys, *arguments):
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


# ----------------------------------------------------------------------------- index


def test_a_folder_is_indexed_once(tmp_path, music, capsys):
    status, out, _ = run(capsys, "index", tmp_path / "i", music, "--method", "landmarks")
    assert (status, out) == (0, "4 added, 0 already there, 0 failed\n")
    status, out, _ = run(capsys, "index", tmp_path / "i", music, music / "a.wav")
    assert (status, out) == (0, "0 added, 4 already there, 0 failed\n")


def test_a_mistyped_path_leaves_no_index(tmp_path, music, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["index", tmp_path / "i", music / "missing.wav", tmp_path / "empty"]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "0 added, 0 already there, 2 failed\n")
    assert "missing.wav does not exist." in err and "empty holds no audio files" in err
    assert not (tmp_path / "i").exists()
    # The index is of the method that is asked for once the path is right.
    assert run(capsys, "index", tmp_path / "i", music, "--method", "landmarks")[0] == 0


def test_a_searcher_is_refused_where_nothing_is_searched_with_one(songs, music, capsys):
    status, out, err = run(capsys, "query", songs, music / "a.wav", "--searcher", "exact")
    assert (status, out) == (1, "")
    assert "method 'landmarks', which the searcher 'exact' cannot search: leave it out" in err


def test_the_same_file_by_another_path_is_already_there(songs, music, monkeypatch, capsys):
    monkeypatch.chdir(music)
    status, out, _ = run(capsys, "index", songs, "a.wav", "more/../b.flac")
    assert (status, out) == (0, "0 added, 2 already there, 0 failed\n")


def test_what_cannot_be_read_is_named_and_the_rest_is_indexed(tmp_path, music, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(RATE_HZ), RATE_HZ)
    missing = tmp_path / "missing.wav"
    files = [bad, missing, silent, music / "a.wav"]
    status, out, err = run(capsys, "index", tmp_path / "i", *files, "--method", "landmarks")
    assert (status, out) == (1, "1 added, 0 already there, 3 failed\n")
    for path in (bad, missing, silent):
        assert sum(str(path) in line for line in err.splitlines()) == 1
    assert "Traceback" not in err
    status, out, _ = run(capsys, "list", tmp_path / "i", "--format", "json")
    assert [json.loads(line)["track"] for line in out.splitlines()] == [str(music / "a.wav")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--preset", "wang"], "preset"), (["--model", "some/model"], "landmarks")],
)
def test_an_index_keeps_its_method_and_preset(songs, music, capsys, options, sentence):
    status, _, err = run(capsys, "index", songs, music, *options)
    assert status == 1
    assert sentence in err
    assert str(songs) in err


def test_a_preset_of_ones_own_choice_is_kept(tmp_path, music, capsys):
    arguments = ("index", tmp_path / "i", music / "a.wav", "--preset", "wang")
    assert run(capsys, *arguments, "--method", "landmarks")[0] == 0
    assert run(capsys, *arguments)[0] == 0
    _, out, _ = run(capsys, "info", tmp_path / "i", "--format", "json")
    assert json.loads(out)["preset"] == "wang"


def test_a_foreign_folder_is_refused_with_a_sentence(tmp_path, music, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("Dear Mother")
    for arguments in (["index", tmp_path / "letters", music], ["query", tmp_path / "letters", "x"]):
        status, _, err = run(capsys, *arguments)
        assert status == 1
        assert str(tmp_path / "letters") in err
        assert err.count("\n") == 1
    assert (tmp_path / "letters" / "mother.txt").read_text() == "Dear Mother"
    assert not (tmp_path / "letters" / "store.json").exists()


def test_a_damaged_index_is_refused_with_a_sentence(songs, clip, capsys):
    (songs / "store.json").write_text("{")
    status, out, err = run(capsys, "query", songs, clip)
    assert (status, out) == (1, "")
    assert str(songs) in err
    assert err.count("\n") == 1


def test_verify_finds_a_changed_byte(songs, capsys):
    status, out, _ = run(capsys, "info", songs, "--verify")
    assert status == 0
    assert re.search(r"^verified +True$", out, re.MULTILINE)
    column = max(songs.glob("**/*"), key=lambda path: path.is_file() and path.stat().st_size)
    content = bytearray(column.read_bytes())
    content[len(content) // 2] ^= 1
    column.write_bytes(content)
    status, _, err = run(capsys, "info", songs, "--verify")
    assert status == 1
    assert err.count("\n") == 1


# ----------------------------------------------------------------------------- query


def test_json_answers_are_as_promised(songs, clip, music, capsys):
    status, out, _ = run(capsys, "query", songs, clip, "--format", "json", "--top_k", "2")
    assert status == 0
    (line,) = out.splitlines()
    answer = json.loads(line)
    assert list(answer) == ["query", "verdict", "confidence", "matches"]
    assert answer["query"] == str(clip)
    assert answer["verdict"] == "match"
    assert 1 <= len(answer["matches"]) <= 2
    best = answer["matches"][0]
    assert list(best) == MATCH_KEYS
    assert best["track"] == str(music / "b.flac")
    assert best["reference_start_s"] == pytest.approx(7.0, abs=0.05)
    assert best["reference_end_s"] == pytest.approx(13.0, abs=0.05)
    assert (best["query_start_s"], best["query_end_s"]) == (0.0, 6.0)


def test_noise_is_no_match(songs, tmp_path, rng, capsys):
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.normal(size=5 * RATE_HZ), RATE_HZ)
    status, out, _ = run(capsys, "query", songs, tmp_path / "noise.wav", "--format", "json")
    answer = json.loads(out)
    assert (status, answer["verdict"]) == (0, "no_match")
    for match in answer["matches"]:
        assert list(match) == MATCH_KEYS


def test_an_empty_index_knows_nothing(songs, clip, music, capsys):
    tracks = [music / name for name in ("a.wav", "b.flac", "c.wav", "more/d.wav")]
    assert run(capsys, "remove", songs, *tracks)[:2] == (0, "4 removed, 0 not found\n")
    status, out, _ = run(capsys, "query", songs, clip, "--format", "json")
    answer = {"query": str(clip), "verdict": "no_match", "confidence": 0.0, "matches": []}
    assert (status, json.loads(out)) == (0, answer)


def test_tables_show_verdict_track_and_time(songs, clip, music, capsys):
    status, out, _ = run(capsys, "query", songs, clip)
    assert status == 0
    header, first, *_ = out.splitlines()
    assert re.fullmatch(re.escape(f"{clip}: match, confidence ") + r"99\.9[0-9] %", header)
    assert str(music / "b.flac") in first
    assert " 7.0" in first


def test_queries_that_cannot_be_read_do_not_stop_the_others(songs, clip, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    missing = tmp_path / "missing.wav"
    status, out, err = run(capsys, "query", songs, bad, missing, clip, "--format", "json")
    assert status == 1
    assert [json.loads(line)["query"] for line in out.splitlines()] == [str(clip)]
    assert [str(bad) in err.splitlines()[0], str(missing) in err.splitlines()[1]] == [True, True]


def test_how_much_of_a_query_is_heard_is_said(songs, tmp_path, repository, capsys):
    late = tmp_path / "late.wav"
    music = synthesize_track(0, 10.0, RATE_HZ)
    soundfile.write(late, np.concatenate([np.zeros(61 * RATE_HZ), music]), RATE_HZ)
    status, out, err = run(capsys, "query", songs, late)
    assert (status, out) == (1, "")
    assert f"The first 60 s of {late} are silent" in err
    with pytest.raises(SystemExit):
        cli.main(["query", "--help"])
    for document in (capsys.readouterr().out, (repository / "README.md").read_text()):
        assert f"only the first {MAX_QUERY_S:g} s" in document.lower()


# ----------------------------------------------------------------------------- the other verbs


def test_tracks_are_listed_in_order(songs, music, capsys):
    status, out, _ = run(capsys, "list", songs)
    assert status == 0
    assert [line.split("  ")[-1] for line in out.splitlines()] == [
        str(music / name) for name in ("a.wav", "b.flac", "c.wav", "more/d.wav")
    ]
    assert all(" 20.0 s" in line for line in out.splitlines())


def test_known_tracks_are_removed_and_unknown_ones_named(songs, clip, music, capsys):
    status, out, err = run(capsys, "remove", songs, music / "b.flac", "z.wav")
    assert (status, out) == (1, "1 removed, 1 not found\n")
    assert "z.wav" in err
    _, out, _ = run(capsys, "query", songs, clip, "--format", "json")
    answer = json.loads(out)
    assert answer["verdict"] == "no_match"
    assert str(music / "b.flac") not in [match["track"] for match in answer["matches"]]
    assert run(capsys, "index", songs, music)[1] == "1 added, 3 already there, 0 failed\n"


def test_info_counts_what_is_there(songs, capsys):
    status, out, _ = run(capsys, "info", songs, "--format", "json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["method"], facts["tracks"], facts["duration_s"]) == ("landmarks", 4, 80.0)
    assert facts["rows"] == Store.open(songs).n_rows > 0
    status, table, _ = run(capsys, "info", songs)
    assert status == 0
    assert "landmarks" in table


def test_describe_gives_the_promised_facts(repository, capsys):
    pytest.importorskip("jax")
    config = repository / "configs" / "nafp.py"
    status, out, _ = run(capsys, "describe", config, "--format", "json")
    facts = json.loads(out)
    assert status == 0
    assert list(facts) == [
        *("name", "input_shape", "embedding_dim", "parameters", "encoder_parameters"),
        *("macs_per_segment", "macs_per_second_of_audio", "bytes_per_hour_of_audio"),
    ]
    assert (facts["name"], facts["input_shape"], facts["parameters"]) == (
        *("nafp", [256, 32], 16_939_008),
    )
    assert run(capsys, "describe", config)[1].count("\n") == 8


def test_evaluate_answers_most_clean_queries(songs, music, tmp_path, capsys):
    arguments = ["evaluate", songs, "--queries_from", music, "--durations_s", "3,5"]
    arguments += ["--n_queries", 8, "--output", tmp_path / "result.json"]
    status, out, _ = run(capsys, *arguments, "--format", "markdown")
    assert status == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["duration_s"] for row in result["results"]] == [3.0, 5.0]
    assert result["results"][1]["exact"]["rate"] >= 0.75
    assert result["n_files"] == {"asked": 4, "not_in_every_index": 0, "too_short": 0}
    assert f"| {songs} |" in out


def test_evaluate_counts_false_alarms_on_unknown_recordings(songs, music, tmp_path, capsys):
    run(capsys, "remove", songs, music / "more" / "d.wav")
    arguments = ["evaluate", songs, "--queries_from", music, "--unknown", music]
    arguments += ["--durations_s", 5, "--n_queries", 5, "--format", "json"]
    status, out, _ = run(capsys, *arguments)
    (row,) = json.loads(out)["results"]
    assert status == 0
    assert (row["top1"]["n"], row["false_alarm"]["n"]) == (5, 5)
    assert row["false_alarm"]["rate"] == 0.0


def test_evaluate_without_a_known_recording_is_refused(songs, tmp_path, clip, capsys):
    status, _, err = run(capsys, "evaluate", songs, "--queries_from", clip.parent)
    assert status == 1
    assert "index them" in err


# ----------------------------------------------------------------------------- spectral hashing


def test_spectral_hashing_answers_under_the_same_commands(tmp_path, music, clip, capsys):
    index = tmp_path / "peaks.index"
    arguments = ["index", index, music, "--method", "spectral_hash"]
    assert run(capsys, *arguments)[:2] == (0, "4 added, 0 already there, 0 failed\n")
    assert run(capsys, *arguments)[:2] == (0, "0 added, 4 already there, 0 failed\n")
    _, out, _ = run(capsys, "info", index, "--verify", "--format", "json")
    facts = json.loads(out)
    assert (facts["method"], facts["tracks"]) == ("spectral_hash", 4)
    assert facts["settings"]["sample_rate_hz"] == 44_100
    assert facts["bytes"] == 6 * facts["rows"] > 0
    assert len(run(capsys, "list", index)[1].splitlines()) == 4
    _, out, _ = run(capsys, "query", index, clip, "--format", "json")
    answer = json.loads(out)
    assert answer["verdict"] == "match"
    assert list(answer["matches"][0]) == MATCH_KEYS
    assert answer["matches"][0]["track"] == str(music / "b.flac")
    assert answer["matches"][0]["reference_start_s"] == pytest.approx(7.0, abs=0.02)
    evaluation = ["evaluate", index, "--queries_from", music, "--durations_s", 5, "--n_queries", 4]
    _, out, _ = run(capsys, *evaluation, "--format", "json")
    assert json.loads(out)["results"][0]["top1"]["rate"] == 1.0
    status, _, err = run(capsys, "index", index, music, "--method", "landmarks")
    assert status == 1
    assert "of the method 'spectral_hash', not 'landmarks'" in err


# ----------------------------------------------------------------------------- with a network


@pytest.mark.slow
def test_a_real_network_indexes_and_identifies(tmp_path, music, capsys):
    """Its weights are random: enough to find again what has not changed at all."""
    import jax
    from fingerprint_configs import nafp

    from fingerprint.encoders import build_encoder
    from fingerprint.features import input_shape
    from fingerprint.model import save_model

    config = nafp.get_config()
    config.features.n_mels = 32
    config.encoder.widths = (4, 4, 4, 4, 8, 8, 16, 16)
    config.encoder.embedding_dim = 16
    config.encoder.head_units = 4
    mels = np.zeros((1, *input_shape(config)), np.float32)
    variables = jax.jit(build_encoder(config.encoder).init)(jax.random.key(0), mels)
    save_model(tmp_path / "model", config, variables)

    arguments = ["index", tmp_path / "i", music, "--model", tmp_path / "model"]
    assert run(capsys, *arguments)[:2] == (0, "4 added, 0 already there, 0 failed\n")
    audio, _ = soundfile.read(music / "b.flac")
    soundfile.write(tmp_path / "clip.flac", audio[7 * RATE_HZ : 13 * RATE_HZ], RATE_HZ)
    status, out, _ = run(capsys, "query", tmp_path / "i", tmp_path / "clip.flac", "--format=json")
    answer = json.loads(out)
    assert (status, answer["verdict"]) == (0, "match")
    assert answer["matches"][0]["track"] == str(music / "b.flac")
    assert answer["matches"][0]["reference_start_s"] == pytest.approx(7.0)


# ----------------------------------------------------------------------------- usage


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([verb, "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0
    assert f"Example:\n  fingerprint {verb}" in out
    assert set(cli.VERBS) == set(VERBS)


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["generate", "s", "--model", "m", "a.wav", "b.wav"], ["a.wav", "b.wav"]),
        (["generate", "s", "a.wav", "--model", "m", "b.wav"], ["a.wav", "b.wav"]),
        (["distractors", "i", "--from", "audio", "folder"], ["folder"]),
        (["index", "i", "a.wav", "--method", "landmarks", "b.wav"], ["a.wav", "b.wav"]),
    ],
)
def test_paths_may_stand_behind_options(arguments, paths):
    assert parse(arguments).paths == paths


def test_unknown_options_are_named(capsys):
    with pytest.raises(SystemExit):
        parse(["generate", "s", "a.wav", "--model", "m", "--modle", "n"])
    assert "unrecognized arguments: --modle n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["index", "i"],
        ["index", "i", "x.wav", "--method", "magic"],
        ["index", "i", "x.wav", "--model", "m", "--method", "landmarks"],
        ["index", "i", "x.wav", "--preset", "nobody"],
        ["index", "i", "x.wav", "--preset", "wang", "--model", "m"],
        ["index", "i", "x.wav", "--preset", "wang", "--method", "spectral_hash"],
        ["index", "i", "x.wav", "--preset", "wang", "--method", "both"],
        ["index", "i", "x.wav", "--model", "m", "--method", "spectral_hash"],
        ["query", "i", "x.wav", "--top_k", "0"],
        ["query", "i", "x.wav", "--min_confidence", "1.1"],
        ["query", "i", "x.wav", "--min_confidence", "sure"],
        ["query", "i", "x.wav", "--format", "xml"],
        ["query", "i", "x.wav", "--searcher", "magic"],
        ["remove", "i"],
        ["generate", "s", "--model", "m"],
        ["generate", "s", "x.wav", "--model", "m", "--shard", "2/2"],
        ["evaluate", "i"],
        ["evaluate", "i", "--queries_from", "x", "--durations_s", "1,0"],
        ["evaluate", "i", "--queries_from", "x", "--snr_db", "loud"],
        ["evaluate", "i", "--queries_from", "x", "--room_share", "1.5"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "list", interrupted)
    status, out, err = run(capsys, "list", "i")
    assert (status, out) == (130, "")
    assert err.count("\n") == 1


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    def needs_more(options):
        raise ModuleNotFoundError("No module named 'optax'", name="optax")

    monkeypatch.setitem(cli.VERBS, "demo", needs_more)
    status, _, err = run(capsys, "demo")
    assert status == 1
    assert "pip install 'fingerprint[train]'" in err
    assert "optax" in err


COMMAND = [sys.executable, "-m", "fingerprint.cli"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_output_has_no_code_for(songs, music, tmp_path, encoding):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa9.wav")
    shutil.copy(music / "a.wav", name)
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    for output_format in ("json", "table"):
        arguments = ["query", str(songs), name, "--format", output_format]
        answer = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True)
        assert (answer.returncode, answer.stderr) == (0, b"")
        if output_format == "json":
            assert json.loads(answer.stdout.decode(encoding))["query"] == name


def test_what_the_system_refuses_is_a_sentence(songs, music, tmp_path, capsys):
    output = tmp_path / "nowhere" / "result.json"
    arguments = ["--queries_from", music, "--n_queries", 1, "--durations_s", 1, "--output", output]
    status, out, err = run(capsys, "evaluate", songs, *arguments)
    assert status == 1
    assert out
    assert err.splitlines()[-1] == f"fingerprint evaluate: {output}: No such file or directory."


def test_a_reader_that_leaves_is_no_error(songs):
    process = subprocess.Popen(
        [*COMMAND, "list", str(songs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def n_committed(index):
    try:
        return len(Store.open(index).tracks)
    except StoreError:
        return 0


def test_killed_at_any_moment_an_index_stays_whole(tmp_path, music, clip, capsys):
    """Kills as the index appears and soon after some of 24 short tracks were committed."""
    for i in range(24):
        soundfile.write(tmp_path / f"{i:02}.wav", synthesize_track(100 + i, 3.0, 8000), 8000)
    files = sorted(map(str, tmp_path.glob("*.wav")))
    index = tmp_path / "songs.index"
    moments = random.Random(0)
    for n_before in (0, 2, 7, 13, 19):
        process = subprocess.Popen(
            [*COMMAND, "index", str(index), "--method", "landmarks", *files],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not (index.exists() and n_committed(index) >= n_before):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.wait(timeout=60)
        if n_before:
            store = Store.open(index)
            store.verify()
            assert n_before <= len(store.tracks) <= 24
    assert run(capsys, "index", index, music, *files)[0] == 0
    assert run(capsys, "info", index, "--verify")[0] == 0
    assert len(Store.open(index).tracks) == 28
    _, out, _ = run(capsys, "query", index, clip, "--format", "json")
    assert json.loads(out)["matches"][0]["track"] == str(music / "b.flac")
