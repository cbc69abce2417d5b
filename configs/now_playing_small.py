"""Now Playing's triplets at a width that two CPU cores can train in hours.

    python train.py --config=configs/now_playing_small.py --workdir=DIR --config.data.root=AUDIO

Source, variants and disagreements are those of `now_playing.py`; front-end, encoder, optimiser and
number of steps those of `nafp_small.py`, so that the two differ in loss and batch alone.
`fingerprint describe configs/now_playing_small.py` counts 444,912 parameters and 2.7 million
multiply-adds per segment; a step took 0.4 CPU-seconds.
"""

from fingerprint_configs import nafp_small, now_playing
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Now Playing's loss and groups on the small NAFP: 48 x 5 rows, nafp_small has 128 x 2."""
    small = nafp_small.get_config()
    config = now_playing.get_config()
    config.name = "now_playing_small"
    config.features = small.features
    config.spec_augment = small.spec_augment
    config.encoder = small.encoder
    config.optimizer = small.optimizer
    config.training = small.training
    config.pairs.n_pairs = 48
    return config
