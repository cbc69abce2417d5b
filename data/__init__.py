"""Where training audio comes from: one TFDS builder per corpus, and one way to prepare it.

``prepare`` is the whole interface. Every builder has the same features and the same single
split, so that nothing downstream knows which corpus it reads:

    audio   (n_samples,) at the sample rate asked for: int16 for music and noise (divide by
            32768), float32 with a peak of 1 for impulse responses
    track   name of the track, unique in the dataset: the file's path relative to the corpus
    kind    "music", "noise", "room_ir" or "device_ir"

TFDS keeps the name "all" for the sum of all splits, which here is one: read it with
``builder.as_dataset(split="all")``. The order of the tracks is TFDS's own (hashed); sort by name.
"""

import contextlib
import fcntl
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fingerprint.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

BUILDERS = ("audio_folder", "esc50", "fma", "mit_ir", "musan", "openair", "synthetic")


def prepare(
    section: Mapping[str, Any], *, root: str | None, cache_dir: str, sample_rate_hz: int
) -> "tfds.core.GeneratorBasedBuilder":
    """Write a corpus as a TFDS dataset, or reuse it when the same one is already there.

    The same means: the same section, the same files (names, sizes, times of last change) and the
    same sample rate. Nothing is looked up or loaded over a network. Files that cannot be read are
    left out and named on stderr.

    Args:
        section: ``{"builder": NAME, ...}``, the rest being the builder's own settings (the
            arguments of its ``find`` method).
        root: folder that a relative ``source`` of the section is taken from.
        cache_dir: folder of prepared datasets; created when missing.
        sample_rate_hz: of the samples that are written.

    Returns:
        The prepared builder, with features and split as this module's docstring says.

    Raises:
        ConfigError: unknown builder or setting, or a value that cannot be.
        CorpusError: the corpus is not where the section says, or nothing of it can be read.
    """
    settings = dict(section)
    name = settings.pop("builder", None)
    if name not in BUILDERS:
        raise ConfigError(f"The builder {name!r} is not one of {', '.join(BUILDERS)}.")
    module = importlib.import_module(f"{__name__}.{name}.{name}_dataset_builder")
    _check_settings(name, module.Builder.find, settings)
    corpus = module.Builder.find(root, **settings)

    folder = Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with _one_process_at_a_time(folder / f"{name}.lock"):
        return module.Builder.prepared(corpus, settings, folder, sample_rate_hz)


def _check_settings(name: str, find: Any, settings: Mapping[str, Any]) -> None:
    try:
        inspect.signature(find).bind(None, **settings)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(find).parameters)[1:])
        raise ConfigError(f"The builder {name!r} takes the settings {known}: {error}.") from error


@contextlib.contextmanager
def _one_process_at_a_time(path: Path) -> Iterator[None]:
    """Hosts that share a disk wait here for the first of them, then find its dataset."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
