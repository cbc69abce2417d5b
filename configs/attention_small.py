"""The attention network at a width that two CPU cores can train in hours.

    python train.py --config=configs/attention_small.py --workdir=DIR --config.data.root=AUDIO

Source and disagreements are those of `attention.py`; optimiser, number of steps and the ramp those
of `nafp_small.py`. `fingerprint describe configs/attention_small.py` counts 539,968 parameters and
29.2 million multiply-adds per segment. A step of 64 pairs took 2 CPU-seconds, most of them for the
first block, which sees every mel and frame; `--config.pairs.n_pairs=128`, the batch of
`nafp_small.py`, takes twice as long.
"""

from fingerprint_configs import attention, nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A quarter of the channels and fewer at the end, where the parameters are."""
    small = nafp_small.get_config()
    config = attention.get_config()
    config.name = "attention_small"
    config.encoder.widths = (8, 16, 32, 64, 96, 128)
    # With the published 1.0 the loss was at chance still after 320 steps, the gradient of the first
    # convolution a hundred times as large as without masks; smaller weights learn from the start.
    config.encoder.mask_init_std = 0.1
    config.augmentation.ramp = small.augmentation.ramp
    config.optimizer = small.optimizer
    config.training = small.training
    config.pairs.n_pairs = 64
    return config
