import json
import math
import os
import signal

import jax
import numpy as np
import pytest
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint import parallel
from fingerprint.errors import ConfigError
from fingerprint.model import Fingerprinter, ModelError
from fingerprint.training import TrainingError, TrainingStopped, run, train

N_SAMPLES = 2000


def tiny_config(n_pairs=16, n_steps=8):
    """A network and segments as small as the code takes: a step in milliseconds."""
    config = nafp.get_config()
    config.segment.duration_s = 0.25
    config.segment.hop_s = 0.125
    config.features.update(n_fft=256, hop_length=128, n_mels=64)
    config.encoder.update(
        widths=(8, 8, 8, 8, 16, 16, 32, 32), embedding_dim=16, head_units=4, norm_affine="channel"
    )
    config.spec_augment.stripe_bins = (2, 6)
    config.pairs.n_pairs = n_pairs
    config.optimizer.update(name="adam", learning_rate=3e-3, weight_decay=0.0)
    config.training.update(
        n_steps=n_steps,
        log_every_steps=2,
        checkpoint_every_steps=4,
        evaluate_every_steps=1000,
    )
    config.evaluation.update(query_durations_s=(0.25, 0.5), n_queries=6)
    return config


def tones(seed, n_rows):
    """``(n_rows, N_SAMPLES)``: three partials each, at frequencies of its own."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(N_SAMPLES) / 8000
    frequencies_hz = generator.uniform(300, 3900, (n_rows, 3, 1))
    return np.sin(2 * np.pi * frequencies_hz * time_s).sum(axis=1).astype(np.float32)


def make_batch(k, n_pairs, n_positives=1):
    """Batch k: new tones, whose replicas are noisy."""
    original = tones(k, n_pairs)
    replica = np.repeat(original, n_positives, axis=0)
    noise = np.random.default_rng([k, 1]).standard_normal(replica.shape)
    return {"original": original, "replica": (replica + 0.3 * noise).astype(np.float32)}


def batches_of(config, make=make_batch):
    def batches(start_step):
        k = start_step
        while True:
            yield make(k, config.pairs.n_pairs)
            k += 1

    return batches


def params_of(folder, name="parameters.npz"):
    with np.load(folder / name) as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_same_params(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Most of the time here would go into optimising programs that run for a second."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def config():
    return tiny_config()


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """The parameters of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return params_of(run(config, workdir, batches_of(config))), workdir


def test_a_few_segments_are_learned_by_heart(tmp_path):
    config = tiny_config(n_pairs=8, n_steps=40)
    config.spec_augment.probability = 0.0
    config.optimizer.update(learning_rate=1e-3, final_fraction=1.0)
    batch = make_batch(0, 8)
    run(config, tmp_path, batches_of(config, lambda k, n: batch))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    chance = math.log(2 * 8 - 1)
    assert lines[0]["loss"] > 0.5 * chance
    assert lines[-1]["loss"] < 0.1 * chance


def test_the_run_leaves_a_model_metrics_and_events(config, uninterrupted):
    _, workdir = uninterrupted
    fingerprinter = Fingerprinter.load(workdir / "model")
    assert fingerprinter.embed_segments(tones(0, 2)).shape == (2, 16)
    assert fingerprinter.calibration is None
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert set(lines[0]) == {"step", "loss", "grad_norm", "learning_rate", "pairs_per_s"}
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))


class Crash(Exception):
    pass


def test_a_run_that_crashed_goes_on_as_if_nothing_had_happened(config, uninterrupted, tmp_path):
    def crash_at_6(k, n_pairs):
        if k == 6:
            raise Crash
        return make_batch(k, n_pairs)

    with pytest.raises(Crash):
        run(config, tmp_path, batches_of(config, crash_at_6))
    seen = []

    def remember(k, n_pairs):
        seen.append(k)
        return make_batch(k, n_pairs)

    folder = run(config, tmp_path, batches_of(config, remember))
    assert seen == [4, 5, 6, 7]
    assert_same_params(params_of(folder), uninterrupted[0])


