"""NAFP at a width that two CPU cores can train in hours; what README's table was made with.

    python train.py --config=configs/nafp_small.py --workdir=DIR --config.data.root=AUDIO

AUDIO is a folder with a `manifest.csv` (columns `path, kind, split`) that names music, noise and
impulse responses.
"""

from fingerprint_configs import nafp
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """NAFP with an eighth of the channels (at the end a quarter), 128 mels, 128 pairs and Adam."""
    config = nafp.get_config()
    config.name = "nafp_small"
    config.features.n_mels = 128
    config.features.f_min_hz = 160.0
    config.spec_augment.stripe_bins = (3, 10)  # of half as many bins
    config.encoder.widths = (16, 16, 32, 32, 64, 64, 128, 256)
    config.encoder.norm_affine = "channel"
    config.pairs.n_pairs = 128
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.training.n_steps = 6_000
    config.training.checkpoint_every_steps = 200
    config.training.evaluate_every_steps = 1000
    return config
