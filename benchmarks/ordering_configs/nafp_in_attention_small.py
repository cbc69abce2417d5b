"""NAFP's small encoder in the recipe of `configs/attention_small.py`; nothing else differs.

    python train.py --config=benchmarks/ordering_configs/nafp_in_attention_small.py \
        --workdir=DIR --config.data.root=AUDIO

Front-end, segments of 0.95 s every 0.1 s, degradations, batch, loss and search are those of the
attention network, so that the two compare encoders. The encoder was made for 256 or 128 mels; of
these 64 its last convolutions see one bin.
"""

from fingerprint_configs import attention_small, nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The attention recipe with another encoder."""
    config = attention_small.get_config()
    config.name = "nafp_in_attention_small"
    config.encoder = nafp_small.get_config().encoder
    return config
