"""Configurations of classifiers."""

from __future__ import annotations

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
)
from sasa.train.config_files import parse_config

RECIPES = Path(__file__).parents[3] / "recipes"


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
        (TrainConfig, {"seed": -1}, "seed"),
        (TrainConfig, {"runtime": RuntimeConfig(strategy="fsdp")}, "optimizer.ema_decay"),
    ],
)
def test_values_out_of_range_name_the_key(kind: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{key}: expected ")):
        kind(**values)


def test_run_folder_is_named_after_the_model() -> None:
    assert TrainConfig(model=ModelConfig("x")).folder == Path("runs/x")
    assert TrainConfig(run="y").folder == Path("y")


@pytest.mark.parametrize(
    "recipe",
    [path for path in sorted(RECIPES.glob("*.yaml")) if not path.name.startswith("detect_")],
    ids=lambda path: path.stem,
)
def test_recipes_parse(recipe: Path) -> None:
    load_config(recipe)


def test_imagenet_recipe_is_the_papers() -> None:
    config = load_config(RECIPES / "imagenet.yaml")
    assert config.model.name == "sasa_resnet50"
    assert config.data.val_fraction == 0.04
    assert config.data.input_size == 224
    recipe = config.optimizer
    assert (recipe.epochs, recipe.batch_size, recipe.peak_lr, recipe.warmup_epochs) == (130, 4096, 1.6, 10)
    assert (recipe.ema_decay, recipe.bn_momentum) == (0.9999, 0.0001)


@pytest.mark.parametrize("mixed", [{"mixup": 0.5}, {"cutmix": 0.5}])
def test_mixing_needs_an_even_number_of_images_per_process(mixed: dict[str, float]) -> None:
    config = TrainConfig(augmentation=AugmentationConfig(**mixed), optimizer=OptimizerConfig(batch_size=6))
    config.check_processes(1)
    message = "optimizer.batch_size: expected an even multiple of .* = 2 for mixup and cutmix, got 6"
    with pytest.raises(ValueError, match=message):
        config.check_processes(2)


def test_a_colon_without_a_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"model.options.* YAML needs a space after the colon, as in {KEY: V"
    ):
        parse_config(["--model.options", "{width_mult:0.5}"])
    (tmp_path / "recipe.yaml").write_text("model: {options: {width_mult:0.5}}\n")
    expected = r"model.options: expected KEY: VALUE with a space after the colon, got 'width_mult:0.5'"
    with pytest.raises(ValueError, match=expected):
        load_config(tmp_path / "recipe.yaml")
