"""What a corpus is before it is a dataset: a kind of sound and the tracks it consists of."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from fingerprint import audio
from fingerprint.errors import ConfigError, FingerprintError

WAVEFORM_KINDS = ("music", "noise")
IMPULSE_RESPONSE_KINDS = ("room_ir", "device_ir")
KINDS = WAVEFORM_KINDS + IMPULSE_RESPONSE_KINDS

# Longer than the reverberation of any room in the corpora that we read, shorter than a song:
# music named as impulse responses by mistake does not get through.
_MAX_IMPULSE_RESPONSE_S = 25.0


class CorpusError(FingerprintError):
    """A corpus that is not where it should be, is laid out differently, or cannot be read."""


@dataclasses.dataclass(frozen=True)
class Track:
    """One track of a corpus.

    Attributes:
        name: unique in the corpus.
        state: changes whenever the track's samples may have changed.
        read: sample rate in Hz -> samples ``(n_samples,)``, float32 in [-1, 1]; AudioError.
    """

    name: str
    state: str
    read: Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Tracks of one kind, one of ``KINDS``."""

    kind: str
    tracks: tuple[Track, ...]

    @property
    def holds_impulse_responses(self) -> bool:
        """Whether the tracks are filters, not sounds to listen to."""
        return self.kind in IMPULSE_RESPONSE_KINDS


def corpus_of_files(folder: Path, paths: Iterable[Path], kind: str) -> Corpus:
    """The corpus of some files, named by their paths relative to ``folder`` (absolute outside).

    Raises:
        CorpusError: there are none.
    """
    check_choice("kind", kind, KINDS)
    read = read_impulse_response if kind in IMPULSE_RESPONSE_KINDS else read_waveform
    tracks = tuple(
        Track(_name(path, folder), _state(path), functools.partial(read, path))
        for path in sorted(set(paths))
    )
    if not tracks:
        raise CorpusError(f"{folder} holds no audio that the section asks for.")
    return Corpus(kind, tracks)


def check_choice(setting: str, value: object, choices: Sequence[object]) -> None:
    """Raise ConfigError when the value of a setting is not one of the choices."""
    if value not in choices:
        raise ConfigError(
            f"The value {value!r} of `{setting}` is not one of {', '.join(map(repr, choices))}."
        )


def find_source(root: str | None, source: str, where: str = "put the corpus there") -> Path:
    """The folder of a corpus: ``source``, relative to ``root`` unless it is absolute.

    Args:
        root: the folder that all relative sources are taken from.
        source: the section's setting.
        where: what to do when there is no such folder, for the error's sentence.

    Raises:
        ConfigError: ``source`` is relative, and there is no root.
        CorpusError: there is no such folder.
    """
    if root is None and not Path(source).is_absolute():
        raise ConfigError(
            f"The source {source!r} is relative to config.data.root, which is not set: "
            "add --config.data.root=FOLDER."
        )
    return need(Path(root or "") / source, f"{where}, or change `source`")


def need(path: Path, where: str) -> Path:
    """``path`` itself; CorpusError, which says where to get it, when it does not exist."""
    if not path.exists():
        raise CorpusError(f"{path} does not exist: {where}.")
    return path


def audio_files(folder: Path, where: str = "put the corpus there") -> list[Path]:
    """All audio files under ``folder``, sorted; CorpusError when there are none."""
    try:
        return [Path(path) for path in audio.find_audio([folder])]
    except audio.AudioError as error:
        raise CorpusError(f"{folder} holds no audio files: {where}.") from error


def read_waveform(path: Path, sample_rate_hz: int) -> np.ndarray:
    """A whole recording, ``(n_samples,)`` float32 in [-1, 1], all channels mixed."""
    return audio.read_audio(path, sample_rate_hz)


def read_impulse_response(path: Path, sample_rate_hz: int) -> np.ndarray:
    """An impulse response, ``(n_samples,)`` float32 with a peak of 1.

    Of several channels the first is taken: the microphones of a stereo pair are apart, so that
    their mean is a comb filter, and the first channel of B-format is the omnidirectional one.

    Raises:
        AudioError: as for any audio, or the file is too long to be an impulse response.
    """
    try:
        duration_s = soundfile.info(path).duration
        if duration_s > _MAX_IMPULSE_RESPONSE_S:
            raise audio.AudioError(
                f"{path} is {duration_s:.0f} s long, more than the {_MAX_IMPULSE_RESPONSE_S:.0f} s "
                "that an impulse response may have."
            )
        samples, file_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise audio.AudioError(f"{path} is not an audio file that can be decoded.") from error
    # Room for what the resampler overshoots, which would be clipped.
    level = 0.5 * _peak_normalized(samples[:, 0])
    return _peak_normalized(audio.from_array(level, file_rate_hz, sample_rate_hz))


def _peak_normalized(samples: np.ndarray) -> np.ndarray:
    peak = np.max(np.abs(samples), initial=0.0)
    return samples / peak if peak > 0 else samples


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _state(path: Path) -> str:
    """Size and time of last change, or why they cannot be told (reading will say it again)."""
    try:
        stat = path.stat()
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{stat.st_size} bytes, {stat.st_mtime_ns} ns"
