"""Where everything of a suite lies: one folder, outside of the checkout.

<training>_seed<seed>/               a training run: model, metrics, log.txt, run.json
references/<name>/                   recordings that were cut
queries/<name>/                      sets of queries
indexes/<system>[_seed<seed>]/       databases
answers/<set>/<system>[...].jsonl    what each answered
measured/<name>[_seed<seed>].json    other figures
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from fingerprint.experiments.pieces import ExperimentError, Measurement, System, Training


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Paths below ``folder``.

    Attributes:
        audio: the collection; None where nothing is to be made.
        datasets: where prepared datasets are kept, by default below ``folder``, too.
    """

    folder: Path
    audio: Path | None = None
    datasets: Path | None = None

    def run(self, training: Training, seed: int) -> Path:
        """Folder of a training run."""
        return self.folder / labelled(training.name, seed)

    def model(self, training: Training, seed: int) -> Path:
        """Folder of what it has trained."""
        return self.run(training, seed) / "model"

    def changed_model(self, system: System, seed: int | None) -> Path:
        """Folder of a model whose settings were changed after training."""
        return self.folder / "models" / labelled(system.name, seed)

    def references(self, name: str) -> Path:
        """Folder of recordings that were cut."""
        return self.folder / "references" / name

    def white_noise(self) -> Path:
        """Folder of noise that was made here."""
        return self.folder / "white_noise"

    def queries(self, name: str) -> Path:
        """Folder of a set of queries."""
        return self.folder / "queries" / name

    def index(self, system: System, seed: int | None) -> Path:
        """Folder of an index."""
        return self.folder / "indexes" / labelled(system.name, seed)

    def answers(self, system: System, seed: int | None, queries: str) -> Path:
        """File of a system's answers to a set."""
        return self.folder / "answers" / queries / f"{labelled(system.name, seed)}.jsonl"

    def measured(self, measurement: Measurement, seed: int | None) -> Path:
        """File of other figures."""
        return self.folder / "measured" / f"{labelled(measurement.name, seed)}.json"

    def collection(self) -> Path:
        """The audio.

        Raises:
            ExperimentError: none was given.
        """
        if self.audio is None:
            raise ExperimentError("Recordings are needed to go on: name them with --audio.")
        return self.audio


def labelled(name: str, seed: int | None) -> str:
    """The name of a run, or of what was made from it."""
    return name if seed is None else f"{name}_seed{seed}"


def read_json(path: Path) -> Any:
    """What `record.write_json` wrote.

    Raises:
        ExperimentError: it cannot be read.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path} cannot be read ({error}): delete it.") from error
