"""The pictures of the README: attention over a photo, and the numbers under the plot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="needs the extra train")

from sasa.train import WeightsMetadata
from studies import readme_figures


def test_attention_over_the_photo(tmp_path: Path) -> None:
    metadata = WeightsMetadata(
        model="sasa_resnet26",
        options={"width_mult": 0.25, "num_heads": 4},
        classes=list("ab"),
        input_size=[3, 56, 56],
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    readme_figures.draw_photo(metadata.create_model().eval(), metadata, tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as picture:
        width, height = picture.size
    assert width > 3 * height, "a photo and four maps in one row"


def test_the_caption_has_the_numbers_of_the_plot(tmp_path: Path) -> None:
    readme_figures.draw_accuracy(tmp_path / "plot.svg")
    caption = " ".join((readme_figures.ROOT / "README.md").read_text(encoding="utf-8").split())
    for key in readme_figures.POINTS:
        ms, top1, error = readme_figures.measured(*key)
        assert re.search(f"{top1:.1f} % at {ms:.2f} ms", caption)
        assert 0 < error < 1
