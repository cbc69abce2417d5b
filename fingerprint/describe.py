"""How large a network is and what it costs, counted on the network itself."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fingerprint.balanced_hash import build_hash
from fingerprint.config import check_config
from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape, spectrograms
from fingerprint.segments import SegmentGrid


def describe(config: ConfigDict) -> dict[str, Any]:
    """Shape, parameters and cost of the networks that a configuration names.

    Nothing is computed but shapes. Multiply-adds are those of convolutions (kernel size times
    outputs, padding included) and matrix products of the encoder, as publications count them. A
    hash head is counted in ``parameters``, the encoder alone in ``encoder_parameters``. The bytes
    are those of float32 fingerprints, one every hop.

    Returns:
        ``{"name", "input_shape", "embedding_dim", "parameters", "encoder_parameters",
        "macs_per_segment", "macs_per_second_of_audio", "bytes_per_hour_of_audio"}``.

    Raises:
        ConfigError: the configuration has wrong keys or names no encoder that can be built.
    """
    check_config(config)
    embedding, variables = network_shapes(config)
    parameters = encoder_parameters = _n_parameters(variables)
    if config.hash is not None:
        head = build_hash(config.hash).head()
        parameters += _n_parameters(jax.eval_shape(head.init, jax.random.key(0), embedding))
    macs = _macs_per_segment(config, variables)
    grid = SegmentGrid(config.sample_rate_hz, **config.segment)
    bytes_per_fingerprint = embedding.shape[-1] * embedding.dtype.itemsize
    return {
        "name": config.name,
        "input_shape": list(input_shape(config)),
        "embedding_dim": embedding.shape[-1],
        "parameters": parameters,
        "encoder_parameters": encoder_parameters,
        "macs_per_segment": macs,
        "macs_per_second_of_audio": round(macs / grid.hop_s),
        "bytes_per_hour_of_audio": round(3600 / grid.hop_s) * bytes_per_fingerprint,
    }


def network_shapes(config: ConfigDict) -> tuple[Any, dict[str, Any]]:
    """Shapes and dtypes of a fingerprint ``(1, d)`` and of the encoder's variables.

    Raises:
        ConfigError: the configuration names no encoder that can be built, or its front-end asks
            for what does not exist.
    """
    encoder = build_encoder(config.encoder)
    return jax.eval_shape(encoder.init_with_output, jax.random.key(0), _mels(config))


def _mels(config: ConfigDict) -> jax.ShapeDtypeStruct:
    grid = SegmentGrid(config.sample_rate_hz, **config.segment)
    segment = jax.ShapeDtypeStruct((1, grid.n_samples), np.float32)
    # From the front-end itself, which refuses what it cannot do.
    return jax.eval_shape(lambda waveforms: spectrograms(waveforms, config), segment)


def _n_parameters(variables: dict[str, Any]) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


def _macs_per_segment(config: ConfigDict, variables: dict[str, Any]) -> int:
    encoder = build_encoder(config.encoder)
    if hasattr(encoder, "conv_impl"):
        # A sum of matrix products per kernel tap is the same convolution; the native one counts.
        encoder = encoder.clone(conv_impl="native")
    return multiply_adds(jax.make_jaxpr(encoder.apply)(variables, _mels(config)).jaxpr)


def multiply_adds(jaxpr: Any) -> int:
    """Multiply-adds of all convolutions and matrix products of a jaxpr, nested ones included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _matrix_product(equation)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in _inner_jaxprs(equation):
            total += times * multiply_adds(inner)
    return total


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    out_channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_channels


def _matrix_product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def _inner_jaxprs(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for candidate in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(candidate, "jaxpr", candidate)
            if hasattr(inner, "eqns"):
                yield inner
