"""Train an encoder: original and replica pairs in, a model folder out.

    python train.py --config=configs/nafp_small.py --workdir=runs/small --config.data.root=AUDIO

Any value of the configuration can be set with --config.SECTION.KEY=VALUE. The same command goes
on with a run that was interrupted. Exit status: 0 done; 1 it could not be done, a sentence on
stderr says why; 143 stopped by SIGTERM after writing a checkpoint.
"""

import signal
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from fingerprint import parallel
from fingerprint.errors import FingerprintError
from fingerprint.training import TrainingStopped, train

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; see configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, metrics, and at the end the model."
)
_MULTI_HOST = flags.DEFINE_bool(
    "multi_host", False, "Join the other hosts of this slice or cluster, which jax finds itself."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where jax cannot find it itself."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes in the whole run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main(argv: list[str]) -> int:
    """One training run in running order; returns the exit status."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is not a flag; did you forget two dashes?")
    try:
        # ---------------------------------------------------------------- processes and devices
        process = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        if _MULTI_HOST.value or any(value is not None for value in process):
            parallel.start_processes(*process)
        _say(
            f"{jax.device_count()} {jax.default_backend()} device(s) on "
            f"{jax.process_count()} host(s)"
        )

        # ------------------------------------------------------------------------ configuration
        config = _CONFIG.value
        _say(f"configuration {config.name!r}, seed {config.seed}:\n{config}")

        # ----------------------------- data, training, checkpoints, mini-searches, model folder
        folder = train(config, _WORKDIR.value)

        # ------------------------------------------------------------------------------- result
        _say(f"the model is in {folder}")
        return 0
    except TrainingStopped as stopped:
        _say(str(stopped))
        return 128 + signal.SIGTERM
    except FingerprintError as error:
        print(error, file=sys.stderr)
        return 1


def _parse_flags(argv: list[str]) -> list[str]:
    """Flags as absl reads them; a configuration that cannot be used is a sentence as well."""
    try:
        arguments = app.parse_flags_with_usage(argv)
        _CONFIG.value.lock()
    except Exception as error:  # whatever the file raises, and a key that it does not have
        # Of an unknown key ml_collections makes an AttributeError, whose text is quoted twice.
        unknown_key = isinstance(error.__context__, KeyError)
        reason = error.__context__.args[0] if unknown_key else f"{type(error).__name__}: {error}"
        sys.exit(
            f"The configuration cannot be used as asked ({' '.join(reason.split())}); the file "
            "that --config names says which values there are."
        )
    if flags.FLAGS["verbosity"].using_default_value:
        # Orbax tells of every file it writes, over the progress bar.
        logging.set_verbosity(logging.WARNING)
    return arguments


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse_flags)
