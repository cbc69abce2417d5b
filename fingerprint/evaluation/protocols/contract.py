"""What a protocol is: which queries, which lengths, which measures, and how the tables look."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fingerprint.errors import FingerprintError

if TYPE_CHECKING:
    from fingerprint.evaluation.query_settings import QuerySettings

_FOLDERS = ("noise", "room_ir", "device_ir")


class ProtocolError(FingerprintError):
    """A protocol that does not exist, or lacks what it needs."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """One table.

    Attributes:
        name: of its file.
        title: stands above it; names the measure, so that no cell can be misread.
        rows: what tells rows apart: "system", "set", "condition", "duration_s", "dim", "n_batch".
            A column of them in which all cells are empty is left out.
        cells: measures, each a column of its own, or side by side in one cell where ``spread``.
        spread: "duration_s" or "condition": a column for each of its values.
        sets: only these sets of queries; all where empty.
        longest: only the longest queries.
        pooled: all conditions of a set together.
        intervals: in brackets behind each share: of Wilson, or where conditions are pooled, which
            share their excerpts, of the bootstrap over recordings.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    cells: tuple[str, ...]
    spread: str = ""
    sets: tuple[str, ...] = ()
    longest: bool = False
    pooled: bool = False
    intervals: bool = False


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a publication, or we, measure.

    Attributes:
        name: on the command line.
        title: for people, with the source.
        query_sets: name -> fields of `QuerySettings` that differ from its defaults; a folder that
            is None there is not used, one that is named in ``needs`` has to be given.
        durations_s: lengths that are asked.
        paired: the measure that systems are compared by, pair by pair.
        layouts: the tables; the first one is the publication's.
        hop_s: distance of the segments that ``segment_exact`` and ``segment_near`` count in.
        needs: folders without which the protocol makes no sense.
        notes: what a reader of the tables has to know.
    """

    name: str
    title: str
    query_sets: Mapping[str, Mapping[str, Any]]
    durations_s: tuple[float, ...]
    paired: str
    layouts: tuple[Layout, ...]
    hop_s: float = 0.5
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def settings(self, given: Mapping[str, Any]) -> "dict[str, QuerySettings]":
        """The settings of each set of queries.

        Args:
            given: fields of `QuerySettings` that the user has chosen. ``durations_s`` and
                ``snr_db`` replace those of the protocol; ``t60_s`` does so in the sets of several
                reverberation times, or in all where the protocol says nothing of them.

        Raises:
            ProtocolError: a folder is missing.
            QueryError: a value makes no sense.
        """
        from fingerprint.evaluation.query_settings import QuerySettings

        missing = [name for name in self.needs if not given.get(name)]
        if missing:
            raise ProtocolError(
                f"The protocol {self.name} needs {' and '.join(missing)}: give the folders."
            )
        made = {}
        for name, own in self.query_sets.items():
            fields = {"durations_s": self.durations_s} | dict(own) | self._chosen(own, given)
            made[name] = QuerySettings(**fields)
        return made

    def _chosen(self, own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = dict(given)
        for name in _FOLDERS:
            if name in own:
                chosen.pop(name, None)
        says_t60 = any("t60_s" in each for each in self.query_sets.values())
        if says_t60 and len(own.get("t60_s", ())) < 2:
            chosen.pop("t60_s", None)
        if "snr_db" in chosen and "snr_range_db" in own:
            chosen["snr_range_db"] = None
        return chosen
