"""Nearest neighbours by inner product: one contract, an exact and a fast implementation."""
