"""The verbs of evaluation: queries, distractors, evaluate. What is heavy is imported inside."""

import argparse
import dataclasses
import json
import sys

from fingerprint.terminal import DONE, UsageError, report


def queries(options: argparse.Namespace) -> int:
    """Make a set of queries."""
    from fingerprint.evaluation.query_set_writer import write_query_set
    from fingerprint.evaluation.query_settings import QuerySettings

    fields = dataclasses.fields(QuerySettings)
    settings = QuerySettings(**{f.name: getattr(options, f.name) for f in fields})
    made = write_query_set(options.query_dir, settings, audio=options.audio)
    n_files = made.description["n_files"]
    print(
        f"{len(made)} queries from {n_files['asked']} recordings "
        f"({n_files['too_short']} more are too short), {options.query_dir}"
    )
    return DONE


def distractors(options: argparse.Namespace) -> int:
    """Make an index larger by tracks that are never the right answer."""
    from fingerprint.evaluation import audio_distractors, sampled_distractors
    from fingerprint.evaluation.distractors import count_roles, remove_distractors
    from fingerprint.store import Store

    asked = f"--from {options.source}" if options.source else "--remove"
    needed = {
        "audio": ("paths",),
        "derived": ("paths", "hours"),
        "synthesised": ("hours",),
        "sampled": ("fit", "hours"),
    }.get(options.source, ())
    for name, wording in {"paths": "a PATH", "hours": "--hours", "fit": "--fit"}.items():
        if (name in needed) != (getattr(options, name) not in (None, [])):
            raise UsageError(f"{asked} {'needs' if name in needed else 'goes without'} {wording}.")
    if options.remove:
        print(f"{remove_distractors(options.index_dir)} removed")
        return DONE
    add = {
        "audio": audio_distractors.add_audio,
        "derived": audio_distractors.add_derived,
        "synthesised": audio_distractors.add_synthesised,
        "sampled": sampled_distractors.add_sampled,
    }[options.source]
    seed = {} if options.source == "audio" else {"seed": options.seed}
    status = report(add(options.index_dir, *(getattr(options, name) for name in needed), **seed))
    for role, n in count_roles(Store.open(options.index_dir).tracks).items():
        print(f"{role}: {n['tracks']:,} tracks, {n['duration_s'] / 3600:.2f} h, {n['rows']:,} rows")
    return status


def evaluate(options: argparse.Namespace) -> int:
    """Put the same queries to every index, count the right answers and show them."""
    from fingerprint.evaluation import run

    kept = options.output and not options.output.endswith(".json")
    if not (options.queries_from or options.queries):
        if options.index_dirs or not kept:
            raise UsageError("no queries: give --queries_from or --queries.")
        return _show_evaluation(options, run.stored(options.output))
    if options.queries_from and options.queries:
        raise UsageError("--queries_from makes queries and --queries has them; leave one out.")
    if not (options.index_dirs or options.answers):
        raise UsageError("nobody to ask: give an index, or --answers.")
    request = run.Request(
        index_dirs=options.index_dirs,
        protocol=options.protocol,
        query_fields={
            name: value
            for name in run.QUERY_FIELDS
            if (value := getattr(options, name)) is not None
        },
        queries=options.queries,
        answers=dict(options.answers),
        training=options.training,
        training_split=options.training_split,
        offset_tolerance_s=options.offset_tolerance_s,
        searcher=options.searcher,
        command=sys.argv[1:],
    )
    return _show_evaluation(options, run.evaluate(request, options.output if kept else None))


def _show_evaluation(options: argparse.Namespace, result: dict) -> int:
    """Print the tables, then keep them; an error in keeping them comes after they were seen."""
    from fingerprint.evaluation import figures, reporting

    print(reporting.render(result, options.format), flush=True)
    if options.output and options.output.endswith(".json"):
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    elif options.output:
        reporting.write(result, options.output)
        figures.draw(result, options.output)
    return DONE
