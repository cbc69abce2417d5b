"""Protocols are data: their queries, lengths, measures and tables fit one another."""

import pytest
from evaluation_cases import answer, query, write_evaluation

from fingerprint.evaluation import metrics, results, run, tables
from fingerprint.evaluation.protocols import PROTOCOLS, ProtocolError, protocol_named
from fingerprint.evaluation.query_settings import QueryError

FOLDERS = {"queries_from": "music", "noise": "noise", "room_ir": "rooms", "device_ir": "devices"}
ALL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@ALL
def test_every_measure_is_counted_and_has_a_head(protocol):
    counted = {
        *metrics.SONG_HITS, *metrics.SEGMENT_HITS, *metrics.VERDICTS, "false_alarm", "examined",
        "wall_s_per_query", "cpu_s_per_query", "speed_up", "megabytes", "kilobytes_per_minute",
        "recall_at_one_in_a_thousand", "recall_without_false_alarm",
        *(f"false_alarm_at_recall_{recall:g}" for recall in metrics.FIXED_RECALLS),
    }  # fmt: skip
    for layout in protocol.layouts:
        assert set(layout.cells) <= counted
        assert {*layout.cells, *layout.rows} <= set(tables.HEADS)
        assert set(layout.sets) <= set(protocol.query_sets)
        assert layout.spread in ("", "duration_s", "condition")
    assert protocol.paired in {*metrics.SONG_HITS, *metrics.SEGMENT_HITS}
    names = [layout.name for layout in protocol.layouts]
    assert len(set(names)) == len(names)


@ALL
def test_song_hits_and_segment_hits_share_no_cell(protocol):
    songs, segments = set(metrics.SONG_HITS), set(metrics.SEGMENT_HITS)
    for layout in protocol.layouts:
        if layout.spread:
            cells = set(layout.cells)
            assert not (cells & songs and cells & segments)


@ALL
def test_every_table_is_filled_from_answers(protocol, tmp_path):
    """Each set of queries in turn, at every length of the protocol."""
    for number, (name, settings) in enumerate(protocol.settings(FOLDERS).items()):
        longest_s = max(settings.durations_s)
        rows = [query(n, f"{n}.wav", duration_s=longest_s) for n in range(4)]
        answers = [
            answer(n, (f"{n}.wav", 10.0, 9 - n), duration_s=d, answerable=n < 3, cpu_s=0.1)
            for n in range(4)
            for d in settings.durations_s
        ]
        folder = write_evaluation(
            tmp_path / str(number), rows, {"s": answers}, protocol=protocol.name, query_set=name
        )
        result = results.assemble(folder)
        for layout in protocol.layouts:
            heads, lines = tables.table(result, layout)
            assert bool(lines) == (not layout.sets or name in layout.sets)
            assert all(len(line) == len(heads) for line in lines)
            if layout.spread == "duration_s":
                assert heads[-1] == f"{longest_s:g} s"


def test_nafp_is_as_published():
    (settings,) = protocol_named("nafp").settings(FOLDERS).values()
    assert (settings.per, settings.offset_s, settings.history_s) == ("second", 0.2, 0.0)
    assert tuple(settings.durations_s) == (1, 2, 3, 5, 6, 10)
    assert settings.snr_range_db == (0.0, 10.0)
    assert (settings.room_share, settings.device_share) == (1.0, 1.0)


def test_singh_has_noise_alone_rooms_alone_and_both():
    sets = protocol_named("singh_hashing").settings(FOLDERS)
    assert [(bool(s.noise), bool(s.room_ir)) for s in sets.values()] == [
        (True, False), (True, True), (False, True),
    ]  # fmt: skip
    assert sets["noise_reverb"].t60_s == (0.5,)
    assert sets["reverb"].t60_s == (0.2, 0.4, 0.5, 0.7, 0.8)
    assert not any(s.device_ir for s in sets.values())
    assert len(sets["noise"].conditions(with_noise=True)) == 5


def test_the_user_replaces_values_where_a_protocol_has_them():
    given = FOLDERS | {"snr_db": [3.0], "t60_s": [0.3], "durations_s": [4.0], "n_queries": 7}
    sets = protocol_named("singh_hashing").settings(given)
    assert [list(s.t60_s) for s in sets.values()] == [[None], [0.5], [0.3]]
    assert list(sets["noise"].snr_db) == [3.0]
    assert {s.n_queries for s in sets.values()} == {7}
    assert {tuple(s.durations_s) for s in sets.values()} == {(4.0,)}
    (nafp,) = protocol_named("nafp").settings(given).values()
    assert (nafp.snr_range_db, nafp.snr_db) == (None, [3.0])
    (realistic,) = protocol_named("realistic").settings(given).values()
    assert realistic.t60_s == [0.3]


def test_what_a_protocol_needs_is_named():
    with pytest.raises(ProtocolError, match="singh_attention needs noise and room_ir"):
        protocol_named("singh_attention").settings({"queries_from": "music"})
    with pytest.raises(ProtocolError, match="choose one of realistic, nafp"):
        protocol_named("naf")
    with pytest.raises(QueryError):
        protocol_named("realistic").settings({"queries_from": "music", "n_queries": 0})


def test_given_queries_are_in_every_table(tmp_path):
    rows = [query(n, "a.wav", duration_s=5.0) for n in range(3)]
    answers = [answer(n, ("a.wav", 10.0, 1)) for n in range(3)]
    folder = write_evaluation(
        tmp_path / "e", rows, {"s": answers}, protocol="singh_attention", query_set=run.GIVEN
    )
    result = results.assemble(folder)
    for layout in protocol_named("singh_attention").layouts:
        assert tables.table(result, layout)[1]
