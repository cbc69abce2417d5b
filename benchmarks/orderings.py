"""Published orderings of systems, put to the test at small width, one after another.

    python benchmarks/orderings.py --output runs/orderings --audio AUDIO --list
    python benchmarks/orderings.py --output runs/orderings --audio AUDIO
    python benchmarks/orderings.py --output runs/orderings --report_only --results results/orderings

AUDIO is a folder with a manifest.csv (columns path, kind, split): its train split is trained on,
its test split indexed and asked, never tuned on. What --output holds is not made again: the same
command goes on after an interruption, and the last one makes the tables from what is there.

What is run and claimed is data: ordering_runs.py and ordering_claims.py beside this file.
"""

import sys

from ordering_claims import EXPERIMENTS
from ordering_runs import MEASUREMENTS, QUERIES, REFERENCES, SYSTEMS, TRAININGS

from fingerprint.experiments import Suite, main

PREAMBLE = """\
Claims of publications, put to the test with small networks (0.25 to 0.5 million parameters, minutes
of two cores) on another collection than theirs: their percentages are not to be expected here, the
orderings are. Trained on the train split, asked on the test split: 93 recordings, other noise,
rooms and devices, nothing chosen by them. 300 excerpts, the same for every system, each at 0 and
10 dB, two thirds in a room, a third through a device, unless a row says otherwise; search is exact.
"""
SUITE = Suite(
    title="Orderings that should reproduce",
    preamble=PREAMBLE,
    trainings=TRAININGS,
    systems=SYSTEMS,
    queries=QUERIES,
    experiments=EXPERIMENTS,
    measurements=MEASUREMENTS,
    references=REFERENCES,
)

if __name__ == "__main__":
    sys.exit(main(SUITE, __doc__))
