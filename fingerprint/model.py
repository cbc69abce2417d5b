"""A trained model in use: segments of audio in, fingerprints out, and binary codes of them."""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from fingerprint.balanced_hash import build_hash
from fingerprint.config import config_from_json
from fingerprint.describe import network_shapes
from fingerprint.encoders import build_encoder
from fingerprint.features import spectrograms
from fingerprint.model_folder import (
    ModelError,
    defining_sections,
    identity_of,
    read_model,
    save_model,
)
from fingerprint.segments import SegmentGrid

__all__ = ["Fingerprinter", "ModelError", "identity_of", "save_model"]

# Each size is compiled, or at least traced, in every process: few of them start faster than many
# with less padding.
_BATCH_SIZES = (8, 64)
_CODE_BATCH_SIZES = (1, 8, 64, 512, 4096)


class Fingerprinter:
    """An encoder with its front-end, ready to turn audio into fingerprints.

    Attributes:
        config: The configuration that the model was trained with.
        identity: Sixteen hexadecimal digits; fingerprints of equal identity can be compared.
        sample_rate_hz: Sample rate of the audio that it takes.
        grid: Length and hop of the segments that it takes.
        embedding_dim: Numbers in one fingerprint.
        calibration: As in `save_model`, or None.
        has_codes: Whether it was trained with a head for binary codes.
    """

    def __init__(
        self,
        config: ConfigDict,
        variables: Mapping,
        calibration: Mapping | None = None,
        hash_head: Mapping | None = None,
    ):
        """Take the parts of a model, which are those of `save_model`."""
        self.config = config
        self.sample_rate_hz: int = config.sample_rate_hz
        self.grid = SegmentGrid(config.sample_rate_hz, **config.segment)
        self.calibration = calibration
        self.has_codes = hash_head is not None
        self._variables = jax.tree.map(np.asarray, dict(variables))
        self._hash_head = jax.tree.map(np.asarray, hash_head)
        self._program = json.dumps(defining_sections(config), sort_keys=True)
        self.embedding_dim: int = _shapes(self._program)[0].shape[-1]

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Fingerprinter":
        """Open a model folder.

        Raises:
            ModelError: the folder is missing, damaged, of another kind or of a newer format.
        """
        model = read_model(folder)
        fingerprinter = cls(model.config, model.variables, model.calibration, model.hash_head)
        name = model.config.encoder.name
        _, wanted = _shapes(fingerprinter._program)
        _check_shapes(folder, f"the encoder {name!r}", model.variables, wanted)
        if model.hash_head is not None:
            head = build_hash(model.config.hash).head()
            wanted = jax.eval_shape(
                head.init, jax.random.key(0), np.zeros((1, fingerprinter.embedding_dim))
            )
            _check_shapes(folder, "the hash head", model.hash_head, wanted)
        fingerprinter.identity = model.identity
        return fingerprinter

    @functools.cached_property
    def identity(self) -> str:
        """Computed from configuration and parameters when it was not read from a folder."""
        return identity_of(self.config, self._variables)

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
            for start, size, n_devices in _batches(
                len(segments), jax.local_device_count(), _BATCH_SIZES
            )
        ]
        return np.concatenate([np.zeros((0, self.embedding_dim), np.float32), *parts])

    def _embed_batch(self, segments: np.ndarray, size: int, n_devices: int) -> np.ndarray:
        if not np.isfinite(segments).all():
            raise ModelError(
                "The audio to fingerprint holds NaN or Inf: decode it again or drop it."
            )
        batch = _padded(segments, size)
        if n_devices > 1:
            batch = batch.reshape(n_devices, -1, segments.shape[1])
        embeddings = _encoder(self._program, n_devices)(self._device_variables, batch)
        return np.asarray(embeddings).reshape(size, -1)[: len(segments)]

    def codes(self, embeddings: np.ndarray) -> np.ndarray:
        """Codes of fingerprints ``(m, d)``, whose signs are the bits of their buckets.

        Returns:
            ``(m, n_bits)`` float32, of unit norm.

        Raises:
            ModelError: the model has no hash head, or the fingerprints are not its own.
        """
        if not self.has_codes:
            raise ModelError(
                f"The model {self.config.name!r} has no hash head: train one with config.hash, "
                "or search in another way than by hash buckets."
            )
        embeddings = np.asarray(embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise ModelError(
                f"The fingerprints have the shape {embeddings.shape}, but this model makes "
                f"(m, {self.embedding_dim}): give it fingerprints of its own."
            )
        apply = _hash_head(json.dumps(self.config.hash.to_dict(), sort_keys=True))
        parts = [
            np.asarray(apply(self._hash_head, _padded(embeddings[start : start + size], size)))
            for start, size, _ in _batches(len(embeddings), 1, _CODE_BATCH_SIZES)
        ]
        codes = np.concatenate([np.zeros((0, self.config.hash.n_bits), np.float32), *parts])
        return codes[: len(embeddings)]

    @functools.cached_property
    def _device_variables(self) -> Any:
        return jax.device_put(self._variables)


@functools.lru_cache(maxsize=8)
def _shapes(program: str) -> tuple[Any, Any]:
    return network_shapes(config_from_json(program))


@functools.lru_cache(maxsize=8)
def _encoder(program: str, n_devices: int) -> Callable:
    """The embedding program, shared by all models of one network."""
    config = config_from_json(program)
    # In float32 whatever the training used, so that fingerprints of one model agree everywhere.
    encoder = build_encoder(config.encoder, dtype="float32")

    def embed(variables, segments):
        # Accelerators would round the factors of products to bfloat16 or TF32.
        with jax.default_matmul_precision("float32"):
            return encoder.apply(variables, spectrograms(segments, config))

    if n_devices == 1:
        return jax.jit(embed)
    return jax.pmap(embed, in_axes=(None, 0), devices=jax.local_devices()[:n_devices])


@functools.lru_cache(maxsize=8)
def _hash_head(section: str) -> Callable:
    head = build_hash(config_from_json(section)).head()

    def codes(variables, embeddings):
        with jax.default_matmul_precision("float32"):
            return head.apply(variables, embeddings)

    return jax.jit(codes)


def _batches(n: int, n_devices: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Cover ``n`` rows with (start, size, devices), of few sizes and half padding as a rule."""
    start = 0
    size = n_devices * sizes[-1]
    while n_devices > 1 and n - start > size // 2:
        yield start, size, n_devices
        start += size
    while start < n:
        size = max(s for s in sizes if s == sizes[0] or s < 2 * (n - start))
        yield start, size, 1
        start += size


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Float32 ``(size, n)``: the rows, then zeros."""
    padded = np.zeros((size, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return padded


def _check_shapes(
    folder: str | os.PathLike, network: str, variables: Mapping, wanted: Mapping
) -> None:
    """Refuse arrays that this version's network does not have, or not in that shape."""
    shapes, wanted_shapes = (
        {name: x.shape for name, x in traverse_util.flatten_dict(dict(tree), sep="/").items()}
        for tree in (variables, wanted)
    )
    for name in sorted(shapes.keys() | wanted_shapes.keys()):
        if shapes.get(name) != wanted_shapes.get(name):
            raise ModelError(
                f"{folder} does not fit {network} of this program: {name} is {shapes.get(name)} "
                f"instead of {wanted_shapes.get(name)}; use the version that trained it."
            )
