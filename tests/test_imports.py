"""Who may import whom, read off the source: a breach shows here before it costs start-up time."""

import ast
import subprocess
import sys

import pytest

# A module may import from its own layer and from those before it.
LAYERS = [
    [
        "errors",
        "terminal",
        "progress",
        "segments",
        "mp3_length",
        "ogg_end",
        "container_audio",
        "audio_decoding",
        "audio",
        "music_score",
        "music_synthesis",
    ],
    [
        *("impulse_responses", "augmentation_steps", "augmentation_dynamics"),
        *("augmentation_spectra", "augmentation"),
        *("waveform_bank", "babble", "track_speeds", "playback_speed", "pair_sampling"),
        *("until_exit", "pairs"),
    ],
    ["config", "features", "encoders", "triplets", "losses"],
    ["sinkhorn", "balanced_hash", "describe"],
    [
        *("parallel", "optimizers", "train_step", "checkpoints", "metrics_log"),
        *("calibration", "mini_search"),
        *("objective", "grad_cache", "training", "model_folder", "pretrained", "model"),
        *("compilation_cache", "model_release"),
    ],
    [
        *("store_format", "store_writer", "store", "file_lists"),
        *("read_ahead", "reference_segments", "generate"),
    ],
    [
        "searchers",
        "alignment",
        "exhaustive_alignment",
        "query_shifts",
        "offset_refinement",
        "rivals",
        "joint_evidence",
    ],
    [
        *("landmark_settings", "landmark_peaks", "landmarks", "spectral_hash"),
        *("inverted_index", "landmark_index", "spectral_hash_index"),
    ],
    [
        *("identification", "neural_recognizer", "peak_recognizer", "landmark_recognizer"),
        *("spectral_hash_recognizer", "both_store", "fusion", "both_recognizer", "recognizer"),
    ],
    ["argument_values", "model_verbs", "evaluation"],
    ["experiments"],
    ["demo", "arguments", "cli", "__init__"],
]
TENSORFLOW = {"tensorflow", "tensorflow_datasets"}
NOT_FOR_IDENTIFICATION = TENSORFLOW | {"librosa", "matplotlib", "orbax", "optax"}
# An identification imports these, some of them only when they are needed.
IDENTIFICATION_STARTS_AT = {
    *("neural_recognizer", "landmark_recognizer", "spectral_hash_recognizer", "both_recognizer"),
    *("recognizer", "cli"),
}
NUMPY_ONLY = {
    *("audio", "segments", "calibration", "alignment"),
    *("exhaustive_alignment", "query_shifts", "offset_refinement", "rivals", "joint_evidence"),
    *("store_format", "store_writer", "store"),
    *("landmark_settings", "landmark_peaks", "landmarks", "spectral_hash"),
    *("inverted_index", "landmark_index", "spectral_hash_index"),
}


def source_files(repository):
    for folder in ("fingerprint", "data", "configs"):
        yield from sorted((repository / folder).rglob("*.py"))


def imports(path, repository):
    """(imported dotted name, whether it happens at import time) for each import of a file."""
    package = ".".join(path.relative_to(repository).parent.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_import_time = id(node) not in in_functions
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            # `from fingerprint import demo` imports a module, `from x import name` may.
            yield base, at_import_time
            yield from ((f"{base}.{alias.name}", at_import_time) for alias in node.names)


def area(dotted_name):
    """The module or subpackage of ours that a dotted name lies in, or None."""
    parts = dotted_name.split(".")
    if parts[0] != "fingerprint" or len(parts) < 2:
        return None
    return parts[1]


def area_of(path, repository):
    inside = path.relative_to(repository / "fingerprint")
    return inside.parts[0].removesuffix(".py")


def layer(name):
    return next((i for i, names in enumerate(LAYERS) if name in names), None)


@pytest.fixture(scope="module")
def library(repository):
    return sorted((repository / "fingerprint").rglob("*.py"))


def test_every_module_has_its_layer(library, repository):
    homeless = {
        area_of(path, repository) for path in library if layer(area_of(path, repository)) is None
    }
    assert not homeless, f"give these a place in LAYERS: {sorted(homeless)}"


def test_nothing_imports_from_a_later_layer(library, repository):
    breaches = []
    for path in library:
        own = area_of(path, repository)
        for name, _ in imports(path, repository):
            other = area(name)
            if None not in (layer(own), layer(other)) and layer(other) > layer(own):
                breaches.append(f"{own} imports {name}")
    assert not breaches


def test_only_the_pipeline_and_the_data_import_tensorflow(repository):
    breaches = [
        f"{path.relative_to(repository)}: {name}"
        for path in source_files(repository)
        if path.name != "pairs.py"
        and not path.name.startswith("augmentation")
        and path.relative_to(repository).parts[0] != "data"
        for name, _ in imports(path, repository)
        if name.split(".")[0] in TENSORFLOW
    ]
    assert not breaches


def test_scann_is_imported_in_one_place_and_only_when_needed(repository):
    found = {
        (str(path.relative_to(repository)), at_import_time)
        for path in source_files(repository)
        for name, at_import_time in imports(path, repository)
        if name.split(".")[0] == "scann"
    }
    assert found == {("fingerprint/searchers/scann.py", False)}


def test_identification_imports_nothing_of_training(library, repository):
    imported = {}
    for path in library:
        own = imported.setdefault(area_of(path, repository), set())
        own |= {name for name, at_import_time in imports(path, repository) if at_import_time}
    reached, to_follow = set(), set(IDENTIFICATION_STARTS_AT)
    while to_follow:
        reached |= to_follow
        to_follow = {area(n) for each in to_follow for n in imported[each]} & set(imported)
        to_follow -= reached
    assert "model" in reached
    breaches = [
        f"{each} imports {name}"
        for each in reached
        for name in imported[each]
        if name.split(".")[0] in NOT_FOR_IDENTIFICATION
    ]
    assert not breaches


def test_what_needs_numpy_alone_imports_no_jax(library, repository):
    breaches = [
        f"{area_of(path, repository)} imports {name}"
        for path in library
        if area_of(path, repository) in NUMPY_ONLY
        for name, _ in imports(path, repository)
        if name.split(".")[0] in {"jax", "flax"} | TENSORFLOW
    ]
    assert not breaches


def test_configs_import_only_configs_and_ml_collections(repository):
    found = {
        name.split(".")[0]
        for path in (repository / "configs").glob("*.py")
        for name, _ in imports(path, repository)
    }
    assert found <= {"fingerprint_configs", "ml_collections"}


def loaded_by(code):
    """Top-level packages that a fresh interpreter has loaded after running ``code``."""
    program = f"{code}\nimport sys\nprint('LOADED', *{{m.split('.')[0] for m in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.rsplit("LOADED", 1)[1].split())


def test_help_loads_nothing_heavy():
    code = (
        "import contextlib\n"
        "from fingerprint.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])"
    )
    assert not loaded_by(code) & (NOT_FOR_IDENTIFICATION | {"jax", "numpy", "scipy", "scann"})


def test_the_recogniser_loads_neither_tensorflow_nor_librosa():
    loaded = loaded_by("import fingerprint.recognizer")
    assert "fingerprint" in loaded
    assert not loaded & (NOT_FOR_IDENTIFICATION | {"scann"})
