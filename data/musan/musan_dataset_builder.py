"""MUSAN: a music, speech, and noise corpus (Snyder, Chen and Povey 2015, arXiv 1510.08484)."""

from fingerprint_data.corpus import (
    Corpus,
    audio_files,
    check_choice,
    corpus_of_files,
    find_source,
    need,
)
from fingerprint_data.corpus_builder import CorpusBuilder

_PARTS = ("music", "speech", "noise")
_WHERE = "unpack musan.tar.gz of https://www.openslr.org/17/"


class Builder(CorpusBuilder):
    """Noise and speech as backgrounds, or the music."""

    @staticmethod
    def find(
        root: str | None, source: str = "musan", parts: tuple[str, ...] = ("noise", "speech")
    ) -> Corpus:
        """The recordings of some parts.

        Args:
            root: folder that ``source`` is relative to.
            source: folder with ``music/``, ``speech/`` and ``noise/`` in it.
            parts: which of them. ("music",) is of the kind "music", anything else is "noise",
                where music among it is one more background.
        """
        for part in parts:
            check_choice("parts", part, _PARTS)
        folder = find_source(root, source, _WHERE)
        paths = [
            path for part in parts for path in audio_files(need(folder / part, _WHERE), _WHERE)
        ]
        return corpus_of_files(folder, paths, "music" if tuple(parts) == ("music",) else "noise")
