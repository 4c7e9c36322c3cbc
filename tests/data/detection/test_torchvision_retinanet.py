"""torchvision's RetinaNet takes our batches: labels from 0 without a background, empty images, any sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from sasa.data.detection import (
    DetectionDataset,
    collate_detection,
    create_detection_dataset,
    detection_evaluation_transform,
    detection_training_transform,
    without_crowds,
)


@pytest.fixture
def tiny() -> RetinaNet:
    """Ten classes, one feature map of stride 16."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 32, 16, 16), nn.ReLU())
    backbone.out_channels = 32  # type: ignore[assignment]
    return RetinaNet(backbone, 10, 64, 64, anchor_generator=AnchorGenerator(((16, 32, 48),), ((1.0,),)))


def test_training_batches(tiny: RetinaNet) -> None:
    dataset = create_detection_dataset(length=40, transform=detection_training_transform(64))
    loader = DataLoader(dataset, 8, collate_fn=collate_detection)
    labels = set()
    for images, targets in loader:
        losses = tiny(images, targets)
        assert all(loss.isfinite() for loss in losses.values())
        labels |= {label for target in targets for label in target["labels"].tolist()}
    assert labels == set(range(10)), "class 9 of 10 is an index into ten logits"


def test_evaluation_targets_give_a_loss(tiny: RetinaNet, coco: Path) -> None:
    # Crowds away, an empty image and three sizes in one batch.
    dataset: DetectionDataset = create_detection_dataset(coco, transform=detection_evaluation_transform())
    images, targets = collate_detection([dataset[index] for index in range(3)])
    assert len({image.shape for image in images}) == 3
    losses = tiny(images, [without_crowds(target) for target in targets])
    assert all(loss.isfinite() for loss in losses.values())
