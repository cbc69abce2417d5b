"""Woo's triplet network, repaired: the same contiguous second for original and replica.

    python train.py --config=configs/woo.py --workdir=DIR --config.data.root=AUDIO

Three convolutions and two dense layers make ten numbers of a 50 x 50 spectrogram; the replica is
the original with white noise, the negative another original. As published (`woo_published.py`) it
sees 50 mels and 50 frames from anywhere in 30 s, others of the original than of the replica, and
cannot find anything: no retrieval figure was published. This is the usable baseline: segments of
1 s as in `nafp.py`, of which both see the same contiguous part, in 50 mels that span the whole band
(50 of 128 would be a narrow one) and frames of 20 ms.

    128 x 128   --config.features.n_mels=128 --config.features.hop_length=62
                --config.crop.n_mels=128 --config.crop.n_frames=128

What it costs (`fingerprint describe configs/woo.py`): 85,423,754 parameters, 84,938,752 of them in
one dense layer, and 182.9 million multiply-adds per segment; 822,572,682 and 1.6 billion for
128 x 128. Two CPU cores train `woo_small.py`.

Not stated in the publication: optimiser, learning rate, the level of the noise. Here: Adam, and an
SNR of 0 to 10 dB, as NAFP's backgrounds have. Music is all that is needed to train it.
"""

from fingerprint_configs import nafp
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Woo's network, loss and penalties on 1-s segments."""
    config = nafp.get_config()
    config.name = "woo"
    config.features.n_mels = 50
    config.features.hop_length = 160
    config.crop = ConfigDict({"n_mels": 50, "n_frames": 50, "mode": "contiguous", "shared": True})
    config.spec_augment.probability = 0.0
    config.encoder = ConfigDict(
        {"name": "woo", "widths": (128, 128, 256), "dense_units": 4096, "embedding_dim": 10}
    )
    config.loss = ConfigDict({"name": "triplet_shuffled", "margin": 0.2})
    config.l2 = ConfigDict({"conv": 2e-4, "dense": 1e-3})
    config.pairs.n_pairs = 50
    config.pairs.replica_offset_s = 0.0

    config.augmentation.white_noise.probability = 1.0
    for unused in ("background", "gain", "room", "device", "filters", "level", "ramp"):
        config.augmentation[unused] = None
    for unused in ("backgrounds", "rooms", "devices"):
        config.data[unused] = None

    config.optimizer.name = "adam"
    config.optimizer.weight_decay = 0.0
    config.training.n_steps = 20_000
    return config
