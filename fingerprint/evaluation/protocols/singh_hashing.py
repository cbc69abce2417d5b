"""Singh's balanced hashing: segments found to 50 ms, and how little of the database that takes.

Singh et al., Simultaneously Learning Robust Audio Embeddings and Balanced Hash Codes for
Query-by-Example, ICASSP 2023 (arXiv 2211.11060), its table of top-1 and speed-up.

Faithful: noise at 0, 5, 10, 15 and 20 dB; the same in rooms that ring for 0.5 s; rooms of 0.2, 0.4,
0.5, 0.7 and 0.8 s without noise; lengths of 1, 2, 3 and 5 s; a hit is a start right to 50 ms.

Different: rooms are measured ones within 20 % of the reverberation time. The speed-up in print is
of its own programs; here the share of the database that a search compares with is counted where the
searcher counts it (hash_buckets and lsh), and time is printed beside it. Both depend on how many
buckets are visited: equalise recall first (``benchmarks/candidates.py`` draws the curve).

To know before quoting a figure: as in `singh_attention`, 50 ms ask for an index at a hop of 0.1 s.
"""

from fingerprint.evaluation.protocols.contract import Layout, Protocol
from fingerprint.evaluation.protocols.singh_attention import HOP_NOTE, T60S_S, TOLERANCES

SNRS_DB = (0.0, 5.0, 10.0, 15.0, 20.0)
SINGH_HASHING = Protocol(
    name="singh_hashing",
    title="Balanced hash codes (Singh et al. 2023)",
    query_sets={
        "noise": {"snr_db": SNRS_DB, "room_ir": None, "device_ir": None},
        "noise_reverb": {"snr_db": SNRS_DB, "t60_s": (0.5,), "device_ir": None},
        "reverb": {"t60_s": T60S_S, "noise": None, "device_ir": None},
    },
    durations_s=(1.0, 2.0, 3.0, 5.0),
    paired="within_50ms",
    layouts=(
        Layout(
            "segments",
            "Segment hits within 50 ms, %",
            rows=("duration_s", "system"),
            spread="condition",
            cells=("within_50ms",),
        ),
        Layout(
            "speed",
            "What a query costs, all conditions of a set together",
            rows=("set", "duration_s", "system"),
            cells=("within_50ms", "top1", "examined", "cpu_s_per_query", "speed_up"),
            pooled=True,
            intervals=True,
        ),
        TOLERANCES,
    ),
    hop_s=0.1,
    needs=("noise", "room_ir"),
    notes=(
        HOP_NOTE,
        "Speed-up: CPU time of the first system over that of this one.",
    ),
)
