"""What all verbs of the command line share: exit statuses, and how results are printed."""

import json
import math
import sys

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """Arguments that can only be seen to be wrong once the verb runs."""


def report(report) -> int:
    """Print what became of the files of a `GenerationReport`; the exit status."""
    for path, sentence in report.failed:
        # Most sentences name their file; where one does not, the reader still has to know.
        print(sentence if path in sentence else f"{path}: {sentence}", file=sys.stderr)
    print(
        f"{len(report.added)} added, {len(report.skipped)} already there, "
        f"{len(report.failed)} failed"
    )
    return SOME_FAILED if report.failed else DONE


def complain(error: Exception) -> int:
    """Print one sentence on standard error; counts as one failure."""
    print(error, file=sys.stderr)
    return 1


def print_answer(path: str, answer, output_format: str) -> None:
    """Print the `Identification` of a file."""
    if output_format == "json":
        print_json({"query": path} | answer.to_dict())
        return
    verdict = answer.verdict.replace("_", " ")
    # One confidence, that of the verdict: beside each candidate it would look like the chance of
    # that one to be right.
    print(f"{path}: {verdict}, confidence {_percent(answer.confidence)}")
    for rank, match in enumerate(answer.matches, 1):
        print(
            f"  {rank:2d}.  score {match.score:9.3f}  "
            f"query {match.query_start_s:7.2f}-{match.query_end_s:.2f} s  at "
            f"{match.reference_start_s:8.2f}-{match.reference_end_s:.2f} s of  {match.track}"
            + (f"  (by {' and '.join(match.found_by)})" if match.found_by else "")
        )
    sys.stdout.flush()


def _percent(confidence: float) -> str:
    """Rounded down, and never all of it: nothing is certain."""
    return f"{min(math.floor(confidence * 1e4), 9999) / 100:.2f} %"


def print_json(value: dict) -> None:
    """One line of JSON, escaped where standard output has no code for a character."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value)
    print(line, flush=True)


def print_facts(facts: dict, output_format: str) -> None:
    """Print names and values, sections last."""
    if output_format == "json":
        print_json(facts)
        return
    flat = {name: value for name, value in facts.items() if not isinstance(value, dict)}
    for section in [name for name in facts if name not in flat]:
        flat |= {f"{section}: {name}": value for name, value in facts[section].items()}
    width = max(map(len, flat))
    for name, value in flat.items():
        is_count = isinstance(value, int) and not isinstance(value, bool)
        text = f"{value:,}" if is_count else str(value)
        print(f"{name.replace('_', ' '):{width}}  {text}")
