"""A trained model on disk and in use: segments of audio in, fingerprints out.

A model folder holds ``model.json`` (format, version, identity, configuration, calibration) and
``parameters.npz`` (arrays named by their path in the network, ``"a/b/c"``; nothing is pickled).
The identity is derived from what defines a fingerprint: two models have the same one exactly when
their fingerprints can be compared, and an index records it.
"""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from fingerprint.config import config_from_json, config_to_values
from fingerprint.encoders import build_encoder
from fingerprint.errors import FingerprintError
from fingerprint.features import input_shape, log_mel
from fingerprint.segments import SegmentGrid

FORMAT = "fingerprint model"
FORMAT_VERSION = 1
# Each size is compiled once per process: a query of one segment, a track, a collection.
_BATCH_SIZES = (1, 8, 64)
_DEFINING_SECTIONS = ("sample_rate_hz", "segment", "features", "encoder")


class ModelError(FingerprintError):
    """A model folder, or audio given to a model, that cannot be used."""


def identity_of(config: ConfigDict, params: Mapping) -> str:
    """Sixteen hexadecimal digits that change with anything that changes a fingerprint."""
    digest = hashlib.sha256(_defining_config(config).encode())
    for name, values in sorted(_flatten(params).items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def save_model(
    folder: str | os.PathLike,
    config: ConfigDict,
    params: Mapping,
    calibration: Mapping | None = None,
) -> str:
    """Write a model folder; an older model of that name stays until the new one is complete.

    Args:
        folder: Where to write; its parents are made.
        config: The whole configuration of the training run.
        params: Parameters of the encoder.
        calibration: ``{"n_segments": [...], "score_mean": [...], "score_std": [...],
            "score_growth": [...], "n_reference_segments": int}``, the distribution of the best
            score of a wrong track by query length in segments, and how much its mean grows with
            the logarithm of the number of reference segments; None while it is unknown.

    Returns:
        The identity of the model.

    Raises:
        ModelError: the folder holds something else than a model.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not (folder / "model.json").is_file():
        raise ModelError(
            f"{folder} exists and is not a model folder: remove it or choose another name."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    identity = identity_of(config, params)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": identity,
        "config": config_to_values(config),
        "calibration": calibration,
    }
    new = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.new-"))
    try:
        new.chmod(0o755)
        with open(new / "parameters.npz", "wb") as file:
            np.savez(file, **_flatten(params))
            os.fsync(file.fileno())
        with open(new / "model.json", "w", encoding="utf-8") as file:
            json.dump(description, file, indent=2)
            os.fsync(file.fileno())
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return identity


class Fingerprinter:
    """An encoder with its front-end, ready to turn audio into fingerprints.

    Attributes:
        config: The configuration that the model was trained with.
        identity: Sixteen hexadecimal digits; fingerprints of equal identity can be compared.
        sample_rate_hz: Sample rate of the audio that it takes.
        grid: Length and hop of the segments that it takes.
        embedding_dim: Numbers in one fingerprint.
        calibration: As in `save_model`, or None.
    """

    def __init__(self, config: ConfigDict, params: Mapping, calibration: Mapping | None = None):
        self.config = config
        self.sample_rate_hz: int = config.sample_rate_hz
        self.grid = SegmentGrid(config.sample_rate_hz, **config.segment)
        self.embedding_dim: int = config.encoder.embedding_dim
        self.calibration = calibration
        self._params = jax.tree.map(np.asarray, params)
        self._defining_config = _defining_config(config)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Fingerprinter":
        """Open a model folder.

        Raises:
            ModelError: the folder is missing, damaged, of another kind or of a newer format.
        """
        folder = pathlib.Path(folder)
        description = _read_description(folder)
        config = config_from_json(json.dumps(description["config"]))
        params = _read_parameters(folder)
        if identity_of(config, params) != description["identity"]:
            raise ModelError(
                f"{folder} is damaged: its parameters are not those that its identity "
                f"{description['identity']} was made from; copy or train the model again."
            )
        _check_parameters(folder, config, params)
        fingerprinter = cls(config, params, description["calibration"])
        fingerprinter.identity = description["identity"]
        return fingerprinter

    @functools.cached_property
    def identity(self) -> str:
        """Computed from configuration and parameters when it was not read from a folder."""
        return identity_of(self.config, self._params)

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Fingerprint audio ``(n_samples,)``: one row for each segment, ``(n_segments, d)``."""
        return self.embed_segments(self.grid.cut(np.asarray(samples, np.float32)))

    def embed_segments(self, segments: np.ndarray) -> np.ndarray:
        """Fingerprint segments, each on its own: a row does not depend on the others.

        Args:
            segments: Audio ``(n, n_samples)`` at `sample_rate_hz`, ``n_samples`` as in `grid`.

        Returns:
            Fingerprints ``(n, d)``, float32, of unit norm.

        Raises:
            ModelError: the segments have another length, or hold NaN or Inf.
        """
        segments = np.asarray(segments)
        if segments.ndim != 2 or segments.shape[1] != self.grid.n_samples:
            raise ModelError(
                f"The segments have the shape {segments.shape}, but this model takes "
                f"(n, {self.grid.n_samples}): cut the audio with its grid."
            )
        parts = [
            self._embed_batch(segments[start : start + size], size, n_devices)
            for start, size, n_devices in _batches(len(segments), jax.local_device_count())
        ]
        return np.concatenate([np.zeros((0, self.embedding_dim), np.float32), *parts])

    def _embed_batch(self, segments: np.ndarray, size: int, n_devices: int) -> np.ndarray:
        if not np.isfinite(segments).all():
            raise ModelError(
                "The audio to fingerprint holds NaN or Inf: decode it again or drop it."
            )
        batch = np.zeros((size, segments.shape[1]), np.float32)
        batch[: len(segments)] = segments
        embed = _compiled(self._defining_config, n_devices)
        if n_devices > 1:
            batch = batch.reshape(n_devices, -1, segments.shape[1])
        embeddings = np.asarray(embed(self._device_params, batch))
        return embeddings.reshape(size, -1)[: len(segments)]

    @functools.cached_property
    def _device_params(self) -> Any:
        return jax.device_put(self._params)


def _defining_config(config: ConfigDict) -> str:
    """The part of the configuration that a fingerprint depends on, in one canonical spelling."""
    sections = config_to_values(config)
    return json.dumps({name: sections[name] for name in _DEFINING_SECTIONS}, sort_keys=True)


@functools.lru_cache(maxsize=8)
def _compiled(defining_config: str, n_devices: int) -> Callable:
    """The embedding program, shared by all models of one network."""
    config = config_from_json(defining_config)
    # In float32 whatever the training used, so that fingerprints of one model agree everywhere.
    encoder = build_encoder(config.encoder, dtype="float32")

    def embed(params, segments):
        mels = log_mel(segments, sample_rate_hz=config.sample_rate_hz, **config.features)
        return encoder.apply({"params": params}, mels)

    if n_devices == 1:
        return jax.jit(embed)
    return jax.pmap(embed, in_axes=(None, 0), devices=jax.local_devices()[:n_devices])


def _batches(n: int, n_devices: int) -> Iterator[tuple[int, int, int]]:
    """Cover ``n`` rows with (start, size, devices), of few sizes and at most half padding."""
    start = 0
    size = n_devices * _BATCH_SIZES[-1]
    while n_devices > 1 and n - start > size // 2:
        yield start, size, n_devices
        start += size
    while start < n:
        size = max(s for s in _BATCH_SIZES if s == 1 or s < 2 * (n - start))
        yield start, size, 1
        start += size


def _flatten(params: Mapping) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(values)
        for name, values in traverse_util.flatten_dict(dict(params), sep="/").items()
    }


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
    except FileNotFoundError:
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
    if not set(_DEFINING_SECTIONS) <= set(description["config"] or ()):
        raise ModelError(f"{path} is damaged: its config is incomplete; copy the model again.")
    return description


def _read_parameters(folder: pathlib.Path) -> dict:
    path = folder / "parameters.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            flat = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is missing or damaged ({error}): copy or train the model again."
        ) from None
    return traverse_util.unflatten_dict(flat, sep="/")


def _check_parameters(folder: pathlib.Path, config: ConfigDict, params: Mapping) -> None:
    """Refuse parameters that this version's encoder does not have, or not in that shape."""
    encoder = build_encoder(config.encoder)
    mels = jax.ShapeDtypeStruct((1, *input_shape(config)), np.float32)
    wanted = jax.eval_shape(encoder.init, jax.random.key(0), mels)["params"]
    shapes = {name: v.shape for name, v in _flatten(params).items()}
    wanted_shapes = {
        name: v.shape for name, v in traverse_util.flatten_dict(dict(wanted), sep="/").items()
    }
    for name in sorted(shapes.keys() | wanted_shapes.keys()):
        if shapes.get(name) != wanted_shapes.get(name):
            raise ModelError(
                f"{folder} does not fit the encoder {config.encoder.name!r} of this program: "
                f"parameter {name} is {shapes.get(name)} instead of {wanted_shapes.get(name)}; "
                "use the version that trained it."
            )
