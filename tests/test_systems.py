"""Every published system, small: it learns a handful of tracks and finds them by its own rules."""

import copy
import functools
import importlib
import itertools
import json
import pkgutil

import fingerprint_configs
import jax
import numpy as np
import pytest
import soundfile

from fingerprint.config import check_config
from fingerprint.model import Fingerprinter
from fingerprint.music_synthesis import synthesize_noise, synthesize_track
from fingerprint.neural_recognizer import NeuralRecognizer
from fingerprint.training import run

N_TRACKS = 5
TRACK_S = 5.0
# Where queries begin: between two segments of every hop.
START_S = 1.03
QUERY_S = 2.5
# Noise that replicas and queries are heard in.
SNR_DB = 15.0
N_STEPS = 80

NAFP_LIKE = {
    "features.n_mels": 64,
    "encoder.widths": (8, 8, 16, 16, 32, 32, 64, 128),
    "encoder.embedding_dim": 16,
    "encoder.head_units": 8,
    "encoder.norm_affine": "channel",
    # Masks would take hundreds of steps to get used to.
    "spec_augment.probability": 0.0,
    "optimizer.learning_rate": 2e-3,
    "training.n_steps": 160,
}
ATTENTION_LIKE = {
    "features.n_mels": 32,
    "features.hop_length": 320,
    # The peaks of random masks compound from block to block.
    "encoder.widths": (4, 8, 16),
    "encoder.embedding_dim": 16,
    "encoder.head_units": 4,
    "optimizer.learning_rate": 5e-3,
}
TRANSFORMER_LIKE = {
    "encoder.d_model": 16,
    "encoder.n_layers": 1,
    "encoder.n_heads": 2,
    "encoder.feed_forward_units": 32,
    "encoder.hidden_units": 64,
    "encoder.embedding_dim": 16,
    "hash.n_bits": 6,
    "hash.hidden_units": 32,
    "hash.queue_rows": 64,
}
WOO_LIKE = {"encoder.widths": (8, 8, 8), "encoder.dense_units": 32}
# Half a minute at 44.1 kHz becomes 2 s at 8 kHz, from which bins are drawn just as well.
WOO_PUBLISHED_LIKE = WOO_LIKE | {
    "pairs.n_pairs": 8,
    "sample_rate_hz": 8000,
    "segment.duration_s": 2.0,
    "segment.hop_s": 1.0,
    "features.n_fft": 512,
    "features.hop_length": 64,
    "features.f_max_hz": 4000.0,
}
# Not two minutes of silence for each track.
RICE_PUBLISHED_LIKE = NAFP_LIKE | {"reference.pad_to_s": 9.0}

# What a test is about: the config and what narrows it.
SYSTEMS = {
    "nafp": ("nafp", NAFP_LIKE),
    "now_playing": ("now_playing", NAFP_LIKE),
    "nmfp_triplet": ("nmfp_triplet", NAFP_LIKE),
    "woo": ("woo", WOO_LIKE),
    "rice": ("rice", NAFP_LIKE),
    "attention": ("attention", ATTENTION_LIKE),
    "balanced_hash": ("balanced_hash", TRANSFORMER_LIKE),
}
VARIANTS = {
    "now_playing, mean over all cells": ("now_playing", NAFP_LIKE | {"loss.mean_over": "all"}),
    "attention, no masks": ("attention", ATTENTION_LIKE | {"encoder.attention": False}),
    "rice_published": ("rice_published", RICE_PUBLISHED_LIKE),
    "woo_published": ("woo_published", WOO_PUBLISHED_LIKE),
}


def narrowed(name, changes):
    """A config of some ten thousand parameters, a small batch and few steps."""
    config = importlib.import_module(f"fingerprint_configs.{name}").get_config()
    config.pairs.update(n_pairs=16, replica_offset_s=0.025)
    config.optimizer.update(name="adam", learning_rate=1e-3, weight_decay=0.0)
    config.training.update(n_steps=N_STEPS, log_every_steps=5, checkpoint_every_steps=1000)
    config.training.evaluate_every_steps = 1000
    config.update_from_flattened_dict(changes)
    check_config(config)
    return config


def noisy(rng, audio, rate_hz):
    """The same audio ``(b, n)`` in synthetic noise."""
    noise = background(rate_hz)
    starts = rng.integers(0, len(noise) - audio.shape[1], len(audio))
    noise = noise[starts[:, None] + np.arange(audio.shape[1])]
    ratio = np.sqrt((audio**2).mean(axis=1) / (noise**2).mean(axis=1)) * 10 ** (-SNR_DB / 20)
    return (audio + ratio[:, None] * noise).astype(np.float32)


@functools.cache
def background(rate_hz):
    return synthesize_noise(0, 10.0, rate_hz)


def batches_of(config, tracks):
    """Batch k: segments of which no two overlap, and their replicas, a little aside and noisy."""
    n_samples = round(config.segment.duration_s * config.sample_rate_hz)
    offset = round(config.pairs.replica_offset_s * config.sample_rate_hz)
    n_positives = config.pairs.n_positives

    def batches(start_step):
        for k in itertools.count(start_step):
            rng = np.random.default_rng([7, k])
            starts = np.arange(offset, tracks.shape[1] - n_samples - 2 * offset, n_samples)
            places = np.array(list(itertools.product(range(len(tracks)), starts)))
            rows, starts = rng.permutation(places)[: config.pairs.n_pairs].T
            starts = starts + rng.integers(0, offset + 1)
            original = cut(tracks, rows, starts, n_samples)
            starts = np.repeat(starts, n_positives)
            starts += rng.integers(-offset, offset + 1, len(starts))
            replica = cut(tracks, np.repeat(rows, n_positives), starts, n_samples)
            yield {"original": original, "replica": noisy(rng, replica, config.sample_rate_hz)}

    return batches


