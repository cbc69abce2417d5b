"""What `fingerprint demo` trains: two minutes of two CPU cores on music that is synthesised here.

    python train.py --config=configs/demo.py --workdir=DIR

No audio is needed: music, backgrounds, rooms and devices come from
`fingerprint.music_synthesis`, by seeds that the demo's own queries never use.
"""

from fingerprint_configs import nafp_small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The small NAFP with half the pairs, a tenth of the steps, and synthetic music."""
    config = nafp_small.get_config()
    config.name = "demo"
    config.pairs.n_pairs = 64
    config.augmentation.ramp.n_steps = 200
    config.training.n_steps = 600
    config.training.checkpoint_every_steps = 300
    config.training.evaluate_every_steps = 300
    config.evaluation.query_durations_s = (1.0, 3.0, 5.0)
    config.evaluation.n_queries = 60

    def synthetic(kind: str, n_tracks: int, **settings) -> ConfigDict:
        section = {"builder": "synthetic", "kind": kind, "n_tracks": n_tracks}
        return ConfigDict(section | settings)

    config.data.n_validation_tracks = 12
    config.data.music = synthetic("music", n_tracks=140, duration_s=30.0)
    config.data.backgrounds = synthetic("noise", n_tracks=24, duration_s=20.0)
    config.data.rooms = synthetic("room_ir", n_tracks=24)
    config.data.devices = synthetic("device_ir", n_tracks=16)
    return config
