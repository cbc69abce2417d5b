"""The verbs about models: describe, export. What is heavy is imported inside."""

import argparse
import os

from fingerprint.argument_values import add_format, new_verb
from fingerprint.terminal import DONE, print_facts


def add_describe(verbs) -> None:
    """The verb ``describe``."""
    verb = new_verb(
        verbs,
        "describe",
        "say how large the network of a configuration or a model is and what it costs",
        "Input shape (mels, frames), dimension, parameters, and multiply-adds per segment and per\n"
        "second of audio, all counted on the network itself. Of a trained model also its\n"
        "identity, the size of its folder, whether its verdict is calibrated, and the bits of its\n"
        "hash head.",
        "fingerprint describe default --format json",
    )
    verb.add_argument(
        "config",
        metavar="CONFIG",
        help="configuration file, configs/NAME.py; or a model folder; or default, the model that "
        "is part of this program",
    )
    add_format(verb)


def describe(options: argparse.Namespace) -> int:
    """Say how large the network of a configuration or a model is and what it costs."""
    from fingerprint.pretrained import DEFAULT, find_model

    if options.config == DEFAULT or os.path.isdir(options.config):
        from fingerprint.model_release import describe_model

        facts = describe_model(find_model(options.config))
    else:
        from fingerprint.config import load_config
        from fingerprint.describe import describe

        facts = describe(load_config(options.config))
    print_facts(facts, options.format)
    return DONE


def add_export(verbs) -> None:
    """The verb ``export``."""
    verb = new_verb(
        verbs,
        "export",
        "write a trained model for release",
        "The new folder names no path of this machine and, as float16, takes half the space. The\n"
        "model has then another identity: indexes belong to the model that made them. Says how\n"
        "near its fingerprints are to those of the old one (cosine, of a synthesised clip).",
        "fingerprint export runs/small/model small_model --dtype float16",
    )
    verb.add_argument("model_dir", metavar="MODEL_DIR", help="trained model")
    verb.add_argument("out_dir", metavar="OUT_DIR", help="folder to write")
    verb.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float16",
        help="what parameters are stored as (float16)",
    )
    add_format(verb)


def export(options: argparse.Namespace) -> int:
    """Write a trained model for release."""
    from fingerprint.model_release import export_model
    from fingerprint.pretrained import find_model

    facts = export_model(find_model(options.model_dir), options.out_dir, dtype=options.dtype)
    print_facts(facts, options.format)
    return DONE
