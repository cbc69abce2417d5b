"""Configurations: read from a file of ``configs/``, checked, kept as JSON."""

import difflib
import json
import os
import runpy
from typing import Any

from ml_collections import ConfigDict

from fingerprint.errors import ConfigError

# What these sections hold depends on what they name, and is checked where that is built.
_NAMED_SECTIONS = (
    "encoder",
    "loss",
    "data.music",
    "data.backgrounds",
    "data.rooms",
    "data.devices",
)
_AT_LEAST_ONE = (
    "sample_rate_hz",
    "features.n_fft",
    "features.hop_length",
    "features.n_mels",
    "pairs.n_pairs",
    "training.n_steps",
    "training.log_every_steps",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
    "training.evaluate_every_steps",
    "evaluation.n_queries",
)
_AT_LEAST_ZERO = (
    "seed",
    "pairs.replica_offset_s",
    "augmentation.history_s",
    "training.grad_cache_pairs",
    "data.n_validation_tracks",
)
# Steps of the augmentation that draw from the logarithm of a range.
_LOGARITHMIC_RANGES = (
    ("gain", "factor"),
    ("level", "factor"),
    ("filters", "low_pass_hz"),
    ("filters", "high_pass_hz"),
)


def load_config(path: str | os.PathLike) -> ConfigDict:
    """What ``get_config()`` of a Python file returns.

    Raises:
        ConfigError: there is no such file, it has no ``get_config``, or it fails.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ConfigError(f"{path} is not a file; give a configuration such as configs/nafp.py.")
    try:
        get_config = runpy.run_path(path).get("get_config")
    except Exception as error:
        raise ConfigError(f"{path} cannot be run as a configuration: {error!r}.") from error
    if not callable(get_config):
        raise ConfigError(f"{path} has no function get_config(): it is not a configuration.")
    try:
        config = get_config()
    except Exception as error:
        raise ConfigError(f"get_config() of {path} fails: {error!r}.") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config() of {path} returns {type(config).__name__}, but it has to be a "
            "ml_collections.ConfigDict."
        )
    return config


def check_config(config: ConfigDict) -> None:
    """Refuse a configuration that has other keys than ``configs/nafp.py``, or impossible numbers.

    A step of the augmentation may be None or missing, which leaves it out. Sections that name
    what they configure are checked by what they name.

    Raises:
        ConfigError: the sentence names the key.
    """
    # The one configuration from which all others state their differences.
    from fingerprint_configs import nafp

    _check_keys(config, nafp.get_config())
    for keys, smallest in ((_AT_LEAST_ONE, 1), (_AT_LEAST_ZERO, 0)):
        for key in keys:
            value = _value(config, key)
            if not isinstance(value, int | float) or value < smallest:
                raise ConfigError(f"{key} is {value!r}, but it has to be at least {smallest}.")
    for step, name in _LOGARITHMIC_RANGES:
        section = config.augmentation.get(step)
        if section is not None and not 0 < section[name][0] <= section[name][1]:
            raise ConfigError(
                f"augmentation.{step}.{name} is {section[name]!r}, but it has to be a range of "
                "positive numbers, the smaller first."
            )
    durations_s = config.evaluation.query_durations_s
    if not durations_s or min(durations_s) <= 0:
        raise ConfigError(
            f"evaluation.query_durations_s is {durations_s!r}: name at least one positive length."
        )


def config_to_json(config: ConfigDict) -> str:
    """One canonical spelling: equal configurations give equal text."""
    return json.dumps(config.to_dict(), sort_keys=True)


def config_to_values(config: ConfigDict) -> dict[str, Any]:
    """What `config_to_json` writes, read back: sections are dicts and ranges lists."""
    return json.loads(config_to_json(config))


def config_from_json(text: str) -> ConfigDict:
    """The configuration that `config_to_json` was given; ranges are tuples again.

    Raises:
        ConfigError: the text is not that of a configuration.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"The configuration is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration is {values!r}, but it has to be an object.")
    return ConfigDict(_with_tuples(values))


def _check_keys(section: ConfigDict, reference: ConfigDict, prefix: str = "") -> None:
    for name in section:
        if name not in reference:
            (nearest,) = difflib.get_close_matches(name, list(reference), n=1, cutoff=0.0)
            raise ConfigError(
                f"The configuration has an unknown value {prefix + name!r}; did you mean "
                f"{prefix + nearest!r}?"
            )
    for name in reference:
        key = prefix + name
        is_section = isinstance(reference[name], ConfigDict)
        if is_section and prefix == "augmentation." and section.get(name) is None:
            continue
        if name not in section:
            raise ConfigError(f"The configuration lacks {key!r}; take it from configs/nafp.py.")
        if not is_section or key in _NAMED_SECTIONS:
            continue
        if not isinstance(section[name], ConfigDict):
            raise ConfigError(f"{key} is {section[name]!r}, but it has to be a section of values.")
        _check_keys(section[name], reference[name], f"{key}.")


def _value(config: ConfigDict, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value
