"""The attention network at a width that two CPU cores can train in hours.

    python train.py --config=configs/attention_small.py --workdir=DIR --config.data.root=AUDIO

Source and disagreements are those of `attention.py`. Batch, optimiser, number of steps and the ramp
are those of `nafp_small.py`. `fingerprint describe configs/attention_small.py` counts 539,968
parameters and 29.2 million multiply-adds per segment.
"""

from fingerprint_configs import attention, nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A quarter of the channels and fewer at the end, where the parameters are."""
    small = nafp_small.get_config()
    config = attention.get_config()
    config.name = "attention_small"
    config.encoder.widths = (8, 16, 32, 64, 96, 128)
    config.augmentation.ramp = small.augmentation.ramp
    config.optimizer = small.optimizer
    config.training = small.training
    config.pairs.n_pairs = small.pairs.n_pairs
    return config
