"""What the orderings train, index and ask; ordering_claims.py says what is claimed of it.

Equal samples: 64,000 pairs per run, whatever the batch, and a ramp over 45 % of the steps. Three
seeds where the difference that is looked for is of the order of that between seeds.
"""

from collections.abc import Sequence
from typing import Any

from ordering_measures import bytes_per_minute, candidate_shares

from fingerprint.experiments import Measurement, Queries, References, System, Training

N_PAIRS = 64_000
OWN_CONFIGS = "benchmarks/ordering_configs"
LENGTHS_S = (1.0, 2.0, 3.0, 5.0, 6.0, 10.0)
SOME_LENGTHS_S = (1.0, 10.0)
SPLIT_LENGTHS_S = (1.0, 5.0)
SEEDS = (0, 1, 2)
OFFSETS_S = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)


def steps(n_pairs: int, n_steps: int | None = None, *, ramp: bool = True) -> dict[str, Any]:
    """Batch and number of steps; by default as many as see all the pairs."""
    n_steps = n_steps or N_PAIRS // n_pairs
    values: dict[str, Any] = {"pairs.n_pairs": n_pairs, "training.n_steps": n_steps}
    if ramp:
        values["augmentation.ramp.n_steps"] = n_steps * 9 // 20
    return values | {
        "training.evaluate_every_steps": n_steps,
        "training.checkpoint_every_steps": max(1, n_steps // 10),
    }


def nafp(
    name: str,
    overrides: dict[str, Any],
    cpu_s_per_step: float = 0.5,
    seeds: Sequence[int] = (0,),
) -> Training:
    """The small NAFP with some values changed."""
    return Training(name, "configs/nafp_small.py", overrides, seeds, cpu_s_per_step)


BASE = steps(128)
STEPS_OF = ("background", "room", "device", "filters", "gain", "level")
CLEAN = {f"augmentation.{step}.probability": 0.0 for step in STEPS_OF}
NO_OFFSET = {"pairs.replica_offset_s": 0.0, "augmentation.ramp.offset_s": 0.0}
NO_MASK = {"spec_augment.probability": 0.0}
# Five rows of a group instead of two of a pair: 502 batches of 255 rows are 128,010 rows, and
# 500 batches of 256 are 128,000.
GROUPS = steps(51, 502)
ATTENTION = "configs/attention_small.py"
# A step of attention costs six times as much: three tenths of the pairs.
ATTENTION_STEPS = steps(64, 300)
RICE = steps(128, ramp=False) | {
    "features.n_mels": 128,
    "encoder.widths": (16, 16, 32, 32, 64, 64, 128, 256),
    "encoder.norm_affine": "channel",
}
RICE_TRAINING_REPAIRS: dict[str, dict[str, Any]] = {
    "logarithm": {"features.scaling": "segment_db"},
    "masks": {"spec_augment.masked": "both"},
    "noise_ratio": {"augmentation.background.snr_db": (0.0, 10.0)},
    "room": {"augmentation.room.convolution": "linear"},
    "ramp": {"augmentation.ramp.n_steps": 225},
}
RICE_SEARCH_REPAIRS: dict[str, dict[str, Any]] = {
    "padding": {"reference.pad_to_s": 0.0},
    "jitter": {"reference.start_jitter_s": 0.0},
    "alignment": {"search.alignment": "diagonal"},
    "neighbours": {"search.neighbours": 20},
    "shifts": {"search.n_shifts": 4},
    "order": {"search.shuffled_top": 0},
}


def merged(parts: Any) -> dict[str, Any]:
    """Several sets of values as one."""
    return {key: value for part in parts for key, value in part.items()}


def rice(name: str, overrides: dict[str, Any]) -> Training:
    """Rice's published system at small width; one seed."""
    return Training(name, "configs/rice_published.py", RICE | overrides, seeds=(0,))


TRAININGS = (
    nafp("base", BASE, seeds=SEEDS),
    nafp("no_augmentation", BASE | NO_OFFSET | CLEAN | NO_MASK, 0.4),
    nafp("no_offset", BASE | NO_OFFSET),
    nafp("rows32", steps(16), 0.09, SEEDS),
    Training("triplet_np", "configs/now_playing_small.py", GROUPS, seeds=(0,)),
    Training("triplet_np_all", "configs/now_playing_small.py", GROUPS | {"loss.mean_over": "all"},
             seeds=(0,)),
    Training("triplet_nmfp", "configs/nmfp_triplet_small.py", BASE),
    Training("hash_head", "configs/nafp_small_hash.py", steps(128, 400, ramp=False),
             cpu_s_per_step=0.35, starts_from="base"),
    Training("woo_white_noise", "configs/woo_small.py", steps(128, ramp=False), seeds=(0,)),
    Training("woo_augmented", f"{OWN_CONFIGS}/woo_small_augmented.py", BASE, seeds=(0,)),
    nafp("white_noise", BASE | CLEAN | {"augmentation.white_noise.probability": 1.0}, 0.4),
    rice("rice_published", {}),
    *(rice(f"rice_{name}", repair) for name, repair in RICE_TRAINING_REPAIRS.items()),
    rice("rice_repaired", merged(RICE_TRAINING_REPAIRS.values())),
    nafp("d64", BASE | {"encoder.embedding_dim": 64}),
    Training("attention", ATTENTION, ATTENTION_STEPS, seeds=(0,), cpu_s_per_step=2.0),
    Training("attention_no_mask", ATTENTION, ATTENTION_STEPS | {"encoder.attention": False},
             seeds=(0,), cpu_s_per_step=1.9),
    Training("nafp_in_attention", f"{OWN_CONFIGS}/nafp_in_attention_small.py", ATTENTION_STEPS,
             seeds=(0,), cpu_s_per_step=0.3),
    Training("nafp_in_attention_long", f"{OWN_CONFIGS}/nafp_in_attention_small.py",
             steps(64, 1_980), seeds=(0,), cpu_s_per_step=0.3),
    nafp("rows64", steps(32), 0.16),
    nafp("rows128", steps(64), 0.28),
    nafp("rows32_steps500", steps(16, 500), 0.09, SEEDS),
    nafp("rows64_steps500", steps(32, 500), 0.16),
    nafp("rows128_steps500", steps(64, 500), 0.28),
    nafp("d16", BASE | {"encoder.embedding_dim": 16}),
)  # fmt: skip

REFERENCES = (References("whole"), References("clips_30s", clip_s=30.0))


def queries(
    name: str, durations_s: tuple[float, ...], references: str = "whole", **fields: Any
) -> Queries:
    """A set of 300 excerpts; sets of the same references and lengths have the same ones."""
    return Queries(name, {"n_queries": 300, "durations_s": durations_s, **fields}, references)


MAIN, RICE_SET, ROOMS, QUIET_ROOMS = "main", "rice", "rooms", "quiet_rooms"
QUERIES = (
    queries(MAIN, LENGTHS_S, noise="audio", snr_db=(0.0, 10.0), room_ir="audio",
            device_ir="audio"),
    queries("noise", SPLIT_LENGTHS_S, noise="audio", snr_db=(0.0, 10.0)),
    queries("noise_reverb", SPLIT_LENGTHS_S, noise="audio", snr_db=(0.0, 10.0), room_ir="audio",
            room_share=1.0),
    queries("reverb", SPLIT_LENGTHS_S, room_ir="audio", room_share=1.0),
    queries("white", SPLIT_LENGTHS_S, noise="white", snr_db=(0.0, 10.0)),
    Queries(
        "offsets",
        {"n_queries": 300, "durations_s": (1.0, 3.0), "noise": "audio", "snr_db": (10.0,)},
        offsets_s=OFFSETS_S,
    ),
    Queries(
        RICE_SET,
        {"n_queries": 300, "durations_s": (10.0,), "noise": "audio", "snr_range_db": (0.0, 10.0),
         "room_ir": "audio", "room_share": 1.0},
        references="clips_30s",
    ),
    queries(ROOMS, SPLIT_LENGTHS_S, noise="audio", snr_db=(0.0, 10.0), room_ir="audio",
            room_share=1.0, references="clips_30s"),
    queries(QUIET_ROOMS, SPLIT_LENGTHS_S, room_ir="audio", room_share=1.0,
            references="clips_30s"),
)  # fmt: skip


def on_main(name: str) -> System:
    """A trained system that is asked the queries of all."""
    return System(name, {MAIN: SOME_LENGTHS_S}, training=name)


def rice_system(name: str, training: str, settings: dict[str, Any]) -> System:
    """A trained system of Rice's, searched in some way."""
    return System(
        name, {RICE_SET: (10.0,)}, training=training, settings=settings, references="clips_30s",
        cpu_s=60.0,
    )  # fmt: skip


SPLIT_SETS = dict.fromkeys(("noise", "noise_reverb", "reverb", "white"), SPLIT_LENGTHS_S)
ROOM_SETS = dict.fromkeys((ROOMS, QUIET_ROOMS), SPLIT_LENGTHS_S)
RICE_SYSTEMS = (
    rice_system("rice_published", "rice_published", {}),
    *(rice_system(f"rice_{name}", f"rice_{name}", {}) for name in RICE_TRAINING_REPAIRS),
    *(rice_system(f"rice_{name}", "rice_published", repair)
      for name, repair in RICE_SEARCH_REPAIRS.items()),
    rice_system("rice_training_repaired", "rice_repaired", {}),
    rice_system("rice_search_repaired", "rice_published", merged(RICE_SEARCH_REPAIRS.values())),
    *(rice_system(f"rice_repaired_but_{name}", "rice_repaired",
                  merged(v for k, v in RICE_SEARCH_REPAIRS.items() if k != name))
      for name in RICE_SEARCH_REPAIRS),
    rice_system("rice_repaired", "rice_repaired", merged(RICE_SEARCH_REPAIRS.values())),
)  # fmt: skip
LANDMARKS = ("landmarks", "landmarks_audfprint", "landmarks_dejavu", "landmarks_wang")
SYSTEMS = (
    System("landmarks", {MAIN: LENGTHS_S}, method="landmarks"),
    *(System(f"landmarks_{preset}", {MAIN: LENGTHS_S}, method="landmarks", preset=preset)
      for preset in ("audfprint", "dejavu", "wang")),
    System("spectral_hash", {MAIN: LENGTHS_S}, method="spectral_hash"),
    System("base", {MAIN: LENGTHS_S} | SPLIT_SETS, training="base", cpu_s=500.0),
    System("base_one_shift", {"offsets": (1.0, 3.0)}, training="base",
           settings={"search.n_shifts": 1}),
    System("no_offset_one_shift", {"offsets": (1.0, 3.0)}, training="no_offset",
           settings={"search.n_shifts": 1}),
    *map(on_main, ("no_augmentation", "no_offset", "rows32", "rows64", "rows128")),
    *map(on_main, ("rows32_steps500", "rows64_steps500", "rows128_steps500")),
    *map(on_main, ("triplet_np", "triplet_np_all", "triplet_nmfp", "d16", "d64")),
    System("d64_pq", {MAIN: (1.0, 6.0, 10.0)}, training="d64", searcher="ivf_pq"),
    System("hash_head", {}, training="hash_head"),
    *(System(name, SPLIT_SETS, training=name)
      for name in ("woo_white_noise", "woo_augmented", "white_noise")),
    *RICE_SYSTEMS,
    *(System(name, ROOM_SETS, training=name, references="clips_30s", cpu_s=400.0) for name in
      ("attention", "attention_no_mask", "nafp_in_attention", "nafp_in_attention_long")),
)  # fmt: skip

MEASUREMENTS = (
    Measurement("candidates", ("hash_head",), candidate_shares, queries=(MAIN,)),
    Measurement("memory", ("d64", "landmarks_dejavu"), bytes_per_minute),
)
