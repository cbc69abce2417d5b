"""The trained model that is part of the package."""

import os
import pathlib

from fingerprint.model_folder import ModelError

# How a user names it where a model folder is asked for.
DEFAULT = "default"
_FOLDER = pathlib.Path(__file__).parent / "pretrained_models" / "default"


def default_model() -> pathlib.Path:
    """The model folder that is used where nobody names another.

    Raises:
        ModelError: it is not there. Whether it is damaged is seen when it is read.
    """
    for name in ("model.json", "parameters.npz"):
        if not (_FOLDER / name).is_file():
            raise ModelError(
                f"The model of this package is incomplete ({_FOLDER / name} is missing): install "
                "the package again, or name another model."
            )
    return _FOLDER


def find_model(name: str | os.PathLike) -> pathlib.Path:
    """The model folder of a name: `default_model` for "default", else the folder itself.

    Raises:
        ModelError: as `default_model`.
    """
    return default_model() if name == DEFAULT else pathlib.Path(name)