@pytest.fixture(scope="module")
def coded_config():
    """Batch norm, whose statistics are part of the state, and a queue of past codes."""
    config = tiny_config(n_pairs=8, n_steps=4)
    config.encoder = ConfigDict(
        {
            **{"name": "transformer", "patch_frames": 4, "d_model": 8, "n_layers": 1},
            **{"n_heads": 2, "feed_forward_units": 16, "hidden_units": 16, "embedding_dim": 8},
        }
    )
    config.hash = ConfigDict({"n_bits": 4, "hidden_units": 8, "queue_rows": 32})
    config.training.checkpoint_every_steps = 2
    return config


def test_batch_statistics_and_queue_are_resumed_too(coded_config, tmp_path):
    whole = run(coded_config, tmp_path / "whole", batches_of(coded_config))

    def crash_at_3(k, n_pairs):
        if k == 3:
            raise Crash
        return make_batch(k, n_pairs)

    with pytest.raises(Crash):
        run(coded_config, tmp_path / "torn", batches_of(coded_config, crash_at_3))
    resumed = run(coded_config, tmp_path / "torn", batches_of(coded_config))
    for name in ("parameters.npz", "batch_stats.npz", "hash_head.npz"):
        assert_same_params(params_of(resumed, name), params_of(whole, name))

    fingerprinter = Fingerprinter.load(whole)
    assert fingerprinter.codes(fingerprinter.embed_segments(tones(0, 2))).shape == (2, 4)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert {"loss_contrastive", "hash_balance", "hash_assignment"} <= set(json.loads(lines[-1]))


def test_a_frozen_encoder_stays_itself(coded_config, tmp_path):
    encoder = run(coded_config, tmp_path / "encoder", batches_of(coded_config))
    frozen = coded_config.copy_and_resolve_references()
    frozen.hash.update(train_encoder=False, queue_rows=0)
    frozen.training.initial_model = str(encoder)
    with_head = run(frozen, tmp_path / "head", batches_of(frozen))
    assert Fingerprinter.load(with_head).identity == Fingerprinter.load(encoder).identity
    heads = [params_of(folder, "hash_head.npz") for folder in (with_head, encoder)]
    assert (heads[0]["params/code/kernel"] != heads[1]["params/code/kernel"]).any()


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on_from_there(
    config, uninterrupted, tmp_path
):
    def stop_at_2(k, n_pairs):
        if k == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return make_batch(k, n_pairs)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStopped, match=r"after 3 steps.*the same command"):
        run(config, tmp_path, batches_of(config, stop_at_2))
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    folder = run(config, tmp_path, batches_of(config))
    assert_same_params(params_of(folder), uninterrupted[0])


def test_nan_stops_the_run_and_leaves_the_last_good_checkpoint(config, tmp_path, monkeypatch):
    over_devices = parallel.over_devices

    def poisoned(step):
        compiled = over_devices(step)

        def poisoned_step(state, batch):
            n_done = int(parallel.to_host(state.step))
            state, metrics = compiled(state, batch)
            if n_done == 7:
                metrics["loss"] = parallel.replicate(np.float32(np.nan))
            return state, metrics

        return poisoned_step

    monkeypatch.setattr(parallel, "over_devices", poisoned)
    with pytest.raises(TrainingError, match="loss is nan at step 7"):
        run(config, tmp_path, batches_of(config))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert not (tmp_path / "model").exists()


def test_a_workdir_that_cannot_be_is_a_sentence(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file cannot be the folder of a run \(File exists\)"):
        train(config, tmp_path / "file")


def test_what_cannot_be_trained_is_refused_before_data_are_prepared(config, tmp_path):
    config.pairs.n_pairs = 3
    with pytest.raises(ConfigError, match="8 devices cannot share equally"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_model_to_start_from_is_refused_before_data_are_prepared(config, tmp_path):
    begun = config.copy_and_resolve_references()
    begun.pairs.n_pairs = 16
    begun.training.initial_model = str(tmp_path / "absent")
    with pytest.raises(ModelError, match="absent is not a model folder"):
        train(begun, tmp_path / "run")
    assert not (tmp_path / "run").exists()
