"""The command line: verbs only. Whatever is heavy is imported inside the verb that needs it."""

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence

from fingerprint.arguments import build_parser
from fingerprint.errors import FingerprintError

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """Arguments that can only be seen to be wrong once the verb runs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; errors become one sentence on stderr and the exit status."""
    options = build_parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = VERBS[options.verb](options)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _say(options, error, WRONG_USAGE)
    except FingerprintError as error:
        return _say(options, error, SOME_FAILED)
    except KeyboardInterrupt:
        return _say(options, "interrupted; what was finished is kept.", INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has gone; without this the interpreter complains as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        return _say(options, f"{subject}{error.strerror or error}.", SOME_FAILED)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fingerprint"):
            raise
        sentence = (
            f"this needs the package {error.name!r}, which is not installed; "
            "run `pip install 'fingerprint[train]'`."
        )
        return _say(options, sentence, SOME_FAILED)


def index(options: argparse.Namespace) -> int:
    """Create or extend an index."""
    from fingerprint.landmark_settings import PRESETS
    from fingerprint.recognizer import create_or_open

    if options.preset and options.model:
        raise UsageError("--preset is for landmarks; leave it out, or --model.")
    if options.preset and options.method == "spectral_hash":
        raise UsageError("--preset is for landmarks; leave it out, or choose --method landmarks.")
    if options.preset and options.preset not in PRESETS:
        raise UsageError(f"no preset {options.preset!r}; choose one of {', '.join(PRESETS)}.")
    recognizer = create_or_open(
        options.index_dir, method=options.method, model=options.model, preset=options.preset
    )
    return _report(recognizer.add_files(options.paths))


def query(options: argparse.Namespace) -> int:
    """Identify files, one answer per file."""
    from fingerprint.audio import AudioError, find_audio
    from fingerprint.recognizer import open_recognizer

    recognizer = open_recognizer(options.index_dir, model=options.model, searcher=options.searcher)
    n_failed = 0
    for path in options.paths:
        try:
            for file in find_audio([path]):
                try:
                    answer = recognizer.identify_file(file, top_k=options.top_k)
                except AudioError as error:
                    n_failed += _complain(error)
                else:
                    _print_answer(file, answer, options.format)
        except AudioError as error:
            n_failed += _complain(error)
    return SOME_FAILED if n_failed else DONE


def list_tracks(options: argparse.Namespace) -> int:
    """List the tracks of an index."""
    from fingerprint.store import Store

    for track in Store.open(options.index_dir).tracks:
        if options.format == "json":
            row = {"track": track.name, "duration_s": round(track.duration_s, 3)}
            _print_json(row | {"rows": track.n_rows})
        else:
            print(f"{track.duration_s:10.1f} s  {track.name}")
    return DONE


def remove(options: argparse.Namespace) -> int:
    """Remove tracks from an index."""
    from fingerprint.identification import remove_tracks
    from fingerprint.store import Store

    removed, unknown = remove_tracks(Store.open(options.index_dir), options.tracks)
    for name in unknown:
        print(f"{options.index_dir} holds no track {name!r}; see `list`.", file=sys.stderr)
    print(f"{len(removed)} removed, {len(unknown)} not found")
    return SOME_FAILED if unknown else DONE


def info(options: argparse.Namespace) -> int:
    """Say what an index is and holds."""
    from fingerprint.recognizer import describe_index
    from fingerprint.store import Store

    facts = describe_index(options.index_dir)
    if options.verify:
        Store.open(options.index_dir).verify()
        facts["verified"] = True
    _print_facts(facts, options.format)
    return DONE


def describe(options: argparse.Namespace) -> int:
    """Say how large the network of a configuration is and what it costs."""
    from fingerprint.config import load_config
    from fingerprint.describe import describe

    _print_facts(describe(load_config(options.config)), options.format)
    return DONE


def generate(options: argparse.Namespace) -> int:
    """Fingerprint a collection into a store."""
    if not (options.paths or options.manifest):
        raise UsageError("no files: give paths or --manifest.")
    if (options.kind or options.split) and not options.manifest:
        raise UsageError("--kind and --split choose from a --manifest; give one.")
    from fingerprint.file_lists import read_manifest
    from fingerprint.generate import generate
    from fingerprint.recognizer import create_or_open

    paths = list(options.paths)
    if options.manifest:
        paths += read_manifest(options.manifest, kind=options.kind, split=options.split)
    recognizer = create_or_open(options.store_dir, model=options.model, dtype=options.dtype)
    return _report(generate(paths, recognizer.fingerprinter, recognizer.store, shard=options.shard))


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
    status = _report(add(options.index_dir, *(getattr(options, name) for name in needed), **seed))
    for role, n in count_roles(Store.open(options.index_dir).tracks).items():
        print(f"{role}: {n['tracks']:,} tracks, {n['duration_s'] / 3600:.2f} h, {n['rows']:,} rows")
    return status


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


def demo(options: argparse.Namespace) -> int:
    """Train, index and identify on synthesised music."""
    from fingerprint import demo

    demo.run(options.workdir, seed=options.seed)
    return DONE


VERBS = {
    "index": index,
    "query": query,
    "list": list_tracks,
    "remove": remove,
    "info": info,
    "describe": describe,
    "generate": generate,
    "distractors": distractors,
    "queries": queries,
    "evaluate": evaluate,
    "demo": demo,
}


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


def _say(options: argparse.Namespace, sentence: object, status: int) -> int:
    print(f"fingerprint {options.verb}: {sentence}", file=sys.stderr)
    return status


def _report(report) -> int:
    for path, sentence in report.failed:
        # Most sentences name their file; where one does not, the reader still has to know.
        print(sentence if path in sentence else f"{path}: {sentence}", file=sys.stderr)
    print(
        f"{len(report.added)} added, {len(report.skipped)} already there, "
        f"{len(report.failed)} failed"
    )
    return SOME_FAILED if report.failed else DONE


def _complain(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1


def _print_answer(path: str, answer, output_format: str) -> None:
    if output_format == "json":
        _print_json({"query": path} | answer.to_dict())
        return
    print(f"{path}: {answer.verdict.replace('_', ' ')}")
    for rank, match in enumerate(answer.matches, 1):
        print(
            f"  {rank:2d}.  score {match.score:9.3f}  "
            f"query {match.query_start_s:7.2f}-{match.query_end_s:.2f} s  at "
            f"{match.reference_start_s:8.2f}-{match.reference_end_s:.2f} s of  {match.track}"
        )
    sys.stdout.flush()


def _print_json(value: dict) -> None:
    """One line of JSON, escaped where standard output has no code for a character."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value)
    print(line, flush=True)


def _print_facts(facts: dict, output_format: str) -> None:
    if output_format == "json":
        _print_json(facts)
        return
    flat = {name: value for name, value in facts.items() if not isinstance(value, dict)}
    for section in facts.keys() - flat.keys():
        flat |= {f"{section}: {name}": value for name, value in facts[section].items()}
    width = max(map(len, flat))
    for name, value in flat.items():
        text = f"{value:,}" if isinstance(value, int) else str(value)
        print(f"{name.replace('_', ' '):{width}}  {text}")


if __name__ == "__main__":
    sys.exit(main())
