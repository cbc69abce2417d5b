"""NMFP's triplet at a width that two CPU cores can train: `nafp_small.py` with another loss.

    python train.py --config=configs/nmfp_triplet_small.py --workdir=DIR --config.data.root=AUDIO

The source is told in `nmfp_triplet.py`. Everything but the loss is as in `nafp_small.py`, so that
the two compare NT-Xent with this triplet and nothing else; `fingerprint describe
configs/nmfp_triplet_small.py` counts 444,912 parameters and 2.7 million multiply-adds per segment;
a step took 0.4 CPU-seconds.
"""

from fingerprint_configs import nafp_small, nmfp_triplet
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The small NAFP with NMFP's loss."""
    config = nafp_small.get_config()
    config.name = "nmfp_triplet_small"
    config.loss = nmfp_triplet.get_config().loss
    return config
