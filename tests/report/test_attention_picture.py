"""Attention drawn over images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sasa.report import draw_attention

IMAGES = np.zeros((2, 8, 8), dtype=np.float32)


def views(row: int) -> dict[str, np.ndarray]:
    view = np.zeros((2, 3, 4, 4), dtype=np.float32)
    view[:, :, row, 1] = 1
    return {"layer1.0.spatial": view}


def draw(path: Path, row: int = 0, **options: object) -> np.ndarray:
    return np.asarray(Image.open(draw_attention(IMAGES, views(row), path, query=(0.5, 0.5), **options)))  # type: ignore[arg-type]


def test_the_picture_shows_where_the_weights_are(tmp_path: Path) -> None:
    top, bottom = draw(tmp_path / "top.png", 0), draw(tmp_path / "bottom.png", 3)
    assert top.shape == bottom.shape
    differs = np.flatnonzero((top != bottom).any(axis=(1, 2)))
    assert differs.size > 0
    yellow = [np.flatnonzero((p[..., 0] > 150) & (p[..., 2] < 80) & (p[..., 1] > 140)) for p in (top, bottom)]
    assert yellow[0].mean() < yellow[1].mean()


def test_a_column_for_each_head(tmp_path: Path) -> None:
    mean = draw(tmp_path / "mean.png")
    heads = draw(tmp_path / "heads.png", heads=[0, 2])
    assert heads.shape[0] == mean.shape[0]
    assert heads.shape[1] == pytest.approx(mean.shape[1] * 3 / 2, rel=0.02)


def test_color_images(tmp_path: Path) -> None:
    red = np.zeros((1, 8, 8, 3), dtype=np.float32)
    red[..., 0] = 1
    only = {"stem": np.ones((1, 1, 2, 2), dtype=np.float32)}
    out = draw_attention(red, only, tmp_path / "red.png", query=(0, 0))
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert ((picture == (255, 0, 0)).all(-1)).sum() > 1000


def test_outside_of_the_window_the_image_is_as_it_was(tmp_path: Path) -> None:
    """One of sixteen parts has weight: fifteen are the image's own color, in the right one of two panels."""
    gray = np.full((1, 8, 8), 0.8, dtype=np.float32)
    view = {name: weights[:1] for name, weights in views(0).items()}
    out = draw_attention(gray, view, tmp_path / "gray.png", query=(0.9, 0.9))
    picture = np.asarray(Image.open(out).convert("RGB"))
    unchanged = (picture == 204).all(-1)
    left, right = unchanged[:, : picture.shape[1] // 2].sum(), unchanged[:, picture.shape[1] // 2 :].sum()
    assert right / left == pytest.approx(15 / 16, abs=0.02)


def test_a_head_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"heads: expected 0 to 2 for layer1\.0\.spatial, got 3"):
        draw(tmp_path / "no.png", heads=[3])
