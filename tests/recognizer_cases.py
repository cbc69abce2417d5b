"""A stand-in for a network that is quick and finds what has not changed."""

import json
from pathlib import Path

import numpy as np
from fingerprint_configs import nafp

from fingerprint.segments import SegmentGrid

RATE_HZ = 8000


class WaveformFingerprinter:
    """Stands for a network: 1 where segments coincide, near 0 elsewhere, all silences alike."""

    sample_rate_hz = RATE_HZ
    grid = SegmentGrid(RATE_HZ, duration_s=1.0, hop_s=0.5)
    embedding_dim = 64
    calibration = None
    has_codes = False

    def __init__(self, identity, has_codes=False, **search):
        self.identity = identity
        self.has_codes = self.has_codes or has_codes
        self.config = nafp.get_config()
        self.config.search.update(search)
        rng = np.random.default_rng(0)
        self._projection = rng.normal(size=(self.grid.n_samples, self.embedding_dim))

    @classmethod
    def load(cls, folder):
        return cls(**json.loads((Path(folder) / "model.json").read_text()))

    def embed_segments(self, segments):
        projected = segments @ self._projection
        projected[~segments.any(axis=1), 0] = 1.0
        return (projected / np.linalg.norm(projected, axis=1, keepdims=True)).astype(np.float32)


def write_model(folder, **description):
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(description))
    return folder
