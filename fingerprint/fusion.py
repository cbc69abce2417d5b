"""Answers of two methods become one: what each found, where both agree, and how sure that makes.

Both name candidates: a track, the place of the query in it, and p, the probability that a query
from no recording of the index gets a best candidate as good as this. How p is combined:

One method alone: it is one of two that could have found something, so that p counts twice
(Bonferroni).

Both, at the same place: three p-values that have nothing to do with each other when the query is
in no recording, that of each method and that of the agreement. Candidates number i of the one and
j of the other are the last of ``i j`` pairs, each of which chance puts within a window of w
seconds of each other in T seconds of recordings with the probability w / T, so that the agreement
has p = i j w / T at most. The product q of k such p-values has the p-value (Fisher 1932)

    q (1 + x + x^2 / 2! + ... + x^(k-1) / (k-1)!),  x = -ln q

which is q (1 - ln q) for two. Of all these the smallest counts. In a short index any two places
may agree: where the weaker method and the agreement are nothing together, at the 5 % level, each
method stands alone.

So a track that is second for both may come before two that are first for one, and two that are
unsure may be sure together. All is computed with logarithms: the best candidates have p-values that
are far below what 1 less a confidence can express.

R. A. Fisher, Statistical Methods for Research Workers, 4th edition, 1932, section 21.1.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

from fingerprint.identification import Match

# Places that differ by no more are the same: about a hop of the coarser method.
SAME_PLACE_S = 0.5
# Chance may put places together that often, counting what the weaker method has to say.
_CHANCE_AGREEMENT = 0.05
# Stands for 0, of which there is no logarithm; ranks decide among such candidates.
_SMALLEST_P_VALUE = sys.float_info.min


def fuse(found: Mapping[str, Sequence[Match]], index_s: float, top_k: int) -> list[Match]:
    """One list of candidates, best first, out of those of several methods.

    Args:
        found: by method the candidates, best first, of which each is another track; the methods
            from the one with the coarsest places to the one with the finest.
        index_s: seconds of all recordings together.
        top_k: candidates to return at most.

    Returns:
        Matches whose score is ``-log10(p)``, whose place is the finest on which methods agree,
        and whose ``found_by`` are the methods that found the track there.
    """
    ranked: dict[str, dict[str, tuple[int, Match]]] = {}
    for method, matches in found.items():
        for rank, match in enumerate(matches, 1):
            ranked.setdefault(match.track, {})[method] = rank, match
    fused = []
    for candidates in ranked.values():
        log_p, methods = _evidence(candidates, index_s, len(found))
        best_rank = min(candidates[method][0] for method in methods)
        fused.append((log_p, best_rank, _fused(candidates, methods, log_p)))
    # Of those that nothing speaks for, the best of each method in turn: sorting is stable.
    fused.sort(key=lambda each: each[:2])
    return [match for *_, match in fused[:top_k]]


def log_fisher(log_p_values: Sequence[float]) -> float:
    """The logarithm of the p-value of the product of independent p-values, from theirs.

    >>> math.exp(log_fisher([math.log(0.1), math.log(0.2)]))  # q = 0.02: q * (1 - ln q)
    0.0982...
    """
    x = -sum(log_p_values)
    return math.log(sum(x**k / math.factorial(k) for k in range(len(log_p_values)))) - x


def _evidence(
    candidates: Mapping[str, tuple[int, Match]], index_s: float, n_methods: int
) -> tuple[float, tuple[str, ...]]:
    """The logarithm of the p-value of a track, and the methods that found it at one place."""
    alone = {name: _log_p(match) for name, (_, match) in candidates.items()}
    best = min(alone, key=alone.get)
    log_p = min(0.0, math.log(n_methods) + alone[best])
    starts_s = [m.reference_start_s - m.query_start_s for _, m in candidates.values()]
    if len(candidates) < 2 or max(starts_s) - min(starts_s) > SAME_PLACE_S:
        return log_p, (best,)
    n_pairs = math.prod(rank for rank, _ in candidates.values())
    log_agreement = math.log(min(1.0, n_pairs * 2 * SAME_PLACE_S / index_s))
    if log_fisher([max(alone.values()), log_agreement]) > math.log(_CHANCE_AGREEMENT):
        return log_p, (best,)
    return min(log_p, log_fisher([*alone.values(), log_agreement])), tuple(candidates)


def _fused(
    candidates: Mapping[str, tuple[int, Match]], methods: Sequence[str], log_p: float
) -> Match:
    return dataclasses.replace(
        candidates[methods[-1]][1],
        score=-log_p / math.log(10) + 0.0,
        confidence=-math.expm1(log_p),
        found_by=tuple(methods),
        p_value=math.exp(log_p),
    )


def _log_p(match: Match) -> float:
    p_value = 1.0 - match.confidence if match.p_value is None else match.p_value
    return math.log(min(1.0, max(_SMALLEST_P_VALUE, p_value)))
