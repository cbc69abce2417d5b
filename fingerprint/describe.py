"""How large a network is and what it costs, counted on the network itself."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fingerprint.config import check_config
from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape
from fingerprint.segments import SegmentGrid


def describe(config: ConfigDict) -> dict[str, Any]:
    """Shape, parameters and multiply-adds of the encoder that a configuration names.

    Nothing is computed but shapes. Multiply-adds are those of convolutions (kernel size times
    outputs, padding included) and matrix products, as publications count them.

    Returns:
        ``{"name", "input_shape", "embedding_dim", "parameters", "encoder_parameters",
        "macs_per_segment", "macs_per_second_of_audio"}``; the last follows from the hop.

    Raises:
        ConfigError: the configuration has wrong keys or names no encoder that can be built.
    """
    check_config(config)
    # A sum of matrix products per kernel tap is the same convolution; the native one is counted.
    encoder = build_encoder(config.encoder).clone(conv_impl="native")
    shape = input_shape(config)
    mels = jax.ShapeDtypeStruct((1, *shape), np.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), mels)
    embedding = jax.eval_shape(encoder.apply, variables, mels)
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    macs = multiply_adds(jax.make_jaxpr(encoder.apply)(variables, mels).jaxpr)
    grid = SegmentGrid(config.sample_rate_hz, **config.segment)
    return {
        "name": config.name,
        "input_shape": list(shape),
        "embedding_dim": embedding.shape[-1],
        "parameters": parameters,
        "encoder_parameters": parameters,
        "macs_per_segment": macs,
        "macs_per_second_of_audio": round(macs / grid.hop_s),
    }


def multiply_adds(jaxpr: Any) -> int:
    """Multiply-adds of all convolutions and matrix products of a jaxpr, nested ones included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _matrix_product(equation)
        for inner in _inner_jaxprs(equation):
            total += multiply_adds(inner)
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
