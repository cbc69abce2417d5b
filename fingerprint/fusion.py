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

So a track that is second for both may be surer than two that are first for one, and two that are
unsure may be sure together.

These p-values promise few false alarms and are cautious, those of counted landmarks most of all,
which are 1 for many a right track. Among candidates of which one is right a cautious method would
be outvoted by a wrong candidate of the other. So what orders the candidates is the evidence that
both methods have for the place of each, see `joint_evidence`. It judges, too: a wrong track with
the evidence E is as rare as e^-E, about, and for a second way to judge that counts twice, so that
the p-value is 2 e^-E at most; those above are cautious enough to stay as they are. Evidence of
leads is blind to some that p-values see: to a recording that the index holds many times, or of
which a query is heard in part. So the evidence for a track is no less than that of its p-value
where that is below 0.01, which hardly any wrong one is.

R. A. Fisher, Statistical Methods for Research Workers, 4th edition, 1932, section 21.1.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

from fingerprint.identification import Match

# Places that differ by no more are the same: about a hop of the coarser method.
SAME_PLACE_S = 0.5
# How often music that resembles the query makes two candidates agree, see above.
_ALIKE = 0.002
# Chance may put places together that often, counting what the weaker method has to say.
_CHANCE_AGREEMENT = 0.05
# p-values below it are evidence.
_SURE_P_VALUE = 0.01
# Stands for 0, of which there is no logarithm.
_SMALLEST_P_VALUE = sys.float_info.min


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A match of one method: its place in that method's list, and what orders it."""

    match: Match
    rank: int
    evidence: float


def fuse(
    found: Mapping[str, Sequence[tuple[Match, float]]], index_s: float, top_k: int
) -> list[Match]:
    """One list of candidates, best first, out of those of several methods.

    Args:
        found: by method the candidates, best first, of which each is another track, and the
            evidence of all methods for the place of each in powers of e; the methods from the one
            with the coarsest places to the one with the finest.
        index_s: seconds of all recordings together.
        top_k: candidates to return at most.

    Returns:
        Matches whose score is the evidence that orders them, in powers of ten, whose place is the
        finest on which methods agree, else that with the most evidence, and whose ``found_by`` are
        the methods that found the track there.
    """
    by_track: dict[str, dict[str, _Candidate]] = {}
    for method, matches in found.items():
        for rank, (match, evidence) in enumerate(matches, 1):
            by_track.setdefault(match.track, {})[method] = _Candidate(match, rank, evidence)
    fused = [_fused(candidates, index_s, len(found)) for candidates in by_track.values()]
    return sorted(fused, key=lambda match: -match.score)[:top_k]


def at_one_place(matches: Sequence[Match]) -> bool:
    """Whether matches of one track put the beginning of the query at the same place of it."""
    starts_s = [match.start_s for match in matches]
    return max(starts_s) - min(starts_s) <= SAME_PLACE_S


def log_fisher(log_p_values: Sequence[float]) -> float:
    """The logarithm of the p-value of the product of independent p-values, from theirs.

    >>> math.exp(log_fisher([math.log(0.1), math.log(0.2)]))  # q = 0.02: q * (1 - ln q)
    0.0982...
    """
    x = -sum(log_p_values)
    return math.log(sum(x**k / math.factorial(k) for k in range(len(log_p_values)))) - x


def _fused(candidates: Mapping[str, _Candidate], index_s: float, n_methods: int) -> Match:
    """What the candidates of one track become."""
    log_p, methods = _judged(candidates, index_s, n_methods)
    evidence = max(each.evidence for each in candidates.values())
    if log_p < math.log(_SURE_P_VALUE):
        evidence = max(evidence, -log_p)
    log_p = min(log_p, math.log(2) - evidence)
    return dataclasses.replace(
        candidates[methods[-1]].match,
        score=evidence / math.log(10),
        # Adding 0.0 turns -0.0 into 0.0.
        confidence=-math.expm1(log_p) + 0.0,
        found_by=methods,
        p_value=math.exp(log_p),
    )


def _judged(
    candidates: Mapping[str, _Candidate], index_s: float, n_methods: int
) -> tuple[float, tuple[str, ...]]:
    """The logarithm of the p-value of a track, and who found it at one place."""
    alone = {name: _log_p(each.match) for name, each in candidates.items()}
    log_p = min(0.0, math.log(n_methods) + min(alone.values()))
    of_one = log_p, (max(candidates, key=lambda name: candidates[name].evidence),)
    if len(candidates) < 2 or not at_one_place([each.match for each in candidates.values()]):
        return of_one
    n_pairs = math.prod(each.rank for each in candidates.values())
    by_chance = 2 * SAME_PLACE_S / index_s
    log_chance = math.log(min(1.0, n_pairs * by_chance))
    if log_fisher([max(alone.values()), log_chance]) > math.log(_CHANCE_AGREEMENT):
        return of_one
    log_agreement = math.log(min(1.0, n_pairs * max(by_chance, _ALIKE)))
    return min(log_p, log_fisher([*alone.values(), log_agreement])), tuple(candidates)


def _log_p(match: Match) -> float:
    p_value = 1.0 - match.confidence if match.p_value is None else match.p_value
    return math.log(min(1.0, max(_SMALLEST_P_VALUE, p_value)))
