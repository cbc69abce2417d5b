"""Answers of systems and of other programs: kept, read, and gone on with after an interruption."""

import numpy as np
import pytest
import soundfile
from evaluation_cases import query, write_queries

from fingerprint.audio import AudioError
from fingerprint.evaluation import asking
from fingerprint.evaluation.answers import (
    Answer,
    AnswerError,
    Candidate,
    asked_lengths,
    name_of,
    read_answers,
    read_header,
    same_length,
)
from fingerprint.evaluation.other_programs import keep_table, read_table
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.identification import Identification, Match

RATE_HZ = 8000


def test_an_answer_survives_its_line():
    candidates = (Candidate("é/a.wav", -0.25, 0.5), Candidate("b.wav", None, 3.0))
    answer = Answer("7", 2.0, None, candidates, 0.1, 0.2, 0.03, False)
    assert Answer.from_line(answer.to_line()) == answer
    assert answer.to_line().count("\n") == 1


def test_tracks_below_the_root_are_named_from_there(tmp_path):
    assert name_of(tmp_path / "x" / "a.wav", tmp_path) == "x/a.wav"
    beside = tmp_path.parent / f"{tmp_path.name}2" / "a.wav"
    assert name_of(beside, tmp_path) == str(beside)


def test_lengths_are_meant_to_a_hundredth():
    assert asked_lengths([1.0, 5.0, 10.0], 9.95) == [1.0, 5.0, 10.0]
    assert asked_lengths([1.0, 5.0, 10.0], 9.8) == [1.0, 5.0]
    assert same_length(9.95, [1.0, 10.0]) == 10.0
    assert same_length(8.0, [1.0, 10.0]) == 8.0


# ----------------------------------------------------------------------------- asking


class StubRecognizer:
    """Finds every query in track "b", and hears nothing in 1 s."""

    def __init__(self):
        self.n_asked = 0

    def identify(self, samples, top_k, *, sample_rate_hz):
        self.n_asked += 1
        duration_s = len(samples) / sample_rate_hz
        if duration_s <= 1.0:
            raise AudioError("silent")
        return Identification("match", [Match("b", 0.5, 0.9, 4.0, 5.0, 1.0, 2.0)], examined=0.25)


class StubSystem:
    name = "stub"
    database = {"index": "stub.index"}  # noqa: RUF012

    def __init__(self, folder):
        self.recognizer = StubRecognizer()
        self._folder = folder

    @property
    def track_paths(self):
        return {"b": str(self._folder / "music" / "b.wav")}

    def reference_paths(self):
        return set(self.track_paths.values())


