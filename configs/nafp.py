"""NAFP: neural audio fingerprint for high-specific audio retrieval (Chang et al., ICASSP 2021).

    python train.py --config=configs/nafp.py --workdir=DIR --config.data.root=AUDIO

The network, loss and batch of the paper (arXiv 2010.11910) with d = 128: 16,939,008 parameters,
about 304 million multiply-adds per 1-s segment. Where the published code or recipe has a known
defect the sound form is the default, and each difference stands beside its value below. A batch
of 320 pairs in float32 wants an accelerator; two CPU cores train `nafp_small.py`.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The full-size configuration; every other config states its differences from this one."""
    config = ConfigDict()
    config.name = "nafp"
    config.seed = 0
    config.sample_rate_hz = 8000

    config.segment = ConfigDict({"duration_s": 1.0, "hop_s": 0.5})

    # Level and floor are taken from each segment; the published code takes them from the whole
    # batch tensor, so that there a fingerprint depends on its neighbours.
    config.features = ConfigDict(
        {
            "n_fft": 1024,
            "hop_length": 256,
            "n_mels": 256,
            "f_min_hz": 300.0,
            "f_max_hz": 4000.0,
            "dynamic_range_db": 80.0,
            "mel_scale": "slaney",  # or "htk", with triangles of unit height
            "power": 1.0,  # of the magnitude that is summed into mels; 2 and 4 favour loud bins
            # "segment_db": decibels below the segment's own maximum, mapped to [-1, 1]; "linear":
            # no logarithm, as in Rice's code.
            "scaling": "segment_db",
            # Width of the smooth spectral envelope that is taken away, in mels; 0: none.
            "envelope_mels": 0,
        }
    )
    # A part of the spectrogram for encoders that do not see all of it; see `features.crop`.
    config.crop = None
    # Fractions of each axis for the hole, bins for the stripe. One mask per batch on "both"
    # originals and replicas, or on "replicas" alone.
    config.spec_augment = ConfigDict(
        {
            "probability": 1.0,
            "hole_mel_fraction": (0.1, 0.5),
            "hole_frame_fraction": (0.1, 0.5),
            "stripe_bins": (5, 20),
            "masked": "both",
        }
    )

    config.encoder = ConfigDict(
        {
            "name": "nafp",
            "widths": (128, 128, 256, 256, 512, 512, 1024, 1024),
            "embedding_dim": 128,
            "head_units": 32,
            # "joint" over (mel, frame, channel) as published, or "channel" for the scale and bias.
            "norm_affine": "joint",
            # "conv_norm_relu" as in the paper, or "conv_elu_norm" as in the published code.
            "block_order": "conv_norm_relu",
        }
    )

    config.loss = ConfigDict({"name": "ntxent", "temperature": 0.05})
    # Weights of the squared parameters of layers by how their names begin; None: no such term.
    config.l2 = None
    # A head that gives fingerprints balanced binary codes; see `fingerprint.balanced_hash`.
    config.hash = None

    # Pairs per batch over all hosts and devices: 320 pairs are the paper's N = 640. With more than
    # one positive a "pair" is an original with that many replicas.
    # With more than one segment per track, far-apart parts of a track are each other's negatives.
    config.pairs = ConfigDict(
        {"n_pairs": 320, "n_positives": 1, "segments_per_track": 1, "replica_offset_s": 0.2}
    )

    # In the order in which they are applied. The published code cuts impulse responses to 75 ms,
    # convolves circularly and has no history, filters or separate devices.
    config.augmentation = ConfigDict(
        {
            "history_s": 1.0,
            # Sets of steps of which each replica draws one; a step that is in some set, but not
            # in the drawn one, is skipped. Empty: every step follows its own probability.
            "one_of": (),
            # The replica is played at a speed within this fraction of 1, its middle in its place.
            "speed": ConfigDict({"probability": 0.0, "max_fraction": 0.03}),
            # Gaussian noise; needs no recordings.
            "white_noise": ConfigDict({"probability": 0.0, "snr_db": (0.0, 10.0)}),
            # snr_step_db: the SNR is a multiple of it above the lower bound; 0: any value. An
            # snr_db of None adds the noise as loud as it was recorded. Noise of up to two other
            # rows is added to the row's own before that, each with the extra probability and at
            # this level relative to it.
            "background": ConfigDict(
                {
                    "probability": 1.0,
                    "snr_db": (0.0, 10.0),
                    "snr_step_db": 0.0,
                    "extra_probability": 0.0,
                    "extra_level_db": (-10.0, 5.0),
                }
            ),
            "gain": ConfigDict({"probability": 1.0, "factor": (0.1, 1.0)}),
            # "linear", or "circular" within the segment as in the published code. With the last
            # probability the room is not heard on the noise, which is then that of the microphone.
            "room": ConfigDict(
                {
                    "probability": 0.8,
                    "max_duration_s": 1.0,
                    "convolution": "linear",
                    "dry_noise_probability": 0.0,
                }
            ),
            "device": ConfigDict({"probability": 0.5, "max_duration_s": 0.25}),
            "filters": ConfigDict(
                {
                    "probability": 0.4,
                    "low_pass_hz": (2000.0, 3800.0),
                    "high_pass_hz": (100.0, 1000.0),
                    "slope_db_per_octave": (12.0, 36.0),
                }
            ),
            # Gains within +-range_db at knots evenly spaced in log frequency: loudspeakers, phones.
            "equalizer": ConfigDict(
                {"probability": 0.0, "range_db": 10.0, "n_knots": 8, "band_hz": (100.0, 4000.0)}
            ),
            # Automatic gain: the smoothed envelope to the power of minus the strength.
            "compressor": ConfigDict(
                {"probability": 0.0, "strength": (0.2, 0.8), "attack_s": (0.05, 0.4)}
            ),
            # Headroom above the rms of the segment.
            "clipping": ConfigDict(
                {"probability": 0.0, "headroom_db": (0.0, 12.0), "soft_probability": 0.5}
            ),
            "level": ConfigDict({"probability": 1.0, "factor": (0.1, 1.0)}),
            # Small batches do not leave chance with the whole chain from the first step: severity
            # grows linearly from these values, and the probabilities of other speeds, extra noise
            # and all from room to clipping from 0.
            "ramp": ConfigDict({"n_steps": 900, "snr_db": (25.0, 35.0), "offset_s": 0.025}),
        }
    )

    # 1e-4 per 640 rows is the paper's; LAMB from 240 rows on.
    config.optimizer = ConfigDict(
        {
            "name": "lamb",
            "learning_rate": 1e-4,
            "final_fraction": 1e-6,
            "warmup_steps": 0,
            "weight_decay": 1e-6,
        }
    )

    config.training = ConfigDict(
        {
            # Folder of the model whose parameters are the first ones, or "default", that of the
            # package; empty: random parameters.
            "initial_model": "",
            "n_steps": 184_300,  # 100 passes over 10,000 clips of 30 s, as published
            "dtype": "float32",  # or "bfloat16"; statistics, norms and logits stay float32
            # Pairs per device whose activations are held at once (GradCache); 0: all of them.
            "grad_cache_pairs": 0,
            "log_every_steps": 20,
            "checkpoint_every_steps": 500,
            "keep_checkpoints": 3,
            "evaluate_every_steps": 2000,
        }
    )

    # How tracks become rows of an index, and how a query is searched there.
    config.reference = ConfigDict(
        {
            "pad_to_s": 0.0,  # shorter tracks are padded with silence to this length
            "start_jitter_s": 0.0,  # each segment begins up to this much late, at random
        }
    )
    config.search = ConfigDict(
        {
            # "diagonal": mean inner product along the sequence (NAFP); "vote": most segments that
            # agree on a start (Singh's poster); "track_vote": of the track with most neighbours
            # (Singh's code); "best_segment": the largest single inner product (Rice).
            "alignment": "diagonal",
            "neighbours": 20,  # per segment
            "n_shifts": 4,  # fractions of a hop at which a query is fingerprinted
            "shuffled_top": 0,  # this many best tracks are returned in an arbitrary order
        }
    )

    config.evaluation = ConfigDict(
        {"query_durations_s": (1.0, 2.0, 3.0, 5.0, 10.0), "n_queries": 300}
    )

    config.data = ConfigDict(
        {
            # Folder that the sources below are relative to; the command line sets it.
            "root": config_dict.placeholder(str),
            # Prepared datasets are kept here; empty: in the working directory of the run.
            "cache_dir": "",
            "n_validation_tracks": 30,
            # Clips of synthesised voices, 20 s each, that join the backgrounds; 0: none.
            "babble_clips": 0,
            # Training music comes at each of these speeds; every variant is a track of its own.
            "track_speeds": (1.0,),
            "music": ConfigDict(
                {"builder": "audio_folder", "source": ".", "kind": "music", "split": "train"}
            ),
            "backgrounds": ConfigDict(
                {"builder": "audio_folder", "source": ".", "kind": "noise", "split": "train"}
            ),
            "rooms": ConfigDict(
                {"builder": "audio_folder", "source": ".", "kind": "room_ir", "split": "train"}
            ),
            "devices": ConfigDict(
                {"builder": "audio_folder", "source": ".", "kind": "device_ir", "split": "train"}
            ),
        }
    )
    return config
