"""Binary codes: the bucket of a code, the order of the others around it, and their balance.

A code is a row of K real numbers, best of unit norm. Bucket k of 2^K stands for the pattern of
signs c_k in {-1, +1}^K, and s_k = q . c_k / sqrt(K) is its nearness to the code q.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from fingerprint.searchers.probing import cheapest_changes

# Fingerprints (m, dim) float32 to codes (m, K).
Encode = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Balance:
    """How evenly codes fill their buckets.

    Attributes:
        entropy_share: entropy of the bucket sizes in bits, by the number of bits; 1 is even.
        share_in_tolerance: of the buckets, those with rho_k = -log2(size / n) within the
            tolerance of the number of bits.
    """

    entropy_share: float
    share_in_tolerance: float


def buckets_of(codes: np.ndarray) -> np.ndarray:
    """The bucket ``(m,)`` int32 of each code ``(m, K)``: bit b is set where component b > 0."""
    weights = 1 << np.arange(codes.shape[1], dtype=np.int32)
    return (codes > 0).astype(np.int32) @ weights


def probe_order(codes: np.ndarray, n_probes: int) -> np.ndarray:
    """The nearest buckets of each code, by falling s_k.

    Args:
        codes: ``(m, K)``.
        n_probes: at least 1.

    Returns:
        Buckets ``(m, min(n_probes, 2^K))`` int64; the first is the code's own.
    """
    home = buckets_of(codes).astype(np.int64)
    bits = 1 << np.arange(codes.shape[1], dtype=np.int64)
    flips = np.where(codes > 0, -bits, bits)
    costs = np.abs(codes.astype(np.float64))
    changes = cheapest_changes(
        np.stack([np.zeros_like(costs), costs], axis=2),
        np.stack([np.zeros_like(flips), flips], axis=2),
        n_probes,
    )
    return home[:, None] + changes


def random_hyperplanes(dim: int, n_bits: int, seed: int) -> Encode:
    """An encoder by the sides of random hyperplanes through the origin (Charikar, STOC 2002).

    The comparison with equal bits and equal probing that learnt codes have to beat.
    """
    normals = np.random.default_rng(seed).standard_normal((dim, n_bits), np.float32)
    return functools.partial(_sides, normals=normals)


def principal_directions(vectors: np.ndarray, n_bits: int, seed: int) -> Encode:
    """An encoder by the principal components of a database, evened out and rotated at random.

    The comparison that learnt codes have to beat, too: it is fitted to the data, but not trained.
    Components are scaled to equal variance before the rotation (Gong and Lazebnik, CVPR 2011, with
    a random rotation), and each direction is cut at its median, so that half of the rows lie on
    either side.

    Args:
        vectors: database ``(n, dim)`` with n >= dim.
        n_bits: at most dim.
        seed: of the rotation.
    """
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    variances, components = np.linalg.eigh(centred.T @ centred / len(vectors))
    whitening = components[:, -n_bits:] / np.sqrt(variances[-n_bits:])
    draws = np.random.default_rng(seed).standard_normal((n_bits, n_bits))
    normals = (whitening @ np.linalg.qr(draws)[0]).astype(np.float32)
    medians = np.median(centred @ normals, axis=0)
    return functools.partial(_sides, normals=normals, offsets=mean @ normals + medians)


def balance(codes: np.ndarray, tolerance_bits: float = 1.0) -> Balance:
    """How evenly codes ``(n >= 1, K)`` fill the 2^K buckets.

    With the default tolerance a bucket counts that is between half and twice as large as it would
    be if all were equal.
    """
    n_bits = codes.shape[1]
    shares = np.bincount(buckets_of(codes), minlength=2**n_bits) / len(codes)
    filled = -np.log2(shares[shares > 0])
    entropy = float(shares[shares > 0] @ filled)
    in_tolerance = np.count_nonzero(np.abs(filled - n_bits) <= tolerance_bits)
    return Balance(entropy / n_bits, in_tolerance / 2**n_bits)


def _sides(vectors, normals, offsets=0.0):
    return vectors @ normals - offsets
