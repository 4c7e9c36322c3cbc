"""Our networks inside other frameworks: the examples of docs/frameworks.md, and what it says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

import sasa.models  # noqa: F401 registers the networks

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
@pytest.mark.filterwarnings("default")  # other people's
def test_example(index: int) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[index], f"docs/frameworks.md, example {index}", "exec"), names)
    for name in ("logits", "losses", "detections", "outputs"):
        if name in names:
            tensors = [x for x in _tensors(names[name]) if x.is_floating_point()]
            assert tensors
            assert all(x.isfinite().all() for x in tensors)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("architecture", ["Unet", "FPN", "DeepLabV3Plus"])
@pytest.mark.parametrize("network", ["sasa_resnet26", "sasav2_resnet26_hybrid"])
def test_segmentation(architecture: str, network: str) -> None:
    model = getattr(smp, architecture)(f"tu-{network}", encoder_weights=None, classes=2).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in _tensors(item)] if isinstance(value, (list, tuple)) else []
