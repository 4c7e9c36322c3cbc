"""Broken images: named when read, or left out once with a count."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sasa.data import BrokenImageError, ImageDataset, create_dataset, find_broken, read_image, train_val_split


def truncate(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-600])


FAULTS: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "PostScript": lambda path: Image.new("RGB", (8, 8)).save(path, "EPS"),
    "text": lambda path: path.write_text("<html>404</html>"),
    "no range": lambda path: Image.fromarray(np.ones((8, 8), np.float32)).save(path, "TIFF"),
}


@pytest.fixture(params=[None, "tar", "gztar", "zip"])
def pack(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """The tree as it is, or in an archive."""
    kind = request.param
    return lambda tree: Path(shutil.make_archive(str(tree) + "-packed", kind, tree)) if kind else tree


@pytest.mark.parametrize("fault", FAULTS)
def test_raise_names_the_file(tree: Path, pack: Callable[[Path], Path], fault: str) -> None:
    FAULTS[fault](tree / "train" / "cat" / "1.png")
    dataset = create_dataset(pack(tree))
    assert dataset[3][1] == 1
    with pytest.raises(BrokenImageError, match=r"train/cat/1\.png: broken image"):
        dataset[4]


@pytest.mark.parametrize("fault", FAULTS)
def test_skip_leaves_out_and_counts(
    tree: Path, pack: Callable[[Path], Path], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    FAULTS[fault](tree / "train" / "cat" / "1.png")
    with caplog.at_level(logging.WARNING, "sasa.data"):
        dataset = create_dataset(pack(tree), on_broken="skip")
    assert dataset.skipped == 1
    assert dataset.broken[0].endswith("train/cat/1.png")
    assert dataset.targets == [0, 0, 0, 1, 1]
    assert [image.getpixel((0, 0))[0] for image, _ in dataset] == [0, 10, 20, 100, 120]
    assert sum("cat/1.png" in message for message in caplog.messages) == 1


def test_parts_remember_what_was_skipped(tree: Path) -> None:
    truncate(tree / "train" / "cat" / "1.png")
    parts = train_val_split(create_dataset(tree, on_broken="skip"))  # type: ignore[arg-type]
    assert [(len(part), part.skipped) for part in parts] == [(3, 1), (2, 1)]


def test_skip_of_sound_data(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = create_dataset(tree, on_broken="skip")
    assert (len(dataset), dataset.skipped, caplog.messages) == (6, 0, [])


def test_skip_never_empties_a_class(tree: Path) -> None:
    for path in (tree / "train" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="got only broken ones of 'cat'"):
        create_dataset(tree, on_broken="skip")


def test_find_broken(tree: Path) -> None:
    truncate(tree / "train" / "bird" / "2.png")
    dataset = create_dataset(tree)
    assert isinstance(dataset, ImageDataset)
    faults = find_broken(dataset)
    assert list(faults) == [2]
    assert "bird/2.png" in faults[2]


def test_a_missing_file_is_not_a_broken_image(tree: Path) -> None:
    dataset = create_dataset(tree)
    (tree / "train" / "cat" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"cat/1\.png"):
        dataset[4]


def test_a_link_to_nothing_is_a_broken_image(tree: Path) -> None:
    (tree / "train" / "cat" / "9.png").symlink_to("gone.png")
    with pytest.raises(BrokenImageError, match=r"cat/9\.png: broken image: a link to gone\.png, which does"):
        create_dataset(tree)[6]
    assert create_dataset(tree, on_broken="skip").skipped == 1


def test_damaged_zip_member(tree: Path) -> None:
    archive = tree.parent / "stored.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        out.write(tree / "train" / "cat" / "0.png", "train/cat/0.png")
        out.write(tree / "train" / "bird" / "0.png", "train/dog/0.png")
    data = bytearray(archive.read_bytes())
    data[80] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(BrokenImageError, match=r"train/cat/0\.png: broken image: Bad CRC"):
        create_dataset(archive)[0]


def test_other_choice_is_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="on_broken: expected 'raise' or 'skip', got 'ignore'"):
        create_dataset(tree, on_broken="ignore")  # type: ignore[arg-type]


def test_read_image(tree: Path) -> None:
    path = tree / "train" / "cat" / "1.png"
    assert read_image(path).mode == "RGB"
    assert read_image(path, in_chans=1).getpixel((0, 0)) == 110
    path.write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"cat/1\.png: broken image: the file is empty"):
        read_image(path)
    with pytest.raises(
        IsADirectoryError, match=r"expected an image file, got the folder .*; give files, such as "
    ):
        read_image(tree)
    with pytest.raises(
        FileNotFoundError, match=r"expected an image file, got 'nothere\.png', which does not exist"
    ):
        read_image("nothere.png")


def test_palette_with_transparency_converts_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "palette.png", transparency=b"\x80\xff")
    assert read_image(tmp_path / "palette.png").getpixel((0, 0)) == (200, 100, 50)
