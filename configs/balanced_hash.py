"""Balanced hash codes (Singh et al., arXiv 2211.11060) over a patch transformer.

    python train.py --config=configs/balanced_hash.py --workdir=DIR --config.data.root=AUDIO

"Simultaneously learning robust audio embeddings and balanced hash codes for query-by-example": a
transformer over ten patches of a spectrogram makes a fingerprint, a head on top of it a code of
16 bits; a batch-wise optimal transport keeps the 65,536 buckets equally full. Published, top-1
within 50 ms, 1 s, noise and reverberation at 0 / 10 / 20 dB: 41.9 / 74.6 / 81.2 % from the
balanced buckets, 2.4 times as fast as 44.8 / 73.8 / 82.0 % with LSH; NAFP with LSH: 20.8 / 55.5 /
58.9 %. Front-end, degradations, optimiser and search are those of `attention.py`.

    head alone, on a trained network   --config.hash.train_encoder=False
                                       --config.training.initial_model=DIR/model
    index and search with its buckets  --searcher hash_buckets

What it costs (`fingerprint describe configs/balanced_hash.py`): 7,716,352 parameters of the encoder
and 75,280 of the head, 51.1 million multiply-adds per segment, a sixth of NAFP's. The assignment
holds one float32 per row and bucket, 16,896 x 65,536: 4.4 GB, divided among the devices. 512 pairs
per step want an accelerator; two CPU cores train `balanced_hash_small.py`.

Where sources disagree, and what is not stated:
- The sizes are those of later code of the same authors (FlowHash), which names this encoder; the
  paper's own were not found. That code reinterprets memory where it should transpose, so that its
  tokens are a fixed scramble of channels and patches: `--config.encoder.tokens=scrambled`.
- The poster prints the last loss without a logarithm; cross-entropy is the sound form, and
  `--config.hash.assignment_loss=as_printed` the printed one.
- Weights of the losses, epsilon, iterations (here SwAV's) and whether past codes are balanced along
  are not stated. With 512 pairs alone, 65,536 buckets cannot be told balanced from unbalanced. A
  queue of 16,384 codes makes each bucket that one of them holds too full for another, which is
  what fits into memory; a bucket's share is well determined from four rows per bucket on, for
  example `--config.hash.n_bits=12` with this queue.
- The number of steps was not found; the one here is ours.
"""

from fingerprint_configs import attention
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The attention network's recipe with another encoder, InfoNCE and a hash head."""
    config = attention.get_config()
    config.name = "balanced_hash"
    config.segment.duration_s = 0.99  # 100 frames, ten patches
    config.search.neighbours = 1  # the votes of single nearest neighbours are its consensus
    config.encoder = ConfigDict(
        {
            "name": "transformer",
            "patch_frames": 10,
            "d_model": 128,
            "n_layers": 8,
            "n_heads": 8,
            "feed_forward_units": 2048,
            "hidden_units": 2048,
            "embedding_dim": 128,
            "tokens": "transposed",
        }
    )
    config.loss.name = "infonce"
    config.hash = ConfigDict(
        {
            "n_bits": 16,
            "hidden_units": 512,
            "temperature": 0.1,
            "epsilon": 0.05,
            "n_iterations": 3,
            "queue_rows": 16_384,
            # Of a pair: its "mean" code, the "original" one, or each that of the other ("swapped").
            "assignment": "mean",
            "assignment_loss": "cross_entropy",
            "weights": (1.0, 1.0, 1.0),  # contrastive, contrastive of codes, assignment
            "train_encoder": True,
        }
    )
    return config
