"""What the settings of every network are held against, in sentences."""

from typing import Any

from fingerprint.errors import ConfigError

DTYPES = ("float32", "bfloat16")


def require_choice(name: str, value: Any, allowed: tuple) -> None:
    """Raise a ConfigError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise ConfigError(f"{name} is {value!r}; choose one of {choices}.")


def require_counts(**counts: int) -> None:
    """Raise a ConfigError unless every value, or every entry of a tuple, is an integer above 0."""
    for name, value in counts.items():
        entries = value if isinstance(value, tuple | list) else (value,)
        if not entries or any(type(entry) is not int or entry < 1 for entry in entries):
            raise ConfigError(f"{name} is {value!r}, but what it counts has to be at least 1.")


def require_divisor(name: str, value: int, whole_name: str, whole: int) -> None:
    """Raise a ConfigError unless ``value`` cuts ``whole`` into equal parts."""
    if value < 1 or whole % value:
        raise ConfigError(
            f"{name} is {value}, but {whole_name}, {whole}, is cut into that many equal slices: "
            "choose a divisor of it."
        )
