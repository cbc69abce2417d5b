"""The published orderings, and which figures decide whether they are reproduced."""

from ordering_contrasts import (
    LONG_S,
    SHORT_S,
    better,
    growing,
    longer,
    loses,
    offset_cell,
)
from ordering_runs import (
    LANDMARKS,
    LENGTHS_S,
    MAIN,
    OFFSETS_S,
    QUIET_ROOMS,
    RICE_SEARCH_REPAIRS,
    RICE_SET,
    RICE_SYSTEMS,
    RICE_TRAINING_REPAIRS,
    ROOMS,
    SOME_LENGTHS_S,
    SPLIT_LENGTHS_S,
)

from fingerprint.experiments import Bound, Contrast, Experiment, Table

NAFP = "Chang et al., ICASSP 2021 (arXiv 2010.11910)"
SINGH = "Singh et al. (arXiv 2210.08624)"
HASHING = "Singh et al. (arXiv 2211.11060)"
SNRS = ("snr_db=0", "snr_db=10")
EQUAL_PAIRS = "All runs see 64,000 pairs; the ramp of the degradations takes 45 % of the steps."

AUGMENTATION = Experiment(
    key="1",
    claim="Without augmentation a network fails",
    source=f"{NAFP}: 0.0 % at every length, 100 K songs.",
    design=f"The small NAFP with the whole chain and with none of it (no offset, noise, room, "
    f"device, filter, gain or mask). {EQUAL_PAIRS} In a database of 93 recordings chance finds "
    "1 %, so that the claim here is a gap of more than 20 points.",
    contrasts=better(
        "base", "no_augmentation", SOME_LENGTHS_S, at_least=0.2,
        published=("62.2 : 0.0", "95.6 : 0.0"),
    ),
    tables=[Table("Top-1", ("base", "no_augmentation"), MAIN, SOME_LENGTHS_S)],
)  # fmt: skip
LOSSES = ("base", "triplet_np_all", "triplet_np", "triplet_nmfp")
LOSS = Experiment(
    key="2",
    claim="NT-Xent beats the triplet loss",
    source=f"{NAFP}: 62.2 : 26.3 % at 1 s, 95.6 : 87.8 % at 10 s, against their replica of Now "
    "Playing's loss. The authors of NMFP (arXiv 2506.22661) find another triplet ahead of NT-Xent.",
    design="Equal rows through the same encoder: 128,000 in each run. NT-Xent and NMFP's triplet "
    "see them as 64,000 pairs, 128 in a batch of 256 rows; Now Playing's as 25,600 groups of an "
    "original and four replicas, 51 in a batch of 255 rows, hence of fewer originals and tracks. "
    "`triplet_np_all` is the loss as published, averaged over satisfied cells, too, and decides; "
    "`triplet_np` averages over violating cells. Learning rate, schedule and margins are those of "
    "the configurations: no loss was tuned.",
    contrasts=[
        *better("base", "triplet_np_all", published=("62.2 : 26.3", "95.6 : 87.8")),
        *better("base", "triplet_np", is_claim=False),
        *better("base", "triplet_nmfp", is_claim=False),
    ],
    tables=[Table("Top-1", LOSSES, MAIN, SOME_LENGTHS_S)],
)
BATCHES = ("rows32", "rows64", "rows128", "base")
EQUAL_STEPS = ("rows32_steps500", "rows64_steps500", "rows128_steps500", "base")
BATCH = Experiment(
    key="3",
    claim="A larger batch is better",
    source=f"{NAFP}: 55.9 / 61.0 / 62.2 % with N = 120 / 320 / 640 rows, equal epochs.",
    design="N = 32, 64, 128 and 256 rows (`base`). With equal samples (64,000 pairs) a batch of "
    "an eighth gets eight times as many updates; this decides, as the publication trained equal "
    "epochs. With equal steps (500) it sees an eighth of the pairs. One learning rate for all.",
    contrasts=[
        *better("base", "rows32", published=("62.2 : 55.9 (N 640 : 120)",)),
        *growing(BATCHES),
        *better("base", "rows32_steps500", is_claim=False),
        *growing(EQUAL_STEPS),
    ],
    tables=[
        Table("Top-1, equal samples", BATCHES, MAIN, SOME_LENGTHS_S),
        Table("Top-1, equal steps", EQUAL_STEPS, MAIN, SOME_LENGTHS_S),
    ],
)
DIMENSIONS = ("d16", "d64", "base")
DIMENSION = Experiment(
    key="4",
    claim="A larger fingerprint is better",
    source=f"{NAFP}: 11.6 / 40.2 / 54.6 / 62.2 % with d = 16 / 32 / 64 / 128.",
    design=f"d = 16 and 64, one seed, and 128 (`base`). {EQUAL_PAIRS} A database of "
    "93 recordings saturates early: small d look far better than among 100 K songs.",
    contrasts=[
        *better("base", "d16", (SHORT_S,), published=("62.2 : 11.6",)),
        *growing(DIMENSIONS),
    ],
    tables=[Table("Top-1", DIMENSIONS, MAIN, SOME_LENGTHS_S)],
)
LENGTH = Experiment(
    key="5",
    claim="A longer query is better",
    source=f"{NAFP}: 62.2 % at 1 s to 95.6 % at 10 s.",
    design="The same queries, of which the shorter are the beginnings of the longer.",
    contrasts=[longer("top1", 1, "95.6 : 62.2")],
    tables=[Table("Top-1", ("base",), MAIN, LENGTHS_S)],
)
NEAR = Experiment(
    key="6",
    claim="The gap between near and exact hits closes with length",
    source=f"{NAFP}: 6.1 points at 1 s, 0.2 at 10 s.",
    design="Exact: the right recording, its start right to half a hop (0.25 s); near: to one and "
    "a half. Queries are fingerprinted at four fractions of a hop, which leaves little to close; "
    "the publication's are cut at one.",
    contrasts=[longer("near_minus_exact", -1, "6.1 : 0.2")],
    tables=[
        Table("Segment hits", ("base",), MAIN, LENGTHS_S, measures=("segment_near",)),
        Table("Of these not exact", ("base",), MAIN, LENGTHS_S, measures=("near_minus_exact",)),
    ],
)
IN_ROOMS = {"queries": ROOMS, "conditions": SNRS, "measure": "within_50ms"}
ENCODERS = ("attention", "attention_no_mask", "nafp_in_attention", "nafp_in_attention_long")
ROOM_TABLES = (
    Table("Within 50 ms, noise in rooms", ENCODERS, ROOMS, SPLIT_LENGTHS_S, SNRS,
          ("within_50ms",)),
    Table("Top-1, rooms without noise", ENCODERS, QUIET_ROOMS, SPLIT_LENGTHS_S),
)  # fmt: skip
ATTENTION = Experiment(
    key="7",
    claim="The attention network beats NAFP's in rooms",
    source=f"{SINGH}: 60.3 : 27.3 % at 0 dB, 81.3 : 70.7 % at 10 dB, noise in rooms, 0.96 s.",
    design="Equal: data, front-end (16 kHz, 64 mels), segments of 0.95 s every 0.1 s, "
    "degradations, offsets, loss, batch, optimiser, 19,200 pairs, search. Parameters are "
    "near (0.54 and 0.44 M), multiply-adds are not: attention takes about 2.0 CPU-seconds "
    "per step, NAFP's encoder 0.3. `nafp_in_attention_long` (one seed) has the CPU time of "
    "attention, 6.6 times the pairs. The masks begin with weights of a tenth of the published "
    "deviation, with which the network does not learn in so few steps. The database is the middle "
    "30 s of each recording. A publication compares the two as published, with hops of 0.1 and "
    "0.5 s and other degradations.",
    contrasts=[
        *better("attention", "nafp_in_attention", (SHORT_S,), **IN_ROOMS,
                published=("60.3 : 27.3", "81.3 : 70.7")),
        *better("attention", "nafp_in_attention", (5.0,), **IN_ROOMS, is_claim=False,
                published=("69.5 : 54.7",)),
        *better("attention", "nafp_in_attention_long", (SHORT_S,), **IN_ROOMS, is_claim=False),
    ],
    tables=ROOM_TABLES,
)  # fmt: skip
MASKS = Experiment(
    key="8",
    claim="The attention masks themselves help",
    source=f"{SINGH}: the masks are the contribution; no ablation is published.",
    design="The same residual network with its masks and with masks of 1; 19,200 pairs each.",
    contrasts=[
        *better("attention", "attention_no_mask", (SHORT_S,), **IN_ROOMS),
        *better("attention", "attention_no_mask", queries=QUIET_ROOMS, durations_s=(SHORT_S,),
                is_claim=False),
    ],
    tables=ROOM_TABLES,
)  # fmt: skip
TIMES = "{} examine at recall {:g}, times learnt codes"
CODES = Experiment(
    key="9",
    claim="Balanced codes examine at most half of what LSH does, at equal recall",
    source=f"{HASHING}: 2.3 to 2.4 times fewer; 1.9 by the count of FlowHash.",
    design="A head of 10 bits, trained for 400 steps on the frozen `base` of the same seed, "
    "against as many random hyperplanes with the same probing (means of five draws), and "
    "p-stable LSH with settings chosen on other recordings. Recall of the row that exact "
    "search finds, over all segments of the queries. `python benchmarks/candidates.py` "
    "draws the curves. Principal directions of the database, which need no training, show "
    "what a trained head adds. Each figure is of one seed; they have no interval.",
    bounds=[
        Bound("hyperplanes at recall 0.9, times learnt codes", "candidates",
              TIMES.format("random hyperplanes", 0.9), 2.0, published="2.3"),
        Bound("hyperplanes at recall 0.8, times learnt codes", "candidates",
              TIMES.format("random hyperplanes", 0.8), 2.0, is_claim=False),
        Bound("p-stable LSH at recall 0.9, times learnt codes", "candidates",
              TIMES.format("p-stable LSH", 0.9), 2.0, is_claim=False),
        Bound("principal directions at recall 0.9, times learnt codes", "candidates",
              TIMES.format("principal directions", 0.9), 1.0, is_claim=False),
    ],
)  # fmt: skip
BALANCE = Experiment(
    key="10",
    claim="Learnt buckets are nearly equally full, those of hyperplanes are not",
    source=f"{HASHING}: 78 % of the buckets in tolerance.",
    design="The indexes of row 9. Entropy of the buckets' sizes as a share of its bits; a bucket "
    "is in tolerance within a factor of two of the mean. Of recordings that the head has "
    "not heard.",
    bounds=[
        Bound("entropy, more than of hyperplanes", "candidates",
              "entropy_share, more than random hyperplanes", 0.01),
        Bound("buckets in tolerance, more than of hyperplanes", "candidates",
              "share_in_tolerance, more than random hyperplanes", 0.1),
        Bound("entropy, more than of principal directions", "candidates",
              "entropy_share, more than principal directions", 0.0, is_claim=False),
        Bound("buckets in tolerance", "candidates", "share_in_tolerance", 0.78, is_claim=False,
              published="0.78"),
    ],
)  # fmt: skip
MEMORY = Experiment(
    key="11",
    claim="Fingerprints take a tenth of the memory of Dejavu's keys",
    source=f"{NAFP}: 40 against 400 MB for 10 K clips of 30 s, d = 64.",
    design="Per minute of the same recordings: a code of 64 bytes for each fingerprint, two per "
    "second, against Dejavu's table of 17 bytes per key (10 of the hash, 3 of the song, 4 of the "
    "offset), without indexes and codebooks. Codes alone cannot rank: here fingerprints stay on "
    "disk for that. What both find stands beside it.",
    bounds=[
        Bound("Dejavu's table over quantised fingerprints", "memory",
              "Dejavu's table over quantised", 10.0, published="10"),
        Bound("Dejavu's table over float32", "memory", "Dejavu's table over float32", 10.0,
              is_claim=False),
    ],
    contrasts=better("d64_pq", "landmarks_dejavu", (SHORT_S, 6.0), is_claim=False,
                     published=("", "98.9 : 69.6")),
    tables=[Table("Top-1", ("d64_pq", "d64", "landmarks_dejavu"), MAIN, (SHORT_S, LONG_S))],
)  # fmt: skip
BASELINES = Experiment(
    key="12",
    claim="A network beats landmarks at short queries",
    source=f"{NAFP}: 98.9 : 69.6 % of Dejavu at 6 s.",
    design="The same queries to every landmark preset and to spectral hashing. The network is "
    "`base`, a few minutes of two cores, and not the model that is shipped.",
    contrasts=[
        *better("base", "landmarks_dejavu", (6.0,), published=("98.9 : 69.6",)),
        *(c for name in LANDMARKS for c in better("base", name, (SHORT_S,))),
        *(c for name in (*LANDMARKS, "spectral_hash")
          for c in better("base", name, (LONG_S,), is_claim=False)),
    ],
    tables=[Table("Top-1", ("base", *LANDMARKS, "spectral_hash"), MAIN, LENGTHS_S)],
)  # fmt: skip
RICE_REPAIRS = [f"rice_{name}" for name in (*RICE_TRAINING_REPAIRS, *RICE_SEARCH_REPAIRS)]
ON_CLIPS = {"durations_s": (LONG_S,), "queries": RICE_SET, "is_claim": False}
RICE = Experiment(
    key="13",
    claim="Rice's 4.1 % are explained by defects of the code",
    source="83.1 % top-1 of the repaired network against 4.1 % as published; evaluation of "
    "recordings, queries of 10 s.",
    design="The published code at small width, 64,000 pairs, one seed; each defect repaired "
    "alone, those of training together, those of index and search together (with the "
    "network as published), all of them, and all but each of index and search. References "
    "are the middle 30 s of the test recordings, as Rice's clips; queries of 10 s from them "
    "at 0 to 10 dB, each in a room. The claim is a gap of more than 20 points between all "
    "repaired and none.",
    contrasts=[
        *better("rice_repaired", "rice_published", (LONG_S,), queries=RICE_SET, at_least=0.2,
                published=("83.1 : 4.1",)),
        *(c for name in (*RICE_REPAIRS, "rice_training_repaired", "rice_search_repaired")
          for c in better(name, "rice_published", **ON_CLIPS)),
        *(c for name in RICE_SEARCH_REPAIRS
          for c in better("rice_repaired", f"rice_repaired_but_{name}", **ON_CLIPS)),
    ],
    tables=[Table("Recordings", [s.name for s in RICE_SYSTEMS], RICE_SET, (LONG_S,),
                  measures=("top1", "top3"))],
)  # fmt: skip
NETS = ("woo_white_noise", "woo_augmented", "white_noise", "base")
WHITE = ("woo_white_noise", "white_noise")
WHITE_NOISE = Experiment(
    key="14",
    claim="Training with white noise alone does not transfer",
    source="Woo trains with white noise and publishes no retrieval figure; the claim is ours.",
    design="Woo's network (d = 10, its own loss) and the small NAFP, each with white noise alone "
    f"and with the whole chain; all else is equal within a network. {EQUAL_PAIRS} Queries of the "
    "same excerpts in white noise, in recorded noise (0 and 10 dB), in rooms, and in both. The "
    "claim is twofold: it loses from white noise to each of them, and the whole chain is ahead.",
    contrasts=[
        *(loses(name, other) for name in WHITE for other in ("noise", "reverb", "noise_reverb")),
        *better("woo_augmented", "woo_white_noise", (5.0,), queries="noise_reverb"),
        *better("base", "white_noise", (5.0,), queries="noise_reverb"),
    ],
    tables=[Table(f"Top-1, {name}", NETS, name, SPLIT_LENGTHS_S)
            for name in ("white", "noise", "reverb", "noise_reverb")],
)  # fmt: skip
ONE_SHIFT = ("base_one_shift", "no_offset_one_shift")
OFFSET = Experiment(
    key="15",
    claim="Tolerance of an offset comes from training with offsets",
    source=f"{NAFP}: implied by offsets of up to 200 ms in training.",
    design=f"The small NAFP with replicas up to 200 ms beside their originals, and with none. "
    f"{EQUAL_PAIRS} Each excerpt is moved to 0 to 250 ms from the start of a reference segment and "
    "fingerprinted once, not at four fractions of a hop; noise at 10 dB, no room. The claim: from "
    "0 to 250 ms more is lost without offsets in training than with them.",
    contrasts=[
        Contrast(
            "loss from 0 to 250 ms, no_offset - base",
            [offset_cell("no_offset_one_shift", 0.0), offset_cell("base_one_shift", 0.25)],
            [offset_cell("no_offset_one_shift", 0.25), offset_cell("base_one_shift", 0.0)],
        ),
        *better(*ONE_SHIFT, (SHORT_S,), queries="offsets", conditions=("offset_s=0.25",)),
        *better(*ONE_SHIFT, (SHORT_S,), queries="offsets", conditions=("offset_s=0",),
                is_claim=False),
    ],
    tables=[Table("Top-1 of 1 s", ONE_SHIFT, "offsets", (SHORT_S,),
                  [f"offset_s={offset_s:g}" for offset_s in OFFSETS_S])],
)  # fmt: skip

EXPERIMENTS = (
    *(AUGMENTATION, LOSS, BATCH, DIMENSION, LENGTH, NEAR, ATTENTION, MASKS),
    *(CODES, BALANCE, MEMORY, BASELINES, RICE, WHITE_NOISE, OFFSET),
)
