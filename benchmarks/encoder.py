"""How many segments a CPU-second the encoder embeds and trains on, in both formulations.

    python benchmarks/encoder.py [--config configs/nafp.py] [--batch 64] [--divide_widths_by 1]

A training step is NT-Xent, its gradient and Adam, on random log-mels and without augmentation;
every embedded row counts as a segment. Log-mel alone is timed first. CPU time is that of all
threads of the process, the best of a few repetitions taken in turn, so that the ratios hold on a
busy machine.
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np
import optax

from fingerprint.config import load_config
from fingerprint.encoders import build_encoder
from fingerprint.features import input_shape, log_mel
from fingerprint.losses import build_loss
from fingerprint.segments import SegmentGrid

CONV_IMPLS = ("native", "taps")


def best_cpu_s(runs: dict[str, Callable], n_repetitions: int) -> dict[str, float]:
    """CPU-seconds of the fastest repetition of each run, after one that compiles."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        jax.block_until_ready(run())
    for _ in range(n_repetitions):
        for name, run in runs.items():
            start_s = time.process_time()
            jax.block_until_ready(run())
            best[name] = min(best[name], time.process_time() - start_s)
    return best


def training_step(encoder, loss_fn: Callable, params, mels: np.ndarray) -> Callable:
    """A function without arguments that takes one step from ``params`` and drops the result."""
    optimizer = optax.adam(1e-4)
    n_pairs = len(mels) // 2

    def objective(params):
        embeddings = encoder.apply({"params": params}, mels)
        return loss_fn(embeddings[:n_pairs], embeddings[n_pairs:])

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    return lambda: step(params, state)


def print_row(label: str, batch: int, cpu_s: dict[str, float]) -> None:
    """Segments per CPU-second of each formulation, and how they compare."""
    native, taps = (batch / cpu_s[name] for name in CONV_IMPLS)
    print(f"{label:15}{native:12.1f}{taps:12.1f}{taps / native:12.2f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/nafp.py")
    parser.add_argument("--batch", type=int, default=64, help="segments, an even number")
    parser.add_argument("--divide_widths_by", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()

    config = load_config(options.config)
    config.encoder.widths = tuple(w // options.divide_widths_by for w in config.encoder.widths)
    rng = np.random.default_rng(0)
    n_samples = SegmentGrid(config.sample_rate_hz, **config.segment).n_samples
    waveforms = rng.standard_normal((options.batch, n_samples)).astype(np.float32)
    mel = jax.jit(lambda w: log_mel(w, sample_rate_hz=config.sample_rate_hz, **config.features))
    mel_cpu_s = best_cpu_s({"log-mel": lambda: mel(waveforms)}, options.repetitions)["log-mel"]
    print(f"{config.name}, widths {config.encoder.widths}, batch of {options.batch} segments")
    print(f"log-mel: {options.batch / mel_cpu_s:.0f} segments per CPU-second\n")

    mels = rng.uniform(-1, 1, (options.batch, *input_shape(config))).astype(np.float32)
    encoders = {name: build_encoder({**config.encoder, "conv_impl": name}) for name in CONV_IMPLS}
    params = jax.jit(encoders["native"].init)(jax.random.key(0), mels[:1])["params"]
    embed = {name: jax.jit(encoder.apply) for name, encoder in encoders.items()}
    forward = {
        name: lambda apply=apply: apply({"params": params}, mels) for name, apply in embed.items()
    }
    loss_fn = build_loss(config.loss)
    steps = {
        name: training_step(encoder, loss_fn, params, mels) for name, encoder in encoders.items()
    }
    print(f"{'per CPU-second':15}{'native':>12}{'taps':>12}{'ratio':>12}")
    print_row("forward", options.batch, best_cpu_s(forward, options.repetitions))
    print_row("training step", options.batch, best_cpu_s(steps, options.repetitions))


if __name__ == "__main__":
    main()
