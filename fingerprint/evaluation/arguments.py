"""What the verbs of evaluation accept and how they explain themselves; imports nothing heavy."""

from fingerprint.argument_values import (
    add_format,
    add_searcher,
    floats,
    new_verb,
    non_negative_float,
    positive_floats,
    positive_int,
    share,
)


def add_evaluate(verbs) -> None:
    """The verb ``evaluate``."""
    verb = new_verb(
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
        "--snr_db", type=floats, default=[0.0, 5.0, 10.0], metavar="DB,DB",
        help="signal-to-noise ratios (0,5,10)",
    )  # fmt: skip
    verb.add_argument(
        "--n_queries", type=positive_int, default=300, metavar="N", help="excerpts (300)"
    )
    verb.add_argument("--seed", type=int, default=0, help="seed of all that is random (0)")
    verb.add_argument(
        "--offset_tolerance_s", type=non_negative_float, default=0.5, metavar="S",
        help="largest error of an exact start (0.5)",
    )  # fmt: skip
    verb.add_argument("--output", metavar="FILE.json", help="also write the result as JSON")
    add_searcher(verb)
    add_format(verb, "markdown")
