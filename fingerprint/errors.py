"""The one root of every error that this library raises on purpose.

Each message is a sentence that names the offending value and the way out, so that the command
line can print it as it is. Children live beside the code that raises them (``AudioError`` in
``audio``, ``StoreError`` in ``store``, ...).
"""


class FingerprintError(Exception):
    """Something the user can understand and mend."""


class ConfigError(FingerprintError):
    """A configuration that cannot work, named by its key and value."""
