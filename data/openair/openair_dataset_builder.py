"""OpenAIR, the open acoustic impulse response library (Murphy and Shelley, AES 2010)."""

from fingerprint_data.corpus import Corpus, audio_files, check_choice, corpus_of_files, find_source
from fingerprint_data.corpus_builder import CorpusBuilder

_WHERE = "put a folder for each place of https://www.openair.hosted.york.ac.uk there"


class Builder(CorpusBuilder):
    """Impulse responses of OpenAIR, a folder for each place."""

    @staticmethod
    def find(root: str | None, source: str = "openair", places: tuple[str, ...] = ()) -> Corpus:
        """The responses of some places.

        Args:
            root: folder that ``source`` is relative to.
            source: folder with a folder for each place in it, of whatever depth.
            places: names of folders to take; none named means all. Training and test data are
                different places, not different positions in one.
        """
        folder = find_source(root, source, _WHERE)
        paths = audio_files(folder, _WHERE)
        if places:
            found = sorted({path.relative_to(folder).parts[0] for path in paths})
            for place in places:
                check_choice("places", place, found)
            paths = [path for path in paths if path.relative_to(folder).parts[0] in places]
        return corpus_of_files(folder, paths, "room_ir")
