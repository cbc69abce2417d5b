"""A training run: batches in, checkpoints and figures on the way, a model folder at the end."""

import collections
import contextlib
import math
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from fingerprint import parallel
from fingerprint.checkpoints import Checkpoints
from fingerprint.config import check_config
from fingerprint.errors import FingerprintError
from fingerprint.metrics_log import MetricsLog, Pace
from fingerprint.mini_search import MiniSearch, shorten
from fingerprint.model import Fingerprinter, save_model
from fingerprint.train_step import TrainState, build_step, given_encoder, initial_state

Batches = Callable[[int], Iterator[dict[str, np.ndarray]]]
"""From the number of the first step to the batches of this host, as `pairs.make_pairs` does."""


class TrainingError(FingerprintError):
    """A run that cannot go on."""


class TrainingStopped(FingerprintError):
    """A run that was asked to stop and can be resumed."""


def train(config: ConfigDict, workdir: str | os.PathLike) -> pathlib.Path:
    """Train the encoder of a configuration, or go on with the run that ``workdir`` holds.

    Writes ``workdir/checkpoints``, ``workdir/tensorboard``, ``workdir/metrics.jsonl`` and the
    model folder ``workdir/model``, which is complete from the first evaluation on.

    Returns:
        The model folder.

    Raises:
        TrainingError: loss or gradient became NaN or Inf (the sentence names the step), or
            ``workdir`` cannot be written.
        TrainingStopped: the process got SIGTERM; the checkpoint is written.
        FingerprintError: its other children, for data, configurations and checkpoints that
            cannot be used.
    """
    check_config(config)
    # Both refuse what cannot be trained before hours go into preparing data.
    build_step(config)
    given_encoder(config)
    _make_workdir(workdir)
    # Loads tensorflow, which takes seconds and which no other part of training needs.
    from fingerprint.pairs import load_banks, make_pairs

    banks, validation = load_banks(config, workdir)

    def batches(start_step: int) -> Iterator[dict[str, np.ndarray]]:
        return make_pairs(
            banks,
            config,
            start_step=start_step,
            host_index=jax.process_index(),
            n_hosts=jax.process_count(),
        ).as_numpy_iterator()

    return run(config, workdir, batches, _prepare_search(config, banks, validation))


def _prepare_search(config: ConfigDict, banks, validation) -> MiniSearch | None:
    """None when fewer than two tracks are held out: nothing could be confused."""
    from fingerprint.pairs import degraded_queries

    if config.data.n_validation_tracks < 2:
        return None
    tracks = shorten(validation)
    queries, track_ids, starts = degraded_queries(
        tracks,
        banks,
        config,
        n_queries=config.evaluation.n_queries,
        duration_s=max(config.evaluation.query_durations_s),
        seed=config.seed,
    )
    return MiniSearch(config, tracks, queries, track_ids, starts)


def run(
    config: ConfigDict,
    workdir: str | os.PathLike,
    batches: Batches,
    search: MiniSearch | None = None,
) -> pathlib.Path:
    """Train on any batches; arguments, result and errors are otherwise those of `train`.

    Without a search the model is written without a calibration.
    """
    workdir = _make_workdir(workdir)
    step = parallel.over_devices(build_step(config))
    with Checkpoints(workdir, config) as checkpoints:
        state = parallel.replicate(parallel.to_host(initial_state(config)))
        state = checkpoints.restore(state) or state
        start_step = int(parallel.to_host(state.step))
        first_process = jax.process_index() == 0
        with (
            MetricsLog(workdir, start_step, config.training.n_steps, first_process) as log,
            _stop_signal() as stop_requested,
        ):
            loop = _Loop(config, workdir, step, state, checkpoints, log, search)
            loop.run(batches, start_step, stop_requested)
    return workdir / "model"


def _make_workdir(workdir: str | os.PathLike) -> pathlib.Path:
    workdir = pathlib.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{workdir} cannot be the folder of a run ({error.strerror}): choose another workdir."
        ) from None
    return workdir


