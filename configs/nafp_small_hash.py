"""Balanced hash codes for a trained `nafp_small`, whose fingerprints stay as they are.

    python train.py --config=configs/nafp_small_hash.py --workdir=DIR --config.data.root=AUDIO \
        --config.training.initial_model=results/nafp_small/model

The head of `balanced_hash.py` alone, on a frozen encoder: the model that comes out has the
fingerprints, and the identity, of the one it starts from, and `--searcher hash_buckets` works with
it on any index of them. Some five minutes of one core. What it finds at which cost, against random
hyperplanes, p-stable LSH and plain principal directions: `benchmarks/candidates.py`.
"""

from fingerprint_configs import balanced_hash, nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A head of 10 bits with four queued codes per bucket."""
    config = nafp_small.get_config()
    config.name = "nafp_small_hash"
    config.hash = balanced_hash.get_config().hash
    config.hash.n_bits = 10
    config.hash.queue_rows = 4 * 2**10
    config.hash.weights = (0.0, 1.0, 1.0)
    config.hash.train_encoder = False
    # The encoder knows the whole chain already, and sees no masks in use.
    config.augmentation.ramp = None
    config.spec_augment.probability = 0.0
    config.training.n_steps = 1000
    config.training.evaluate_every_steps = 1000
    return config
