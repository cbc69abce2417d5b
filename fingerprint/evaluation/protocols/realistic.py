"""Ours: one recording with one phone in one place, and recordings that the database does not hold.

Every query is degraded once, all through: noise at 0, 5 and 10 dB, two thirds of the queries in a
room, a third through a device, with a second of history that rings on. All measures of the other
protocols are counted on the same queries, each under its own name, and queries without an answer
(``--unknown``) show what the verdict and what any other threshold is worth, which none of the
publications reports: false alarms at a fixed recall, recall at one false alarm in a thousand, and
the whole curve.

To know before quoting a figure: with n queries without an answer nothing below one in n can be
measured, so that one in a thousand takes a thousand of them; thresholds are compared on raw scores,
best candidate by best candidate, and a system's own verdict may use more than the score.
"""

from fingerprint.evaluation.protocols.contract import Layout, Protocol

REALISTIC = Protocol(
    name="realistic",
    title="Degraded once per query",
    query_sets={"realistic": {}},
    durations_s=(1.0, 2.0, 3.0, 5.0, 6.0, 10.0),
    paired="top1",
    layouts=(
        Layout(
            "verdicts",
            "Recording hits, exact starts, verdicts, and time",
            rows=("system", "condition", "duration_s"),
            cells=(
                *("top1", "exact", "match_right", "match_wrong", "false_alarm"),
                *("wall_s_per_query", "cpu_s_per_query"),
            ),
            intervals=True,
        ),
        Layout(
            "recordings",
            "Recording hits, top-1 / top-3 / top-10, %, by the length of the query",
            rows=("condition", "system"),
            spread="duration_s",
            cells=("top1", "top3", "top10"),
        ),
        Layout(
            "tolerances",
            "Segment hits within 50 / 100 / 250 / 500 ms, %, by the length of the query",
            rows=("condition", "system"),
            spread="duration_s",
            cells=("within_50ms", "within_100ms", "within_250ms", "within_500ms"),
        ),
        Layout(
            "open_set",
            "A threshold on the score, all conditions together, %",
            rows=("duration_s", "system"),
            cells=(
                *("recall_at_one_in_a_thousand", "recall_without_false_alarm"),
                *("false_alarm_at_recall_0.5", "false_alarm_at_recall_0.8"),
                "false_alarm_at_recall_0.9",
            ),
            pooled=True,
        ),
    ),
)
