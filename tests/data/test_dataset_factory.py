"""Folders and archives: the same images and labels from each, and clear errors."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from sasa.data import create_dataset, tars

FORMATS = {"tar": ".tar", "gztar": ".tar.gz", "bztar": ".tar.bz2", "xztar": ".tar.xz", "zip": ".zip"}


def pack(folder: Path, kind: str, base: str | None = None) -> Path:
    """Pack folder's content, or folder itself under its name when base is given."""
    target = folder.parent / f"packed-{folder.name}-{base or 'flat'}"
    root = folder.parent if base else folder
    return Path(shutil.make_archive(str(target), kind, root, base))


def gray(dataset: object) -> list[tuple[int, int]]:
    return [(image.getpixel((0, 0))[0], label) for image, label in dataset]  # type: ignore[attr-defined]


def test_folder_agrees_with_torchvision(tree: Path) -> None:
    ours, theirs = create_dataset(tree, "train"), ImageFolder(str(tree / "train"))
    assert ours.classes == theirs.classes == ["bird", "cat"]
    assert ours.targets == theirs.targets == [0, 0, 0, 1, 1, 1]
    assert [ours.name(i) for i in range(6)] == [path for path, _ in theirs.samples]
    assert gray(ours) == [(0, 0), (10, 0), (20, 0), (100, 1), (110, 1), (120, 1)]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_archive_agrees_with_folder(tree: Path, kind: str, nested: bool) -> None:
    archive = pack(tree, kind, tree.name if nested else None)
    assert archive.name.endswith(FORMATS[kind])
    for split in ("train", "val"):
        folder, packed = create_dataset(tree, split), create_dataset(archive, split)
        assert packed.classes == folder.classes
        assert gray(packed) == gray(folder)
        assert packed.name(0).startswith(f"{archive}:")
        assert packed.name(0).endswith("bird/0.png")


@pytest.mark.parametrize("kind", ["gztar", "zip"])
def test_no_split(tree: Path, kind: str) -> None:
    train = tree / "train"
    assert gray(create_dataset(train, None)) == gray(create_dataset(tree, "train"))
    assert gray(create_dataset(pack(train, kind), None)) == gray(create_dataset(tree, "train"))
    assert gray(create_dataset(pack(train, kind, "train"), None)) == gray(create_dataset(tree, "train"))


def test_split_none_refuses_splits_as_classes(tree: Path) -> None:
    with pytest.raises(
        ValueError, match=r"split: expected the name of a split, as .* contains 'train', 'val', got None"
    ):
        create_dataset(tree, None)


@pytest.mark.parametrize("split", ["val", "validation", "test"])
def test_validation_folder_serves(tree: Path, split: str) -> None:
    assert len(create_dataset(tree, split)) == 4


def test_test_folder_is_never_validation(tree: Path, draw: Callable[..., Path]) -> None:
    for name in ("bird", "cat"):
        draw(tree / "test" / name / "0.png")
    assert len(create_dataset(tree, "test")) == 2
    shutil.rmtree(tree / "val")
    with pytest.raises(
        ValueError, match=r"split: expected a folder of .* \('test', 'train'\), got 'validation'"
    ):
        create_dataset(tree, "validation")


def test_missing_split_suggests(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"got 'trian' .*; did you mean 'train'\\?"):
        create_dataset(tree, "trian")


def test_channels(tree: Path) -> None:
    assert create_dataset(tree)[0][0].mode == "RGB"
    assert create_dataset(tree, in_chans=1)[0][0].mode == "L"
    with pytest.raises(ValueError, match=r"in_chans: expected 1 .* or 3 .*, got 4"):
        create_dataset(tree, in_chans=4)


def test_transform(tree: Path) -> None:
    assert create_dataset(tree, transform=lambda image: image.size)[0] == ((12, 8), 0)


@pytest.mark.parametrize("kind", [None, "tar", "zip"])
def test_hidden_and_other_files_are_left_out(tree: Path, draw: Callable[..., Path], kind: str | None) -> None:
    train = tree / "train"
    draw(train / "cat" / "._0.png")
    draw(train / ".cache" / "0.png")
    draw(train / "__MACOSX" / "0.png")
    (train / "cat" / "notes.txt").write_text("not an image")
    (train / "README").write_text("not a class")
    draw(train / "cat" / "more" / "9.PNG", 99)
    dataset = create_dataset(tree if kind is None else pack(tree, kind), "train")
    assert dataset.classes == ["bird", "cat"]
    assert len(dataset) == 7
    assert (99, 1) in gray(dataset)


