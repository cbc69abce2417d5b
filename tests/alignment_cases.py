"""Stores of random fingerprints that alignments are tested on."""

import numpy as np

DIM = 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_store(rng, lengths):
    """Vectors ``(n, d)``, first rows and lengths of tracks that lie one behind the other."""
    n_rows = np.array(lengths)
    vectors = unit(rng.standard_normal((n_rows.sum(), DIM)))
    return vectors, np.cumsum(n_rows) - n_rows, n_rows
