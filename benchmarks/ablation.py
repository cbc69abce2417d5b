"""What each choice in configs/pretrained.py is worth: one change at a time, equal samples seen.

    python benchmarks/ablation_split.py AUDIO runs/ablation_audio
    python benchmarks/ablation.py --output runs/ablation --audio runs/ablation_audio --list
    python benchmarks/ablation.py --output runs/ablation --audio runs/ablation_audio
    python benchmarks/ablation.py --output runs/ablation --report_only --results results/ablation

All of it is the train split of AUDIO: the first command holds a part of that back, by which the
choices are made. What --output holds is not made again: the same command goes on after an
interruption.
"""

import sys
from typing import Any

from fingerprint.experiments import (
    Experiment,
    Queries,
    Suite,
    System,
    Table,
    Training,
    main,
)

CONFIG = "configs/pretrained.py"
N_STEPS = 1_000
N_PAIRS = 64
LENGTHS_S = (1.0, 3.0, 10.0)
BUDGET: dict[str, Any] = {
    "pairs.n_pairs": N_PAIRS,
    "training.n_steps": N_STEPS,
    "training.evaluate_every_steps": N_STEPS,
    "training.checkpoint_every_steps": N_STEPS // 4,
    "augmentation.ramp.n_steps": N_STEPS // 3,
    "data.n_validation_tracks": 4,
}
NAFP_AUGMENTATION: dict[str, Any] = {
    "augmentation.speed.probability": 0.0,
    "augmentation.white_noise.probability": 0.0,
    "augmentation.background.snr_db": (0.0, 10.0),
    "augmentation.background.extra_probability": 0.0,
    "augmentation.room.dry_noise_probability": 0.0,
    "augmentation.equalizer.probability": 0.0,
    "augmentation.compressor.probability": 0.0,
    "augmentation.clipping.probability": 0.0,
}
# What is taken back or put in the place of it: name, in words, values.
CHANGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("envelope", "no spectral envelope taken away", {"features.envelope_mels": 0}),
    ("width", "late blocks as narrow as in `nafp_small`",
     {"encoder.widths": (16, 16, 32, 32, 64, 64, 128, 256)}),
    ("offset", "replicas up to 0.2 s off", {"pairs.replica_offset_s": 0.2}),
    ("wide_band", "mels up to 4 kHz, as many",
     {"features.f_max_hz": 4000.0, "features.envelope_mels": 25}),
    ("no_bass", "mels from 160 Hz on", {"features.f_min_hz": 160.0}),
    ("short_window", "a transform of 128 ms, twice as many frames of half as many mels",
     {"features.n_fft": 1024, "features.hop_length": 256, "features.n_mels": 128,
      "features.envelope_mels": 17, "spec_augment.stripe_bins": (3, 10)}),
    ("voices", "no voices", {"data.babble_clips": 0}),
    ("masks", "spectral masks in every batch", {"spec_augment.probability": 1.0}),
    ("no_masks", "no spectral masks", {"spec_augment.probability": 0.0}),
    ("tracks", "no tracks at other speeds", {"data.track_speeds": (1.0,)}),
    ("dry_noise", "the room on the noise, too", {"augmentation.room.dry_noise_probability": 0.0}),
    ("equalizer", "no uneven responses", {"augmentation.equalizer.probability": 0.0}),
    ("noise", "one noise, 0 to 10 dB, none of it white",
     {"augmentation.white_noise.probability": 0.0, "augmentation.background.snr_db": (0.0, 10.0),
      "augmentation.background.extra_probability": 0.0}),
    ("nafp_augmentation", "the degradations of `nafp.py`, all of these together",
     NAFP_AUGMENTATION),
    ("two_segments", "two segments of each track, each other's negatives",
     {"pairs.segments_per_track": 2}),
)  # fmt: skip

PHONE: dict[str, Any] = {
    "noise": "audio", "room_ir": "audio", "room_share": 1.0, "reverberate": "music",
    "equaliser_db": (5.0,), "high_pass_hz": (150.0,), "suppression": (0.6,), "gain_control": True,
    "codec": ("opus:24",),
}  # fmt: skip
NOISY: dict[str, Any] = {"noise": "audio", "room_ir": "audio", "device_ir": "audio"}
QUERIES = (
    Queries("noisy", {"n_queries": 300, "durations_s": LENGTHS_S, "snr_db": (0.0, 5.0)} | NOISY),
    Queries("phone", {"n_queries": 300, "durations_s": LENGTHS_S, "snr_db": (0.0,)} | PHONE),
)
ASKED = {queries.name: LENGTHS_S for queries in QUERIES}


def training(name: str, changes: dict[str, Any], seeds: tuple[int, ...] = (0,)) -> Training:
    """The configuration at the budget of all, with some values changed."""
    return Training(name, CONFIG, BUDGET | changes, seeds=seeds, cpu_s_per_step=0.4)


def tables(name: str) -> list[Table]:
    """The whole and a change of it."""
    return [Table(f"Top-1, {queries}", ("whole", name), queries, LENGTHS_S) for queries in ASKED]


EXPERIMENTS = [
    Experiment(
        name,
        words[0].upper() + words[1:],
        "ours",
        "Equal samples.",
        tables=tables(name),
    )
    for name, words, _ in CHANGES
]
PREAMBLE = f"""\
Each row takes one choice of configs/pretrained.py back. Every run sees {N_STEPS * N_PAIRS:,} pairs,
a fraction of what the model of the package has seen: differences at the end of a long training can
be smaller, or larger for what makes the task harder. Trained and asked on parts of the train split
that do not overlap. "noisy": 0 and 5 dB, two thirds in a room, a third through a device; "phone":
every query in a room with dry noise at 0 dB, uneven loudspeaker and microphone, high-pass at
150 Hz, suppression of noise, automatic gain and Opus at 24 kbit/s. One seed, three of the whole.
"""
SUITE = Suite(
    title="What each choice is worth",
    preamble=PREAMBLE,
    trainings=[training("whole", {}, (0, 1, 2)), *(training(n, v) for n, _, v in CHANGES)],
    systems=[System(name, ASKED, training=name) for name in ("whole", *(n for n, _, _ in CHANGES))],
    queries=QUERIES,
    experiments=EXPERIMENTS,
    changes_of="whole",
)

if __name__ == "__main__":
    sys.exit(main(SUITE, __doc__))
