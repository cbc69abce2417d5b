"""What the verbs of evaluation accept and how they explain themselves; imports nothing heavy."""

import argparse

from fingerprint.argument_values import (
    add_format,
    add_searcher,
    float_range,
    floats,
    floats_or_none,
    named_file,
    new_verb,
    non_negative_float,
    positive_floats,
    positive_int,
    share,
    words_or_none,
)
from fingerprint.evaluation.protocols import PROTOCOLS


def add_queries(verbs) -> None:
    """The verb ``queries``."""
    verb = new_verb(
        verbs,
        "queries",
        "make a set of queries, once for all systems",
        "Queries are random excerpts of recordings, degraded, with a table of what is true and\n"
        "what was done: truth.csv. Options that take a list make every excerpt once for each\n"
        "value (and for each combination of them); `none` in a list leaves that step out. The\n"
        "order is that of sound: speed, tempo, pitch; loudspeaker; noise; room; device; voices;\n"
        "microphone, filters, clipping; suppression, gain control, level; codec. Wherever a\n"
        "folder has a manifest.csv (columns path, kind, split), only its files of the option's\n"
        "kind (music, noise, room_ir, device_ir) and of --split are used. Nothing is left behind\n"
        "by a call that did not finish.",
        "fingerprint queries runs/phone --queries_from AUDIO --noise AUDIO --room_ir AUDIO \\\n"
        "      --snr_db 0,10 --high_pass_hz 300 --low_pass_hz 3400 --codec none,opus:16",
    )
    verb.add_argument("query_dir", metavar="QUERY_DIR", help="folder to make")
    _add_sources(verb)
    verb.add_argument(
        "--audio", choices=["flac", "recipe"], default="flac",
        help="keep 16-bit files, or only how to make the same samples again (flac)",
    )  # fmt: skip
    verb.add_argument(
        "--sample_rate_hz", type=positive_int, default=16_000, metavar="HZ",
        help="sample rate of the queries (16000)",
    )  # fmt: skip
    _add_recording(verb)
    _add_conditions(verb)


def _add_recording(verb: argparse.ArgumentParser) -> None:
    """How all queries of a set are recorded."""
    verb.add_argument(
        "--per", choices=["query", "second"], default="query",
        help="one noise, ratio, room and device for a query, or others and a shift in each of its "
        "seconds, as NAFP is evaluated (query)",
    )  # fmt: skip
    verb.add_argument(
        "--offset_s", type=non_negative_float, default=0.2, metavar="S",
        help="largest shift of a second with --per second (0.2)",
    )  # fmt: skip
    verb.add_argument(
        "--history_s", type=non_negative_float, default=1.0, metavar="S",
        help="music and noise before a query, or second, that the room still rings with; NAFP "
        "has 0 (1)",
    )  # fmt: skip
    verb.add_argument(
        "--n_noises", type=positive_int, default=1, metavar="N",
        help="noises at once, equally loud: babble of speakers (1)",
    )  # fmt: skip
    verb.add_argument(
        "--snr_range_db", type=float_range, metavar="LOW,HIGH",
        help="draw the signal-to-noise ratio between these, instead of --snr_db",
    )  # fmt: skip
    verb.add_argument(
        "--reverberate", choices=["all", "music"], default="all",
        help="let the room ring with music and noise, or with the music alone (all)",
    )  # fmt: skip
    verb.add_argument("--gain_control", action="store_true", help="automatic gain of a telephone")


def _add_conditions(verb: argparse.ArgumentParser) -> None:
    """Lists that make every excerpt once for each value."""
    numbers = (
        ("--t60_s", "S,S", "rooms that ring about so long (within 20 %%), for every query"),
        ("--low_pass_hz", "HZ,HZ", "nothing above this, 24 dB per octave"),
        ("--high_pass_hz", "HZ,HZ", "nothing below this, 24 dB per octave"),
        ("--clipped_share", "X,X", "overdriven, this share of samples at full scale, e.g. 0.01"),
        ("--level_db", "DB,DB", "peak relative to full scale, e.g. -30"),
        ("--speed", "X,X", "played so many times as fast, tempo and pitch alike"),
        ("--tempo", "X,X", "tempo alone (needs librosa)"),
        ("--pitch_semitones", "X,X", "pitch alone (needs librosa)"),
        ("--equaliser_db", "DB,DB", "unevenness of loudspeaker and microphone, e.g. 6"),
        ("--band_share", "X,X", "share with a low-pass, and with a high-pass, at any corner"),
        ("--babble_db", "DB,DB", "ratio to synthetic voices near the microphone, e.g. 5"),
        ("--suppression", "X,X", "strength of a telephone's noise suppression, e.g. 0.8"),
    )
    verb.add_argument(
        "--snr_db", type=floats_or_none, default=[0.0, 5.0, 10.0], metavar="DB,DB",
        help="signal-to-noise ratios; none: without noise (0,5,10)",
    )  # fmt: skip
    for name, metavar, summary in numbers:
        verb.add_argument(name, type=floats_or_none, default=[None], metavar=metavar, help=summary)
    verb.add_argument(
        "--codec", type=words_or_none, default=[None], metavar="NAME:KBIT_S,...",
        help="coded and decoded at the sample rate of the queries, e.g. none,mp3:64,opus:16",
    )  # fmt: skip


