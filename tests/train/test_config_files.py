"""Configurations from files and command lines."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sasa.train import (
    AugmentationConfig,
    DetectionConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrainConfig,
    load_config,
    parse_config,
    save_config,
)
from sasa.train.config_files import Resumption, config_kind, parse_run


def test_defaults_without_arguments() -> None:
    assert parse_config([]) == TrainConfig()


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("model: {name: a, options: {width_mult: 2}}\noptimizer: {lr_base: 1e-3, epochs: 7}\n")
    config = parse_config(
        ["--config", str(file), "--optimizer.epochs", "5", "--model.options.stem_stride", "1", "--seed=4"]
    )
    assert config.model == ModelConfig("a", {"width_mult": 2, "stem_stride": 1})
    assert config.optimizer == OptimizerConfig(lr_base=1e-3, epochs=5)
    assert config.seed == 4


def test_saved_configuration_is_complete_and_comes_back(tmp_path: Path) -> None:
    config = TrainConfig(
        model=ModelConfig("x", {"stage_types": ["conv", "attention"]}),
        augmentation=AugmentationConfig(scale=(0.5, 1.0), mixup=0.2),
        runtime=RuntimeConfig(devices=2, channels_last=True),
        run="somewhere",
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    text = (tmp_path / "config.yaml").read_text()
    for group in ("data", "optimizer", "runtime"):
        for field in dataclasses.fields(getattr(config, group)):
            assert f"  {field.name}:" in text


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("optimizer: {lrr: 1}", "optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (
            "optimizer: {batch-size: 1}",
            "optimizer.batch-size: unknown key; did you mean 'optimizer.batch_size'?",
        ),
        ("batch_size: 8", "batch_size: unknown key; did you mean 'optimizer.batch_size'?"),
        ("modle: {name: x}", "modle: unknown key; did you mean 'model'?"),
        ("qqqq: 1", "qqqq: unknown key; see sasa train --help"),
        ("optimizer: {epochs: many}", 'key "optimizer.epochs"'),
        ("optimizer: {epochs: 1.5}", 'key "optimizer.epochs"'),
        ("optimizer: {ema_warmup: 'yes, please'}", 'key "optimizer.ema_warmup"'),
        ("runtime: {precision: half}", 'key "runtime.precision"'),
        ("optimizer: [", "expected YAML"),
        ("hello", "expected keys such as 'model:'"),
    ],
)
def test_faulty_files(tmp_path: Path, yaml: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_config(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer.lrr", "1"], "--optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (["--batch-size", "8"], "--batch-size: unknown key; did you mean 'optimizer.batch_size'?"),
        (["--lr=1"], "--lr: unknown key; did you mean 'optimizer.lr'?"),
        (["--optimizer.lr", "high"], 'key "optimizer.lr"'),
        (["--model", '{"nme": "x"}'], "nme"),
        (["stray"], "stray"),
    ],
)
def test_faulty_overrides(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_config(arguments)


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"--config: expected a YAML file, got nowhere\.yaml"):
        parse_config(["--config", "nowhere.yaml"])


def test_the_kind_of_a_file_follows_from_its_keys(tmp_path: Path) -> None:
    for path in (Path(__file__).parents[2] / "recipes").glob("*.yaml"):
        expected = DetectionConfig if path.name.startswith("detect_") else TrainConfig
        assert config_kind(path) is expected, path.name
        save_config(load_config(path, expected), tmp_path / "config.yaml")
        assert config_kind(tmp_path / "config.yaml") is expected, path.name


def test_a_run_of_another_kind_is_not_resumed(tmp_path: Path) -> None:
    save_config(DetectionConfig(), tmp_path / "config.yaml")
    assert parse_run(["--resume", str(tmp_path)], DetectionConfig) == Resumption(tmp_path)
    message = "--resume: expected a run of a classifier, got one of a detector in .*; use sasa detect train"
    with pytest.raises(ValueError, match=message):
        parse_run(["--resume", str(tmp_path)], TrainConfig)


def test_a_run_is_new_or_resumed() -> None:
    config = parse_run(["--seed", "4"], TrainConfig)
    assert isinstance(config, TrainConfig)
    assert config.seed == 4
    assert parse_run(["--resume", "x", "--accept_images"], TrainConfig) == Resumption(Path("x"), True)


@pytest.mark.parametrize("value", ["{class_path: os.X}", "[{class_path: os.X}]"])
def test_a_recipe_names_no_code(tmp_path: Path, value: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"model: {{options: {{a: {value}}}}}")
    with pytest.raises(ValueError, match=r"recipe.yaml: expected no class_path, which names code"):
        load_config(file)
