"""Model folders for others to use: what one is and costs, and one that can be given away."""

import os
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fingerprint.describe import describe
from fingerprint.model import Fingerprinter, ModelError, save_model
from fingerprint.model_folder import read_model
from fingerprint.music_synthesis import synthesize_track

_CLIP_SEED = 0
_CLIP_S = 30.0


def describe_model(folder: str | os.PathLike) -> dict[str, Any]:
    """What a model folder holds, and what its network costs.

    Returns:
        ``{"identity", "dtype", "bytes", "calibrated", "hash_bits"}`` and what
        `describe.describe` says of its configuration. ``bytes`` are those of all files of the
        folder, ``dtype`` what parameters are stored as; ``hash_bits`` is None without a hash head.

    Raises:
        ModelError: the folder cannot be read.
        ConfigError: its configuration is not one of this program.
    """
    model = read_model(folder)
    facts = describe(model.config)
    return {
        "name": facts.pop("name"),
        "identity": model.identity,
        "dtype": model.dtype,
        "bytes": sum(path.stat().st_size for path in pathlib.Path(folder).iterdir()),
        "calibrated": model.calibration is not None,
        "hash_bits": None if model.hash_head is None else model.config.hash.n_bits,
        **facts,
    }


def export_model(
    folder: str | os.PathLike, out_folder: str | os.PathLike, dtype: str = "float16"
) -> dict[str, Any]:
    """Write a model for release: smaller if ``dtype`` is, and without the paths of this machine.

    The calibration is kept: rounding moves scores by far less than it says they vary.

    Returns:
        What `describe_model` says of the new folder, with ``"exported_from"``, the identity of the
        old one, and ``"cosine_mean"`` and ``"cosine_min"`` of the two models' fingerprints of one
        synthesised clip of 30 s.

    Raises:
        ModelError: the model cannot be read or written, or the two folders are the same.
    """
    folder, out_folder = pathlib.Path(folder), pathlib.Path(out_folder)
    if out_folder.exists() and out_folder.samefile(folder):
        raise ModelError(f"{out_folder} is the model itself: choose another folder to export to.")
    model, original = read_model(folder), Fingerprinter.load(folder)
    save_model(
        out_folder,
        without_absolute_paths(model.config),
        model.variables,
        model.calibration,
        model.hash_head,
        dtype=dtype,
    )
    cosines = _cosines(original, Fingerprinter.load(out_folder))
    return describe_model(out_folder) | {
        "exported_from": model.identity,
        "cosine_mean": round(float(cosines.mean()), 9),
        "cosine_min": round(float(cosines.min()), 9),
    }


def without_absolute_paths(config: ConfigDict) -> ConfigDict:
    """The configuration without where files lay on the machine that trained with it.

    ``data.root`` and ``data.cache_dir`` are unset; of other absolute paths the last part stays.
    """
    values = _shortened(config.to_dict())
    values["data"] |= {"root": None, "cache_dir": ""}
    return ConfigDict(values)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_shortened(inner) for inner in value)
    is_path = isinstance(value, str) and os.path.isabs(os.path.expanduser(value))
    return pathlib.Path(value).name if is_path else value


def _cosines(one: Fingerprinter, other: Fingerprinter) -> np.ndarray:
    """Of the fingerprints of the same segments: ``(n_segments,)``."""
    clip = synthesize_track(_CLIP_SEED, _CLIP_S, one.sample_rate_hz)
    return np.sum(one.embed(clip).astype(np.float64) * other.embed(clip), axis=1)
