"""The trained model that is part of the package."""

import pathlib

from fingerprint.model_folder import ModelError

_FOLDER = pathlib.Path(__file__).parent / "pretrained_models" / "default"


def default_model() -> pathlib.Path:
    """The model folder that `Fingerprinter.load` opens where nobody names another.

    Raises:
        ModelError: it is not there.
    """
    if not (_FOLDER / "model.json").is_file():
        raise ModelError(
            f"The model of this package is missing ({_FOLDER}): install the package again, or "
            "name a model with --model."
        )
    return _FOLDER
