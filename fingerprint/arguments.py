"""What the command line accepts and how it explains itself; imports nothing heavy."""

import argparse
from collections.abc import Sequence

from fingerprint import __version__
from fingerprint.argument_values import (
    EXIT_STATUS,
    add_format,
    add_searcher,
    new_verb,
    positive_int,
    shard,
    share,
)
from fingerprint.evaluation.arguments import add_distractors, add_evaluate, add_queries
from fingerprint.model_verbs import add_describe, add_export


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
        add_describe,
        add_export,
        _add_generate,
        add_distractors,
        add_queries,
        add_evaluate,
        _add_demo,
    ):
        add(verbs)
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of one call; leaves the program with a sentence where they are wrong."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse gives a list that may be empty nothing of what stands behind an option.
    for name in ("paths", "index_dirs"):
        if hasattr(options, name) and not any(each.startswith("-") for each in rest):
            setattr(options, name, [*getattr(options, name), *rest])
            rest = []
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _add_index(verbs) -> None:
    verb = new_verb(
        verbs,
        "index",
        "create an index of recordings, or extend one",
        "Files that the index already holds are skipped and folders are walked. A file that\n"
        "cannot be read does not stop the others; such files are named at the end. Each file is\n"
        "kept as soon as it is done, so an interrupted call is continued by repeating it.\n\n"
        "What was moved is held already if its file name and length are those of exactly one\n"
        "track whose own file is gone. What was changed in place is held already too: `remove`\n"
        "it before it is indexed again.\n\n"
        "Without options a new index is made with the trained model that is part of this program,\n"
        "and with landmarks. An existing one keeps its method and its model, whatever they are.",
        "fingerprint index songs.index ~/Music",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument("paths", metavar="PATH", nargs="+", help="audio file or folder")
    verb.add_argument(
        "--method",
        choices=["neural", "landmarks", "spectral_hash", "both"],
        help="by a trained network and landmarks together, which finds most (both, unless there is "
        "a --model or --preset); by the network alone (neural), in less time and space; or by "
        "landmarks or spectral hashing, which need no training",
    )
    verb.add_argument(
        "--model",
        metavar="MODEL_DIR",
        help="trained model for neural and both (the one that is part of this program)",
    )
    verb.add_argument(
        "--preset", metavar="NAME", help="published parameters of a landmark index, e.g. audfprint"
    )


def _add_query(verbs) -> None:
    verb = new_verb(
        verbs,
        "query",
        "identify audio files",
        "Only the first 60 s of a file are heard: of a longer one, cut out the part you mean.\n"
        "Every file gets the verdict match or no_match, with the best candidates. In JSON, one\n"
        "object per line, they are there for no_match too, and `matches` is [] when nothing in\n"
        "the index resembles the file at all. Times are in seconds: query_start_s to query_end_s\n"
        "is the part of the file that lies within the track. A confidence of 0.999 says that one\n"
        "in a thousand files from recordings that the index does not hold gets a candidate as\n"
        "good; the verdict is match from --min_confidence on.",
        "fingerprint query songs.index clip.wav --top_k 3 --format json",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    verb.add_argument("paths", metavar="PATH", nargs="+", help="audio file or folder")
    verb.add_argument(
        "--top_k", type=positive_int, default=5, metavar="N", help="candidates per file (5)"
    )
    verb.add_argument(
        "--min_confidence",
        type=share,
        metavar="X",
        help="from 0 to 1: how sure a match has to be (0.999)",
    )
    verb.add_argument(
        "--model",
        metavar="MODEL_DIR",
        help="a model of the same fingerprints, such as one with a hash head for the searcher "
        "hash_buckets; another is refused",
    )
    add_searcher(verb)
    add_format(verb)


def _add_list(verbs) -> None:
    verb = new_verb(
        verbs,
        "list",
        "list the tracks of an index",
        "One track per line, in the order in which they were added.",
        "fingerprint list songs.index --format json",
    )
    verb.add_argument("index_dir", metavar="INDEX_DIR", help="folder of the index")
    add_format(verb)


def _add_remove(verbs) -> None:
    verb = new_verb(
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
    verb = new_verb(
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
    add_format(verb)


def _add_generate(verbs) -> None:
    verb = new_verb(
        verbs,
        "generate",
        "fingerprint a collection into a store",
        "For collections too large for one process: several processes, each with its own store\n"
        "and --shard, share one list of files. A killed run is continued by repeating the call.\n"
        "Each store is an index, which `query`, `list` and the others take as it is.",
        "fingerprint generate part0.store ~/Music --shard 0/8",
    )
    verb.add_argument("store_dir", metavar="STORE_DIR", help="folder of the store")
    verb.add_argument("paths", metavar="PATH", nargs="*", help="audio file or folder")
    verb.add_argument(
        "--model",
        metavar="MODEL_DIR",
        help="trained model (the one that is part of this program)",
    )
    verb.add_argument("--manifest", metavar="CSV", help="files from the column `path` of a table")
    verb.add_argument("--kind", help="only rows of the manifest whose column `kind` is this")
    verb.add_argument("--split", help="only rows of the manifest whose column `split` is this")
    verb.add_argument(
        "--dtype", choices=["float32", "float16"], help="stored type; float32 in a new store"
    )
    verb.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="part I of N, from 0 (0/1)"
    )


def _add_demo(verbs) -> None:
    verb = new_verb(
        verbs,
        "demo",
        "watch the whole job on synthesised music",
        "Trains a small network, fingerprints and indexes recordings, and identifies noisy clips\n"
        "with it and with landmarks. Needs no audio, no network connection and a few minutes.",
        "fingerprint demo --workdir runs/demo",
    )
    verb.add_argument("--workdir", default="runs/demo", help="folder for the results (runs/demo)")
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")
