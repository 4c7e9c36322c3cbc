"""Small image trees, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Writes one picture of a single gray value, folders included."""
    return write_image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """zoo/{train,val}/{bird,cat}: 3 and 2 images a class; the gray value tells them apart."""
    root = tmp_path / "zoo"
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("bird", "cat")):
            for i in range(count):
                write_image(root / split / name / f"{i}.png", 100 * label + 10 * i)
    return root
