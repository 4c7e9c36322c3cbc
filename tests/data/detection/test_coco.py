"""COCO's annotation files: what is read, from where, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sasa.data import BrokenImageError
from sasa.data.detection import AnnotationError, DetectionDataset, create_detection_dataset

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


def same(one: DetectionDataset, other: DetectionDataset) -> bool:
    pairs = [(one[index], other[index]) for index in range(len(one))]
    return len(one) == len(other) and all(
        a.tobytes() == b.tobytes()
        and s.keys() == t.keys()
        and all(torch.equal(torch.as_tensor(s[key]), torch.as_tensor(t[key])) for key in s)
        for (a, s), (b, t) in pairs
    )


def test_what_is_read(coco: Path) -> None:
    dataset = create_detection_dataset(coco)
    assert (dataset.classes, dataset.category_ids) == (["car", "dog"], [3, 18])
    assert dataset.image_ids == [7, 3, 5]
    assert [dataset.size(index) for index in range(3)] == [(40, 30), (20, 50), (64, 64)]
    image, target = dataset[0]
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert target["boxes"].tolist() == [[1.5, 2.25, 11.5, 22.75], [0, 0, 40, 30], [5, 5, 7, 7]]
    assert target["labels"].tolist() == [1, 0, 0]
    assert target["iscrowd"].tolist() == [0, 1, 0]
    assert target["area"].tolist() == [153.75, 900, 3]
    assert target["image_id"] == 7
    assert target["boxes"].canvas_size == (30, 40)
    assert dataset.name(0) == str(coco / "train2017" / "7.png")
    assert dataset.skipped == ()


def test_an_empty_image(coco: Path) -> None:
    _, target = create_detection_dataset(coco)[1]
    assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))
    assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)


def test_a_box_that_sticks_out_by_rounding_is_cut_off_in_the_target_alone(coco: Path) -> None:
    dataset = create_detection_dataset(coco)
    assert dataset.target(2)["boxes"].tolist() == [[60.5, 0, 64, 64]]
    assert dataset.ground_truth()["annotations"][3]["bbox"] == [60.5, 0, 3.505, 64.004]


def test_ground_truth_is_the_file(coco: Path) -> None:
    content = json.loads((coco / "annotations" / "instances_train2017.json").read_text())
    truth = create_detection_dataset(coco).ground_truth()
    assert truth["images"] == content["images"]
    assert truth["categories"] == sorted(content["categories"], key=lambda category: category["id"])
    read = [{**entry, "id": 0} for entry in truth["annotations"]]
    for entry in content["annotations"]:
        del entry["segmentation"]
    assert read == [{**entry, "id": 0} for entry in content["annotations"]]
    assert [entry["id"] for entry in truth["annotations"]] == [1, 2, 3, 4]


def test_ground_truth_of_a_selection(coco: Path) -> None:
    part = create_detection_dataset(coco).select([2, 1], None)
    truth = part.ground_truth()
    assert [image["id"] for image in truth["images"]] == part.image_ids == [5, 3]
    assert [entry["image_id"] for entry in truth["annotations"]] == [5]
    assert part[0][0].size == (64, 64)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_archive_equals_folder(coco: Path, kind: str, nested: bool) -> None:
    place = (coco.parent, coco.name) if nested else (coco, None)
    archive = shutil.make_archive(str(coco.parent / "packed"), kind, *place)
    for split in ("train", "val"):
        assert same(create_detection_dataset(archive, split), create_detection_dataset(coco, split))


def test_an_annotation_file_of_any_name(coco: Path) -> None:
    file = shutil.copy(coco / "annotations" / "instances_train2017.json", coco / "mine.JSON")
    apart = create_detection_dataset(file, images=coco / "train2017")
    assert same(apart, create_detection_dataset(coco))
    beside = shutil.copy(file, coco / "train2017" / "mine.json")
    assert same(create_detection_dataset(beside, None), apart)


@pytest.mark.parametrize("folder", ["images/train2017", "images"])
def test_other_places_for_the_images(coco: Path, folder: str) -> None:
    before = [(image.tobytes(), target["boxes"].tolist()) for image, target in create_detection_dataset(coco)]
    (coco / "images").mkdir()
    (coco / "train2017").rename(coco / folder if folder != "images" else coco / "images" / "x")
    if folder == "images":
        for path in (coco / "images" / "x").iterdir():
            path.rename(coco / "images" / path.name)
    dataset = create_detection_dataset(coco)
    assert [(image.tobytes(), target["boxes"].tolist()) for image, target in dataset] == before


@pytest.mark.parametrize("split", ["train", "train2017"])
def test_names_of_the_training_split(coco: Path, split: str) -> None:
    assert len(create_detection_dataset(coco, split)) == 3


@pytest.mark.parametrize("split", ["val", "validation", "test", "val2017"])
def test_names_of_the_validation_split(coco: Path, split: str) -> None:
    assert create_detection_dataset(coco, split).image_ids == [9]


def test_split_errors(coco: Path) -> None:
    with pytest.raises(
        ValueError, match=r"split: expected one of 'train2017', 'val2017' for .*, got 'trial'"
    ):
        create_detection_dataset(coco, "trial")
    with pytest.raises(ValueError, match=r"split: expected one of 'train2017', 'val2017' .*, got None"):
        create_detection_dataset(coco, None)
    annotations = coco / "annotations"
    shutil.copy(annotations / "instances_train2017.json", annotations / "instances_train2014.json")
    with pytest.raises(ValueError, match=r"split: expected one of 'train2014', 'train2017' .*, got 'train'"):
        create_detection_dataset(coco)
    assert len(create_detection_dataset(coco, "train2017")) == 3


def test_area_and_crowd_may_be_left_out(edit: Edit) -> None:
    def strip(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            del entry["area"], entry["iscrowd"]

    target = create_detection_dataset(edit(strip)).target(0)
    assert target["area"].tolist() == [205, 1200, 4]
    assert target["iscrowd"].tolist() == [0, 0, 0]


def entry(kind: str, number: int = 0, **values: object) -> Callable[[dict[str, Any]], object]:
    """Changes values of one entry of the file; None takes a value away."""

    def change(content: dict[str, Any]) -> None:
        content[kind][number].update(values)
        for key in [key for key, value in values.items() if value is None]:
            del content[kind][number][key]

    return change


LISTED = "expected the id of a listed"
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no width": (entry("annotations", bbox=[4, 5, 0, 6]), r"annotation 100 of train2017/7\.png: .* no area"),
    "negative": (entry("annotations", bbox=[4, 5, -3, 6]), r"from \(4, 5\) to \(1, 11\) has no area"),
    "thin": (entry("annotations", bbox=[4, 5, 1e-7, 6]), "has no area"),
    "out of range": (entry("annotations", bbox=[30, 5, 11.5, 6]), "extends beyond its 40×30 image"),
    "before the image": (entry("annotations", bbox=[-1.5, 5, 9, 6]), "extends beyond its 40×30 image"),
    "beside the image": (entry("annotations", bbox=[40, 5, 0.9, 6]), "lies outside of its 40×30 image"),
    "not finite": (entry("annotations", bbox=[1, 2, float("nan"), 4]), "not finite"),
    "three numbers": (
        entry("annotations", bbox=[1, 2, 3]),
        r"annotation 100: bbox: expected a list of 4 numbers, or polygons .*, got \[1, 2, 3\]",
    ),
    "text": (
        entry("annotations", bbox=["1", 2, 3, 4]),
        r"annotation 100: bbox: expected .*, got \['1', 2, 3, 4\]",
    ),
    "no box": (entry("annotations", bbox=None), "annotation 100: bbox: expected .*, got nothing"),
    "category": (
        entry("annotations", category_id=5),
        rf"annotation 100 of .*7\.png: category_id: {LISTED} category, got 5",
    ),
    "image": (entry("annotations", image_id=44), rf"annotation 100: image_id: {LISTED} image, got 44"),
    "annotation id": (entry("annotations", 1, id=100), "annotation id 100 occurs more than once"),
    "no annotation id": (
        entry("annotations", 1, id=None),
        "annotation number 1: id: expected a number or a string, got nothing",
    ),
    "image id": (entry("images", 1, id=7), "image id 7 occurs more than once"),
    "category id": (entry("categories", 1, id=18), "category id 18 occurs more than once"),
    "category name": (entry("categories", 1, name="dog"), "category name 'dog' occurs more than once"),
    "missing image": (entry("images", 1, file_name="4.png"), r"image 3: no file .*train2017/4\.png"),
    "file elsewhere": (entry("images", file_name="../../7.png"), "image 7: no file"),
    "no file name": (entry("images", file_name=None), "image 7: file_name: expected a string, got nothing"),
    "height": (entry("images", height=0), "image 7: height: expected a positive integer, got 0"),
    "width": (entry("images", width=40.5), "image 7: width: expected a positive integer, got 40.5"),
    "huge width": (entry("images", width=10**400), "image 7: width: expected a positive integer, got 1000"),
    "huge box": (entry("annotations", bbox=[10**400, 1, 1, 1]), "annotation 100: bbox: expected a list of 4"),
    "crowd": (entry("annotations", iscrowd=2), "annotation 100: iscrowd: expected 0 or 1, got 2"),
    "area": (entry("annotations", area=-1), "annotation 100: area: expected a number of at least 0, got -1"),
    "no object": (lambda content: content["images"].append(4), "image number 3: expected an object, got 4"),
    "no categories": (
        lambda content: content.update(categories=[], annotations=[]),
        "categories: expected at least one, got none",
    ),
    "no list": (lambda content: content.pop("categories"), "lists 'images', 'annotations', 'categories'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(edit: Edit, fault: str) -> None:
    how, message = FAULTS[fault]
    with pytest.raises(AnnotationError, match=rf"(?s)instances_train2017\.json: .*{message}"):
        create_detection_dataset(edit(how))


def test_all_faults_are_told_at_once(edit: Edit) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {**content["annotations"][0], "id": number, "bbox": [0, 0, 0, number]}
            for number in range(1, 1201)
        ]
        content["images"][1]["file_name"] = "gone.png"

    with pytest.raises(AnnotationError) as caught:
        create_detection_dataset(edit(spoil))
    message = str(caught.value)
    assert "1,201 faults" in message
    assert "gone.png" in message
    assert "annotation 4 of" in message
    assert "annotation 5 of" not in message
    assert "… and 1,196 more" in message
    assert "on_invalid='skip' leaves" in message


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b"[1]", b'{"images": []}'])
def test_broken_json(coco: Path, text: bytes) -> None:
    (coco / "annotations" / "instances_train2017.json").write_bytes(text)
    with pytest.raises(AnnotationError, match=r"instances_train2017\.json: (broken json|expected COCO's)"):
        create_detection_dataset(coco)


def test_skip_leaves_out_invalid_boxes_and_says_so(edit: Edit, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [0, 0, 0, 5]
        content["annotations"][3]["bbox"] = [0, 0, 70, 5]

    with caplog.at_level(logging.WARNING, "sasa.data.detection"):
        dataset = create_detection_dataset(edit(spoil), on_invalid="skip")
    assert len(dataset) == 3
    assert dataset.target(0)["boxes"].tolist() == [[0, 0, 40, 30], [5, 5, 7, 7]]
    assert len(dataset.target(2)["boxes"]) == 0
    assert len(dataset.skipped) == 2
    assert "annotation 97 of train2017/5.png" in dataset.skipped[1]
    assert len(caplog.messages) == 1
    assert "objects left out: 2 faults" in caplog.messages[0]


def test_skip_leaves_other_faults_errors(edit: Edit) -> None:
    with pytest.raises(AnnotationError, match="listed category, got 5"):
        create_detection_dataset(edit(entry("annotations", category_id=5)), on_invalid="skip")


def test_objects_stay_with_their_images(edit: Edit) -> None:
    def shuffle(content: dict[str, Any]) -> None:
        content["annotations"].reverse()

    dataset = create_detection_dataset(edit(shuffle))
    assert [len(dataset.objects(index)) for index in range(3)] == [3, 0, 1]
    assert dataset.target(0)["boxes"][-1].tolist() == [1.5, 2.25, 11.5, 22.75]


def test_an_image_of_another_size_than_annotated(edit: Edit) -> None:
    dataset = create_detection_dataset(edit(entry("images", width=41)))
    with pytest.raises(ValueError, match=r"train2017/7\.png: expected 41×30 pixels, as annotated, got 40×30"):
        dataset[0]


def test_a_broken_image(coco: Path) -> None:
    (coco / "train2017" / "3.png").write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"train2017/3\.png: broken image"):
        create_detection_dataset(coco)[1]


@pytest.mark.parametrize("own", [str, float, lambda number: 10**20 + number])
def test_ids_are_labels(coco: Path, edit: Edit, own: Callable[[int], Any]) -> None:
    def rename(content: dict[str, Any]) -> None:
        for kind in ("images", "annotations", "categories"):
            for entry in content[kind]:
                for key in {"id", "image_id", "category_id"} & entry.keys():
                    entry[key] = own(entry[key])

    before = create_detection_dataset(coco)
    dataset = create_detection_dataset(edit(rename))
    assert dataset.image_ids == [own(7), own(3), own(5)]
    assert [type(number) for number in dataset.image_ids] == [type(own(7))] * 3
    truth = dataset.ground_truth()
    assert [entry["image_id"] for entry in truth["annotations"]] == [own(7)] * 3 + [own(5)]
    assert [category["id"] for category in truth["categories"]] == dataset.category_ids
    assert dict(zip(dataset.category_ids, dataset.classes, strict=True)) == {own(18): "dog", own(3): "car"}
    names = [[data.classes[label] for label in data.objects(0).labels] for data in (before, dataset)]
    assert names[0] == names[1]


def test_a_number_is_not_its_text(edit: Edit) -> None:
    with pytest.raises(AnnotationError, match="image_id: expected the id of a listed image, got '7'"):
        create_detection_dataset(edit(entry("annotations", image_id="7")))


@pytest.mark.parametrize("empty", ["missing", "null"])
def test_what_a_file_leaves_out(edit: Edit, empty: str) -> None:
    """Width, height, area and crowd; and a box beside polygons."""

    def strip(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = [[1, 2, 9, 2, 9, 12.5], [4, 20, 5, 22, 4, 21]]
        del content["annotations"][1]
        for kind, keys in (("images", ("width", "height")), ("annotations", ("area", "iscrowd"))):
            for entry in content[kind]:
                for key in keys:
                    entry.update({key: None}) if empty == "null" else entry.pop(key)
        content["annotations"][0].update({"bbox": None}) if empty == "null" else content["annotations"][
            0
        ].pop("bbox")

    dataset = create_detection_dataset(edit(strip))
    assert [dataset.size(index) for index in range(3)] == [(40, 30), (20, 50), (64, 64)]
    target = dataset[0][1]
    assert target["boxes"].tolist() == [[1, 2, 9, 22], [5, 5, 7, 7]]
    assert target["area"].tolist() == [160, 4]
    assert target["iscrowd"].tolist() == [0, 0]


def test_a_size_from_the_file_is_checked(coco: Path, edit: Edit) -> None:
    def strip(content: dict[str, Any]) -> None:
        for entry in content["images"]:
            del entry["width"]
        content["annotations"][0]["bbox"] = [30, 5, 11.5, 6]

    with pytest.raises(AnnotationError, match=r"annotation 100 of .*extends beyond its 40×30 image"):
        create_detection_dataset(edit(strip))
    assert len(create_detection_dataset(coco, on_invalid="skip").skipped) == 1
    (coco / "train2017" / "7.png").write_bytes(b"no image")
    with pytest.raises(AnnotationError, match=r"7\.png: broken image: its size cannot be read"):
        create_detection_dataset(coco)


@pytest.mark.parametrize("kind", ["folder", "tar", "gztar", "zip"])
def test_a_turned_photo_without_a_size(coco: Path, edit: Edit, kind: str) -> None:
    """Its boxes may be in the stored or the upright image; without boxes that does not matter."""
    tags = Image.Exif()
    tags[0x0112] = 6
    for name in ("7.png", "3.png"):
        with Image.open(coco / "train2017" / name) as image:
            image.save(coco / "train2017" / name, exif=tags)

    def strip(content: dict[str, Any]) -> None:
        for entry in content["images"]:
            del entry["width"], entry["height"]

    edit(strip)
    source = coco if kind == "folder" else shutil.make_archive(str(coco) + "-packed", kind, coco)
    with pytest.raises(
        AnnotationError, match=r"1 fault\n.*7\.png: EXIF orientation 6: .* does not decide which"
    ):
        create_detection_dataset(source)
    edit(lambda content: content["annotations"].__delitem__(slice(3)))
    source = coco if kind == "folder" else shutil.make_archive(str(coco) + "-packed", kind, coco)
    dataset = create_detection_dataset(source)
    assert [dataset.size(index) for index in range(3)] == [(30, 40), (50, 20), (64, 64)]
    assert dataset[1][0].size == (50, 20)


@pytest.mark.parametrize(
    "name",
    [
        "train2017/7.png",
        "./7.png",
        "data/train2017/7.png",
        "C:\\data\\train2017\\7.png",
        "/old/train2017/7.png",
    ],
)
def test_file_names_with_their_folder(coco: Path, edit: Edit, name: str) -> None:
    dataset = create_detection_dataset(edit(entry("images", file_name=name)))
    assert dataset.name(0) == str(coco / "train2017" / "7.png")
    file = coco / "annotations" / "instances_train2017.json"
    assert create_detection_dataset(file, images=coco / "train2017").name(0) == dataset.name(0)


def test_file_names_with_another_folder(edit: Edit) -> None:
    with pytest.raises(AnnotationError, match=r"image 7: no file .*train2017/val2017/7\.png"):
        create_detection_dataset(edit(entry("images", file_name="val2017/7.png")))


def test_one_file_for_two_images(edit: Edit) -> None:
    with pytest.raises(AnnotationError, match=r"one entry for a file, got several for train2017/7\.png"):
        create_detection_dataset(edit(entry("images", 1, file_name="train2017/7.png")))


@pytest.fixture
def roboflow(coco: Path) -> Path:
    """train and valid with _annotations.coco.json beside the images, and the category of the group of all."""
    for name, split in (("train2017", "train"), ("val2017", "valid")):
        file = coco / "annotations" / f"instances_{name}.json"
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["supercategory"] = "dog"
        content["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
        (coco / name).rename(coco / split)
        (coco / split / "_annotations.coco.json").write_text(json.dumps(content))
        file.unlink()
    return coco


@pytest.mark.parametrize("kind", ["folder", "zip", "nested zip"])
def test_roboflows_layout(roboflow: Path, kind: str) -> None:
    source: Path | str = roboflow
    if kind != "folder":
        place = (roboflow.parent, roboflow.name) if "nested" in kind else (roboflow, None)
        source = shutil.make_archive(str(roboflow.parent / "packed"), "zip", *place)
    train, valid = (create_detection_dataset(source, split) for split in ("train", "validation"))
    assert (train.classes, train.category_ids) == (["car", "dog"], [3, 18])
    assert (train.image_ids, valid.image_ids) == ([7, 3, 5], [9])
    assert train[0][0].size == (40, 30)
    assert create_detection_dataset(source, "test").image_ids == [9]
    with pytest.raises(ValueError, match="split: expected one of 'train', 'valid'"):
        create_detection_dataset(source, None)


def test_one_split_of_roboflows_layout(roboflow: Path) -> None:
    assert create_detection_dataset(roboflow / "train", None).image_ids == [7, 3, 5]


def test_a_group_with_annotations_is_a_class(roboflow: Path) -> None:
    file = roboflow / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 0
    file.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="category name 'dog' occurs more than once"):
        create_detection_dataset(roboflow)
