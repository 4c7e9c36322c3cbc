from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sasa
from sasa.train import BUILT_IN_WEIGHTS, WeightsMetadata, retinanet_from_classifier, save_weights
from sasa.train.weights import read_weights

OPTIONS = {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3, "drop_rate": 0.5}
SMALL = {"fpn_channels": 32, "num_heads": 2, "kernel_size": 3}


def saved(path: Path, **changes: Any) -> torch.nn.Module:
    """A classifier of four classes, saved."""
    values: dict[str, Any] = {
        "model": "sasa_resnet26",
        "options": OPTIONS,
        "classes": ["a", "b", "c", "d"],
        "input_size": [3, 64, 64],
        "mean": [0.25, 0.5, 0.75],
        "std": [0.75, 0.5, 0.25],
    }
    about = WeightsMetadata(**{**values, **changes})
    torch.manual_seed(3)
    classifier = about.create_model().eval()
    save_weights(path, classifier, about)
    return classifier


@pytest.mark.parametrize("frozen", [False, True])
def test_the_backbone_is_the_classifier(tmp_path: Path, frozen: bool) -> None:
    path = tmp_path / "model.safetensors"
    classifier = saved(path)
    detector = retinanet_from_classifier(
        tmp_path, 2, fpn_and_heads="conv", frozen_batch_norm=frozen, **SMALL
    ).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(detector.backbone.body(x)[-1], classifier.forward_features(x))  # type: ignore[operator]
    assert detector.num_classes == 2
    assert detector.backbone.frozen_batch_norm == frozen
    assert detector.transform.image_mean == [0.25, 0.5, 0.75]
    assert detector.transform.image_std == [0.75, 0.5, 0.25]
    assert not any(isinstance(m, sasa.LocalSelfAttention2d) for m in detector.head.modules())
    assert len(detector([torch.rand(3, 50, 60)])) == 1


def test_mean_and_deviation_can_be_others(tmp_path: Path) -> None:
    saved(tmp_path / "model.safetensors")
    detector = retinanet_from_classifier(tmp_path, 2, image_mean=[0.1, 0.2, 0.3], **SMALL)
    assert detector.transform.image_mean == [0.1, 0.2, 0.3]
    assert detector.transform.image_std == [0.75, 0.5, 0.25]


@pytest.mark.parametrize("options", [{}, {"stem": "conv"}, {"stem": "convolution"}])
def test_a_gray_classifier_sees_the_mean_of_the_channels(tmp_path: Path, options: dict[str, Any]) -> None:
    gray = {"input_size": [1, 64, 64], "mean": [0.25], "std": [0.75]}
    classifier = saved(tmp_path / "model.safetensors", options={**OPTIONS, **options}, **gray)
    detector = retinanet_from_classifier(tmp_path, 2, **SMALL).double().eval()
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        found = detector.backbone.body(x)[-1]  # type: ignore[operator]
        expected = classifier.double().forward_features(x.mean(1, keepdim=True))  # type: ignore[operator]
    torch.testing.assert_close(found, expected)
    assert (detector.transform.image_mean, detector.transform.image_std) == ([0.25] * 3, [0.75] * 3)


def test_the_classifier_that_comes_with_sasa() -> None:
    detector = retinanet_from_classifier("built-in", 10, **SMALL)
    state, about = read_weights(BUILT_IN_WEIGHTS, WeightsMetadata)
    body = detector.backbone.body.state_dict()  # type: ignore[union-attr]
    assert torch.equal(body["layer3.1.spatial.rel_row"], state["layer3.1.spatial.rel_row"].float())
    assert detector.transform.image_mean == about.mean * 3


def test_a_classifier_of_small_images_has_not_the_maps(tmp_path: Path) -> None:
    saved(tmp_path / "model.safetensors", options={**OPTIONS, "stem_stride": 1})
    with pytest.raises(ValueError, match=r"backbone: expected feature maps of strides \(8, 16, 32\)"):
        retinanet_from_classifier(tmp_path, 2, **SMALL)


def test_weights_that_do_not_fit_name_their_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    classifier = saved(path)
    about = WeightsMetadata(
        "sasa_resnet26", {**OPTIONS, "width_mult": 0.25}, ["a"], [3, 64, 64], [0.5] * 3, [0.5] * 3
    )
    save_weights(path, classifier, about)
    with pytest.raises(ValueError, match=r"model.safetensors: state_dict: expected weights of this backbone"):
        retinanet_from_classifier(path, 2, **SMALL)
    with pytest.raises(FileNotFoundError, match="folder of a finished run, got "):
        retinanet_from_classifier(tmp_path / "missing", 2)


def test_a_gray_classifier_that_does_not_fit_names_its_file(tmp_path: Path) -> None:
    path, gray = tmp_path / "model.safetensors", {"input_size": [1, 64, 64], "mean": [0.25], "std": [0.75]}
    classifier = saved(path, **gray)
    about = WeightsMetadata("sasa_resnet26_conv", {"width_mult": 0.125}, ["a"], [1, 64, 64], [0.5], [0.5])
    save_weights(path, classifier, about)
    with pytest.raises(ValueError, match=r"model.safetensors: does not fit SASAResNet: "):
        retinanet_from_classifier(path, 2, **SMALL)
