"""Grayscale images deeper than 8 bits: scaled by the range of their values, or refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sasa.data import BrokenImageError
from sasa.data.images import convert_image, decode_image

SIXTEEN = np.array([[0, 257, 4000], [32768, 65278, 65535]], np.uint16)


def read(pixels: np.ndarray, suffix: str = "tiff", tags: dict[int, Any] | None = None) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix, **({"tiffinfo": tags} if tags else {}))
    return np.asarray(convert_image(decode_image(buffer.getvalue(), "scan"), "L", "scan"))


@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm"])
def test_sixteen_bits(suffix: str) -> None:
    assert read(SIXTEEN, suffix).tolist() == [[0, 1, 16], [128, 254, 255]]


def test_the_range_that_a_file_states() -> None:
    assert read(np.array([[0, 2048, 4095]], np.uint16), tags={340: 0, 341: 4095}).tolist() == [[0, 128, 255]]
    pixels = np.array([[-1, -0.5, 0, 1]], np.float32)
    assert read(pixels, tags={340: -1.0, 341: 1.0}).tolist() == [[0, 64, 128, 255]]


def test_white_is_zero() -> None:
    assert read(SIXTEEN, tags={262: 0}).tolist() == [[255, 254, 239], [127, 1, 0]]


def test_color_has_three_equal_channels() -> None:
    image = convert_image(Image.fromarray(SIXTEEN), "RGB", "scan")
    assert image.getpixel((2, 0)) == (16, 16, 16)


@pytest.mark.parametrize(
    ("pixels", "tags", "message"),
    [
        (np.ones((2, 2), np.float32), None, "got mode 'F' without a range; convert the file"),
        (np.ones((2, 2), np.int32), None, "got mode 'I' without a range"),
        (np.full((2, 2), 1.5, np.float32), {340: 0.0, 341: 1.0}, "in the range 0 … 1 .* got 1.5 … 1.5"),
        (np.full((2, 2), np.nan, np.float32), {340: 0.0, 341: 1.0}, "got nan … nan"),
        (np.ones((2, 2), np.float32), {340: 1.0, 341: 1.0}, "without a range"),
    ],
)
def test_refused(pixels: np.ndarray, tags: dict[int, Any] | None, message: str) -> None:
    with pytest.raises(BrokenImageError, match=rf"^scan: broken image: .*{message}"):
        read(pixels, tags=tags)