@pytest.fixture
def recorded(tmp_path):
    """Four recorded queries of 3 s, of tracks b, c, b and of no known one."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    lines = ["query,track,start_s,duration_s"]
    for name, track in zip("1234", ["music/b.wav", "music/c.wav", "music/b.wav", ""], strict=True):
        soundfile.write(folder / f"{name}.wav", np.ones(3 * RATE_HZ) / 2, RATE_HZ)
        lines.append(f"{name}.wav,{track},3,3")
    (folder / "truth.csv").write_text("\n".join(lines))
    return QuerySet.open(folder, root=tmp_path)


def ask(queries, path, system, durations_s=(1.0, 2.0, 5.0)):
    asking.ask(queries, system, path, durations_s=durations_s, record={}, progress=False)


def test_every_query_is_asked_at_every_length_that_it_has(recorded, tmp_path):
    ask(recorded, tmp_path / "answers.jsonl", StubSystem(tmp_path))
    answers = list(read_answers(tmp_path / "answers.jsonl"))
    assert [(a.query, a.duration_s) for a in answers] == [
        (f"{n}.wav", duration_s) for n in "1234" for duration_s in (1.0, 2.0)
    ]
    assert [a.answerable for a in answers[::2]] == [True, False, True, False]
    silent, found = answers[:2]
    assert (silent.verdict, silent.candidates) == ("no_match", ())
    # The query begins 1 s before the part that was found at second 4.
    assert found.candidates == (Candidate("music/b.wav", 3.0, 0.5),)
    assert (found.verdict, found.examined) == ("match", 0.25)
    assert found.wall_s >= 0
    assert found.cpu_s >= 0
    assert read_header(tmp_path / "answers.jsonl")["system"] == "stub"


# Of eight lines below the first: all; the last; the last but half; two and a half queries; none.
@pytest.mark.parametrize(
    ("n_kept", "n_again"), [(8, 0), (7, 1), (7.5, 1), (5.5, 2), (5, 2), (0, 4)]
)
def test_a_cut_file_is_gone_on_with(recorded, tmp_path, n_kept, n_again):
    path = tmp_path / "answers.jsonl"
    ask(recorded, path, StubSystem(tmp_path))
    whole = path.read_text().splitlines(keepends=True)
    kept = "".join(whole[: 1 + int(n_kept)])
    if n_kept % 1:
        kept += whole[1 + int(n_kept)][:20]
    path.write_text(kept)
    system = StubSystem(tmp_path)
    ask(recorded, path, system)
    n_warming_up = 2 if n_again else 0
    assert system.recognizer.n_asked == 2 * n_again + n_warming_up
    again = [(a.query, a.duration_s, a.candidates) for a in read_answers(path)]
    path.write_text("".join(whole))
    assert again == [(a.query, a.duration_s, a.candidates) for a in read_answers(path)]


def test_an_empty_file_is_begun_again(recorded, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("")
    ask(recorded, path, StubSystem(tmp_path))
    assert len(list(read_answers(path))) == 8


def test_answers_to_something_else_are_not_gone_on_with(recorded, tmp_path):
    path = tmp_path / "answers.jsonl"
    ask(recorded, path, StubSystem(tmp_path))
    with pytest.raises(AnswerError, match="other durations"):
        ask(recorded, path, StubSystem(tmp_path), durations_s=(1.0,))
    other = StubSystem(tmp_path)
    other.database = {"index": "other.index"}
    with pytest.raises(AnswerError, match="other database"):
        ask(recorded, path, other)


def test_what_holds_no_answers_is_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    with pytest.raises(AnswerError, match="holds no answers"):
        read_header(path)
    path.write_text("{}\n")
    with pytest.raises(AnswerError):
        read_header(path)


def test_a_damaged_line_is_named(recorded, tmp_path):
    path = tmp_path / "answers.jsonl"
    ask(recorded, path, StubSystem(tmp_path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "damage\n", *lines[4:]]))
    with pytest.raises(AnswerError, match="Line 4 "):
        list(read_answers(path))


# ----------------------------------------------------------------------------- other programs


@pytest.fixture
def queries(tmp_path):
    rows = [query(0, "music/a.wav"), query(1, "music/b.flac"), query(2, "more/a.wav")]
    return write_queries(tmp_path / "queries", rows)


def table(tmp_path, text):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    return path


def test_rows_become_candidates_best_first(queries, tmp_path):
    text = "query,track,start_s,score\n000000,x,1,0.5\n000000,b.flac,2,0.9\n000001,,,\n"
    answers = list(read_table(table(tmp_path, text), queries))
    root = queries.root
    assert answers[0].candidates == (
        Candidate("music/b.flac", 2.0, 0.9),
        Candidate(name_of("x", root), 1.0, 0.5),
    )
    assert [each.candidates for each in answers[1:]] == [(), ()]
    assert [each.query for each in answers] == ["000000", "000001", "000002"]
    assert {each.duration_s for each in answers} == {5.0}
    assert {each.verdict for each in answers} == {None}
    assert {each.answerable for each in answers} == {None}


def test_empty_cells_leave_the_order_and_the_start_open(queries, tmp_path):
    text = "query,track,start_s,score\n000001,x,,\n000001,b,,\n"
    (_, answer, _) = read_table(table(tmp_path, text), queries)
    assert [c.start_s for c in answer.candidates] == [None, None]
    assert answer.candidates[1].track == "music/b.flac"


def test_a_name_that_two_recordings_have_is_not_guessed(queries, tmp_path):
    text = "query,track\n000000,a.wav\n000002,more/a.wav\n"
    first, _, last = read_table(table(tmp_path, text), queries)
    assert first.candidates[0].track not in ("music/a.wav", "more/a.wav")
    assert last.candidates[0].track == "more/a.wav"


def test_a_recording_of_another_folder_is_another_one(queries, tmp_path):
    cells = ["album/b.flac", "/elsewhere/music/b.flac", "b"]
    text = "query,track\n" + "".join(f"00000{i},{cell}\n" for i, cell in enumerate(cells))
    tracks = [a.candidates[0].track for a in read_table(table(tmp_path, text), queries)]
    assert tracks == [name_of("album/b.flac", queries.root), "music/b.flac", "music/b.flac"]


def test_silence_is_no_match_where_verdicts_are_given(queries, tmp_path):
    text = "query,track,verdict,duration_s\n000000,b.flac,no match,2\n000001,b.flac,match,2\n"
    answers = list(read_table(table(tmp_path, text), queries))
    assert [each.verdict for each in answers] == ["no_match", "match", "no_match"]
    assert {each.duration_s for each in answers} == {2.0}


def test_rows_of_one_set_are_chosen(queries, tmp_path):
    path = table(tmp_path, "set,query,track\nnoise,000000,b\nreverb,000000,x\n")
    answers = list(read_table(path, queries, query_set="noise"))
    assert [c.track for c in answers[0].candidates] == ["music/b.flac"]
    with pytest.raises(AnswerError, match="no column 'set'"):
        list(read_table(table(tmp_path, "query,track\n"), queries, query_set="noise"))


def test_a_table_is_kept_as_answers_are(queries, tmp_path):
    path = table(tmp_path, "query,track,duration_s\n000001,b.flac,4.99\n")
    keep_table(path, "dejavu", queries, tmp_path / "kept.jsonl", durations_s=[1.0, 5.0])
    header = read_header(tmp_path / "kept.jsonl")
    assert (header["system"], header["durations_s"]) == ("dejavu", [5.0])
    assert header["queries"] == queries.identity
    assert len(list(read_answers(tmp_path / "kept.jsonl"))) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("query,start_s\n000000,1\n", "no column 'track'"),
        ("query,track\n9,b\n", "line 2: '9' is no query"),
        ("query,track,start_s\n000000,b,soon\n", "line 2: 'soon' is no number"),
        ("query,track,score\n000000,b,nan\n", "'nan' is no number"),
        ("query,track,verdict\n000000,b,perhaps\n", "'perhaps' is neither"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(queries, tmp_path, text, sentence):
    with pytest.raises(AnswerError, match=sentence):
        list(read_table(table(tmp_path, text), queries))


def test_recorded_queries_need_their_length(recorded, tmp_path):
    truth = "query,track,start_s\n1.wav,music/b.wav,3\n"
    (recorded.folder / "truth.csv").write_text(truth)
    queries = QuerySet.open(recorded.folder, root=tmp_path)
    with pytest.raises(AnswerError, match=r"'1\.wav' is not known; .* duration_s in this table"):
        list(read_table(table(tmp_path, "query,track\n1.wav,b.wav\n"), queries))
    told = table(tmp_path, "query,track,duration_s\n1.wav,b.wav,3\n")
    assert [each.duration_s for each in read_table(told, queries)] == [3.0]


def test_a_table_that_is_not_there_is_refused(queries, tmp_path):
    with pytest.raises(AnswerError, match="cannot be read"):
        list(read_table(tmp_path / "nowhere.csv", queries))
