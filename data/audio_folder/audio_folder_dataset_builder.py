"""Any folder of audio: the files that its ``manifest.csv`` names, or all of them."""

import csv
from pathlib import Path

from fingerprint_data.corpus import (
    KINDS,
    Corpus,
    CorpusError,
    audio_files,
    check_choice,
    corpus_of_files,
    find_source,
)
from fingerprint_data.corpus_builder import CorpusBuilder

_MANIFEST = "manifest.csv"


class Builder(CorpusBuilder):
    """Audio files of a folder, chosen by kind and split where it has a manifest."""

    @staticmethod
    def find(
        root: str | None, source: str = ".", kind: str = "music", split: str | None = None
    ) -> Corpus:
        """The files under ``source``.

        Args:
            root: folder that ``source`` is relative to.
            source: folder of audio. With a ``manifest.csv`` in it, that table's rows are the
                files: column ``path`` relative to the folder, optional columns ``kind`` and
                ``split``. Without one, all audio files under the folder are taken.
            kind: what the files are; where the manifest has a column of that name, its rows are
                filtered by it.
            split: rows of the manifest to take; None for all. Without a manifest it says nothing.
        """
        check_choice("kind", kind, KINDS)
        folder = find_source(root, source)
        if (folder / _MANIFEST).is_file():
            paths = _read_manifest(folder, {"kind": kind, "split": split})
        else:
            paths = audio_files(folder)
        return corpus_of_files(folder, paths, kind)


def _read_manifest(folder: Path, wanted: dict[str, str | None]) -> list[Path]:
    manifest = folder / _MANIFEST
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{manifest} cannot be read as a table in UTF-8: {error}.") from error
    if not rows or not all(row.get("path") for row in rows):
        raise CorpusError(
            f"{manifest} needs a header with a column `path` and in each row the path of a file."
        )
    if wanted["split"] and "split" not in rows[0]:
        raise CorpusError(
            f"{manifest} has no column `split`, but the section asks for {wanted['split']!r}: "
            "add the column, or set split to None to take every row."
        )
    wanted = {column: value for column, value in wanted.items() if value and column in rows[0]}
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    if not chosen:
        names = " and ".join(f"{column} {value!r}" for column, value in wanted.items())
        raise CorpusError(f"{manifest} has no row of {names}.")
    return [folder / row["path"] for row in chosen]
