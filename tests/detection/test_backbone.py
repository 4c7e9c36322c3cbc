"""Batch norms that stay as they are, and a classifier's weights in the backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import sasa
from sasa.detection import RetinaNet

from .detectors import BACKBONES, NARROW, image, lively, small, target


def norms(detector: RetinaNet) -> list[nn.BatchNorm2d]:
    return [m for m in detector.backbone.body.modules() if isinstance(m, nn.BatchNorm2d)]


def train_a_step(detector: RetinaNet) -> None:
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    sum(detector([image(64, 64)] * 2, [target((3.0, 4.0, 40.0, 50.0), labels=(2,))] * 2).values()).backward()
    optimizer.step()


@pytest.mark.parametrize("backbone", [*BACKBONES, "resnet18"])
def test_frozen_batch_norms_stay_as_they_are(backbone: str) -> None:
    detector = lively(small(backbone, frozen_batch_norm=True))
    assert len(norms(detector)) > 10
    before = [{name: x.clone() for name, x in norm.state_dict().items()} for norm in norms(detector)]
    assert detector.training
    assert not any(norm.training for norm in norms(detector))
    detector.eval()
    train_a_step(detector)
    assert detector.training
    assert not any(norm.training for norm in norms(detector))
    for norm, state in zip(norms(detector), before, strict=True):
        assert all(torch.equal(x, state[name]) for name, x in norm.state_dict().items())
        assert not any(p.requires_grad for p in norm.parameters())
    trained = {name for name, p in detector.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("body" in name for name in trained)


def test_batch_norms_are_trained_unless_frozen() -> None:
    detector = lively(small())
    before = [norm.running_mean.clone() for norm in norms(detector)]  # type: ignore[union-attr]
    train_a_step(detector)
    assert all(norm.training for norm in norms(detector))
    assert not any(torch.equal(norm.running_mean, x) for norm, x in zip(norms(detector), before, strict=True))  # type: ignore[arg-type]
    assert all(p.requires_grad for norm in norms(detector) for p in norm.parameters())


@pytest.mark.parametrize(
    ("backbone", "options"),
    [(BACKBONES[0], NARROW), (BACKBONES[2], NARROW), ("resnet18", {}), ("convnext_atto", {})],
)
def test_a_classifier_becomes_the_backbone(backbone: str, options: dict[str, Any]) -> None:
    torch.manual_seed(5)
    classifier = sasa.create_model(backbone, num_classes=7, **options).eval()
    detector = small(backbone).eval()
    detector.backbone.load_classifier(classifier.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, maps = classifier.forward_intermediates(x)  # type: ignore[operator]
        assert torch.equal(detector.backbone.body(x)[-1], maps[-1])


@pytest.mark.parametrize(
    ("backbone", "options", "words"),
    [
        (BACKBONES[0], {"width_mult": 0.25}, r"stem.rel_row has shape \(4, 7, 2\) instead of \(4, 7, 1\)"),
        ("sasa_resnet38", {}, r"layer1\.1.* is unknown"),
        (BACKBONES[2], {}, r"stem\..* is missing"),
    ],
)
def test_another_classifier_does_not_fit(backbone: str, options: dict[str, Any], words: str) -> None:
    detector = small()
    before = {name: x.clone() for name, x in detector.state_dict().items()}
    classifier = sasa.create_model(backbone, **{**NARROW, **options})
    with pytest.raises(
        ValueError,
        match=f"state_dict: expected weights of this backbone, got others: .*{words}.* and [0-9]+ more",
    ):
        detector.backbone.load_classifier(classifier.state_dict())
    assert all(torch.equal(x, before[name]) for name, x in detector.state_dict().items())
