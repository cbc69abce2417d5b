"""Answers of two methods become one: what each found, where both agree, and how sure that makes.

Both name candidates: a track, the place of the query in it, and p, the probability that a query
from no recording of the index gets a best candidate as good as this. How p is combined:

One method alone: it is one of two that could have found something, so that p counts twice
(Bonferroni).

Both, at the same place: three p-values, that of each method and that of the agreement. Candidates
number i of the one and j of the other are the last of ``i j`` pairs, each of which chance puts
within a window of w seconds of each other in T seconds of recordings with the probability w / T.
But music that resembles the query draws both methods to one place more often than chance does,
however long the index: of 1,500 noisy clips that were asked of 33 hours of other music, the first
candidates of both methods lay at one place for 0.4 %, some with i j up to 10 for 2.5 % and up to
100 for 9 % (`benchmarks/verdict.py` counts it), about 0.002 for each pair. So the agreement has
p = i j max(w / T, 0.002) at most. The product q of k independent p-values has the p-value (Fisher
1932)

    q (1 + x + x^2 / 2! + ... + x^(k-1) / (k-1)!),  x = -ln q

which is q (1 - ln q) for two. Of all these the smallest counts, whichever method the place is
from. In a short index any two places may agree: where the weaker method and the agreement are
nothing together, at the 5 % level, each method stands alone.

So a track that is second for both may come before two that are first for one, and two that are
unsure may be sure together.

How candidates are ordered: p-values that promise few false alarms are cautious, those of counted
landmarks most of all, which are 1 for many a right track. Among candidates of which one is right
a cautious method would be outvoted by a wrong candidate of the other. So what orders them is what
is likely: a count is judged by its lead over the next five tracks of the same search, as the score
of a network is (`calibration`), and where methods agree their evidence and that of the agreement,
here by chance alone, add up. A recording that an index holds many times has no lead over itself:
what is likely is never less than what the p-value says. All is computed with logarithms: the best
candidates have p-values that are far below what 1 less a confidence can express.

R. A. Fisher, Statistical Methods for Research Workers, 4th edition, 1932, section 21.1.
"""

import dataclasses
import math
import statistics
import sys
from collections.abc import Mapping, Sequence

from fingerprint.calibration import N_RIVALS, gumbel_tail
from fingerprint.identification import Match

# Places that differ by no more are the same: about a hop of the coarser method.
SAME_PLACE_S = 0.5
# How often music that resembles the query makes two candidates agree, see above.
_ALIKE = 0.002
# Chance may put places together that often, counting what the weaker method has to say.
_CHANCE_AGREEMENT = 0.05
# Mean and deviation of the lead of the best wrong count over the median of its rivals, in units of
# the square root of that median, as which counts scatter; of 3 to 10 s of noisy music against 60
# recordings of other music (553 clips).
_COUNT_LEAD = (0.83, 0.62)
# Stands for 0, of which there is no logarithm; ranks decide among such candidates.
_SMALLEST_P_VALUE = sys.float_info.min


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A match of one method: its place in that method's list, and what orders it."""

    match: Match
    rank: int
    log_likely: float


def fuse(
    found: Mapping[str, Sequence[Match]],
    index_s: float,
    top_k: int,
    counting: Sequence[str] = ("landmarks",),
) -> list[Match]:
    """One list of candidates, best first, out of those of several methods.

    Args:
        found: by method the candidates, best first, of which each is another track; the methods
            from the one with the coarsest places to the one with the finest.
        index_s: seconds of all recordings together.
        top_k: candidates to return at most.
        counting: methods whose scores are counts.

    Returns:
        Matches whose score is the evidence that orders them, in powers of ten, whose place is the
        finest on which methods agree, and whose ``found_by`` are the methods that found the track
        there.
    """
    by_track: dict[str, dict[str, _Candidate]] = {}
    for method, matches in found.items():
        likely = _log_likely(matches, is_count=method in counting)
        for rank, (match, log_likely) in enumerate(zip(matches, likely, strict=True), 1):
            by_track.setdefault(match.track, {})[method] = _Candidate(match, rank, log_likely)
    fused = []
    for candidates in by_track.values():
        log_p, log_likely, methods = _evidence(candidates, index_s, len(found))
        best_rank = min(candidates[method].rank for method in methods)
        match = _fused(candidates, methods, log_p, log_likely)
        fused.append((log_likely, best_rank, match))
    # Of those that nothing speaks for, the best of each method in turn: sorting is stable.
    fused.sort(key=lambda each: each[:2])
    return [match for *_, match in fused[:top_k]]