def cut(tracks, rows, starts, n_samples):
    return tracks[rows[:, None], starts[:, None] + np.arange(n_samples)]


def logged(workdir, name):
    """The values of a metric in the order of the steps."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row[name] for row in rows if name in row]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Most of the time here would go into optimising programs that run for a second."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """From a sample rate to tracks ``(n_tracks, n_samples)`` and the folder that they lie in."""
    made = {}

    def at(rate_hz):
        if rate_hz not in made:
            folder = tmp_path_factory.mktemp(f"music{rate_hz}")
            tracks = [synthesize_track(seed, TRACK_S, rate_hz) for seed in range(N_TRACKS)]
            for i, track in enumerate(tracks):
                soundfile.write(folder / f"{i}.wav", track, rate_hz, subtype="FLOAT")
            made[rate_hz] = np.stack(tracks), folder
        return made[rate_hz]

    return at


@pytest.fixture(scope="module")
def trained(music, tmp_path_factory):
    """From a config to the working directory of its run; one run for each system."""
    done = {}

    def train(system, config):
        if system not in done:
            done[system] = tmp_path_factory.mktemp("runs") / "run"
            tracks, _ = music(config.sample_rate_hz)
            run(config, done[system], batches_of(config, tracks))
        return done[system]

    return train


def indexed(index, model, music, **choices):
    """A recogniser of all tracks, these ``(n_tracks, n_samples)``, and their folder."""
    recognizer = NeuralRecognizer.create(index, model)
    tracks, folder = music(recognizer.sample_rate_hz)
    recognizer.add_files([folder], progress=False)
    return NeuralRecognizer.open(index, **choices), tracks, folder


def assert_found(index, model, music, **choices):
    """All tracks but one at most are named first for noisy excerpts of them (or, where a system
    shuffles the best, among these)."""
    recognizer, tracks, folder = indexed(index, model, music, **choices)
    rate = recognizer.sample_rate_hz
    start, stop = round(START_S * rate), round((START_S + QUERY_S) * rate)
    queries = noisy(np.random.default_rng(3), tracks[:, start:stop], rate)
    n_first = max(1, recognizer.fingerprinter.config.search.shuffled_top)
    answers = [recognizer.identify(query, n_first).matches for query in queries]
    named = [{match.track for match in matches} for matches in answers]
    n_found = sum(str(folder / f"{i}.wav") in each for i, each in enumerate(named))
    # By chance, one would be.
    assert n_found >= N_TRACKS - 1


def assert_learns_and_finds(system, name, changes, trained, music, tmp_path):
    config = narrowed(name, changes)
    workdir = trained(system, config)
    losses = logged(workdir, "loss")
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert_found(tmp_path / "index", workdir / "model", music)


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_learns_a_handful_of_tracks_and_finds_them(system, trained, music, tmp_path):
    assert_learns_and_finds(system, *SYSTEMS[system], trained, music, tmp_path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_audio_of_the_database_is_found_at_its_very_second(system, trained, music, tmp_path):
    model = trained(system, narrowed(*SYSTEMS[system])) / "model"
    recognizer, tracks, folder = indexed(tmp_path / "index", model, music)
    grid, rate = recognizer.fingerprinter.grid, recognizer.sample_rate_hz
    first = 2 * grid.hop_samples
    # Whole segments, or silence would fill the last one up.
    n_hops = (round(QUERY_S * rate) - grid.n_samples) // grid.hop_samples
    n_samples = grid.n_samples + n_hops * grid.hop_samples
    for i, track in enumerate(tracks):
        best = recognizer.identify(track[first : first + n_samples], 1).matches[0]
        assert best.track == str(folder / f"{i}.wav")
        # Refined between two shifts of the query, of which only one is exact.
        assert best.reference_start_s == pytest.approx(first / rate, abs=0.05)
        assert best.score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("system", VARIANTS)
def test_so_does_the_published_form(system, trained, music, tmp_path):
    assert_learns_and_finds(system, *VARIANTS[system], trained, music, tmp_path)


def test_tracks_are_found_through_buckets_of_codes(trained, music, tmp_path):
    config = narrowed(*SYSTEMS["balanced_hash"])
    model = trained("balanced_hash", config) / "model"
    assert_found(tmp_path / "index", model, music, searcher="hash_buckets")


def test_a_hash_head_is_trained_on_a_frozen_encoder(trained, music, tmp_path):
    config = narrowed(*SYSTEMS["balanced_hash"])
    model = trained("balanced_hash", config) / "model"
    frozen = copy.deepcopy(config)
    frozen.seed = 1
    frozen.hash.train_encoder = False
    frozen.training.initial_model = str(model)
    workdir = trained("frozen encoder", frozen)
    assert Fingerprinter.load(workdir / "model").identity == Fingerprinter.load(model).identity
    losses = logged(workdir, "loss")
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert_found(tmp_path / "index", workdir / "model", music, searcher="hash_buckets")


def test_no_config_is_forgotten():
    configs = {module.name for module in pkgutil.iter_modules(fingerprint_configs.__path__)}
    others = {name for name in configs if "_small" in name} | {"demo", "pretrained"}
    assert {name for name, _ in (SYSTEMS | VARIANTS).values()} == configs - others
