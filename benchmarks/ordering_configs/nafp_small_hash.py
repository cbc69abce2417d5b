"""A head of ten bits on a trained `nafp_small`, whose fingerprints stay as they are.

    python train.py --config=benchmarks/ordering_configs/nafp_small_hash.py --workdir=DIR \
        --config.data.root=AUDIO --config.hash.initial_model=MODEL

A queue of four codes per bucket makes their balance well determined; see
`configs/balanced_hash_small.py`. Weights leave out the loss of the encoder, which is frozen.
"""

from fingerprint_configs import nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Balanced codes for fingerprints that are there already."""
    config = nafp_small.get_config()
    config.name = "nafp_small_hash"
    # The encoder knows the whole chain from its own training, and sees no masks in use.
    config.augmentation.ramp = None
    config.spec_augment.probability = 0.0
    config.hash = ConfigDict(
        {
            "n_bits": 10,
            "hidden_units": 512,
            "temperature": 0.1,
            "epsilon": 0.05,
            "n_iterations": 3,
            "queue_rows": 4 * 2**10,
            "assignment": "mean",
            "assignment_loss": "cross_entropy",
            "weights": (0.0, 1.0, 1.0),
            "initial_model": "",
            "train_encoder": False,
        }
    )
    return config
