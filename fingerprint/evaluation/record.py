"""What an evaluation was made of and with: enough to rebuild its tables, and to repeat it."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fingerprint
from fingerprint.errors import FingerprintError

RECORD = "record.json"
FORMAT, FORMAT_VERSION = "fingerprint evaluation", 1
# Those that change figures, or times.
LIBRARIES = (
    *("numpy", "scipy", "jax", "jaxlib", "flax", "scann", "faiss-cpu", "soxr", "soundfile"),
    "librosa",
)


class RecordError(FingerprintError):
    """A folder that holds no evaluation."""


def provenance(command: Sequence[str] = ()) -> dict[str, Any]:
    """The program, its libraries, the machine and the command that make a run.

    Args:
        command: arguments of the program, as they were typed.
    """
    return {
        "version": fingerprint.__version__,
        "commit": commit(),
        "uncommitted_changes": _is_modified(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        "command": shlex.join(["fingerprint", *command]) if command else None,
    }


def commit() -> str | None:
    """The commit of the checkout that this runs from, None where it is installed."""
    return _git("rev-parse", "HEAD") or None


def save_record(folder: Path, record: dict[str, Any]) -> None:
    """Keep what `read_record` reads."""
    write_json(folder / RECORD, {"format": FORMAT, "format_version": FORMAT_VERSION} | record)


def write_json(path: Path, content: Any) -> None:
    """Write a file, and the folders above it, that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    unfinished.replace(path)


def read_record(folder: Path) -> dict[str, Any]:
    """What an evaluation in a folder consists of.

    Raises:
        RecordError: there is none, a damaged one, or one of another format.
    """
    path = folder / RECORD
    if not path.exists():
        raise RecordError(f"{folder} holds no evaluation: there is no {RECORD} in it.")
    try:
        record = json.loads(path.read_text("utf-8"))
        form = record["format"], record["format_version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{path} is damaged ({error!r}): evaluate into another folder.") from None
    if form != (FORMAT, FORMAT_VERSION):
        raise RecordError(f"{path} is of the format {form}, not {(FORMAT, FORMAT_VERSION)}.")
    return record


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_modified() -> bool | None:
    status = _git("status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    checkout = Path(fingerprint.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
