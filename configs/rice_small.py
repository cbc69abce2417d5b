"""Rice's contrastive fingerprints at a width that two CPU cores can train: `rice.py`, narrower.

    python train.py --config=configs/rice_small.py --workdir=DIR --config.data.root=AUDIO

The widths, number of mels, steps and learning rates of `nafp_small.py`, so that the two differ in
what Rice changed: d = 64, HTK mels of the power spectrogram, one hole and no stripe, a noise and a
room in every replica, no device and no filters. `fingerprint describe configs/rice_small.py`
counts 440,752 parameters and 2.7 million multiply-adds per 1-s segment.
"""

from fingerprint_configs import rice
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The repaired system with an eighth of NAFP's channels and half the mels."""
    config = rice.get_config()
    config.name = "rice_small"
    config.features.n_mels = 128
    config.encoder.widths = (16, 16, 32, 32, 64, 64, 128, 256)
    config.encoder.norm_affine = "channel"
    config.optimizer.final_fraction = 1e-6
    config.training.n_steps = 6_000
    config.training.checkpoint_every_steps = 200
    config.training.evaluate_every_steps = 1000
    return config
