import pytest
from fingerprint_configs import nafp
from ml_collections import ConfigDict

from fingerprint.config import (
    check_config,
    config_from_json,
    config_to_json,
    config_to_values,
    load_config,
    with_defaults,
)
from fingerprint.errors import ConfigError


@pytest.fixture
def config():
    return nafp.get_config()


def test_loads_every_configuration_of_the_repository(repository):
    paths = [path for path in (repository / "configs").glob("*.py") if path.stem != "__init__"]
    assert len(paths) >= 2
    for path in paths:
        config = load_config(path)
        assert config.name == path.stem
        check_config(config)


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


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("segment", "hop", "segment.hop_s"),
        ("features", "n_mel", "features.n_mels"),
        ("spec_augment", "probabilty", "spec_augment.probability"),
        ("pairs", "npairs", "pairs.n_pairs"),
        ("augmentation", "backgroud", "augmentation.background"),
        ("training", "n_step", "training.n_steps"),
        ("evaluation", "nqueries", "evaluation.n_queries"),
        ("data", "rooom", "data.rooms"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(config, section, key, nearest):
    config[section][key] = 1
    with pytest.raises(ConfigError, match=rf"'{section}\.{key}'; did you mean '{nearest}'"):
        check_config(config)


def test_a_misspelt_key_of_a_step_and_of_the_whole_are_named(config):
    config.augmentation.ramp.nsteps = 1
    with pytest.raises(ConfigError, match=r"'augmentation\.ramp\.nsteps'; .*ramp\.n_steps'"):
        check_config(config)
    del config.augmentation.ramp.nsteps
    config.encodr = 1
    with pytest.raises(ConfigError, match="'encodr'; did you mean 'encoder'"):
        check_config(config)


def test_a_missing_value_is_named(config):
    del config.features["n_fft"]
    with pytest.raises(ConfigError, match=r"lacks 'features\.n_fft'"):
        check_config(config)


def test_steps_of_the_augmentation_may_be_left_out(config):
    config.augmentation.room = None
    del config.augmentation["ramp"]
    check_config(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("sample_rate_hz", 0),
        ("features.hop_length", 0),
        ("training.log_every_steps", 0),
        ("training.grad_cache_pairs", -1),
        ("pairs.n_positives", 0),
        ("reference.pad_to_s", -1.0),
        ("reference.start_jitter_s", -0.1),
        ("search.neighbours", 0),
        ("search.n_shifts", 0),
        ("search.shuffled_top", -1),
        ("evaluation.query_durations_s", ()),
    ],
)
def test_an_impossible_number_is_named(config, key, value):
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConfigError, match=rf"{key} is "):
        check_config(config)


@pytest.mark.parametrize("range_", [(0.0, 1.0), (1.0, 0.5)])
def test_a_range_without_logarithms_is_named(config, range_):
    config.augmentation.level.factor = range_
    with pytest.raises(ConfigError, match=r"augmentation\.level\.factor is "):
        check_config(config)
    config.augmentation.level = None
    check_config(config)


def test_a_value_in_place_of_a_section_is_named(config):
    with config.ignore_type():
        config.features = 3
    with pytest.raises(ConfigError, match="features is 3"):
        check_config(config)


@pytest.mark.parametrize(
    ("section", "key", "choices"),
    [
        ("search", "alignment", "diagonal, vote, track_vote, best_segment"),
        ("spec_augment", "masked", "both, replicas"),
    ],
)
def test_an_unknown_choice_is_named(config, section, key, choices):
    config[section][key] = "none"
    with pytest.raises(ConfigError, match=f"{section}.{key} is 'none'; choose one of {choices}"):
        check_config(config)


@pytest.mark.parametrize("section", ["crop", "l2", "hash"])
def test_optional_sections_are_sections_or_none(config, section):
    config[section] = ConfigDict({})
    check_config(config)
    config[section] = None
    check_config(config)
    with config.ignore_type():
        config[section] = 3
    with pytest.raises(ConfigError, match=f"{section} is 3, but it has to be a section"):
        check_config(config)


@pytest.mark.parametrize("weight", [-1e-4, "small"])
def test_an_impossible_weight_is_named(config, weight):
    config.l2 = ConfigDict({"conv": 1e-4, "dense": weight})
    with pytest.raises(ConfigError, match=rf"l2\.dense is {weight!r}"):
        check_config(config)


def test_what_an_earlier_configuration_lacks_is_filled_in(config):
    earlier = nafp.get_config()
    del earlier["search"], earlier["crop"], earlier.features["power"]
    del earlier.spec_augment["hole_mel_fraction"], earlier.spec_augment["hole_frame_fraction"]
    earlier.spec_augment.hole_fraction = (0.2, 0.3)
    earlier.encoder = ConfigDict({"name": "woo"})
    config.spec_augment.update(hole_mel_fraction=(0.2, 0.3), hole_frame_fraction=(0.2, 0.3))
    config.encoder = ConfigDict({"name": "woo"})
    assert with_defaults(earlier).to_dict() == config.to_dict()
    check_config(with_defaults(earlier))


def test_a_model_to_start_from_was_named_beside_the_hash_head_once(config):
    earlier = nafp.get_config()
    del earlier.training["initial_model"]
    earlier.hash = ConfigDict({"n_bits": 8, "initial_model": "runs/x/model"})
    config.hash = ConfigDict({"n_bits": 8})
    config.training.initial_model = "runs/x/model"
    assert with_defaults(earlier).to_dict() == config.to_dict()
    assert earlier.hash.initial_model == "runs/x/model"


def test_a_model_to_start_from_is_a_name(config):
    with config.training.ignore_type():
        config.training.initial_model = 3
    with pytest.raises(ConfigError, match=r"initial_model is 3, but it has to be a model"):
        check_config(config)


def test_a_step_of_the_augmentation_that_was_left_out_stays_out(config):
    del config.augmentation["room"]
    config.augmentation.device = None
    filled = with_defaults(config)
    assert "room" not in filled.augmentation
    assert filled.augmentation.device is None


def test_values_are_those_of_the_json(config):
    assert config_to_values(config)["encoder"]["widths"] == list(config.encoder.widths)
