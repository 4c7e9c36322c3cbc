"""Configurations of detectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sasa.train import DetectionConfig, load_config, parse_config, save_config
from sasa.train.detection.config import (
    DetectionAugmentationConfig,
    DetectionDataConfig,
    DetectionOptimizerConfig,
    DetectorConfig,
)

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("detect_*.yaml"))


def test_defaults_are_the_papers() -> None:
    config = parse_config([], DetectionConfig)
    assert config == DetectionConfig()
    recipe = config.optimizer
    assert (recipe.batch_size, recipe.epochs, recipe.warmup_epochs) == (64, 150, 1.0)
    assert recipe.peak_lr == 0.12
    assert DetectionOptimizerConfig(batch_size=16).peak_lr == pytest.approx(0.03)
    assert config.augmentation.hflip == 0.5
    assert config.folder == Path("runs/retinanet")


def test_file_overrides_and_back(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "model: {backbone: a, options: {fpn_and_heads: conv}}\ndata: {size: 64}\noptimizer: {lr_base: 1}\n"
    )
    config = parse_config(
        ["--config", str(file), "--optimizer.lr=2", "--model.options.fpn_channels", "32"], DetectionConfig
    )
    assert config.model == DetectorConfig("a", options={"fpn_and_heads": "conv", "fpn_channels": 32})
    assert (config.data.size, config.optimizer.lr) == (64, 2.0)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", DetectionConfig) == config


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    load_config(recipe, DetectionConfig)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer.lrr", "1"], "--optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (["--qqqq", "1"], "--qqqq: unknown key; see sasa detect train --help"),
        (["--data.size", "many"], 'key "data.size"'),
        (["--data.size", "0"], "data.size: expected a positive number or null, got 0"),
    ],
)
def test_faulty_arguments(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_config(arguments, DetectionConfig)


@pytest.mark.parametrize(
    ("kind", "values", "key"),
    [
        (DetectorConfig, {"options": {"num_classes": 3}}, "model.options"),
        (DetectorConfig, {"options": {"min_size": 3}}, "model.options"),
        (DetectorConfig, {"backbone_options": {"in_chans": 1}}, "model.backbone_options"),
        (DetectorConfig, {"classifier": "x", "backbone": "y"}, "model.classifier"),
        (DetectorConfig, {"frozen_batch_norm": True}, "model.frozen_batch_norm"),
        (DetectionDataConfig, {"mean": [0.5]}, "data.mean"),
        (DetectionDataConfig, {"std": [0.5, 0.5]}, "data.std"),
        (DetectionDataConfig, {"num_workers": -1}, "data.num_workers"),
        (DetectionDataConfig, {"source": "x/train.json"}, "data.source"),
        (DetectionAugmentationConfig, {"scale": (1.2, 0.8)}, "augmentation.scale"),
        (DetectionAugmentationConfig, {"hflip": 1.5}, "augmentation.hflip"),
        (DetectionOptimizerConfig, {"epochs": 1}, "optimizer.warmup_epochs"),
        (DetectionConfig, {"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_name_the_key(kind: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{key}: expected ")):
        kind(**values)


def test_a_pretrained_backbone_may_be_frozen() -> None:
    assert DetectorConfig("resnet50", {"pretrained": True}, frozen_batch_norm=True).frozen_batch_norm
