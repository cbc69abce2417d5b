"""FMA: a dataset for music analysis (Defferrard et al., ISMIR 2017, arXiv 1612.01840)."""

import csv
from pathlib import Path

from fingerprint_data.corpus import (
    Corpus,
    CorpusError,
    audio_files,
    check_choice,
    corpus_of_files,
    find_source,
    need,
)
from fingerprint_data.corpus_builder import CorpusBuilder

_SUBSETS = ("small", "medium", "large", "full")
_SPLITS = ("training", "validation", "test")
_WHERE = "unpack the archives that https://github.com/mdeff/fma links to"


class Builder(CorpusBuilder):
    """Music of the Free Music Archive: clips of 30 s, or whole tracks in the subset "full"."""

    @staticmethod
    def find(
        root: str | None, source: str = "fma", subset: str = "small", split: str | None = None
    ) -> Corpus:
        """The tracks of a subset.

        Args:
            root: folder that ``source`` is relative to.
            source: folder with ``fma_SUBSET/000/000002.mp3`` and so on in it.
            subset: "small", "medium", "large" or "full".
            split: "training", "validation" or "test", as ``fma_metadata/tracks.csv`` under the
                source says; None for all tracks, which needs no such table.
        """
        check_choice("subset", subset, _SUBSETS)
        folder = find_source(root, source, _WHERE)
        audio_folder = need(folder / f"fma_{subset}", _WHERE)
        paths = audio_files(audio_folder, _WHERE)
        if split is not None:
            check_choice("split", split, _SPLITS)
            wanted = _track_ids(need(folder / "fma_metadata" / "tracks.csv", _WHERE), split)
            paths = [path for path in paths if path.stem in wanted]
        return corpus_of_files(audio_folder, paths, "music")


def _track_ids(table: Path, split: str) -> set[str]:
    """File names, without suffix, of a split; the table's columns have names in two rows."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        columns = list(zip(next(rows, []), next(rows, []), strict=False))
        if ("set", "split") not in columns:
            raise CorpusError(f"{table} has no column `split` under `set`: {_WHERE}.")
        column = columns.index(("set", "split"))
        return {row[0].zfill(6) for row in rows if len(row) > column and row[column] == split}
