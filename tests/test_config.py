import pytest
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint.config import apply_overrides, config_from_json, config_to_json, load_config
from fingerprint.errors import ConfigError


@pytest.fixture
def config():
    return nafp.get_config()


def test_loads_every_configuration_of_the_repository(repository):
    paths = [path for path in (repository / "configs").glob("*.py") if path.stem != "__init__"]
    assert len(paths) >= 2
    for path in paths:
        assert load_config(path).name == path.stem


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "get_config"),
        ("get_config = 3", "get_config"),
        ("def get_config(): return {}", "dict"),
        ("def get_config(): raise KeyError('mels')", "mels"),
        ("import no_such_module", "no_such_module"),
        ("def get_config(:", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, code, words):
    path = tmp_path / "broken.py"
    path.write_text(code)
    with pytest.raises(ConfigError, match=words) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent.py", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path)


def test_json_keeps_everything_and_tuples_stay_tuples(config):
    restored = config_from_json(config_to_json(config))
    assert restored.to_dict() == config.to_dict()
    assert restored.encoder.widths == config.encoder.widths
    assert isinstance(restored.encoder.widths, tuple)
    assert config_to_json(restored) == config_to_json(config)


def test_json_does_not_depend_on_the_order_of_keys():
    first, second = ConfigDict({"a": 1, "b": 2}), ConfigDict({"b": 2, "a": 1})
    assert config_to_json(first) == config_to_json(second)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_what_is_no_configuration_in_json_is_refused(text):
    with pytest.raises(ConfigError, match="configuration"):
        config_from_json(text)


def test_overrides_reach_every_depth(config):
    apply_overrides(
        config, {"seed": 3, "pairs.n_pairs": 64, "augmentation.background.snr_db": (1.0, 2.0)}
    )
    assert (config.seed, config.pairs.n_pairs) == (3, 64)
    assert config.augmentation.background.snr_db == (1.0, 2.0)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("pairs.npairs", "pairs.n_pairs"),
        ("n_mel", "features.n_mels"),
        ("optimizer.learningrate", "optimizer.learning_rate"),
        ("los.name", "loss.name"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(config, key, nearest):
    before = config_to_json(config)
    with pytest.raises(ConfigError, match=rf"{key}.*{nearest}"):
        apply_overrides(config, {key: 1})
    assert config_to_json(config) == before


def test_a_section_is_not_a_value(config):
    with pytest.raises(ConfigError, match="'pairs'"):
        apply_overrides(config, {"pairs": 3})


def test_a_value_of_another_type_is_refused(config):
    with pytest.raises(ConfigError, match=r"pairs\.n_pairs cannot be 'many'"):
        apply_overrides(config, {"pairs.n_pairs": "many"})
