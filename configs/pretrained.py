"""The network that comes with the package: NAFP's, narrow at first and wide at the end.

    python train.py --config=configs/pretrained.py --workdir=DIR --config.data.root=AUDIO

What it changes of `nafp_small.py`, and why, is told beside the values; `benchmarks/ablation.py`
takes them back one by one. MODEL_CARD.md says what came of it, and
`fingerprint describe configs/pretrained.py` counts it.
"""

from fingerprint_configs import nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Made for phones in rooms, and for a laptop."""
    config = nafp_small.get_config()
    config.name = "pretrained"
    # What sticks out of noise and voices are narrow peaks, most of them below 2 kHz: a transform of
    # 256 ms, and mels as narrow as its bins. Half as many frames pay for twice as many mels.
    config.features.n_fft = 2048
    config.features.hop_length = 512
    config.features.n_mels = 256
    config.features.f_min_hz = 100.0
    config.features.f_max_hz = 2200.0
    config.spec_augment.stripe_bins = (5, 20)
    # Phones and loudspeakers colour smoothly: 200 Hz and more wide.
    config.features.envelope_mels = 33
    # The late blocks see few frames and mels: four times the parameters for a tenth more time.
    config.encoder.widths = (16, 16, 32, 64, 128, 192, 256, 512)
    config.spec_augment.probability = 0.5
    # A query is tried at every eighth of a second, so that little tolerance is needed.
    config.pairs.replica_offset_s = 0.1
    config.pairs.n_pairs = 256
    # No recordings of people were at hand, and voices are what a network fails on that has heard
    # none. Variants at other speeds are other tracks.
    config.data.babble_clips = 48
    config.data.track_speeds = (1.0, 0.84, 0.92, 1.09, 1.19)
    augmentation = config.augmentation
    # A telephone in a room: noise, of several kinds and louder than the music, stands at the
    # microphone and not where the music plays; what is recorded is uneven, levelled and clipped.
    augmentation.speed.probability = 0.5
    augmentation.speed.max_fraction = 0.025
    augmentation.white_noise.probability = 0.15
    augmentation.white_noise.snr_db = (5.0, 25.0)
    augmentation.background.snr_db = (-10.0, 12.0)
    augmentation.background.extra_probability = 0.4
    augmentation.room.dry_noise_probability = 0.6
    augmentation.filters.low_pass_hz = (1400.0, 3900.0)
    augmentation.filters.high_pass_hz = (100.0, 800.0)
    augmentation.equalizer.probability = 0.6
    augmentation.equalizer.range_db = 10.0
    augmentation.compressor.probability = 0.3
    augmentation.clipping.probability = 0.2
    augmentation.ramp.n_steps = 500
    config.training.n_steps = 3_000  # as many pairs as `nafp_small` sees
    config.training.evaluate_every_steps = 1_500
    return config
