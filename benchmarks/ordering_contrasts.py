"""Comparisons that the claims of the orderings are made of."""

from collections.abc import Iterable, Sequence

from ordering_runs import MAIN, SPLIT_LENGTHS_S

from fingerprint.experiments import Cell, Contrast

SHORT_S, LONG_S = 1.0, 10.0


def better(
    first: str,
    second: str,
    durations_s: Iterable[float] = (SHORT_S, LONG_S),
    *,
    queries: str = MAIN,
    conditions: Sequence[str | None] = (None,),
    measure: str = "top1",
    at_least: float = 0.0,
    is_claim: bool = True,
    published: Sequence[str] = (),
) -> list[Contrast]:
    """One system ahead of another, at every length and under every condition."""
    places = [(condition, duration_s) for condition in conditions for duration_s in durations_s]
    figures = [*published, *[""] * len(places)]
    contrasts = []
    for (condition, duration_s), figure in zip(places, figures, strict=False):
        words = [
            f"{first} - {second}",
            f"{duration_s:g} s",
            *([queries] if queries != MAIN else []),
        ]
        words += [condition.replace("snr_db=", "SNR ")] if condition else []
        cells = [Cell(name, duration_s, queries, condition, measure) for name in (first, second)]
        contrasts.append(
            Contrast(", ".join(words), cells[:1], cells[1:], at_least, is_claim, figure)
        )
    return contrasts


def growing(systems: Sequence[str], durations_s: Iterable[float] = (SHORT_S,)) -> list[Contrast]:
    """Each system ahead of the one before it, for context."""
    pairs = zip(systems[1:], systems, strict=False)
    return [c for a, b in pairs for c in better(a, b, durations_s, is_claim=False)]


def longer(measure: str, sign: int, published: str) -> Contrast:
    """The base system at the longest against the shortest length."""
    long, short = (Cell("base", s, MAIN, None, measure) for s in (LONG_S, SHORT_S))
    more, less = (long, short) if sign > 0 else (short, long)
    words = f"base, {measure.replace('_', ' ')}: {more.duration_s:g} s - {less.duration_s:g} s"
    return Contrast(words, [more], [less], published=published)


def loses(name: str, other: str) -> Contrast:
    """More is lost by training with white noise when real degradation comes, than without it."""
    white, real = (Cell(name, SPLIT_LENGTHS_S[-1], queries) for queries in ("white", other))
    return Contrast(f"{name}, 5 s: white noise - {other}", [white], [real])


def offset_cell(system: str, offset_s: float) -> Cell:
    """Queries of a second, so far from the start of a reference segment."""
    return Cell(system, SHORT_S, "offsets", f"offset_s={offset_s:g}")
