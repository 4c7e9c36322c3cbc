"""YOLO's data sets: data.yaml, images and label files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sasa.data.detection import AnnotationError, check_categories, create_detection_dataset

YAML = (
    "path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest:  # none\n"
    "names:\n  0: cup\n  1: owl\n"
)
LABELS = {
    "train/1": "1 0.5 0.5 1 1\n\n0 0.25 0.25 0.5 0.25\n",
    "train/2": "",
    "val/3": "0 0.1 0.2 0.9 0.2 0.9 0.6\r\n",
}


@pytest.fixture
def yolo(tmp_path: Path, draw_image: Callable[..., None]) -> Path:
    """Images of 40 × 20 pixels: two for training, one of them without objects, and one for validation."""
    root = tmp_path / "mine"
    for stem, text in LABELS.items():
        draw_image(root / "images" / f"{stem}.png", 40, 20)
        label = root / "labels" / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)
    (root / "data.yaml").write_text(YAML)
    return root


def test_what_is_read(yolo: Path) -> None:
    train, val = create_detection_dataset(yolo), create_detection_dataset(yolo, "test")
    assert (train.classes, train.category_ids, train.image_ids) == (["cup", "owl"], [0, 1], [1, 2])
    image, target = train[0]
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert target["boxes"].tolist() == [[0, 0, 40, 20], [0, 2.5, 20, 7.5]]
    assert target["labels"].tolist() == [1, 0]
    assert target["area"].tolist() == [800, 100]
    assert train.target(1)["boxes"].shape == (0, 4)
    assert val.target(0)["boxes"].tolist() == [[4, 4, 36, 12]], "the box of the polygon"
    assert train.ground_truth()["images"][0] == {
        "id": 1,
        "file_name": "images/train/1.png",
        "width": 40,
        "height": 20,
    }
    check_categories(train, val)


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_archive_equals_folder(yolo: Path, kind: str) -> None:
    archive = shutil.make_archive(str(yolo) + "-packed", kind, yolo.parent, yolo.name)
    assert (
        create_detection_dataset(archive).ground_truth()["annotations"]
        == (create_detection_dataset(yolo).ground_truth()["annotations"])
    )


def test_the_yaml_file_as_source(yolo: Path) -> None:
    shutil.copy(yolo / "data.yaml", yolo / "other.yaml")
    with pytest.raises(
        ValueError, match=r"expected one data set, got several, in 'data\.yaml', 'other\.yaml'"
    ):
        create_detection_dataset(yolo)
    assert create_detection_dataset(yolo / "other.yaml").image_ids == [1, 2]
    with pytest.raises(TypeError, match="classes: expected None"):
        create_detection_dataset(yolo / "other.yaml", classes=["cup"])


def test_roboflows_layout(yolo: Path) -> None:
    """train/images beside train/labels, and entries that begin with "../"."""
    for split, name in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            (yolo / name).mkdir(exist_ok=True)
            (yolo / kind / split).rename(yolo / name / kind)
    (yolo / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: [cup, owl]\n"
        "roboflow: {license: MIT}\n"
    )
    assert create_detection_dataset(yolo).target(0)["labels"].tolist() == [1, 0]
    assert create_detection_dataset(yolo, "validation").image_ids == [1]
    with pytest.raises(
        AnnotationError, match=r"\.\./test/images: expected a folder of images or a text file"
    ):
        create_detection_dataset(yolo, "test")


@pytest.mark.parametrize("place", ["", "./", "images/"])
def test_lists_of_images(yolo: Path, place: str) -> None:
    prefix = {"": "images/", "./": "./images/", "images/": "./"}[place]
    folder = yolo / "images" if place == "images/" else yolo
    (folder / "list.txt").write_text(f"{prefix}train/1.png\n{prefix}val/3.png\n")
    entry = "images/list.txt" if place == "images/" else "list.txt"
    (yolo / "data.yaml").write_text(f"train: [{entry}]\nnames: {{'0': cup, '1': owl}}\n")
    assert [len(create_detection_dataset(yolo).objects(index)) for index in range(2)] == [2, 1]
    (folder / "list.txt").write_text("gone.png\n")
    with pytest.raises(AnnotationError, match=r"list\.txt: no image file gone\.png"):
        create_detection_dataset(yolo)


def test_images_without_label_files_have_no_objects(yolo: Path) -> None:
    (yolo / "labels" / "train" / "2.txt").unlink()
    assert len(create_detection_dataset(yolo).objects(1)) == 0
    (yolo / "labels" / "train" / "1.txt").unlink()
    with pytest.raises(AnnotationError, match=r"expected label files, such as labels/train/1\.txt, got none"):
        create_detection_dataset(yolo)


def test_labels_refer_to_the_upright_image(yolo: Path) -> None:
    for orientation in (3, 6):
        tags = Image.Exif()
        tags[0x0112] = orientation
        Image.new("L", (40, 20)).save(yolo / "images" / "train" / "1.png", exif=tags)
        image, target = create_detection_dataset(yolo)[0]
        assert image.size == ((40, 20) if orientation == 3 else (20, 40))
        assert target["boxes"][0].tolist() == [0, 0, *image.size]


def test_key_points_are_left_out(yolo: Path) -> None:
    (yolo / "data.yaml").write_text(YAML + "kpt_shape: [1, 2]\n")
    (yolo / "labels" / "train" / "1.txt").write_text("1 0.5 0.5 1 1 0.1 0.1\n")
    assert create_detection_dataset(yolo).target(0)["boxes"].tolist() == [[0, 0, 40, 20]]


FAULTS: dict[str, tuple[str, str]] = {
    "text": ("cup 0.5 0.5 1 1", "expected numbers, got 'cup 0.5 0.5 1 1'"),
    "score": ("1 0.5 0.5 1 1 0.9", "a box of 4 numbers or a polygon of 6 or more, got"),
    "short": ("1 0.5 0.5 1", "a box of 4 numbers or a polygon"),
    "half a class": ("0.5 0.5 0.5 1 1", "expected a class number"),
    "class": ("2 0.5 0.5 1 1", r"expected one of the class numbers \[0, 1\], got 2"),
    "pixels": ("1 20 10 40 20", "extends beyond its 40×20 image"),
    "no area": ("1 0.5 0.5 0 1", "has no area"),
    "not finite": ("1 nan 0.5 1 1", "is not finite"),
    "no class": ("nan 0.5 0.5 1 1", "expected a class number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(yolo: Path, fault: str) -> None:
    text, message = FAULTS[fault]
    (yolo / "labels" / "train" / "1.txt").write_text(f"1 0.5 0.5 1 1\n{text}\n")
    with pytest.raises(
        AnnotationError, match=rf"data\.yaml: 1 fault\n  labels/train/1\.txt: line 2: .*{message}"
    ):
        create_detection_dataset(yolo)


def test_skip(yolo: Path) -> None:
    (yolo / "labels" / "train" / "1.txt").write_text("1 0.5 0.5 1 1\n1 0.5 0.5 2 1\n")
    dataset = create_detection_dataset(yolo, on_invalid="skip")
    assert (len(dataset.objects(0)), len(dataset.skipped)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cup", "broken yaml"),
        ("names: 3", "names: expected the names of the classes"),
        (
            "train: images/train\nnames: [no, yes]",
            "names: class 0: expected a name, got False; put it into quotes",
        ),
        ("train: images/train\nnames: [cup, cup]", "class name 'cup' occurs more than once"),
        ("train: images/train\nnames: {a: cup}", "names: expected class numbers from 0, got 'a'"),
        ("train: images/train\nnc: 3\nnames: [cup, owl]", "nc: expected 2, the number of names, got 3"),
    ],
)
def test_faulty_descriptions(yolo: Path, text: str, message: str) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(AnnotationError, match=rf"(?s)data\.yaml: .*{message}"):
        create_detection_dataset(yolo)


def test_splits(yolo: Path) -> None:
    with pytest.raises(
        ValueError, match=r"split: expected one of 'train', 'val' for .*data\.yaml, got 'trial'"
    ):
        create_detection_dataset(yolo, "trial")
