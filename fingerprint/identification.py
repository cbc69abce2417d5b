"""What an identification says: candidates with their place in time, and a verdict."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Match:
    """A track that a query may come from, and which part of the one is which part of the other.

    Seconds ``[query_start_s, query_end_s)`` of the query are seconds ``[reference_start_s,
    reference_end_s)`` of the track; the rest of the query lies before the track's beginning or
    after its end. Scores of one recogniser compare with each other, not with those of another.
    """

    track: str
    score: float
    reference_start_s: float
    reference_end_s: float
    query_start_s: float
    query_end_s: float

    @classmethod
    def placed(
        cls,
        track: str,
        score: float,
        start_s: float,
        query_duration_s: float,
        track_duration_s: float,
    ) -> "Match":
        """The match of a query whose beginning falls on second ``start_s`` of the track.

        ``start_s`` is negative for a query that begins before the track does.
        """
        query_start_s = min(max(0.0, -start_s), query_duration_s)
        query_end_s = max(query_start_s, min(query_duration_s, track_duration_s - start_s))
        return cls(
            track=track,
            score=score,
            reference_start_s=start_s + query_start_s,
            reference_end_s=start_s + query_end_s,
            query_start_s=query_start_s,
            query_end_s=query_end_s,
        )

    def to_dict(self) -> dict[str, str | float]:
        """The fields in their order, seconds to the millisecond."""
        seconds = {
            # Adding 0.0 turns the -0.0 that rounding may leave into 0.0.
            name: round(float(getattr(self, name)), 3) + 0.0
            for name in ("reference_start_s", "reference_end_s", "query_start_s", "query_end_s")
        }
        return {"track": self.track, "score": round(float(self.score), 4)} | seconds


@dataclasses.dataclass(frozen=True)
class Identification:
    """The verdict on a query, and the best candidates, best first, whatever the verdict.

    The verdict is "match" when the best candidate's score is one that wrong tracks hardly ever
    reach; ``matches`` is empty when nothing resembles the query at all.
    """

    verdict: Literal["match", "no_match"]
    matches: list[Match]

    def to_dict(self) -> dict:
        """``{"verdict": ..., "matches": [...]}``, ready for JSON."""
        return {"verdict": self.verdict, "matches": [match.to_dict() for match in self.matches]}
