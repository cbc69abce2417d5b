"""Balanced hash codes over a transformer that two CPU cores can train in an hour.

    python train.py --config=configs/balanced_hash_small.py --workdir=DIR --config.data.root=AUDIO

Source, variants and disagreements are those of `balanced_hash.py`. Batch, optimiser, number of
steps and the ramp are those of `nafp_small.py`. Codes have 10 bits, and a queue of four rows per
bucket makes their balance well determined. `fingerprint describe configs/balanced_hash_small.py`
counts 438,720 parameters of the encoder and 2.6 million multiply-adds per segment;
a step took 0.2 CPU-seconds, a third of it for the assignment.
"""

from fingerprint_configs import balanced_hash, nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Half as many layers of half the size, short codes."""
    small = nafp_small.get_config()
    config = balanced_hash.get_config()
    config.name = "balanced_hash_small"
    config.encoder.d_model = 64
    config.encoder.n_layers = 4
    config.encoder.n_heads = 4
    config.encoder.feed_forward_units = 256
    config.encoder.hidden_units = 256
    config.hash.n_bits = 10
    config.hash.hidden_units = 128
    config.hash.queue_rows = 4 * 2**10
    config.augmentation.ramp = small.augmentation.ramp
    config.optimizer = small.optimizer
    config.training = small.training
    config.pairs.n_pairs = small.pairs.n_pairs
    return config
