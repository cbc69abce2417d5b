"""Rice's contrastive fingerprints as published: 4.1 % found, and what explains it.

    python train.py --config=configs/rice_published.py --workdir=DIR --config.data.root=AUDIO

These are its differences from `rice.py`, each of them one value; each argument repairs one defect
and leaves the others as they are. The first five concern training, the others what becomes of the
trained network in the index and the search.

    the network sees mel powers without a logarithm, whose level is that of the recording
        --config.features.scaling=segment_db
    only replicas are masked, so that originals and replicas differ in it
        --config.spec_augment.masked=both
    noise is added as loud as it was recorded
        --config.augmentation.background.snr_db=(0.0,10.0)
    the room is convolved circularly within the segment
        --config.augmentation.room.convolution=linear
    the whole chain stands from the first step
        --config.augmentation.ramp.n_steps=900
    the batch size is passed on as the length of a clip: 30-s clips become 128 s, mostly silence
        --config.reference.pad_to_s=0.0
    the segments of the references start up to 0.2 s late, at random, as in training
        --config.reference.start_jitter_s=0.0
    the largest cosine of any segment decides, whatever the others say
        --config.search.alignment=diagonal
    each segment votes for its three nearest
        --config.search.neighbours=20
    queries are fingerprinted once, not at four fractions of a hop
        --config.search.n_shifts=4
    the three best names pass through an unordered set, so that the first is any of them
        --config.search.shuffled_top=0

What it costs is told in `rice.py`. At the width of `rice_small.py`, for two CPU cores:

    --config.features.n_mels=128 --config.encoder.widths=(16,16,32,32,64,64,128,256)
    --config.encoder.norm_affine=channel --config.training.n_steps=6000

What is not reproduced: the segments of queries, too, were crops that started at random; impulse
responses kept the delay before their direct path; the ends of a segment were mirrored, where here
zeros stand; the channels of a recording were added, not averaged.
"""

from fingerprint_configs import rice
from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """`rice.py` with every defect of the published code."""
    config = rice.get_config()
    config.name = "rice_published"
    config.features.scaling = "linear"
    config.spec_augment.masked = "replicas"
    # None, but of a type that the command line can replace it by.
    with config.augmentation.background.ignore_type():
        config.augmentation.background.snr_db = config_dict.placeholder(tuple)
    config.augmentation.room.convolution = "circular"
    config.augmentation.ramp.n_steps = 0
    config.reference.pad_to_s = 128.0
    config.reference.start_jitter_s = 0.2
    config.search.alignment = "best_segment"
    config.search.neighbours = 3
    config.search.n_shifts = 1
    config.search.shuffled_top = 3
    return config
