from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from sasa.train import (
    AugmentationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrainConfig,
    load_config,
    parse_config,
    save_config,
)

RECIPES = [
    path
    for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    if not path.name.startswith("detect_")
]


def test_defaults_without_arguments() -> None:
    assert parse_config([]) == TrainConfig()


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("model: {name: a, options: {width_mult: 2}}\noptimizer: {lr_base: 1e-3, epochs: 7}\n")
    config = parse_config(
        ["--config", str(file), "--optimizer.epochs", "5", "--model.options.stem", "small", "--seed=4"]
    )
    assert config.model == ModelConfig("a", {"width_mult": 2, "stem": "small"})
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
        ("optimizer: [", "not YAML"),
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
    with pytest.raises(FileNotFoundError, match=r"--config: no such file: nowhere\.yaml"):
        parse_config(["--config", "nowhere.yaml"])


@pytest.mark.parametrize(
    ("kind", "values", "key"),
    [
        (ModelConfig, {"options": {"num_classes": 3}}, "model.options"),
        (DataConfig, {"val_fraction": 0.0}, "data.val_fraction"),
        (DataConfig, {"in_chans": 4}, "data.in_chans"),
        (DataConfig, {"input_size": 0}, "data.input_size"),
        (DataConfig, {"num_workers": -1}, "data.num_workers"),
        (AugmentationConfig, {"mixup": -1.0}, "augmentation.mixup"),
        (AugmentationConfig, {"cutmix": -1.0}, "augmentation.cutmix"),
        (AugmentationConfig, {"label_smoothing": 1.0}, "augmentation.label_smoothing"),
        (OptimizerConfig, {"name": "lamb"}, "optimizer.name"),
        (OptimizerConfig, {"batch_size": 0}, "optimizer.batch_size"),
        (OptimizerConfig, {"epochs": 0}, "optimizer.epochs"),
        (OptimizerConfig, {"lr": 0.0}, "optimizer.lr"),
        (OptimizerConfig, {"lr_base": 0.0}, "optimizer.lr_base"),
        (OptimizerConfig, {"lr_base_size": 0}, "optimizer.lr_base_size"),
        (OptimizerConfig, {"momentum": 1.0}, "optimizer.momentum"),
        (OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay"),
        (OptimizerConfig, {"warmup_epochs": 10.0}, "optimizer.warmup_epochs"),
        (OptimizerConfig, {"grad_accum_steps": 3}, "optimizer.grad_accum_steps"),
        (OptimizerConfig, {"clip_grad": 0.0}, "optimizer.clip_grad"),
        (OptimizerConfig, {"bn_momentum": 0.0}, "optimizer.bn_momentum"),
        (OptimizerConfig, {"ema_decay": 1.0}, "optimizer.ema_decay"),
        (RuntimeConfig, {"devices": 0}, "runtime.devices"),
        (RuntimeConfig, {"num_nodes": 0}, "runtime.num_nodes"),
        (TrainConfig, {"seed": -1}, "seed"),
        (TrainConfig, {"runtime": RuntimeConfig(strategy="fsdp")}, "optimizer.ema_decay"),
    ],
)
def test_values_out_of_range_name_the_key(kind: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{key} must ")):
        kind(**values)


def test_learning_rate_follows_the_batch() -> None:
    assert OptimizerConfig(lr_base=1.6, batch_size=4096).peak_lr == 1.6
    assert OptimizerConfig(lr_base=1.6, batch_size=256).peak_lr == pytest.approx(0.1)
    assert OptimizerConfig(lr_base=0.1, lr_base_size=256, batch_size=512).peak_lr == pytest.approx(0.2)
    assert OptimizerConfig(lr=0.3, lr_base=1.6, batch_size=256).peak_lr == 0.3


def test_run_folder_is_named_after_the_model() -> None:
    assert TrainConfig(model=ModelConfig("x")).folder == Path("runs/x")
    assert TrainConfig(run="y").folder == Path("y")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    load_config(recipe)


def test_imagenet_recipe_is_the_papers() -> None:
    config = load_config(Path(__file__).parents[2] / "recipes" / "imagenet.yaml")
    assert config.model.name == "sasa_resnet50"
    assert config.data.val_fraction == 0.04
    assert config.data.input_size == 224
    recipe = config.optimizer
    assert (recipe.epochs, recipe.batch_size, recipe.peak_lr, recipe.warmup_epochs) == (130, 4096, 1.6, 10)
    assert (recipe.ema_decay, recipe.bn_momentum) == (0.9999, 0.0001)
