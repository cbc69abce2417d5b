"""Bars on standard error with the time left, for whatever takes more than a few seconds."""

import sys
from typing import Any

import tqdm


def progress_bar(total: float, unit: str, show: bool, **more: Any) -> tqdm.tqdm:
    """A bar of ``total`` units, rarely redrawn in a log file; ``more`` is as of tqdm."""
    interval_s = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm.tqdm(
        total=total, unit=unit, disable=not show, mininterval=interval_s, file=sys.stderr, **more
    )
