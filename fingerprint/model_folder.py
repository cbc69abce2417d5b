"""A trained model on disk.

A model folder holds ``model.json`` (format, version, identity, configuration, calibration) and
arrays named by their path in the network, ``"a/b/c"``, none of them pickled: ``parameters.npz`` of
the encoder, ``batch_stats.npz`` of its batch norm if it has one, and ``hash_head.npz`` if it was
trained with a head for binary codes, whose digest stands in ``model.json``. Parameters may be
stored as float16, which halves the folder; they are float32 again once read.

The identity is derived from what defines a fingerprint: two models have the same one exactly when
their fingerprints can be compared, and an index records it. That of rounded parameters is another
one, and the same whichever type they are stored as. Codes are made from fingerprints, so that the
hash head is no part of it.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from fingerprint.config import config_from_json, config_to_values, with_defaults
from fingerprint.errors import FingerprintError

FORMAT = "fingerprint model"
FORMAT_VERSION = 1
_PARAMETERS = "parameters.npz"
_BATCH_STATS = "batch_stats.npz"
_HASH_HEAD = "hash_head.npz"

DTYPES = ("float32", "float16")
DEFINING_SECTIONS = ("sample_rate_hz", "segment", "features", "encoder", "crop")
# Settings that came after the first models, at the values that change nothing: identities leave
# them out, so that those models keep theirs.
_NEUTRAL_VALUES = {"mel_scale": "slaney", "power": 1.0, "scaling": "segment_db", "envelope_mels": 0}


class ModelError(FingerprintError):
    """A model folder, or audio given to a model, that cannot be used."""


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """What a model folder holds; the attributes are the arguments of `save_model`.

    Numbers are float32, whatever ``dtype`` they are stored as.
    """

    identity: str
    config: ConfigDict
    variables: dict
    calibration: dict | None
    hash_head: dict | None
    dtype: str


def identity_of(config: ConfigDict, variables: Mapping) -> str:
    """Sixteen hexadecimal digits that change with anything that changes a fingerprint."""
    sections = defining_sections(config)
    sections["features"] = {
        name: value
        for name, value in sections["features"].items()
        if name not in _NEUTRAL_VALUES or value != _NEUTRAL_VALUES[name]
    }
    if sections["crop"] is None:
        del sections["crop"]
    digest = hashlib.sha256(json.dumps(sections, sort_keys=True).encode())
    _add_arrays(digest, _flatten(variables["params"]))
    _add_arrays(digest, _flatten({"batch_stats": variables.get("batch_stats", {})}))
    return digest.hexdigest()[:16]


def defining_sections(config: ConfigDict) -> dict[str, Any]:
    """The part of the configuration that a fingerprint depends on."""
    sections = config_to_values(config)
    return {name: sections[name] for name in DEFINING_SECTIONS}


def _flatten(tree: Mapping) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(values)
        for name, values in traverse_util.flatten_dict(dict(tree), sep="/").items()
    }


def save_model(
    folder: str | os.PathLike,
    config: ConfigDict,
    variables: Mapping,
    calibration: Mapping | None = None,
    hash_head: Mapping | None = None,
    *,
    dtype: str = "float32",
) -> str:
    """Write a model folder; an older model of that name stays until the new one is complete.

    Args:
        folder: Where to write; its parents are made.
        config: The whole configuration of the training run.
        variables: The encoder as flax holds it: ``{"params": ...}`` and, if it has batch norm,
            ``"batch_stats"``.
        calibration: What `calibration.Calibration.to_dict` gives, how well wrong tracks score by
            query length; None while it is unknown.
        hash_head: The `balanced_hash.HashHead` likewise, or None.
        dtype: "float32", or "float16" to round the parameters of both networks to it.

    Returns:
        The identity of the model, that of its rounded parameters if they are rounded.

    Raises:
        ModelError: the folder holds something else than a model, the dtype is unknown, or
            float16 cannot hold a parameter.
    """
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}.")
    folder = pathlib.Path(folder)
    if folder.exists() and not (folder / "model.json").is_file():
        raise ModelError(
            f"{folder} exists and is not a model folder: remove it or choose another name."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    if dtype == "float16":
        variables = _half(variables)
        hash_head = None if hash_head is None else _half(hash_head)
    arrays = {_PARAMETERS: _flatten(variables["params"])}
    if variables.get("batch_stats"):
        arrays[_BATCH_STATS] = _flatten(variables["batch_stats"])
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": identity_of(config, variables),
        "config": config_to_values(config),
        "calibration": calibration,
    }
    if hash_head is not None:
        arrays[_HASH_HEAD] = _flatten(hash_head)
        description["hash_head_sha256"] = _sha256(arrays[_HASH_HEAD])
    new = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.new-"))
    try:
        new.chmod(0o755)
        _write(new, arrays, description)
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return description["identity"]


def read_model(folder: str | os.PathLike) -> StoredModel:
    """Read a model folder; settings that it is too old to state get their defaults.

    Raises:
        ModelError: the folder is missing, damaged, of another kind or of a newer format.
    """
    folder = pathlib.Path(folder)
    description = _read_description(folder)
    config = with_defaults(config_from_json(json.dumps(description["config"])))
    parameters = _read_arrays(folder / _PARAMETERS)
    variables = {"params": _unflatten(parameters)}
    if (folder / _BATCH_STATS).exists():
        variables["batch_stats"] = _unflatten(_read_arrays(folder / _BATCH_STATS))
    if identity_of(config, variables) != description["identity"]:
        raise ModelError(
            f"{folder} is damaged: its parameters are not those that its identity "
            f"{description['identity']} was made from; copy or train the model again."
        )
    hash_head = None
    if "hash_head_sha256" in description:
        arrays = _read_arrays(folder / _HASH_HEAD)
        if config.hash is None or _sha256(arrays) != description["hash_head_sha256"]:
            raise ModelError(
                f"{folder / _HASH_HEAD} is damaged: it is not the hash head that model.json "
                "tells of; copy or train the model again."
            )
        hash_head = _unflatten(arrays)
    identity, calibration = description["identity"], description["calibration"]
    is_half = any(values.dtype == np.float16 for values in parameters.values())
    dtype = "float16" if is_half else "float32"
    return StoredModel(identity, config, variables, calibration, hash_head, dtype)


def load_encoder(folder: str | os.PathLike, config: ConfigDict) -> dict:
    """The encoder of a model folder, to go on from under another configuration.

    Returns:
        Its variables, as in `save_model`.

    Raises:
        ModelError: it cannot be used, or its encoder sees something else than ``config`` says.
    """
    model = read_model(folder)
    theirs, ours = defining_sections(model.config), defining_sections(config)
    for name in DEFINING_SECTIONS:
        if theirs[name] != ours[name]:
            raise ModelError(
                f"{name} is {ours[name]!r}, but the model in {folder} was trained with "
                f"{theirs[name]!r}: take over its values, or start from another model."
            )
    return model.variables


def _half(variables: Mapping) -> dict:
    """The parameters as float16; statistics stay: they are few, and variances span more than it."""
    half = {}
    for name, values in _flatten(variables["params"]).items():
        with np.errstate(over="ignore"):
            half[name] = values.astype(np.float16)
        if not np.isfinite(half[name]).all():
            raise ModelError(f"{name} holds what float16 cannot: save the model as float32.")
    return {**variables, "params": traverse_util.unflatten_dict(half, sep="/")}


def _write(folder: pathlib.Path, arrays: Mapping[str, Mapping], description: Mapping) -> None:
    for name, values in arrays.items():
        with open(folder / name, "wb") as file:
            np.savez(file, **values)
            os.fsync(file.fileno())
    with open(folder / "model.json", "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
        os.fsync(file.fileno())


def _swap(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Rename ``new`` to ``folder``, whose old content is deleted only afterwards."""
    old = folder.with_name(f"{new.name}.old")
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _read_description(folder: pathlib.Path) -> dict:
    path = folder / "model.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder} is not a model folder: it holds no model.json; give the folder that "
            "training wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the model again.") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelError(f"{folder} is not a model folder: {path.name} is of another format.")
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{folder} has the model format version {version!r}, but this program reads version "
            f"{FORMAT_VERSION}: update the program."
        )
    missing = {"identity", "config", "calibration"} - set(description)
    if missing:
        raise ModelError(f"{path} is damaged: {min(missing)} is missing; copy the model again.")
    if not set(DEFINING_SECTIONS) - {"crop"} <= set(description["config"] or ()):
        raise ModelError(f"{path} is damaged: its config is incomplete; copy the model again.")
    return description


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is missing or damaged ({error}): copy or train the model again."
        ) from None


def _unflatten(arrays: Mapping[str, np.ndarray]) -> dict:
    used = {name: _in_use(values) for name, values in arrays.items()}
    return traverse_util.unflatten_dict(used, sep="/")


def _in_use(values: np.ndarray) -> np.ndarray:
    """What a network computes with: float16 is a way to store float32."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    _add_arrays(digest, arrays)
    return digest.hexdigest()


def _add_arrays(digest: Any, arrays: Mapping[str, np.ndarray]) -> None:
    for name, values in sorted(arrays.items()):
        values = _in_use(values)
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
