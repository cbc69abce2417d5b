"""The model of this package, and others, on the same queries: how often each is right.

    python benchmarks/shipped_model.py --audio AUDIO --output WORK --results results/shipped_model
    python benchmarks/shipped_model.py --audio AUDIO --output WORK --only phone_1 --systems both
    python benchmarks/shipped_model.py --audio AUDIO --output WORK --report_only

AUDIO is a folder with a manifest.csv (columns path, kind, split): its test split is indexed and
asked, its train split gives distractors and queries without an answer. What WORK holds is not made
again: the same command goes on after an interruption, several may ask different systems at once
after one has run with --prepare, and the last one makes the report from what is there.

What is asked, and who, is data: shipped_model_plan.py beside this file.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from shipped_model_figures import figures
from shipped_model_material import Material, ShippedModelError
from shipped_model_plan import QUICK, SETS, SYSTEMS, WHOLE, Set, System
from shipped_model_report import write

from fingerprint.errors import FingerprintError
from fingerprint.evaluation.asking import System as IndexedSystem
from fingerprint.evaluation.asking import ask
from fingerprint.evaluation.record import provenance
from fingerprint.pretrained import DEFAULT, find_model

Named = TypeVar("Named", Set, System)


def main(argv: Sequence[str] | None = None) -> int:
    """Make, ask and report as the command line says.

    Returns:
        The exit status: 0 done, 1 something failed and a sentence on stderr says why, 130 stopped.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(arguments)
    try:
        return _main(options, f"python benchmarks/shipped_model.py {shlex.join(arguments)}")
    except FingerprintError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 130


def _main(options: argparse.Namespace, command: str) -> int:
    models = {"shipped": find_model(options.model)}
    if options.nafp_model is not None:
        models["nafp"] = options.nafp_model
    material = Material(
        audio=options.audio,
        folder=options.output / "quick" if options.quick else options.output,
        scale=QUICK if options.quick else WHOLE,
        models=models,
    )
    sets, systems = _chosen(SETS, options.only), _chosen(SYSTEMS, options.systems)
    if not options.report_only:
        for wanted in sets:
            material.queries(wanted)
        if options.prepare:
            material.distractors()
            return 0
        for system in systems:
            if not system.model or system.model in models:
                _ask(material, system, sets)
    # What was asked before stays in the report.
    found = figures(material, SETS, SYSTEMS)
    if not found["results"]:
        raise ShippedModelError(f"Nobody has been asked anything in {material.folder} yet.")
    results = options.results or material.folder / "report"
    names = write(found, SETS, results, command, provenance(command.split()[1:]))
    print(f"{', '.join(names)} are in {results}", file=sys.stderr)
    return 0


def _ask(material: Material, system: System, sets: Sequence[Set]) -> None:
    """Index what is needed, and ask every set, database by database."""
    for database in dict.fromkeys(wanted.database for wanted in sets):
        began_s = time.process_time()
        indexed = IndexedSystem(system.name, material.make_index(system, database))
        _say(f"{system.name}, {database}: {time.process_time() - began_s:,.0f} CPU s to index")
        for wanted in sets:
            if wanted.database == database:
                began_s = time.process_time()
                ask(
                    material.queries(wanted),
                    indexed,
                    material.answers(system, wanted),
                    durations_s=wanted.durations_s,
                    record=provenance(),
                )
                _say(f"  {wanted.name}: {time.process_time() - began_s:,.0f} CPU s")


def _chosen(items: Sequence[Named], names: Sequence[str]) -> list[Named]:
    known = [item.name for item in items]
    for name in names:
        if name not in known:
            raise ShippedModelError(f"There is no {name!r}; choose among {', '.join(known)}.")
    return [item for item in items if not names or item.name in names]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def words(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument(
        "--audio", type=Path, required=True, help="folder with a manifest.csv of music, noise, ..."
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="WORK",
        help="distractors, queries, indexes and answers; the same command goes on with them",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, help="for the report (WORK/report)")
    parser.add_argument(
        "--model", default=DEFAULT, help="model folder to measure (that of the package)"
    )
    parser.add_argument(
        "--nafp_model", type=Path, metavar="DIR", help="a model by the NAFP recipe, to compare with"
    )
    parser.add_argument(
        "--only", type=words, default=[], metavar="SET,SET", help="these sets of queries alone"
    )
    parser.add_argument(
        "--systems", type=words, default=[], metavar="NAME,NAME", help="ask these alone"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a trial: few queries, under an hour of distractors"
    )
    parser.add_argument(
        "--prepare", action="store_true", help="only make the queries and the distractors"
    )
    parser.add_argument(
        "--report_only", action="store_true", help="only make the report again, asking nobody"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