def at_one_place(matches: Sequence[Match]) -> bool:
    """Whether matches of one track put the beginning of the query at the same place of it."""
    starts_s = [match.reference_start_s - match.query_start_s for match in matches]
    return max(starts_s) - min(starts_s) <= SAME_PLACE_S


def log_fisher(log_p_values: Sequence[float]) -> float:
    """The logarithm of the p-value of the product of independent p-values, from theirs.

    >>> math.exp(log_fisher([math.log(0.1), math.log(0.2)]))  # q = 0.02: q * (1 - ln q)
    0.0982...
    """
    x = -sum(log_p_values)
    return math.log(sum(x**k / math.factorial(k) for k in range(len(log_p_values)))) - x


def _log_likely(matches: Sequence[Match], *, is_count: bool) -> list[float]:
    """What orders the candidates of one method: the logarithm of a p-value that is not cautious."""
    if not is_count or len(matches) <= N_RIVALS:
        return [_log_p(match) for match in matches]
    logs = []
    for place, match in enumerate(matches):
        rivals = [other.score for other in (*matches[:place], *matches[place + 1 :])]
        typical = statistics.median(rivals[:N_RIVALS])
        lead = (match.score - typical) / math.sqrt(max(1.0, typical))
        log_lead = math.log(max(_SMALLEST_P_VALUE, gumbel_tail(lead, *_COUNT_LEAD)))
        logs.append(min(log_lead, _log_p(match)))
    return logs


def _evidence(
    candidates: Mapping[str, _Candidate], index_s: float, n_methods: int
) -> tuple[float, float, tuple[str, ...]]:
    """The logarithm of the p-value of a track, what orders it, and who found it at one place."""
    alone = {name: _log_p(each.match) for name, each in candidates.items()}
    best = min(candidates, key=lambda name: (candidates[name].log_likely, alone[name]))
    log_p = min(0.0, math.log(n_methods) + min(alone.values()))
    of_one = log_p, candidates[best].log_likely, (best,)
    if len(candidates) < 2 or not at_one_place([each.match for each in candidates.values()]):
        return of_one
    n_pairs = math.prod(each.rank for each in candidates.values())
    by_chance = 2 * SAME_PLACE_S / index_s
    log_agreement = math.log(min(1.0, n_pairs * by_chance))
    if log_fisher([max(alone.values()), log_agreement]) > math.log(_CHANCE_AGREEMENT):
        return of_one
    log_p_agreement = math.log(min(1.0, n_pairs * max(by_chance, _ALIKE)))
    log_p = min(log_p, log_fisher([*alone.values(), log_p_agreement]))
    log_likely = log_agreement + sum(each.log_likely for each in candidates.values())
    return log_p, log_likely, tuple(candidates)


def _fused(
    candidates: Mapping[str, _Candidate], methods: Sequence[str], log_p: float, log_likely: float
) -> Match:
    return dataclasses.replace(
        candidates[methods[-1]].match,
        score=-log_likely / math.log(10) + 0.0,
        # Adding 0.0 turns -0.0 into 0.0.
        confidence=-math.expm1(log_p) + 0.0,
        found_by=tuple(methods),
        p_value=math.exp(log_p),
    )


def _log_p(match: Match) -> float:
    p_value = 1.0 - match.confidence if match.p_value is None else match.p_value
    return math.log(min(1.0, max(_SMALLEST_P_VALUE, p_value)))