@pytest.mark.parametrize("kind", [None, "tar", "gztar", "zip"])
def test_empty_class_folder(tree: Path, kind: str | None) -> None:
    (tree / "train" / "dog").mkdir()
    with pytest.raises(ValueError, match="in every class folder, got none in 'dog'"):
        create_dataset(tree if kind is None else pack(tree, kind), "train")


def test_no_images_at_all(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="expected one folder of images per class"):
        create_dataset(tmp_path, "train")


@pytest.mark.parametrize("kind", [None, "tar", "gztar", "zip"])
def test_all_that_pillow_decodes_is_read(
    tree: Path, kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("x.gif", "x.jfif", "x.tga", "x.jp2", "x"):
        image = Image.new("RGB", (12, 8))
        image.save(tree / "train" / "cat" / name, format=None if "." in name else "JPEG")
    for name in ("notes.txt", "more.TXT", "list", "empty"):
        (tree / "train" / "cat" / name).write_text("" if name == "empty" else "not an image")
    dataset = create_dataset(tree if kind is None else pack(tree, kind))
    assert len([image for image, _ in dataset]) == 11
    assert [message.partition("left out ")[2] for message in caplog.messages] == [
        "files that are not images: 2 .txt, 2 without an ending"
    ]


def test_a_level_too_many(tree: Path) -> None:
    (tree / "train").rename(tree / "images")
    (tree / "train").mkdir()
    (tree / "images").rename(tree / "train" / "images")
    message = r"two or more classes, got only 'images'; if the classes .*\('bird', 'cat'\), move these up"
    with pytest.raises(ValueError, match=message):
        create_dataset(tree)


def test_one_class(tree: Path) -> None:
    shutil.rmtree(tree / "train" / "cat")
    with pytest.raises(ValueError, match=r"two or more classes, got only 'bird'; each class needs a folder"):
        create_dataset(tree)


def test_images_without_class_folder(tree: Path, draw: Callable[..., Path]) -> None:
    draw(tree / "train" / "stray.png")
    with pytest.raises(ValueError, match=r"'stray\.png'"):
        create_dataset(tree, "train")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("fashion_mnist", "'fashion-mnist'"),
        ("Fashion-MNIST", "'fashion-mnist'"),
        ("hdfs/cifar10", "'hfds/cifar10'"),
        (
            "quite another thing",
            "expected 'fashion-mnist', a folder, an archive .* got 'quite another thing', which",
        ),
    ],
)
def test_unknown_source_suggests(source: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError, match=hint):
        create_dataset(source)


def test_missing_path_suggests_neighbor(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"did you mean '{tree}'"):
        create_dataset(tree.parent / "zooo")


def test_file_that_is_no_archive(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"expected .* an archive .*, got the file"):
        create_dataset(tree / "train" / "cat" / "0.png")


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_archive(tree: Path, kind: str) -> None:
    archive = pack(tree, kind)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot read the archive"):
        create_dataset(archive)


def test_links_in_a_tar_are_refused(tree: Path) -> None:
    (tree / "train" / "cat" / "same.png").symlink_to("0.png")
    with pytest.raises(ValueError, match=r"got the link .*same\.png'; pack .*--dereference"):
        create_dataset(pack(tree, "tar"))


def test_member_names_with_a_leading_dot(tree: Path) -> None:
    path = tree.parent / "dots.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tree, ".")
    assert create_dataset(path).classes == ["bird", "cat"]


def test_compressed_tar_too_large_for_memory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_COMPRESSED_BYTES", 100)
    with pytest.raises(ValueError, match=r"read into memory.*unpack it"):
        create_dataset(pack(tree, "gztar"))
    assert len(create_dataset(pack(tree, "tar"))) == 6


def test_reader_options_need_a_reader(tree: Path) -> None:
    with pytest.raises(TypeError, match=r"reader_options: expected none .* got download"):
        create_dataset(tree, download=True)
