"""Audio fingerprinting: which recording a noisy clip comes from, and where in it."""

__version__ = "0.1.0"

# What most programs need, from the modules that define it; loaded when it is first used.
_HOME = {
    "AudioError": "audio",
    "Fingerprinter": "model",
    "FingerprintError": "errors",
    "LandmarkRecognizer": "recognizer",
    "NeuralRecognizer": "recognizer",
    "open_recognizer": "recognizer",
    "read_audio": "audio",
}

__all__ = [
    "AudioError",
    "FingerprintError",
    "Fingerprinter",
    "LandmarkRecognizer",
    "NeuralRecognizer",
    "__version__",
    "open_recognizer",
    "read_audio",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
