"""A tiny sweep: two window sizes, images of 8 × 8 pixels, one epoch of two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sasa.train.ablation import inference_time

SWEEP = """
title: Two windows
paper: Table 4
config:
  model: {name: sasa_resnet26_convstem}
cells:
  - {name: k = 3, paper: 76.4, model: {options: {kernel_size: 3}}}
  - {name: k = 5, paper: 77.2, model: {options: {kernel_size: 5}}}
claims:
  - [k = 5, k = 3]
"""


@pytest.fixture(scope="session", autouse=True)
def short_turns() -> Iterator[None]:
    """Inference is timed no longer than a batch a turn, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_time, "TURN_SECONDS", 1e-9)
        yield


@pytest.fixture(scope="session")
def images(write_images: Callable[[int], Path]) -> Path:
    """The images of 8 × 8 pixels."""
    return write_images(8)


@pytest.fixture(scope="session")
def recipe(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for the images."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(
        "model: {options: {width_mult: 0.125, num_heads: 1, stem_stride: 1}}\n"
        f"data: {{source: {images}, input_size: 8, val_fraction: 0.2}}\n"
        "optimizer: {batch_size: 8, epochs: 1, lr_base: 20, warmup_epochs: 0.5}\n"
        "runtime: {accelerator: cpu}\n"
    )
    return path


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sweep's file."""
    path = tmp_path_factory.mktemp("sweeps") / "two.yaml"
    path.write_text(SWEEP)
    return str(path)
