"""A tiny detector and images for the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sasa.train import DetectorMetadata, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds anything anywhere."""
    torch.manual_seed(0)
    about = DetectorMetadata(
        backbone="sasa_resnet26_conv",
        backbone_options={"width_mult": 0.125},
        options={"fpn_channels": 16, "fpn_and_heads": "conv"},
        classes=["cup", "owl"],
        size=64,
        mean=[0.5, 0.5, 0.5],
        std=[0.25, 0.25, 0.25],
    )
    detector = about.create_model()
    with torch.no_grad():
        detector.head.classification_head.cls_logits.weight.mul_(30)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, detector, about)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    paths = []
    for name, size in (("one.png", (48, 80, 3)), ("two.jpg", (64, 64, 3))):
        path = tmp_path / name
        Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths
