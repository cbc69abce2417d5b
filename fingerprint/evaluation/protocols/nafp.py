"""NAFP: how often the right segment of the database is found, by the length of the query.

Chang et al., Neural Audio Fingerprint for High-specific Audio Retrieval based on Contrastive
Learning, ICASSP 2021 (arXiv 2010.11910), tables 3 and 4, and their code (eval/eval_faiss.py).

Faithful: queries are cut into seconds, each with its own offset of at most 0.2 s, noise at 0 to
10 dB, room and device, and no history that could ring on; lengths of 1, 2, 3, 5, 6 and 10 s are 1,
3, 5, 9, 11 and 19 segments at a hop of half a second; *exact* is the nearest segment of the
database, *near* also its neighbours; the same queries serve every system. The rows of their tables
(dimension d, batch N) are several indexes, one for each model, given to one call.

Different: a query starts anywhere in its recording, not on the grid of segments, so that exact is
"within half a hop" and near "within one and a half". Their windows run over the borders of
recordings, ours do not. Top-3 and top-10 are of recordings. Search and the score of a sequence are
those of the system under test: where they are as NAFP's, a query whose truth is among no segment's
neighbours is lost whatever the sequence says.

To know before quoting a figure: scores of 1 s move by tens of points with the size of the database,
so that distractors belong into the index and sizes beside every figure; version 1.1 of their data,
without 24 duplicates, gains 5 to 6 points at 1 s; an offset, noise and room that change every
second are in no real recording, see `realistic`; 2,000 queries leave a standard error of 1 point.
"""

from fingerprint.evaluation.protocols.contract import Layout, Protocol

NAFP_QUERIES = {
    "per": "second",
    "offset_s": 0.2,
    "history_s": 0.0,
    "room_share": 1.0,
    "device_share": 1.0,
    "snr_range_db": (0.0, 10.0),
}
NAFP = Protocol(
    name="nafp",
    title="NAFP, segment-level search (Chang et al. 2021, tables 3 and 4)",
    query_sets={"nafp": NAFP_QUERIES},
    durations_s=(1.0, 2.0, 3.0, 5.0, 6.0, 10.0),
    paired="segment_exact",
    layouts=(
        Layout(
            "segments",
            "Segment hits, exact / near, %, by the length of the query",
            rows=("condition", "system", "dim", "n_batch"),
            spread="duration_s",
            cells=("segment_exact", "segment_near"),
        ),
        Layout(
            "recordings",
            "Recording hits, top-1 / top-3 / top-10, %, by the length of the query",
            rows=("condition", "system", "dim", "n_batch"),
            spread="duration_s",
            cells=("top1", "top3", "top10"),
        ),
    ),
    needs=("noise", "room_ir", "device_ir"),
    notes=("Exact: start within half a hop of 0.5 s; near: within one and a half.",),
)
