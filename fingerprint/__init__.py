"""Audio fingerprinting: which recording a noisy clip comes from, and where in it."""

__version__ = "0.1.0"
