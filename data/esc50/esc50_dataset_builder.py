"""ESC-50: environmental sounds in fifty classes (Piczak, ACM Multimedia 2015)."""

import csv

from fingerprint_data.corpus import (
    Corpus,
    CorpusError,
    corpus_of_files,
    find_source,
    need,
)
from fingerprint_data.corpus_builder import CorpusBuilder

_WHERE = "clone https://github.com/karolpiczak/ESC-50 or unpack its archive"


class Builder(CorpusBuilder):
    """Environmental sounds of 5 s as backgrounds."""

    @staticmethod
    def find(
        root: str | None, source: str = "ESC-50", folds: tuple[int, ...] = (1, 2, 3, 4, 5)
    ) -> Corpus:
        """The clips of some folds.

        Args:
            root: folder that ``source`` is relative to.
            source: folder with ``audio/`` and ``meta/esc50.csv`` in it.
            folds: those of the five to take; no recording is in more than one, so that training
                and test data are different folds.
        """
        folder = find_source(root, source, _WHERE)
        table = need(folder / "meta" / "esc50.csv", _WHERE)
        audio_folder = need(folder / "audio", _WHERE)
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"filename", "fold"} <= rows[0].keys():
            raise CorpusError(f"{table} has no columns `filename` and `fold`: {_WHERE}.")
        wanted = {str(fold) for fold in folds}
        paths = [audio_folder / row["filename"] for row in rows if row["fold"] in wanted]
        return corpus_of_files(audio_folder, paths, "noise")
