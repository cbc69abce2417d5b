"""What the command line accepts and how it explains itself; imports nothing heavy."""

import argparse
import math

from fingerprint import __version__

EXIT_STATUS = (
    "Exit status: 0 done; 1 something could not be done (the sentences on stderr say what and\n"
    "why) and the rest was; 2 wrong usage."
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb; ``verb`` holds the one that was chosen."""
    parser = argparse.ArgumentParser(
        prog="fingerprint",
        description="Find out which recording a short, noisy clip comes from, and where in it.",
        epilog="`fingerprint VERB --help` explains a verb and shows an example. " + EXIT_STATUS,
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for add in (
        _add_index,
        _add_query,
        _add_list,
        _add_remove,
        _add_info,
        _add_describe,
        _add_generate,
        _add_evaluate,
        _add_demo,
    ):
        add(verbs)
    return parser


def _verb(verbs, name: str, summary: str, more: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{more}\n\nExample:\n  {example}",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_index(verbs) -> None:
    verb = _verb(
        verbs,
        "index",
        "create an index of recordings, or extend one",
        "Files that the index already holds are skipped and folders are walked. A file that\n"
        "cannot be read does not stop the others; such files are named at the end. Each file is\n"
        "kept as soon as it is done, so an interrupted call is continued by repeating it.",
        "fingerprint index songs.index ~/Music --model runs/nafp_small/model",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument("paths", metavar="PATH", nargs="+", help="audio file or folder")
    method = verb.add_mutually_exclusive_group()
    method.add_argument(
        "--model", metavar="MODEL_DIR", help="make a neural index with this trained model"
    )
    method.add_argument(
        "--method",
        choices=["landmarks"],
        help="make a landmark index, which needs no training; what a new index becomes when "
        "neither --model nor --method is given (an existing index keeps its own method)",
    )
    verb.add_argument(
        "--preset", metavar="NAME", help="published parameters of a landmark index, e.g. audfprint"
    )


def _add_query(verbs) -> None:
    verb = _verb(
        verbs,
        "query",
        "identify audio files",
        "Every file gets the verdict match or no_match, with the best candidates. In JSON, one\n"
        "object per line, they are there for no_match too, and `matches` is [] when nothing in\n"
        "the index resembles the file at all. Times are in seconds: query_start_s to query_end_s\n"
        "is the part of the file that lies within the track.",
        "fingerprint query songs.index clip.wav --top_k 3 --format json",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument("paths", metavar="PATH", nargs="+", help="audio file or folder")
    verb.add_argument(
        "--top_k", type=_positive_int, default=5, metavar="N", help="candidates per file (5)"
    )
    verb.add_argument(
        "--model", metavar="MODEL_DIR", help="refuse an index that was made with another model"
    )
    _add_searcher(verb)
    _add_format(verb)


def _add_list(verbs) -> None:
    verb = _verb(
        verbs,
        "list",
        "list the tracks of an index",
        "One track per line, in the order in which they were added.",
        "fingerprint list songs.index --format json",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    _add_format(verb)


def _add_remove(verbs) -> None:
    verb = _verb(
        verbs,
        "remove",
        "remove tracks from an index",
        "Tracks are named as `list` shows them, or by a path to the same file. Tracks that the\n"
        "index holds are removed even when others are not found; those are named on stderr.",
        "fingerprint remove songs.index ~/Music/old.flac",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument("tracks", metavar="TRACK", nargs="+", help="track to remove")


def _add_info(verbs) -> None:
    verb = _verb(
        verbs,
        "info",
        "say what an index is and how much it holds",
        "Method, model or parameters, tracks, duration, rows and bytes.",
        "fingerprint info songs.index --verify",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument(
        "--verify", action="store_true", help="also read everything and compare checksums"
    )
    _add_format(verb)


def _add_describe(verbs) -> None:
    verb = _verb(
        verbs,
        "describe",
        "say how large the network of a configuration is and what it costs",
        "Input shape (mels, frames), dimension, parameters, and multiply-adds per segment and per\n"
        "second of audio, all counted on the network itself.",
        "fingerprint describe configs/nafp.py --format json",
    )
    verb.add_argument("config", metavar="CONFIG", help="configuration file, configs/NAME.py")
    _add_format(verb)


def _add_generate(verbs) -> None:
    verb = _verb(
        verbs,
        "generate",
        "fingerprint a collection into a store",
        "For collections too large for one process: several processes, each with its own store\n"
        "and --shard, share one list of files. A killed run is continued by repeating the call.\n"
        "Each store is an index, which `query`, `list` and the others take as it is.",
        "fingerprint generate part0.store ~/Music --model runs/nafp/model --shard 0/8",
    )
    verb.add_argument("store_dir", metavar="STORE_DIR", help="folder of the store")
    verb.add_argument("paths", metavar="PATH", nargs="*", help="audio file or folder")
    verb.add_argument("--model", metavar="MODEL_DIR", required=True, help="trained model")
    verb.add_argument("--manifest", metavar="CSV", help="files from the column `path` of a table")
    verb.add_argument("--kind", help="only rows of the manifest whose column `kind` is this")
    verb.add_argument("--split", help="only rows of the manifest whose column `split` is this")
    verb.add_argument(
        "--dtype", choices=["float32", "float16"], help="stored type; float32 in a new store"
    )
    verb.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="part I of N, from 0 (0/1)"
    )


def _add_evaluate(verbs) -> None:
    verb = _verb(
        verbs,
        "evaluate",
        "count how many synthesised queries each index answers rightly",
        "Queries are random excerpts of recordings that the indexes hold, with noise and impulse\n"
        "responses; every index gets the same ones, and a longer query begins with the shorter\n"
        "ones. Wherever a folder has a manifest.csv (columns path, kind, split), only its files\n"
        "of the option's kind (music, noise, room_ir, device_ir) and of --split are used.",
        "fingerprint evaluate neural.index landmarks.index --queries_from AUDIO \\\n"
        "      --noise AUDIO --room_ir AUDIO --device_ir AUDIO --format markdown",
    )
    verb.add_argument("index_dirs", metavar="INDEX_DIR", nargs="+", help="index to evaluate")
    folder = {"metavar": "FOLDER"}
    verb.add_argument("--queries_from", required=True, **folder, help="recordings to excerpt")
    verb.add_argument("--kind", default="music", help="their kind in the manifest (music)")
    verb.add_argument("--split", default="test", help="the split in all manifests (test)")
    verb.add_argument("--noise", **folder, help="background noise")
    verb.add_argument("--room_ir", **folder, help="impulse responses of rooms")
    verb.add_argument("--device_ir", **folder, help="impulse responses of devices")
    verb.add_argument(
        "--room_share", type=_share, default=2 / 3, help="share of queries in a room (2/3)"
    )
    verb.add_argument(
        "--device_share", type=_share, default=1 / 3, help="share through a device (1/3)"
    )
    verb.add_argument(
        "--unknown", **folder, help="recordings that no index holds, to count false alarms"
    )
    verb.add_argument("--unknown_split", help="split in their manifest (that of --split)")
    verb.add_argument(
        "--durations_s", type=_positive_floats, default=[1.0, 2.0, 3.0, 5.0, 6.0, 10.0],
        metavar="S,S", help="query lengths (1,2,3,5,6,10)",
    )  # fmt: skip
    verb.add_argument(
        "--snr_db", type=_floats, default=[0.0, 5.0, 10.0], metavar="DB,DB",
        help="signal-to-noise ratios (0,5,10)",
    )  # fmt: skip
    verb.add_argument(
        "--n_queries", type=_positive_int, default=300, metavar="N", help="excerpts (300)"
    )
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")
    verb.add_argument(
        "--offset_tolerance_s", type=_non_negative_float, default=0.5, metavar="S",
        help="largest error of an exact start (0.5)",
    )  # fmt: skip
    verb.add_argument("--output", metavar="FILE.json", help="also write the result as JSON")
    _add_searcher(verb)
    _add_format(verb, "markdown")


def _add_demo(verbs) -> None:
    verb = _verb(
        verbs,
        "demo",
        "watch the whole job on synthesised music",
        "Trains a small network, fingerprints and indexes recordings, and identifies noisy clips\n"
        "with it and with landmarks. Needs no audio, no network connection and a few minutes.",
        "fingerprint demo --workdir runs/demo",
    )
    verb.add_argument("--workdir", default="runs/demo", help="folder for the results (runs/demo)")
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")


def _add_searcher(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--searcher", choices=["auto", "exact", "scann"], default="auto",
        help="of a neural index; auto chooses by its size",
    )  # fmt: skip


def _add_format(verb: argparse.ArgumentParser, *more: str) -> None:
    verb.add_argument("--format", choices=["table", "json", *more], default="table")


def _positive_int(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _floats(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 1,2.5,10")
    return values


def _positive_floats(text: str) -> list[float]:
    values = _floats(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds a value that is not positive")
    return values


def _non_negative_float(text: str) -> float:
    values = _floats(text)
    if len(values) > 1 or values[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return values[0]


def _share(text: str) -> float:
    value = _non_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _shard(text: str) -> tuple[int, int]:
    part, slash, total = text.partition("/")
    if not (slash and part.isdecimal() and total.isdecimal() and int(part) < int(total)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with 0 <= I < N")
    return int(part), int(total)
