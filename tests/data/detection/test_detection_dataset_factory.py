"""Sources by name, their options, loaders and the checks between data sets."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from sasa.data.detection import (
    AnnotationError,
    check_categories,
    collate_detection,
    create_detection_dataset,
    without_crowds,
)


def test_scenes_are_the_default() -> None:
    dataset = create_detection_dataset(length=2)
    assert (dataset.location, len(dataset)) == ("scenes/train", 2)


@pytest.mark.parametrize(
    ("source", "hint"), [("scene", "did you mean 'scenes'"), ("quite else", "expected 'scenes', a folder")]
)
def test_unknown_source(source: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError, match=hint):
        create_detection_dataset(source)


def test_missing_path_suggests_neighbor(coco: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"did you mean '{coco}'"):
        create_detection_dataset(coco.parent / "photo")


def test_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected COCO's .*, VOC's .* or YOLO's data\.yaml, got none of them"
    ):
        create_detection_dataset(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"a folder, an archive .* or YOLO's description .*, got the file"):
        create_detection_dataset(tmp_path / "x.txt")


def test_several_data_sets(coco: Path, voc: Path) -> None:
    with pytest.raises(
        ValueError, match="expected one data set, got several, in 'cells/VOC2007', 'photos'; give"
    ):
        create_detection_dataset(coco.parent)
    assert len(create_detection_dataset(voc / "VOC2007")) == 2


def test_no_folder_of_images(coco: Path) -> None:
    (coco / "train2017").rename(coco / "elsewhere")
    with pytest.raises(
        ValueError, match=r"expected a folder of images, 'train2017' or 'images/train2017' .*, got none"
    ):
        create_detection_dataset(coco)


def test_no_images(coco: Path) -> None:
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "images": [], "annotations": []}))
    with pytest.raises(ValueError, match="expected images, got none"):
        create_detection_dataset(coco)


def test_options_of_other_sources(coco: Path) -> None:
    file = coco / "annotations" / "instances_train2017.json"
    with pytest.raises(TypeError, match=r"scene_options: expected none .* got size"):
        create_detection_dataset(coco, size=64)
    with pytest.raises(
        TypeError, match="scene_options: expected those of 'scenes', got 'lenght'; did you mean 'length'"
    ):
        create_detection_dataset(lenght=4)
    with pytest.raises(TypeError, match=r"images: expected None .* COCO annotation files \(\*\.json\), got"):
        create_detection_dataset(coco, images=coco)
    for source in ("scenes", coco, file):
        with pytest.raises(TypeError, match=r"classes: expected None .* for VOC's layout, got"):
            create_detection_dataset(source, classes=["car"])
    with pytest.raises(ValueError, match="on_invalid: expected 'raise' or 'skip', got 'clip'"):
        create_detection_dataset(coco, on_invalid="clip")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="images: expected a folder, got 'nowhere'"):
        create_detection_dataset(file, images="nowhere")
    with pytest.raises(AnnotationError, match="3 faults"):
        create_detection_dataset(file, images=coco / "val2017")


def test_transform_sees_image_and_target(coco: Path) -> None:
    dataset = create_detection_dataset(
        coco, transform=lambda image, target: (image.size, {"n": len(target["boxes"])})
    )
    assert [dataset[index] for index in range(3)] == [
        ((40, 30), {"n": 3}),
        ((20, 50), {"n": 0}),
        ((64, 64), {"n": 1}),
    ]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["folder", "scenes"])
def test_loader_processes_bring_lists(coco: Path, kind: str) -> None:
    dataset = (
        create_detection_dataset(coco) if kind == "folder" else create_detection_dataset(length=3, size=32)
    )
    dataset.transform = _as_tensor
    loader = DataLoader(dataset, 2, num_workers=1, collate_fn=collate_detection)
    batches = list(loader)
    assert [(len(images), len(targets)) for images, targets in batches] == [(2, 2), (1, 1)]
    samples = [sample for batch in batches for sample in zip(*batch, strict=True)]
    for index, (image, target) in enumerate(samples):
        expected_image, expected = dataset[index]
        assert torch.equal(image, expected_image)
        assert target["image_id"] == expected["image_id"]
        assert torch.equal(target["boxes"], expected["boxes"])
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1][0], dataset[1][0])


def _as_tensor(image: object, target: dict) -> tuple[torch.Tensor, dict]:
    return torch.tensor(image.size), target  # type: ignore[attr-defined]


def test_without_crowds(coco: Path) -> None:
    target = create_detection_dataset(coco).target(0)
    rest = without_crowds(target)
    assert rest["boxes"].tolist() == [target["boxes"][0].tolist(), target["boxes"][2].tolist()]
    assert type(rest["boxes"]) is type(target["boxes"])
    assert (rest["labels"].tolist(), rest["iscrowd"].tolist()) == ([1, 0], [0, 0])
    assert rest["area"].tolist() == [153.75, 3]
    assert rest["image_id"] == 7
    assert len(target["boxes"]) == 3


def test_check_categories(coco: Path, voc: Path) -> None:
    train, val = create_detection_dataset(coco), create_detection_dataset(coco, "val")
    check_categories(train, val)
    check_categories(train, val, num_classes=2)
    with pytest.raises(ValueError, match=r"num_classes: expected at least 2, .* got 1"):
        check_categories(train, val, num_classes=1)
    with pytest.raises(
        ValueError, match="got 'car', 'dog' in training only and 'blue', 'red', 'white' in test only"
    ):
        check_categories(train, create_detection_dataset(voc))
    with pytest.raises(ValueError, match=r"instances_train2017\.json: expected training objects, got none"):
        check_categories(train.select([1], None), val)
    with pytest.raises(ValueError, match="expected test images, got none"):
        check_categories(train, val.select([], None))
    file = coco / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text().replace('"id": 18', '"id": 2'))
    with pytest.raises(ValueError, match=r"the same numbers .*, got \{3: 'car', 18: 'dog'\} and \{2: 'dog'"):
        check_categories(train, create_detection_dataset(coco, "val"))


def test_crowds_alone_are_no_objects(voc: Path) -> None:
    train = create_detection_dataset(voc)
    file = voc / "VOC2007" / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(ValueError, match="expected training objects, got none"):
        check_categories(create_detection_dataset(voc), train)
