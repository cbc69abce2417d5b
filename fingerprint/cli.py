"""The command line: verbs only. Whatever is heavy is imported inside the verb that needs it."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from fingerprint import model_verbs
from fingerprint.arguments import parse
from fingerprint.errors import FingerprintError
from fingerprint.evaluation import verbs
from fingerprint.terminal import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    WRONG_USAGE,
    UsageError,
    complain,
    print_answer,
    print_facts,
    print_json,
    report,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; errors become one sentence on stderr and the exit status."""
    options = parse(arguments)
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
    from fingerprint.file_lists import GenerationReport, without_audio
    from fingerprint.landmark_settings import PRESETS
    from fingerprint.recognizer import create_or_open, holds_index

    if options.model and options.method not in (None, "neural", "both"):
        raise UsageError("--model is for the methods neural and both; leave it out, or --method.")
    if options.preset and options.model:
        raise UsageError("--preset is for landmarks; leave it out, or --model.")
    if options.preset and options.method not in (None, "landmarks"):
        raise UsageError("--preset is for landmarks; leave it out, or choose --method landmarks.")
    if options.preset and options.preset not in PRESETS:
        raise UsageError(f"no preset {options.preset!r}; choose one of {', '.join(PRESETS)}.")
    if not holds_index(options.index_dir):
        # A mistyped path is to leave nothing behind that would then keep its method.
        failed = without_audio(options.paths)
        if len(failed) == len(options.paths):
            return report(GenerationReport(failed=failed))
    recognizer = create_or_open(
        options.index_dir, method=options.method, model=options.model, preset=options.preset
    )
    return report(recognizer.add_files(options.paths))


def query(options: argparse.Namespace) -> int:
    """Identify files, one answer per file."""
    from fingerprint.audio import AudioError, find_audio
    from fingerprint.recognizer import open_recognizer

    recognizer = open_recognizer(options.index_dir, model=options.model, searcher=options.searcher)
    asked = {"top_k": options.top_k}
    if options.min_confidence is not None:
        asked["min_confidence"] = options.min_confidence
    n_failed = 0
    for path in options.paths:
        try:
            for file in find_audio([path]):
                try:
                    answer = recognizer.identify_file(file, **asked)
                except AudioError as error:
                    n_failed += complain(error)
                else:
                    print_answer(file, answer, options.format)
        except AudioError as error:
            n_failed += complain(error)
    return SOME_FAILED if n_failed else DONE


def list_tracks(options: argparse.Namespace) -> int:
    """List the tracks of an index."""
    from fingerprint.store import Store

    for track in Store.open(options.index_dir).tracks:
        if options.format == "json":
            row = {"track": track.name, "duration_s": round(track.duration_s, 3)}
            print_json(row | {"rows": track.n_rows})
        else:
            print(f"{track.duration_s:10.1f} s  {track.name}")
    return DONE


def remove(options: argparse.Namespace) -> int:
    """Remove tracks from an index."""
    from fingerprint.recognizer import remove_from_index

    removed, unknown = remove_from_index(options.index_dir, options.tracks)
    for name in unknown:
        print(f"{options.index_dir} holds no track {name!r}; see `list`.", file=sys.stderr)
    print(f"{len(removed)} removed, {len(unknown)} not found")
    return SOME_FAILED if unknown else DONE


def info(options: argparse.Namespace) -> int:
    """Say what an index is and holds."""
    from fingerprint.recognizer import describe_index, verify_index

    facts = describe_index(options.index_dir)
    if options.verify:
        verify_index(options.index_dir)
        facts["verified"] = True
    print_facts(facts, options.format)
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
    recognizer = create_or_open(
        options.store_dir, method="neural", model=options.model, dtype=options.dtype
    )
    return report(generate(paths, recognizer.fingerprinter, recognizer.store, shard=options.shard))


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
    "describe": model_verbs.describe,
    "export": model_verbs.export,
    "generate": generate,
    "distractors": verbs.distractors,
    "queries": verbs.queries,
    "evaluate": verbs.evaluate,
    "demo": demo,
}


def _say(options: argparse.Namespace, sentence: object, status: int) -> int:
    print(f"fingerprint {options.verb}: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
