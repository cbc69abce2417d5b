"""Configurations: read from a file of ``configs/``, changed by key, kept as JSON."""

import difflib
import json
import os
import runpy
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from fingerprint.errors import ConfigError


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


def apply_overrides(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Set values of a configuration by dotted key, ``{"pairs.n_pairs": 64}``, in place.

    Raises:
        ConfigError: a key that the configuration does not have (the nearest one is named), or a
            value of another type.
    """
    known = list(_keys(config))
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(
                f"The configuration has no value {key!r}; did you mean {_nearest(key, known)!r}?"
            )
        section, _, name = key.rpartition(".")
        try:
            (_section(config, section) if section else config)[name] = value
        except TypeError as error:
            raise ConfigError(f"{key} cannot be {value!r}: {error}.") from error


def config_to_json(config: ConfigDict) -> str:
    """One canonical spelling: equal configurations give equal text."""
    return json.dumps(config.to_dict(), sort_keys=True)


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


def _keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for name in config:
        key = f"{prefix}{name}"
        if isinstance(config[name], ConfigDict):
            yield from _keys(config[name], f"{key}.")
        else:
            yield key


def _nearest(key: str, known: list[str]) -> str:
    """The known key whose own name is most like that of ``key``, and then whose sections are."""

    def likeness(candidate: str) -> tuple[float, float]:
        names = (key.rpartition(".")[2], candidate.rpartition(".")[2])
        return tuple(
            difflib.SequenceMatcher(None, *pair).ratio() for pair in (names, (key, candidate))
        )

    return max(known, key=likeness)


def _section(config: ConfigDict, key: str) -> ConfigDict:
    for name in key.split("."):
        config = config[name]
    return config


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value
