"""Boxes drawn on images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sasa.report import DrawnBoxes, draw_box_rows, draw_boxes

BLUE = (86, 180, 233)  # of class 1


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_box_lies_where_it_should(tmp_path: Path) -> None:
    """320 × 160 is enlarged twofold."""
    image = np.zeros((160, 320, 3), np.uint8)
    out = draw_boxes(image, DrawnBoxes([[40, 60, 200, 120]], [1], [""]), tmp_path / "x.png")
    picture = pixels(out)
    assert picture.shape == (320, 640, 3)
    rows, columns = np.nonzero((np.abs(picture.astype(int) - BLUE) < 30).all(-1))
    assert abs(rows.min() - 120) <= 3
    assert abs(rows.max() - 240) <= 3
    assert abs(columns.min() - 80) <= 3
    assert abs(columns.max() - 400) <= 3


def test_large_images_keep_their_size(tmp_path: Path) -> None:
    image = np.full((500, 900, 3), 255, np.uint8)
    assert pixels(draw_boxes(image, DrawnBoxes([], [], []), tmp_path / "x.png")).shape == (500, 900, 3)


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3)])
def test_a_thin_image_has_a_picture(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    boxes = DrawnBoxes([[0, 0, shape[1], shape[0]]], [1], ["line"])
    assert pixels(draw_boxes(np.zeros(shape, np.uint8), boxes, tmp_path / "x.png")).shape == shape


def test_captions_grow_with_large_images(tmp_path: Path) -> None:
    """From 1280 pixels on they take the same part of the image; the box, seen by its caption, has no size."""
    heights = []
    for side in (1280, 2560):
        image = np.zeros((side // 2, side, 3), np.uint8)
        place = [[side // 4, side // 4, side // 4, side // 4]]
        picture = pixels(draw_boxes(image, DrawnBoxes(place, [1], ["cup"]), tmp_path / f"{side}.png"))
        assert picture.shape == image.shape
        rows, _ = np.nonzero(picture[..., 2] > 100)
        heights.append((rows.max() - rows.min()) / side)
    assert heights[0] > 0.01
    assert abs(heights[1] / heights[0] - 1) < 0.1


def test_rows_of_images_of_several_sizes(tmp_path: Path) -> None:
    images = [np.zeros((30, 60, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    none, one = DrawnBoxes([], [], []), DrawnBoxes([[5, 5, 20, 20]], [1], ["cup"])
    empty = draw_box_rows(images, {"annotated": [none, none], "detected": [none, none]}, tmp_path / "a.png")
    full = draw_box_rows(images, {"annotated": [none, none], "detected": [none, one]}, tmp_path / "b.png")
    blue = [(pixels(path) == BLUE).all(-1) for path in (empty, full)]
    assert not blue[0].any()
    rows, columns = np.nonzero(blue[1])
    height, width = blue[1].shape
    assert rows.min() > height / 2, "in the second row"
    assert columns.min() > width / 2, "in the second image"
