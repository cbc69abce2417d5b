"""Woo's triplet network at a size that two CPU cores can train in an hour.

    python train.py --config=configs/woo_small.py --workdir=DIR --config.data.root=AUDIO

Source and repairs are those of `woo.py`; batch, optimiser and number of steps those of
`nafp_small.py`. `fingerprint describe configs/woo_small.py` counts 257,018 parameters and
2.1 million multiply-adds per segment; a step took 0.5 CPU-seconds.
"""

from fingerprint_configs import nafp_small, woo
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """An eighth of the channels, a fortieth of the dense units."""
    small = nafp_small.get_config()
    config = woo.get_config()
    config.name = "woo_small"
    config.encoder.widths = (16, 16, 32)
    config.encoder.dense_units = 96
    config.optimizer = small.optimizer
    config.training = small.training
    config.pairs.n_pairs = small.pairs.n_pairs
    return config
