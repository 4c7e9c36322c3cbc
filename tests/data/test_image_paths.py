"""Files, folders and patterns as arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from sasa.data.image_paths import find_images


def names(*arguments: Path | str, without: Path | None = None) -> list[str]:
    return [image.name for image in find_images([str(path) for path in arguments], without=without)]


def test_files_folders_and_patterns(tree: Path) -> None:
    train = tree / "train"
    (train / "notes.txt").write_text("")
    (train / "a[1].png").write_bytes(b"")
    (train / "cat" / "photo").write_bytes((train / "cat" / "0.png").read_bytes())
    (train / "cat" / "README").write_text("no image")
    assert names(train / "cat") == ["0.png", "1.png", "2.png", "photo"]
    assert names(tree / "val") == ["bird/0.png", "bird/1.png", "cat/0.png", "cat/1.png"]
    assert names(train / "b*" / "[12].png") == ["1.png", "2.png"]
    assert len(names(tree / "**" / "0.png")) == 4
    assert names(train / "notes.txt", train / "notes.txt") == ["notes.txt"] * 2, "a file has any ending"
    assert names(train / "a[1].png") == ["a[1].png"], "a file, not a pattern"


def test_a_folder_is_left_out(tree: Path) -> None:
    assert names(tree / "val", without=tree / "val" / "cat") == ["bird/0.png", "bird/1.png"]
    assert names(tree / "val" / "*" / "*.png", without=tree / "val" / "cat") == ["0.png", "1.png"]
    assert names(tree / "val" / "cat" / "0.png", without=tree / "val" / "cat") == ["0.png"], "but not a file"


def test_nothing_found(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got 'nothing\.png', which does not exist"):
        find_images(["nothing.png"])
    with pytest.raises(FileNotFoundError, match=r"expected images, got the pattern '\*\.bmp' without any"):
        find_images(["*.bmp"])
    (tree / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected images, got the folder .*empty' without any"):
        find_images([str(tree / "empty")])
