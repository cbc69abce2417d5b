"""Evaluations made by hand: queries without audio, and answers whose hits are known."""

import csv
import json

from fingerprint.evaluation.answers import Answer, Candidate, write_header
from fingerprint.evaluation.query_sets import QuerySet
from fingerprint.evaluation.record import save_record
from fingerprint.evaluation.results import answers_path

COLUMNS = ("query", "track", "start_s", "duration_s", "snr_db", "condition", "excerpt")
DATABASE = {
    "index": "songs.index", "method": "landmarks", "tracks": 2, "duration_s": 7200.0,
    "rows": 1000, "bytes": 12_000_000,
}  # fmt: skip


def write_queries(folder, rows):
    """A set of queries whose sound nobody needs; ``rows`` are dicts of `COLUMNS`."""
    folder.mkdir(parents=True)
    description = {"format": "fingerprint queries", "format_version": 1, "audio": "recipe"}
    (folder / "queries.json").write_text(json.dumps(description | {"n_queries": len(rows)}))
    with open(folder / "truth.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return QuerySet.open(folder)


def query(number, track="a.wav", start_s=10.0, duration_s=5.0, snr_db=0, excerpt=None):
    return {
        "query": f"{number:06d}",
        "track": track,
        "start_s": start_s,
        "duration_s": duration_s,
        "snr_db": snr_db,
        "condition": "" if snr_db == "" else f"snr_db={snr_db}",
        "excerpt": number if excerpt is None else excerpt,
    }


def answer(number, *candidates, duration_s=5.0, verdict="match", answerable=True, **costs):
    """``candidates`` are (track, start_s, score)."""
    found = tuple(Candidate(*each) for each in candidates)
    return Answer(
        f"{number:06d}", duration_s, verdict, found, answerable=answerable, **costs
    )  # fmt: skip


def write_evaluation(folder, rows, systems, *, protocol="realistic", query_set="realistic", **more):
    """A folder as `run.evaluate` leaves it; ``systems`` are answers by name, or such a pair with
    what is known of the database."""
    queries = write_queries(folder / f"queries-{query_set}", rows)
    for name, answers in systems.items():
        answers, database = answers if isinstance(answers, tuple) else (answers, DATABASE)
        with open(answers_path(folder, query_set, name), "w") as file:
            durations_s = sorted({each.duration_s for each in answers})
            write_header(
                file, system=name, queries=queries.identity, durations_s=durations_s,
                database=database,
            )  # fmt: skip
            file.writelines(each.to_line() for each in answers)
    record = {
        "protocol": protocol,
        "offset_tolerance_s": 0.5,
        "settings": {"seed": 3},
        "systems": list(systems),
        "n_files": None,
        "leaks": None,
        "made_with": {},
        "query_sets": {query_set: f"queries-{query_set}"},
    }
    save_record(folder, record | more)
    return folder
