import pytest

from raytrans.models.config import SIZES, ModelConfig, model_config
from raytrans.training.config import read_config, train_config


def test_shipped_configs_read_and_hold_only_differences():
    small = read_config("configs/small.toml")
    assert small.model == SIZES["small"] and small.optim.steps == 3200 and small.data.rays == 768
    assert read_config("configs/tiny.toml").data.sources == (3, 4)
    assert read_config("configs/base.toml").optim.precision == "bfloat16"


def test_overrides_take_toml_values_and_bare_words(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('size = "tiny"\n[model]\nfine = 9\n')
    config = read_config(path, ["optim.steps=7", "data.sizes=[32, 48]", "optim.precision=bfloat16", "seed=3"])
    assert (config.model.fine, config.optim.steps, config.data.sizes) == (9, 7, (32, 48))
    assert config.optim.precision == "bfloat16" and config.seed == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"stepz": 3}}, "unknown key 'stepz'.*steps"),
        ({"optimizer": {}}, "unknown key 'optimizer'.*optim"),
        ({"model": {"width": 3}}, "unknown key 'width'"),
        ({"optim": {"steps": "many"}}, "steps must be int"),
        ({"size": "huge"}, "size: expected one of tiny, small, base"),
        ({"model": {"directions": "sideways"}}, "directions: expected one of"),
        ({"model": {"fine": 0}}, "fine: expected a positive"),
        ({"model": {"kernel": "imaginary"}}, "kernel: expected one of complex, real, got 'imaginary'"),
        ({"model": {"scales": 3}}, "scales: expected one of 1, 2, got 3"),
        ({"model": {"color_stride": True}}, "color_stride: expected one of 1, 2, got True"),
        ({"model": {"residual": "yes"}}, "residual"),
        ({"model": {"moments": 0}}, "moments"),
        ({"model": {"typed": [4, 3]}}, r"typed: expected .*24x0 \+ 4x1 \+ 2x2.*got \(4, 3\)"),
        ({"model": {"typed": [4, 2, 1]}}, "typed: expected"),
        ({"model": {"typed": 4}}, "typed"),
        ({"model": {"logits": "dot", "hidden": 36, "heads": 4}}, "hidden: expected a multiple of twice heads"),
        ({"seed": "x"}, "seed must be an integer"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        train_config(values)


def test_missing_and_broken_files_are_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("size = = 3")
    with pytest.raises(ValueError, match="not valid TOML"):
        read_config(tmp_path / "bad.toml")
    with pytest.raises(ValueError, match="--set: expected key=value"):
        read_config("configs/tiny.toml", ["steps"])


def test_model_configs_survive_a_round_trip_through_plain_values():
    for config in SIZES.values():
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in config.to_dict().items()}
        assert ModelConfig.from_dict(values) == config
    assert model_config("tiny", directions="world").directions == "world"
