"""Configurations: read from a file of ``configs/``, checked, kept as JSON."""

import difflib
import json
import os
import runpy
from typing import Any

from ml_collections import ConfigDict

from fingerprint.errors import ConfigError

# What these sections hold is checked where it is built: it depends on what they name, or they are
# None in the configuration that names every other value.
_OPTIONAL_SECTIONS = ("crop", "l2", "hash")
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
    "pairs.n_positives",
    "pairs.segments_per_track",
    "training.n_steps",
    "training.log_every_steps",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
    "training.evaluate_every_steps",
    "search.neighbours",
    "search.n_shifts",
    "evaluation.n_queries",
)
_AT_LEAST_ZERO = (
    "seed",
    "pairs.replica_offset_s",
    "augmentation.history_s",
    "training.grad_cache_pairs",
    "reference.pad_to_s",
    "reference.start_jitter_s",
    "search.shuffled_top",
    "data.n_validation_tracks",
)
_CHOICES = {
    "spec_augment.masked": ("both", "replicas"),
    "search.alignment": ("diagonal", "vote", "track_vote", "best_segment"),
}
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
    for key, choices in _CHOICES.items():
        if _value(config, key) not in choices:
            raise ConfigError(
                f"{key} is {_value(config, key)!r}; choose one of {', '.join(choices)}."
            )
    _check_optional_sections(config)
    if not isinstance(config.training.initial_model, str):
        raise ConfigError(
            f"training.initial_model is {config.training.initial_model!r}, but it has to be a "
            "model folder, or empty."
        )
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


def with_defaults(config: ConfigDict) -> ConfigDict:
    """A configuration of an earlier version, with the values of ``configs/nafp.py`` that it lacks.

    They do what earlier versions did. A step of the augmentation that is missing was left out,
    and stays so. What had another name then gets its present one.
    """
    from fingerprint_configs import nafp

    filled = _filled(config, nafp.get_config())
    if "initial_model" in (filled.get("hash") or {}):
        filled["hash"] = dict(filled["hash"])
        filled["training"]["initial_model"] = filled["hash"].pop("initial_model")
    hole_fraction = filled["spec_augment"].pop("hole_fraction", None)
    if hole_fraction is not None:
        filled["spec_augment"] |= {
            "hole_mel_fraction": hole_fraction,
            "hole_frame_fraction": hole_fraction,
        }
    return ConfigDict(filled)


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


def _check_optional_sections(config: ConfigDict) -> None:
    for name in _OPTIONAL_SECTIONS:
        if not isinstance(config[name], ConfigDict | None):
            raise ConfigError(
                f"{name} is {config[name]!r}, but it has to be a section of values, or None."
            )
    for beginning, weight in (config.l2 or {}).items():
        if not isinstance(weight, int | float) or weight < 0:
            raise ConfigError(f"l2.{beginning} is {weight!r}, but it has to be at least 0.")


def _filled(section: ConfigDict, reference: ConfigDict, prefix: str = "") -> dict[str, Any]:
    filled = {name: value for name, value in section.items()}
    for name, default in reference.items():
        key = prefix + name
        is_section = isinstance(default, ConfigDict)
        if name not in section:
            if not (is_section and prefix == "augmentation."):
                filled[name] = default
        elif is_section and key not in _NAMED_SECTIONS and section[name] is not None:
            filled[name] = _filled(section[name], default, f"{key}.")
    return filled


def _value(config: ConfigDict, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value
