"""The environment of every test: eight simulated devices, strict numerics, warnings as errors."""

import os

# Both before jax starts. Without PJRT_NPROC eight simulated devices on two cores wait for each
# other's threads until XLA aborts the process.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["PJRT_NPROC"] = "16"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import importlib
import pathlib

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
SHARED_AUDIO = pathlib.Path(
    os.environ.get("FINGERPRINT_AUDIO", REPOSITORY.parent / "shared" / "audio")
)


@pytest.fixture(scope="session", autouse=True)
def strict_jax(tmp_path_factory):
    """Silent promotion of dtypes or ranks is an error; compiled programs are kept for the run."""
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax_cache")))


@pytest.fixture
def rng():
    """A numpy generator with a fixed seed."""
    return np.random.default_rng(20101)


@pytest.fixture(scope="session")
def repository():
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def load_benchmark(repository):
    """``load_benchmark(name)`` is the module of ``benchmarks/name.py``, which is in no package."""

    def load(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(repository / "benchmarks")
            return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def shared_audio():
    """A folder of real recordings (music, noise, impulse responses); absent on most machines."""
    if not (SHARED_AUDIO / "manifest.csv").exists():
        pytest.skip(f"no real recordings at {SHARED_AUDIO} (set FINGERPRINT_AUDIO to a folder)")
    return SHARED_AUDIO