def add_distractors(verbs) -> None:
    """The verb ``distractors``."""
    verb = new_verb(
        verbs,
        "distractors",
        "make an index larger by tracks that are never the right answer",
        "Figures mean little without the size of the database. Distractors are\n"
        "  audio        files and folders that the queries are not from (PATH)\n"
        "  derived      the same, 3 to 5 semitones faster or slower (PATH, --hours)\n"
        "  synthesised  music made from a seed (--hours)\n"
        "  sampled      fingerprints drawn from those of real music (--hours, --fit): hundreds of\n"
        "               hours in minutes, for neural indexes only\n"
        "Their names begin with `distractor:`. The same seed gives the same distractors; a call\n"
        "that was interrupted is continued by repeating it.",
        "fingerprint distractors neural.index --from sampled --fit other.index --hours 50",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="index to enlarge")
    verb.add_argument("paths", metavar="PATH", nargs="*", help="audio file or folder")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--from", dest="source", choices=["audio", "derived", "synthesised", "sampled"],
        help="what distractors are made of",
    )  # fmt: skip
    what.add_argument("--remove", action="store_true", help="remove all distractors")
    verb.add_argument(
        "--hours", type=float, metavar="H",
        help="how much the index is to hold of this source and seed, in whole tracks",
    )  # fmt: skip
    verb.add_argument(
        "--fit", metavar="INDEX_DIR",
        help="index or store of real music, by the same model, whose fingerprints are drawn from; "
        "best not that of the references",
    )  # fmt: skip
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")


def add_evaluate(verbs) -> None:
    """The verb ``evaluate``."""
    verb = new_verb(
        verbs,
        "evaluate",
        "count how many queries each index answers rightly, as a publication counts",
        "Queries are random excerpts of recordings that the indexes hold, degraded as a protocol\n"
        "says; every index gets the same ones, and a longer query begins with the shorter ones.\n"
        "Wherever a folder has a manifest.csv (columns path, kind, split), only its files of the\n"
        "option's kind (music, noise, room_ir, device_ir) and of --split are used.\n\n"
        "--output keeps queries, answers, tables, figures, a record and every figure as JSON. The\n"
        "same call goes on where it was interrupted, a call with more indexes adds them, and\n"
        "`fingerprint evaluate --output DIR` alone makes the tables again, asking nobody.",
        "fingerprint evaluate neural.index landmarks.index --queries_from AUDIO --noise AUDIO \\\n"
        "      --room_ir AUDIO --device_ir AUDIO --protocol nafp --training AUDIO \\\n"
        "      --output runs/nafp",
    )
    verb.add_argument("index_dirs", metavar="INDEX_DIR", nargs="*", help="index to evaluate")
    verb.add_argument(
        "--protocol", choices=list(PROTOCOLS), default="realistic",
        help="whose queries, measures and tables; documented in fingerprint/evaluation/protocols "
        "(realistic)",
    )  # fmt: skip
    _add_questions(verb)
    verb.add_argument(
        "--training", metavar="FOLDER", help="audio of the training: look for it in the indexes"
    )
    verb.add_argument("--training_split", default="train", help="its split (train)")
    verb.add_argument(
        "--offset_tolerance_s", type=non_negative_float, default=0.5, metavar="S",
        help="largest error of an exact start (0.5)",
    )  # fmt: skip
    verb.add_argument(
        "--output", metavar="DIR", help="keep everything; with FILE.json only the result is kept"
    )
    add_searcher(verb)
    add_format(verb, "markdown")


def _add_questions(verb: argparse.ArgumentParser) -> None:
    """What is asked, or what others have answered."""
    _add_sources(verb, required=False)
    for name, metavar, summary in (
        ("--snr_db", "DB,DB", "signal-to-noise ratios (those of the protocol)"),
        ("--t60_s", "S,S", "reverberation times, where the protocol has them"),
    ):
        verb.add_argument(name, type=floats, metavar=metavar, help=summary)
    verb.set_defaults(room_share=None, device_share=None, durations_s=None)
    verb.add_argument(
        "--queries", metavar="QUERY_DIR",
        help="existing queries, of the verb `queries` or recorded, instead of --queries_from",
    )  # fmt: skip
    verb.add_argument(
        "--answers", metavar="NAME=FILE.csv", action="append", default=[], type=named_file,
        help="another program's answers to the same queries: query, track, start_s, score",
    )  # fmt: skip


def _add_sources(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What queries are made from, how long and how many."""
    folder = {"metavar": "FOLDER"}
    verb.add_argument("--queries_from", required=required, **folder, help="recordings to excerpt")
    verb.add_argument("--kind", default="music", help="their kind in the manifest (music)")
    verb.add_argument("--split", default="test", help="the split in all manifests (test)")
    verb.add_argument("--noise", **folder, help="background noise")
    verb.add_argument("--room_ir", **folder, help="impulse responses of rooms")
    verb.add_argument("--device_ir", **folder, help="impulse responses of devices")
    verb.add_argument(
        "--room_share", type=share, default=2 / 3, help="share of queries in a room (2/3)"
    )
    verb.add_argument(
        "--device_share", type=share, default=1 / 3, help="share through a device (1/3)"
    )
    verb.add_argument(
        "--unknown", **folder, help="recordings that no index holds, to count false alarms"
    )
    verb.add_argument("--unknown_split", help="split in their manifest (that of --split)")
    verb.add_argument(
        "--durations_s", type=positive_floats, default=[1.0, 2.0, 3.0, 5.0, 6.0, 10.0],
        metavar="S,S", help="query lengths (1,2,3,5,6,10)",
    )  # fmt: skip
    verb.add_argument(
        "--n_queries", type=positive_int, default=300, metavar="N", help="excerpts (300)"
    )
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")
