"""The command line of a suite: what there is to do, doing it, and the report."""

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fingerprint.errors import FingerprintError
from fingerprint.experiments import report
from fingerprint.experiments.figures import Figures
from fingerprint.experiments.running import run
from fingerprint.experiments.suite import Suite
from fingerprint.experiments.workspace import Workspace


def main(suite: Suite, description: str, argv: Sequence[str] | None = None) -> int:
    """Run a suite as its command line says.

    Returns:
        The exit status: 0 done, 1 something failed and a sentence on stderr says why, 143 stopped.
    """
    options = _parser(description).parse_args(argv)
    try:
        with _terminated_as_interrupted():
            return _main(suite, options, sys.argv[1:] if argv is None else argv)
    except FingerprintError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 128 + signal.SIGTERM


def _main(suite: Suite, options: argparse.Namespace, argv: Sequence[str]) -> int:
    chosen = suite.only(options.only)
    workspace = Workspace(options.output, options.audio, options.cache_dir)
    if options.list:
        print(listing(chosen, workspace))
        return 0
    failures = []
    if not options.report_only:
        failures = run(chosen, workspace, training=not options.no_training)
    command = f"python {shlex.join([_script(), *argv])}"
    figures = Figures(suite, workspace).all()
    results = options.results or options.output / "report"
    names = report.write(suite, figures, results, command)
    print(f"{', '.join(names)} are in {results}", file=sys.stderr)
    if not suite.changes_of:
        for each in figures["experiments"]:
            print(f"{each['key']:>3}  {report.verdict_text(each)}: {each['claim']}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def listing(suite: Suite, workspace: Workspace) -> str:
    """Each experiment with its runs, their state and what is left to train, in minutes."""
    states = {(run["training"], run["seed"]): run for run in Figures(suite, workspace).runs()}
    lines, left_s, shown = [], 0.0, set()
    for experiment in suite.experiments:
        trainings = suite.trainings_of(experiment)
        whole_s = sum(training.cpu_s * len(training.seeds) for training in trainings)
        lines.append(f"{experiment.key}. {experiment.claim} ({_minutes(whole_s)} of two cores)")
        for training in trainings:
            own = [states[training.name, seed]["state"] for seed in training.seeds]
            seeds = ", ".join(f"seed {s}: {o}" for s, o in zip(training.seeds, own, strict=True))
            again = " (as above)" if training.name in shown else ""
            lines.append(f"     {training.name}, {_minutes(training.cpu_s)} each; {seeds}{again}")
            if training.name not in shown:
                left_s += training.cpu_s * sum(state != "done" for state in own)
            shown.add(training.name)
    asking_s = sum(
        system.cpu_s
        for system in suite.systems
        for seed in suite.seeds_of(system)
        if not all(workspace.answers(system, seed, name).exists() for name in system.queries)
    )
    lines.append(f"Left to train: {left_s / 7200:.1f} hours of two cores,")
    lines.append(f"to index and ask: {asking_s / 7200:.1f} hours.")
    return "\n".join(lines)


def _minutes(cpu_s: float) -> str:
    return f"{cpu_s / 120:.0f} min"


def _script() -> str:
    with contextlib.suppress(ValueError):
        return str(Path(sys.argv[0]).resolve().relative_to(Path.cwd()))
    return sys.argv[0]


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a training as Ctrl-C does: with a checkpoint."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR",
        help="folder of runs, indexes and answers; the same command goes on with what it holds",
    )  # fmt: skip
    parser.add_argument(
        "--audio", type=Path, help="folder with a manifest.csv of music, noise and responses"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], metavar="ROW,ROW",
        help="these experiments alone",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show what there is, and its cost")
    parser.add_argument(
        "--no_training", action="store_true", help="index and ask what is trained, train nothing"
    )
    parser.add_argument(
        "--report_only", action="store_true", help="only make the tables again, asking nobody"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="for the report (DIR/report)")
    parser.add_argument(
        "--cache_dir", type=Path, metavar="DIR", help="prepared datasets (DIR/datasets of --output)"
    )
    return parser
