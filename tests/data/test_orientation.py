"""A photo stored turned or mirrored, with EXIF's orientation, is read as its upright copy."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from sasa.data import create_dataset, read_image
from sasa.data.images import convert_image

STORED = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "photo.png"
    STORED.save(path, exif=exif(orientation))
    with Image.open(path) as stored:
        upright = ImageOps.exif_transpose(stored)
    assert (np.asarray(read_image(path)) == np.asarray(upright)).all()
    again = convert_image(read_image(path), "L", "photo")
    assert again.size == upright.size, "it is turned once"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    STORED.save(path, exif=exif(6))
    assert read_image(path).size == (4, 6)
    assert read_image(path, in_chans=1).size == (4, 6)


def test_orientation_in_xmp(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    STORED.save(tmp_path / "photo.jpg", xmp=xmp)
    assert read_image(tmp_path / "photo.jpg").size == (4, 6)


@pytest.mark.parametrize("kind", [None, "tar", "gztar", "zip"])
def test_data_sets(tree: Path, kind: str | None) -> None:
    STORED.save(tree / "train" / "bird" / "0.png", exif=exif(6))
    source = shutil.make_archive(str(tree) + "-packed", kind, tree) if kind else tree
    image, _ = create_dataset(source)[0]
    assert (np.asarray(image) == np.rot90(np.asarray(STORED), -1)).all()


def test_other_metadata_are_not_written_again(tmp_path: Path) -> None:
    """Pillow's exif_transpose fails on this entry, a rational where a number belongs."""
    entries = struct.pack("<HHHIIHHIII", 2, 0x0112, 3, 1, 6, 0x0128, 5, 1, 2, 0)
    STORED.save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries)
    assert read_image(tmp_path / "photo.jpg").size == (4, 6)


def test_damaged_metadata_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    STORED.save(tmp_path / "photo.png", exif=b"Exif\0\0not a header")
    with caplog.at_level(logging.WARNING, "sasa.data"):
        assert read_image(tmp_path / "photo.png").size == (6, 4)
    assert "photo.png: damaged EXIF data" in caplog.text
