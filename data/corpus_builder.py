"""The one TFDS builder behind all corpora: decodes tracks ahead in threads and writes them."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from fingerprint_data.corpus import Corpus, CorpusError
from tqdm import tqdm

from fingerprint.audio import AudioError

_N_NAMED_FAILURES = 20
# Tensorflow_datasets warns of a property of its own that it reads itself, once per dataset.
logging.get_absl_logger().addFilter(
    lambda record: "`FeatureConnector.dtype` is deprecated" not in record.getMessage()
)


@dataclasses.dataclass
class CorpusConfig(tfds.core.BuilderConfig):
    """What makes one prepared dataset differ from another of the same builder."""

    corpus: Corpus = dataclasses.field(kw_only=True, repr=False)
    sample_rate_hz: int = dataclasses.field(kw_only=True)


class CorpusBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes the tracks of a corpus; a subclass per corpus says where they are.

    A subclass is named ``Builder`` and stands in ``NAME/NAME_dataset_builder.py``, from which
    TFDS takes its name. It has a static method ``find(root, **settings) -> Corpus``, the settings
    being those of a config's section.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. TFDS would look for checksums beside this file, by way of a package
    # (importlib_resources) that it does not install.
    url_infos = None

    @classmethod
    def prepared(
        cls, corpus: Corpus, settings: Mapping[str, Any], folder: Path, sample_rate_hz: int
    ) -> "CorpusBuilder":
        """The builder of ``corpus``, its dataset on disk under ``folder``.

        Raises:
            CorpusError: no track can be read.
        """
        name = f"{corpus.kind}_{sample_rate_hz}_hz_{_digest(corpus, settings)}"
        config = CorpusConfig(name=name, corpus=corpus, sample_rate_hz=sample_rate_hz)
        with _quiet_tfds():
            builder = cls(config=config, data_dir=folder)
            builder.download_and_prepare(
                file_format="tfrecord",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        return builder

    def _info(self) -> tfds.core.DatasetInfo:
        is_filter = self.builder_config.corpus.holds_impulse_responses
        # As bytes: tf.train.Example would spend up to ten bytes on an integer, and TFDS's own
        # Audio feature does not encode arrays.
        audio = tfds.features.Tensor(
            shape=(None,), dtype=np.float32 if is_filter else np.int16, encoding="bytes"
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "audio": audio,
                    "track": tfds.features.Text(),
                    "kind": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # whatever there is to download has been put in place by the user
        return {"tracks": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        corpus = self.builder_config.corpus
        failures = []
        for name, reading in _read_ahead(corpus, self.builder_config.sample_rate_hz):
            try:
                samples = reading.result()
            except AudioError as error:
                failures.append(f"{name}: {error}")
                continue
            yield name, {"audio": samples, "track": name, "kind": corpus.kind}
        if len(failures) == len(corpus.tracks):
            raise CorpusError(
                f"None of the {len(failures)} {corpus.kind} files could be read (change "
                "`source`, or say in a manifest.csv of which kind each file is); the first is "
                f"{failures[0]}"
            )
        _report(failures, len(corpus.tracks))


def _read_ahead(corpus: Corpus, sample_rate_hz: int) -> Iterator[tuple[str, Future]]:
    """Names and samples being decoded, in order, with a few tracks per core in memory at a time."""

    def read(track):
        samples = track.read(sample_rate_hz)
        return samples if corpus.holds_impulse_responses else _to_int16(samples)

    n_workers = os.cpu_count() or 1
    with ThreadPoolExecutor(n_workers) as pool:
        ahead = collections.deque()
        for track in tqdm(corpus.tracks, desc=f"preparing {corpus.kind}", unit=" tracks"):
            ahead.append((track.name, pool.submit(read, track)))
            if len(ahead) > 2 * n_workers:
                yield ahead.popleft()
        yield from ahead


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _report(failures: list[str], n_tracks: int) -> None:
    if not failures:
        return
    print(f"{len(failures)} of {n_tracks} files could not be read:", file=sys.stderr)
    for failure in failures[:_N_NAMED_FAILURES]:
        print(f"  {failure}", file=sys.stderr)
    if len(failures) > _N_NAMED_FAILURES:
        print(f"  and {len(failures) - _N_NAMED_FAILURES} more", file=sys.stderr)


def _digest(corpus: Corpus, settings: Mapping[str, Any]) -> str:
    content = [sorted(settings.items()), [(track.name, track.state) for track in corpus.tracks]]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """No bars of its own, no talk of downloads; ours is the one bar."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)
