"""Compiled programs are kept for the next process: compiling takes seconds, loading milliseconds.

In ``$XDG_CACHE_HOME/fingerprint`` (``~/.cache/fingerprint``), or, where that cannot be written,
in a folder of the user's own among the temporary files. What is compiled for one processor must
not run on another, as it might from a home folder on the network: every kind has a folder.
"""

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax


def keep_compiled_programs() -> Path | None:
    """Let jax keep what this process compiles, and load what an earlier one has kept.

    Nothing is changed where jax has a cache already, as by ``JAX_COMPILATION_CACHE_DIR``, or is
    told not to use one.

    Returns:
        The folder that is used; None if no folder of the user's own can be written.
    """
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    if not jax.config.jax_enable_compilation_cache:
        return None
    for parent in _parents():
        folder = parent / f"xla-{_processor()}"
        if _is_usable(folder):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            # By default only what is large and took a second is kept.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
            return folder
    return None


def _parents() -> Iterator[Path]:
    """Folders that the cache may lie in, best first."""
    # Relative paths are to be ignored, as the specification of XDG_CACHE_HOME says.
    if os.path.isabs(os.environ.get("XDG_CACHE_HOME", "")):
        yield Path(os.environ["XDG_CACHE_HOME"]) / "fingerprint"
    else:
        # Without a home there is a RuntimeError.
        with contextlib.suppress(RuntimeError):
            yield Path.home() / ".cache" / "fingerprint"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"fingerprint-{user}"


def _is_usable(folder: Path) -> bool:
    """Make a folder that nobody else can write to: programs are loaded from it and run."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, exist_ok=True)
            status = each.lstat()
            is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not (stat.S_ISDIR(status.st_mode) and is_ours and not others_write):
                return False
        # A read-only file system shows only when something is written.
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _processor() -> str:
    """Eight digits, others for every set of instructions."""
    instructions = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        instructions += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(instructions.encode()).hexdigest()[:8]
