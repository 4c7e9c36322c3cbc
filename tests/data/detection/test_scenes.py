"""The built-in scenes: exact boxes, the same scene from the same numbers, no item in two splits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sasa.data import FASHION_MNIST_CLASSES, load_fashion_mnist
from sasa.data.detection import SceneImages, create_detection_dataset, scenes

SPLITS = ("train", "validation", "test")


def pixels(source: SceneImages, index: int) -> np.ndarray:
    return np.asarray(source.load(index))


@pytest.mark.parametrize("split", SPLITS)
def test_targets_follow_torchvisions_convention(split: str) -> None:
    dataset = create_detection_dataset("scenes", split)
    assert len(dataset) == (4000 if split == "train" else 500)
    assert dataset.classes == list(FASHION_MNIST_CLASSES)
    assert dataset.category_ids == list(range(1, 11))
    counts, labels = set(), set()
    for index in range(60):
        image, target = dataset[index]
        assert (image.mode, image.size) == ("RGB", (128, 128))
        boxes = target["boxes"]
        counts.add(len(boxes))
        labels |= set(target["labels"].tolist())
        assert (boxes.dtype, boxes.shape) == (torch.float32, (len(target["labels"]), 4))
        assert (target["labels"].dtype, target["iscrowd"].dtype) == (torch.int64, torch.int64)
        assert (target["area"].dtype, target["image_id"]) == (torch.float32, index)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 128).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert not target["iscrowd"].any()
    assert counts == {0, 1, 2, 3, 4, 5}
    assert labels == set(range(10))


def test_boxes_are_tight_around_what_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # Items of one bright gray level a class on a dark canvas: each pixel tells which item it shows.
    images, labels = load_fashion_mnist("train")
    levels = 80 + 17 * labels
    flat = np.where(images > 100, levels[:, None, None], 0).astype(np.uint8)
    monkeypatch.setattr(scenes, "load_fashion_mnist", lambda split: (flat, labels))
    monkeypatch.setattr(scenes, "_background", lambda random, size, items: np.zeros((size, size), np.uint8))
    source = SceneImages("train", max_items=1)
    items = 0
    for index in range(80):
        shown = pixels(source, index)[..., 0] > 0
        objects = source.objects(index)
        if len(objects) == 0:
            assert not shown.any()
            continue
        items += 1
        rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
        tight = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        assert objects.boxes.tolist() == [tight]
        assert objects.areas.tolist() == [shown.sum()]
        level = shown.any() and pixels(source, index).max()
        label = int(objects.labels[0])
        assert 0.7 * (80 + 17 * label) - 1 <= level <= 80 + 17 * label
    assert items > 20


def test_a_covered_item_loses_what_is_hidden() -> None:
    # Whatever lies on top, the boxes are those of the pixels that are left.
    source, covered = SceneImages("train", max_items=9), 0
    for index in range(40):
        _, _, owners, objects = source._compose(index)
        for number, (x, y, width, height) in enumerate(objects.boxes.astype(int).tolist()):
            seen = owners == number
            rows, columns = np.nonzero(seen)
            assert (columns.min(), columns.max() + 1) == (x, x + width)
            assert (rows.min(), rows.max() + 1) == (y, y + height)
            assert objects.areas[number] == seen.sum()
            later = owners[y : y + height, x : x + width] > number
            covered += bool(later.any())
    assert covered > 20


def test_overlap_is_limited() -> None:
    source = SceneImages("train", max_items=30)
    for index in range(20):
        boxes = source.objects(index).boxes
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
        common = sides.clip(0).prod(2)
        areas = boxes[:, 2:].prod(1)
        np.fill_diagonal(common, 0)
        # A box that lost a covered edge may be smaller than the one that was placed.
        assert (common <= 0.25 * np.minimum(areas[:, None], areas)).all()


def test_no_item_is_buried(monkeypatch: pytest.MonkeyPatch) -> None:
    # Even where boxes may overlap at will, the pixels of an item under others stay: 65 at scale 1 at least.
    monkeypatch.setattr(scenes, "_free", lambda *boxes: True)
    source = SceneImages("train", max_items=40)
    areas = np.concatenate([source.objects(index).areas for index in range(20)])
    assert len(areas) > 150
    assert areas.min() >= 0.8 * 65 * 0.7**2 - 1


def test_items_come_in_all_scales() -> None:
    source = SceneImages("train")
    sides = np.concatenate([source.objects(index).boxes[:, 2:].max(1) for index in range(300)])
    assert sides.min() < 0.75 * 28
    assert sides.max() > 2.25 * 28
    assert sides.max() <= 2.5 * 28


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    source, again = SceneImages("train"), SceneImages("train", length=9)
    backwards = {index: pixels(again, index) for index in reversed(range(9))}
    first = [pixels(source, index) for index in range(9)]
    assert all(np.array_equal(image, backwards[index]) for index, image in enumerate(first))
    others = [*first[1:], pixels(SceneImages("train", seed=1), 0), pixels(SceneImages("val"), 0)]
    assert not any(np.array_equal(first[0], other) for other in others)
    torch.manual_seed(7)
    np.random.seed(7)
    assert np.array_equal(pixels(SceneImages("train"), 0), first[0])


def test_splits_share_no_item() -> None:
    items = [{item.tobytes() for item in SceneImages(split)._items} for split in SPLITS]
    assert [len(SceneImages(split)._items) for split in SPLITS] == [9000, 1000, 2000]
    assert not items[0] & items[1]
    assert not items[0] & items[2]
    assert not items[1] & items[2]


def test_labels_belong_to_the_items() -> None:
    # An item of scale 1 in full brightness would be the built-in image; here it is scaled back to compare.
    images, labels = load_fashion_mnist("train")
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    source, right, seen = SceneImages("train", max_items=1), 0, 0
    for index in range(120):
        _, values, owners, objects = source._compose(index)
        if len(objects) == 0:
            continue
        x, y, width, height = objects.boxes[0].astype(int)
        part = np.where(owners >= 0, values, 0)[y : y + height, x : x + width]
        side = 28 / max(part.shape)
        small = np.zeros((28, 28))
        scaled = scenes.Image.fromarray(part).resize(
            (max(1, round(width * side)), max(1, round(height * side)))
        )
        top, left = (28 - scaled.height) // 2, (28 - scaled.width) // 2
        small[top : top + scaled.height, left : left + scaled.width] = scaled
        right += int(((small - means) ** 2).sum((1, 2)).argmin() == objects.labels[0])
        seen += 1
    assert right > 0.4 * seen, f"{right} of {seen}; 38 of 56 when measured, a tenth is chance"


def test_size_and_number_of_items() -> None:
    source = SceneImages("test", size=48, max_items=2, length=30)
    assert source.size(0) == source.load(0).size == (48, 48)
    assert {len(source.objects(index)) for index in range(30)} == {0, 1, 2}
    empty = create_detection_dataset("scenes", "test", max_items=0, length=2)
    assert empty[1][1]["boxes"].shape == (0, 4)
    assert empty.ground_truth()["annotations"] == []
    for index in range(2):
        with pytest.raises(IndexError):
            empty[index + 2]


def test_survives_pickling() -> None:
    source = SceneImages("validation", length=3)
    before = pixels(source, 2)
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(pixels(copy, 2), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tests"}, "split: expected one of train, validation, test for scenes, got 'tests'"),
        ({"split": None}, "split: expected one of .* got None"),
        ({"length": 0}, "length: expected an integer of at least 1 for scenes, got 0"),
        ({"size": 31}, "size: expected an integer of at least 32 for scenes, got 31"),
        ({"size": 64.0}, "size: expected an integer of at least 32 for scenes, got 64.0"),
        ({"max_items": -1}, "max_items: expected an integer of at least 0 for scenes, got -1"),
        ({"seed": -1}, "seed: expected an integer of at least 0 for scenes, got -1"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneImages(**options)
