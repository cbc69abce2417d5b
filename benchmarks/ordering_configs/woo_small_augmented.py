"""Woo's small network with NAFP's degradations in place of white noise; nothing else differs.

    python train.py --config=benchmarks/ordering_configs/woo_small_augmented.py \
        --workdir=DIR --config.data.root=AUDIO

A replica starts where its original does, as in `configs/woo_small.py`. The ramp of the
degradations comes with them.
"""

from fingerprint_configs import nafp_small, woo_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Noise, rooms, devices and filters instead of white noise."""
    full = nafp_small.get_config()
    config = woo_small.get_config()
    config.name = "woo_small_augmented"
    config.augmentation = full.augmentation
    config.augmentation.ramp.offset_s = 0.0
    config.data = full.data
    return config
