"""NMFP's triplet on NAFP's network: the fair opponent of NT-Xent and of Now Playing's triplet.

    python train.py --config=configs/nmfp_triplet.py --workdir=DIR --config.data.root=AUDIO

The experiment `nmfp-triplet` of neural-music-fp (arXiv 2506.22661): squared distances, every row
an anchor, the nearest negative beyond the hardest positive and within the margin of 0.5; 768
tracks with one replica each, offsets up to 0.25 s, Adam. The authors find this loss ahead of
NT-Xent; Chang et al. find theirs (`now_playing.py`) 36 points behind it: the two publications do
not mean the same loss.

What it costs (`fingerprint describe configs/nmfp_triplet.py`): as `nafp.py`, 16,939,008 parameters
and 303.6 million multiply-adds per segment, for 1,536 rows per step. The published run mixes
precisions: `--config.training.dtype=bfloat16`.

What differs from the publication: probabilities of rooms, devices and filters, the cut of impulse
responses and the ramp are those of `nafp.py`.
"""

from fingerprint_configs import now_playing
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Now Playing with a semi-hard triplet on pairs."""
    config = now_playing.get_config()
    config.name = "nmfp_triplet"
    config.features.f_min_hz = 160.0
    config.loss = ConfigDict({"name": "triplet_nmfp", "margin": 0.5})
    config.pairs.n_pairs = 768
    config.pairs.n_positives = 1
    config.pairs.replica_offset_s = 0.25
    config.training.n_steps = 76_800  # 100 passes over the 590,000 segments of 10,000 clips
    return config
