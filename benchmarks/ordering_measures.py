"""Figures of the orderings that are no shares of answered queries."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import candidates
import numpy as np

from fingerprint.generate import COLUMN
from fingerprint.model import Fingerprinter
from fingerprint.neural_recognizer import MODEL_FOLDER
from fingerprint.recognizer import describe_index
from fingerprint.store import Store

RECALLS = (0.8, 0.9)
PQ_BYTES = 64
# What a row of Dejavu's table holds: ten bytes of the hash, three of the song, four of the offset.
DEJAVU_BYTES = 17


def candidate_shares(
    indexes: Mapping[str, Path], queries: Mapping[str, Path], out: Path
) -> dict[str, float]:
    """How much of a database learnt codes and others examine, and how even their buckets are.

    Args:
        indexes: one, made with a model that has a hash head.
        queries: one set.
        out: the curves and a figure are kept here.
    """
    (index,), (folder,) = indexes.values(), queries.values()
    store, fingerprinter = Store.open(index), Fingerprinter.load(index / MODEL_FOLDER)
    segments = candidates.embed_queries(folder, fingerprinter, store)
    vectors = np.asarray(store.column(COLUMN), np.float32)
    candidates.report(vectors, segments, fingerprinter.codes, out)
    content = json.loads((out / "candidates.json").read_text("utf-8"))
    curves = {
        name: candidates.Curve(*map(np.array, (curve["recall"], curve["examined"])))
        for name, curve in content["curves"]["all segments"].items()
    }
    figures = {}
    for recall in RECALLS:
        learnt = curves[candidates.LEARNT].examined_at(recall)
        figures[f"learnt codes examine at recall {recall:g}"] = learnt
        for name in (candidates.HYPERPLANES, candidates.PRINCIPAL, candidates.P_STABLE):
            ratio = curves[name].examined_at(recall) / learnt
            # p-stable LSH may not reach a recall with any of its settings.
            if not math.isnan(ratio):
                figures[f"{name} examine at recall {recall:g}, times learnt codes"] = ratio
    balance = content["balance"]
    for name in ("entropy_share", "share_in_tolerance"):
        figures[name] = learnt_share = balance[candidates.LEARNT][name]
        for other in (candidates.HYPERPLANES, candidates.PRINCIPAL):
            figures[f"{name}, more than {other}"] = learnt_share - balance[other][name]
    return figures


def bytes_per_minute(
    indexes: Mapping[str, Path], queries: Mapping[str, Path], out: Path
) -> dict[str, float]:
    """Memory of fingerprints and of Dejavu's keys, in bytes per minute of the recordings.

    Args:
        indexes: "d64" and "landmarks_dejavu".
        queries: not used.
        out: likewise.
    """
    neural, dejavu = (describe_index(indexes[name]) for name in ("d64", "landmarks_dejavu"))
    minutes = {facts["method"]: facts["duration_s"] / 60 for facts in (neural, dejavu)}
    rows = {facts["method"]: facts["rows"] / minutes[facts["method"]] for facts in (neural, dejavu)}
    quantised = PQ_BYTES * rows["neural"]
    table = DEJAVU_BYTES * rows["landmarks"]
    return {
        "fingerprints, float32": neural["bytes"] / minutes["neural"],
        "fingerprints, product-quantised": quantised,
        "Dejavu's table": table,
        "Dejavu's keys as stored here": dejavu["bytes"] / minutes["landmarks"],
        "Dejavu's table over quantised": table / quantised,
        "Dejavu's table over float32": table / (neural["bytes"] / minutes["neural"]),
    }