class _Loop:
    """The steps of one run, a few of them under way while the host prepares the next."""

    def __init__(self, config, workdir, step, state: TrainState, checkpoints, log, search):
        self._config = config
        self._workdir = workdir
        self._step = step
        self._state = state
        self._checkpoints = checkpoints
        self._log = log
        self._search = search
        self._under_way = collections.deque()
        self._losses = []
        self._pace = Pace()
        self._stop = False

    def run(self, batches: Batches, start_step: int, stop_requested: Callable[[], bool]) -> None:
        training = self._config.training
        steps = range(start_step, training.n_steps)
        n_ahead = parallel.n_steps_ahead()
        supply = batches(start_step) if steps else iter(())
        for step in steps:
            batch = parallel.split_batch(next(supply), stop=stop_requested())
            self._state, metrics = self._step(self._state, batch)
            self._under_way.append((step, metrics))
            self._await(n_ahead)
            n_done = step + 1
            if self._stop:
                self._save(n_done)
                raise TrainingStopped(
                    f"Training stopped after {n_done} steps, as it was told to; the same command "
                    "resumes it."
                )
            if n_done % training.checkpoint_every_steps == 0:
                self._save(n_done)
            if n_done % training.evaluate_every_steps == 0 and n_done < training.n_steps:
                self._evaluate(n_done)
        if steps:
            self._save(training.n_steps)
        self._evaluate(max(start_step, training.n_steps))

    def _await(self, n_left: int) -> None:
        """Wait until at most ``n_left`` steps are under way, and look at those that are done."""
        while len(self._under_way) > n_left:
            step, metrics = self._under_way.popleft()
            self._inspect(step, {name: v.item() for name, v in parallel.to_host(metrics).items()})

    def _inspect(self, step: int, metrics: dict[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"{name} is {metrics[name]} at step {step}: the run stops and its last "
                    "checkpoint stays as it is; choose a smaller optimizer.learning_rate or a "
                    "longer warm-up."
                )
        self._stop |= bool(metrics.pop("stop"))
        self._losses.append(metrics["loss"])
        self._pace.count(self._config.pairs.n_pairs)
        self._log.advance()
        if (step + 1) % self._config.training.log_every_steps == 0:
            loss = float(np.mean(self._losses))
            pairs_per_s = self._pace.pairs_per_s()
            self._losses.clear()
            self._log.show(f"loss {loss:.4f}, {pairs_per_s:.0f} pairs/s")
            self._log.report(step + 1, metrics | {"loss": loss, "pairs_per_s": pairs_per_s})

    def _save(self, n_done: int) -> None:
        # Every step is looked at before: what comes after a NaN must not push out a good one.
        self._await(0)
        self._checkpoints.save(n_done, self._state)

    def _evaluate(self, n_done: int) -> None:
        """Search with the present parameters, on every host, and write the model on the first."""
        self._await(0)
        began_s = time.monotonic()
        # Without the optimiser's state, which is twice as large as all the rest.
        state = parallel.to_host(self._state._replace(opt_state=()))
        variables, hash_head = state.encoder_variables(), state.hash_head_variables()
        calibration = None
        if self._search is not None:
            self._log.announce(f"step {n_done}: searching for {self._search.n_queries} queries")
            result = self._search.run(Fingerprinter(self._config, variables, hash_head=hash_head))
            calibration = result.calibration()
            self._log.report(n_done, result.figures())
            shares = ", ".join(
                f"{duration_s:g} s {hits:.1%}"
                for duration_s, hits in zip(result.durations_s, result.top1, strict=True)
            )
            self._log.announce(f"step {n_done}: top-1 of {self._search.n_queries} at {shares}")
        if jax.process_index() == 0:
            save_model(self._workdir / "model", self._config, variables, calibration, hash_head)
        self._pace.exclude(time.monotonic() - began_s)


@contextlib.contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come since; outside of the main thread it never does."""
    received = []
    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    except ValueError:
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
