"""Rice: recordings found by 10 s from a telephone, among the first one and the first three.

M. Rice's report on audio fingerprinting (code: mhrice/AudioFingerprint): 200 clips of GTZAN, and
213 queries recorded with a telephone.

Faithful: queries of 10 s; the file in first place, and among the first three; seconds per query.

Different: the recordings are not part of this repository. A folder of them with a truth.csv is put
to the systems with ``--queries``; without it telephone recordings are imitated, one noise, room and
device per query. His contrastive program returns its three best files in no order, so that his
"top-1" of 4.1 % is any of the three; ours is the best one, unless the model's search says
``shuffled_top``.

To know before quoting a figure: 213 queries leave a standard error of 2.6 points, and chance is one
in 200.
"""

from fingerprint.evaluation.protocols.contract import Layout, Protocol

RICE = Protocol(
    name="rice",
    title="Recordings by 10 s from a telephone (Rice)",
    query_sets={"telephone": {"room_share": 1.0, "device_share": 1.0}},
    durations_s=(10.0,),
    paired="top1",
    layouts=(
        Layout(
            "recordings",
            "Recording hits, %, and seconds per query",
            rows=("condition", "system"),
            cells=("top1", "top3", "wall_s_per_query", "cpu_s_per_query"),
            intervals=True,
        ),
    ),
)
