"""Recognisers by name: open an index whatever made it, create one, say what it holds."""

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fingerprint import both_store
from fingerprint.errors import FingerprintError
from fingerprint.generate import NEURAL_METHODS
from fingerprint.identification import Identification, Match, Recognizer, remove_tracks
from fingerprint.store import Store, StoreError
from fingerprint.store_format import HEADER_FILE

__all__ = [
    "BothRecognizer",  # noqa: F822 (by __getattr__)
    "Identification",
    "LandmarkRecognizer",  # noqa: F822
    "Match",
    "NeuralRecognizer",  # noqa: F822
    "Recognizer",
    "SpectralHashRecognizer",  # noqa: F822
    "create_or_open",
    "describe_index",
    "open_recognizer",
    "remove_from_index",
    "remove_tracks",
    "verify_index",
]

# Loaded when it is first used: jax for the one and scipy for the other take seconds to import.
_CLASSES = {
    "BothRecognizer": "fingerprint.both_recognizer",
    "LandmarkRecognizer": "fingerprint.landmark_recognizer",
    "NeuralRecognizer": "fingerprint.neural_recognizer",
    "SpectralHashRecognizer": "fingerprint.spectral_hash_recognizer",
}
_METHODS = {
    "both": "BothRecognizer",
    "landmarks": "LandmarkRecognizer",
    "neural": "NeuralRecognizer",
    "spectral_hash": "SpectralHashRecognizer",
}
# What a new index of a method can be told.
_CHOICES = {
    "both": {"model", "dtype"},
    "landmarks": {"preset"},
    "neural": {"model", "dtype"},
    "spectral_hash": set(),
}


def __getattr__(name: str) -> type[Recognizer]:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_CLASSES[name]), name)


def open_recognizer(
    folder: str | Path, *, model: str | Path | None = None, searcher: str = "auto"
) -> Recognizer:
    """Open an index with the method that made it.

    Args:
        folder: the index.
        model: where given, a model folder (or "default", the model that is part of the package)
            that the index has to be made with; its hash head serves "hash_buckets", also where the
            model in the index has none.
        searcher: what fingerprints of a network are searched with, a kind of
            `searchers.open_searcher`; the other methods have nothing to choose.

    Raises:
        StoreError: the folder holds no index, a damaged one, or one made with another model, or a
            searcher is chosen for an index that is not searched with one.
        ModelError: a model folder cannot be used.
    """
    method = Store.open(folder).recognizer.get("method")
    if method not in _METHODS:
        raise StoreError(
            f"{folder} was made by the method {method!r}, which this program does not know: "
            "update it."
        )
    choices = {"searcher": searcher} if method in NEURAL_METHODS else {}
    if not choices and searcher != "auto":
        raise StoreError(
            f"{folder} is an index of the method {method!r}, which the searcher {searcher!r} "
            "cannot search: leave it out, or make an index of the method neural."
        )
    recognizer = __getattr__(_METHODS[method]).open(folder, **choices)
    if model is not None:
        recognizer.use_model(_model_folder(model))
    return recognizer


def create_or_open(
    folder: str | Path,
    *,
    method: str | None = None,
    model: str | Path | None = None,
    preset: str | None = None,
    dtype: str | None = None,
) -> Recognizer:
    """Open an index, or create it where there is none.

    A new index is by ``method``: "neural" with ``model`` (or the one that is part of the package),
    its fingerprints stored as ``dtype`` (or "float32"), "landmarks" with ``preset`` (or
    "default"), "both", which is neural and has landmarks besides, or "spectral_hash". Without a
    method it is both, which finds most; neural if there is a model or dtype, of landmarks if there
    is a preset. An existing one keeps all that, whichever model made it; what is given and differs
    is refused.

    Raises:
        FingerprintError: the index cannot be opened or created, or is not what is asked for.
    """
    folder = Path(folder)
    if not holds_index(folder):
        choices = {"model": model, "preset": preset, "dtype": dtype}
        usual = "landmarks" if preset else "neural" if model or dtype else "both"
        return _create(folder, method or usual, choices)
    _check_kind(Store.open(folder), {"method": method, "preset": preset, "dtype": dtype})
    return open_recognizer(folder, model=model)


def holds_index(folder: str | Path) -> bool:
    """Whether there is an index, damaged or not."""
    # Unlike Path.exists, this leaves it to the creation to say that a folder is forbidden.
    return os.path.exists(Path(folder) / HEADER_FILE)


def _check_kind(store: Store, wanted: Mapping[str, str | None]) -> None:
    """Refuse a store that is not of the method, preset and dtype that are given."""
    own = {
        "method": store.recognizer.get("method"),
        "preset": store.recognizer.get("preset"),
        "dtype": next(iter(store.columns.values()))[0],
    }
    for name, value in wanted.items():
        if value not in (None, own[name]):
            kind = name if own[name] else "method"
            raise StoreError(
                f"{store.folder} is an index of the {kind} {own[kind]!r}, not {value!r}: "
                "choose another folder for that."
            )


def _create(folder: Path, method: str, choices: Mapping[str, str | Path | None]) -> Recognizer:
    """A new index; choices that are None are left to the method."""
    if method not in _METHODS:
        raise FingerprintError(
            f"There is no method {method!r}; choose one of {', '.join(_METHODS)}."
        )
    given = {name: value for name, value in choices.items() if value is not None}
    for name in given:
        if name not in _CHOICES[method]:
            raise FingerprintError(
                f"An index of the method {method!r} has no {name}: leave it out, or choose another "
                "method."
            )
    if method in NEURAL_METHODS:
        given["model_folder"] = _model_folder(given.pop("model", None))
    return __getattr__(_METHODS[method]).create(folder, **given)


def _model_folder(name: str | Path | None) -> Path:
    # Imports jax, for which not every method has a use.
    from fingerprint.pretrained import default_model, find_model

    return default_model() if name is None else find_model(name)


def remove_from_index(folder: str | Path, tracks: Iterable[str]) -> tuple[list[str], list[str]]:
    """As `remove_tracks`, of an index of any method; loads no model."""
    store = Store.open(folder)
    if both_store.is_both(store):
        return both_store.remove_from_both(store, both_store.open_landmarks(store), tracks)
    return remove_tracks(store, tracks)


def verify_index(folder: str | Path) -> None:
    """Read every row of an index and compare it with its checksum; loads no model.

    Raises:
        StoreError: the folder holds no index, or a damaged one.
    """
    store = Store.open(folder)
    if both_store.is_both(store):
        both_store.verify(store)
    else:
        store.verify()


def describe_index(folder: str | Path) -> dict:
    """What an index is and holds, as JSON-able facts; loads no model.

    ``bytes`` are those of the stored rows, without model and search index; ``rows`` are those of
    the fingerprints where there are ``landmarks`` besides, which have rows of their own.

    Raises:
        StoreError: the folder holds no index, or a damaged one.
    """
    store = Store.open(folder)
    facts = {"index": str(folder), "method": store.recognizer.get("method")}
    facts |= {name: value for name, value in store.recognizer.items() if name != "method"}
    facts |= {
        "tracks": len(store.tracks),
        "duration_s": round(sum(track.duration_s for track in store.tracks), 3),
        "rows": store.n_rows,
        "bytes": sum(store.column(name).nbytes for name in store.columns),
    }
    if both_store.is_both(store):
        facts["landmarks"] = landmarks = both_store.describe_landmarks(store)
        facts["bytes"] += landmarks["bytes"]
    return facts
