"""Balanced assignment of codes to the buckets of their sign patterns, by optimal transport."""

import jax
import jax.numpy as jnp


def bucket_numbers(codes: jax.Array) -> jax.Array:
    """The bucket of each code: its sign pattern, component 0 in the lowest bit.

    Args:
        codes: ``(..., n_bits)``.

    Returns:
        ``(...,)`` int32 in ``[0, 2**n_bits)``. It is the argmax of `bucket_scores`.
    """
    bits = jax.lax.broadcasted_iota(jnp.int32, codes.shape, codes.ndim - 1)
    return jnp.sum((codes > 0) << bits, axis=-1, dtype=jnp.int32)


def bucket_signs(buckets: jax.Array, n_bits: int) -> jax.Array:
    """``(...,)`` bucket numbers -> ``(..., n_bits)`` float32 of +1 and -1: centroids x sqrt(K)."""
    bits = jax.lax.broadcasted_iota(buckets.dtype, (*buckets.shape, n_bits), buckets.ndim)
    return jnp.where((buckets[..., None] >> bits) & 1 == 1, 1.0, -1.0)


def bucket_scores(codes: jax.Array) -> jax.Array:
    """Inner products of codes with all 2^K centroids ``{-1, +1}^K / sqrt(K)``.

    Doubles the table once per bit instead of multiplying with the centroids: 2^(K+1) additions a
    row in place of K 2^K multiplications.

    Args:
        codes: ``(n, n_bits)``.

    Returns:
        ``(n, 2**n_bits)`` float32; column k belongs to the pattern k of `bucket_numbers`.
    """
    scaled = codes.astype(jnp.float32) / codes.shape[1] ** 0.5
    scores = jnp.zeros((len(codes), 1), jnp.float32)
    for bit in range(codes.shape[1]):
        component = scaled[:, bit : bit + 1]
        scores = jnp.concatenate([scores - component, scores + component], axis=1)
    return scores


def sinkhorn(
    scores: jax.Array, *, epsilon: float, n_iterations: int, axis_name: str | None = None
) -> jax.Array:
    """The entropic optimal transport of rows to columns, all of equal weight, in log space.

    Maximises ``sum(Q * scores) + epsilon * entropy(Q)`` under rows that sum to 1 and columns that
    sum to n/m (Cuturi 2013; the recipe of Caron et al., arXiv 2006.09882). Columns are scaled
    first and rows last, so that rows sum to 1 exactly and columns as well as the iterations allow.

    Args:
        scores: ``(n, m)``.
        epsilon: Strength of the entropy: small values approach a hard assignment and converge
            slowly.
        n_iterations: Scalings of columns and rows.
        axis_name: Axis of ``jax.pmap`` over which rows are spread, equally many per device. The
            result is this device's part of what one device computes from all rows.

    Returns:
        ``log Q``, ``(n, m)`` float32.
    """
    logits = scores.astype(jnp.float32) / epsilon

    def scale(_, potentials):
        of_rows, _ = potentials
        of_columns = -_log_column_sums(logits + of_rows, axis_name)
        of_rows = -jax.nn.logsumexp(logits + of_columns, axis=1, keepdims=True)
        return of_rows, of_columns

    # Zeros made of the logits, so that under pmap they vary over devices as the loop's results do.
    nothing = jnp.zeros_like(logits[:, :1]), jnp.zeros_like(logits[:1])
    of_rows, of_columns = jax.lax.fori_loop(0, n_iterations, scale, nothing)
    return logits + of_rows + of_columns


def _log_column_sums(logits: jax.Array, axis_name: str | None) -> jax.Array:
    """Logarithms of column sums of ``exp(logits)`` over the rows of all devices, ``(1, m)``."""
    here = jax.nn.logsumexp(logits, axis=0, keepdims=True)
    if axis_name is None:
        return here
    highest = jax.lax.pmax(here, axis_name)
    return highest + jnp.log(jax.lax.psum(jnp.exp(here - highest), axis_name))
