"""Where a run's figures go: TensorBoard, ``metrics.jsonl`` and one line on the terminal."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping

import tensorboardX
import tqdm


class MetricsLog:
    """Writes the figures of a run; use it as a context.

    ``metrics.jsonl`` gets one object per report, with its ``step``; after a resumption the lines
    of steps done twice stand there twice, the later ones last. The terminal shows loss, pairs per
    second and the time left.

    Args:
        workdir: Folder of the run, which gets ``metrics.jsonl`` and ``tensorboard/``.
        start_step: Steps done before.
        n_steps: Steps of the whole run.
        active: False keeps silent, for all processes but the first.
    """

    def __init__(self, workdir: str | os.PathLike, start_step: int, n_steps: int, active: bool):
        self._stack = contextlib.ExitStack()
        self._active = active
        if not active:
            return
        workdir = pathlib.Path(workdir)
        self._lines_path = workdir / "metrics.jsonl"
        self._events = self._stack.enter_context(
            tensorboardX.SummaryWriter(
                str(workdir / "tensorboard"), purge_step=start_step or None, flush_secs=10
            )
        )
        self._bar = self._stack.enter_context(
            tqdm.tqdm(
                initial=start_step,
                total=n_steps,
                unit="step",
                dynamic_ncols=True,
                # A terminal shows every second; a log file gets a line every half minute.
                mininterval=1.0 if sys.stderr.isatty() else 30.0,
            )
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def advance(self) -> None:
        """Count one step."""
        if self._active:
            self._bar.update()

    def report(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures that describe the run after ``step`` steps."""
        if not self._active:
            return
        with open(self._lines_path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)

    def show(self, text: str) -> None:
        """Put figures beside the progress bar."""
        if self._active:
            self._bar.set_postfix_str(text, refresh=False)

    def announce(self, text: str) -> None:
        """Print a line of its own above the progress bar."""
        if self._active:
            self._bar.write(text, file=sys.stderr)


class Pace:
    """Pairs per second since it was made or last asked, without the time that was excluded."""

    def __init__(self):
        self._n_pairs = 0
        self._since_s = time.monotonic()

    def count(self, n_pairs: int) -> None:
        """Add pairs that were trained on."""
        self._n_pairs += n_pairs

    def exclude(self, duration_s: float) -> None:
        """Leave out time that was not spent on training."""
        self._since_s += duration_s

    def pairs_per_s(self) -> float:
        """The figure, which starts anew."""
        now_s = time.monotonic()
        pace = self._n_pairs / max(now_s - self._since_s, 1e-9)
        self._n_pairs, self._since_s = 0, now_s
        return pace
