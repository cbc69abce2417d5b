"""NAFP beside Dejavu: hits in 6 s, and the memory that they cost.

Chang et al., ICASSP 2021 (arXiv 2010.11910), section 4: 10 thousand clips of 30 s, queries of 6 s,
less than 40 MB (d = 64, quantised to 64 bytes) against Dejavu's 400 MB.

Faithful: lengths and degradation, as in `nafp`.

Different: the publication sets the *segment* hits of one system (98.9 %) beside the *song* hits of
the other (69.6 %), although the former is the stricter measure. Here every system has both, in
columns that do not mix. Bytes are those of the stored rows: our neural rows are uncompressed, 512
bytes for d = 128, where the publication counts what is left after product quantisation.
"""

from fingerprint.evaluation.protocols.contract import Layout, Protocol
from fingerprint.evaluation.protocols.nafp import NAFP_QUERIES

NAFP_DEJAVU = Protocol(
    name="nafp_dejavu",
    title="NAFP and Dejavu, hits and memory (Chang et al. 2021, section 4)",
    query_sets={"nafp": NAFP_QUERIES},
    durations_s=(6.0,),
    paired="top1",
    layouts=(
        Layout(
            "memory",
            "Hits, %, and the memory of the database",
            rows=("condition", "system"),
            cells=("segment_exact", "segment_near", "top1", "megabytes", "kilobytes_per_minute"),
            intervals=True,
        ),
    ),
    needs=("noise", "room_ir", "device_ir"),
    notes=("Segment hits ask for the right second, recording hits do not: never compare the two.",),
)
