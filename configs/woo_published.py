"""Woo's triplet network as published: 50 mels and 50 frames drawn from anywhere in 30 s.

    python train.py --config=configs/woo_published.py --workdir=DIR --config.data.root=AUDIO

Spectrograms of 30-s clips (FMA-small), 128 mels x about 2000 frames, are thinned to as many mels
and frames as the network takes, drawn at random for the original and again for its replica, so
that a pair need not share a single bin. It is here to be compared with its repair, `woo.py`. In
use, where nothing may be drawn, the bins are evenly spaced.

    128 x 128   --config.crop.n_mels=128 --config.crop.n_frames=128

What it costs (`fingerprint describe configs/woo_published.py`): 85,423,754 parameters and 182.9
million multiply-adds per 30-s segment; 822,572,682 and 1.6 billion for 128 x 128. Clips of 30 s at
44.1 kHz: 2.6 MB each on disk, 530 MB per batch of pairs in memory.

The negative of a pair is the next original of the batch, where the publication shuffles the list.

Published: five passes of 140 batches of 50; losses of the two sizes differ by a thousandth; no
retrieval figure. Sample rate, window and hop are not stated: here the rate of the FMA, and the hop
of 15 ms that gives 2002 frames.
"""

from fingerprint_configs import woo
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Woo's own input and number of steps."""
    config = woo.get_config()
    config.name = "woo_published"
    config.sample_rate_hz = 44_100
    config.segment = ConfigDict({"duration_s": 30.0, "hop_s": 30.0})
    config.features.update(n_fft=2048, hop_length=661, n_mels=128, f_min_hz=0.0, f_max_hz=22_050.0)
    config.crop.mode = "random_bins"
    config.crop.shared = False
    config.augmentation.history_s = 0.0
    config.training.n_steps = 700
    config.training.evaluate_every_steps = 140
    config.search.n_shifts = 1
    config.evaluation.query_durations_s = (30.0,)
    return config
