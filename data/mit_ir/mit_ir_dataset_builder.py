"""Impulse responses of everyday places (Traer and McDermott, PNAS 2016)."""

from fingerprint_data.corpus import Corpus, audio_files, corpus_of_files, find_source
from fingerprint_data.corpus_builder import CorpusBuilder

_WHERE = "unpack the archive of https://mcdermottlab.mit.edu/Reverb/IR_Survey.html there"


class Builder(CorpusBuilder):
    """Impulse responses of the MIT survey."""

    @staticmethod
    def find(root: str | None, source: str = "mit_ir") -> Corpus:
        """All files under ``source``, a folder relative to ``root``."""
        folder = find_source(root, source, _WHERE)
        return corpus_of_files(folder, audio_files(folder, _WHERE), "room_ir")
