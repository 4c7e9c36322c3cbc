"""Boxes go where the pixels go: jitter, crop, padding, flip; crowds and slivers go."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from sasa.data.detection import (
    DetectionDataset,
    Objects,
    collate_detection,
    create_detection_dataset,
    detection_evaluation_transform,
    detection_training_transform,
)
from sasa.data.detection.datasets import make_target

MEAN = (0.2, 0.4, 0.6)


def scene(width: int, height: int, *boxes: tuple[int, int, int, int]) -> tuple[Image.Image, dict[str, Any]]:
    """A black picture with filled boxes (x, y, width, height), label l in channel l."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for label, (x, y, w, h) in enumerate(boxes):
        pixels[y : y + h, x : x + w, label] = 255
    labels, areas = list(range(len(boxes))), [w * h for *_, w, h in boxes]
    objects = Objects.from_lists(boxes, labels, areas, [False] * len(boxes))
    return Image.fromarray(pixels), make_target(objects, 4, (width, height))


def seen(image: Tensor, label: int) -> list[float] | None:
    """The box around the pixels of a label."""
    rows, columns = (image[label] > 0.5).nonzero().T
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


def test_boxes_follow_the_pixels() -> None:
    transform = detection_training_transform(64, scale=(0.6, 1.6), mean=(0, 0, 0))
    flipped = cut = smaller = 0
    for seed in range(120):
        torch.manual_seed(seed)
        image, target = transform(*scene(80, 50, (10, 12, 20, 24), (50, 20, 16, 8)))
        assert (image.shape, image.dtype, type(image)) == ((3, 64, 64), torch.float32, Tensor)
        assert set(target) == {"boxes", "labels", "image_id"}
        assert (type(target["boxes"]), type(target["labels"])) == (Tensor, Tensor)
        assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
        assert target["image_id"] == 4
        for box, label in zip(target["boxes"], target["labels"].tolist(), strict=True):
            assert (box[2:] - box[:2] >= 1).all()
            assert 0 <= box.min() <= box.max() <= 64
            around = seen(image, label)
            if around is None:  # a sliver of blended pixels alone
                assert (box[2:] - box[:2]).min() < 2
                continue
            # Half a pixel is rounding; the other half, that sides are rounded down to whole pixels.
            assert torch.allclose(box, torch.tensor(around, dtype=torch.float32), atol=1, rtol=0)
        order = [target["boxes"][target["labels"] == label, 0] for label in range(2)]
        if all(map(len, order)):
            flipped += int(order[0] > order[1])
        cut += int(((target["boxes"] == 0) | (target["boxes"] == 64))[:, ::2].any())
        smaller += int((image[0, 0] == 0).all() and (image[0, -1] == 0).all())
    assert 30 < flipped < 80
    assert cut > 10
    assert smaller > 10


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (640, 480), (33, 33)])
def test_the_longer_side_is_jittered_and_the_ratio_kept(size: tuple[int, int]) -> None:
    transform = detection_training_transform(60, hflip=0, mean=(1, 1, 1))
    sides = []
    for seed in range(60):
        torch.manual_seed(seed)
        image, target = transform(*scene(*size, (0, 0, *size)))
        # Black ground and a red box over all of it: whatever is white is padding.
        height, width = ((image < 0.99).any(0).any(axis).sum().item() for axis in (1, 0))
        assert target["boxes"].shape == (1, 4)
        sides_of_box = (target["boxes"][0, 2:] - target["boxes"][0, :2]).tolist()
        assert sides_of_box == pytest.approx([width, height], abs=1e-4)
        sides.append(max(width, height))
        if max(width, height) < 60:
            assert width / height == pytest.approx(size[0] / size[1], abs=0.08 * size[0] / size[1])
    assert min(sides) in (48, 49)
    assert max(sides) == 60
    assert 0.35 < sum(side == 60 for side in sides) / 60 < 0.65, "half of the factors are above 1"


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_a_thin_image_keeps_a_pixel(size: tuple[int, int]) -> None:
    image, target = detection_training_transform(60, scale=(0.8, 0.8))(*scene(*size, (0, 0, *size)))
    assert image.shape == (3, 60, 60)
    sides = (target["boxes"][0, 2:] - target["boxes"][0, :2]).tolist()
    assert sides == pytest.approx([1, 48] if size[0] == 1 else [48, 1])


def test_padding_has_the_mean() -> None:
    transform = detection_training_transform(40, scale=(0.5, 0.5), mean=MEAN)
    image, _ = transform(*scene(10, 10))
    white = torch.tensor(MEAN)[:, None, None]
    padding = (image == white).all(0)
    assert padding.sum() == 40 * 40 - 20 * 20
    assert (image[:, ~padding] == 0).all()


def test_evaluation_keeps_the_size() -> None:
    picture, target = scene(31, 17, (2, 3, 10, 9))
    image, same = detection_evaluation_transform()(picture, target)
    assert torch.equal(image, torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255)
    assert (type(image), type(same["boxes"])) == (Tensor, Tensor)
    assert same["boxes"].tolist() == [[2, 3, 12, 12]]
    assert set(same) == set(target)


def test_crowds_and_empty_images() -> None:
    picture, target = scene(40, 40, (0, 0, 20, 20), (10, 10, 20, 20))
    target["iscrowd"][0] = 1
    transform = detection_training_transform(40, scale=(1, 1), hflip=0)
    assert transform(picture, target)[1]["labels"].tolist() == [1]
    assert detection_evaluation_transform()(picture, target)[1]["iscrowd"].tolist() == [1, 0]
    for make in (lambda: transform, detection_evaluation_transform):
        _, empty = make()(*scene(40, 40))
        assert (empty["boxes"].shape, empty["labels"].shape) == ((0, 4), (0,))
        assert (empty["boxes"].dtype, empty["labels"].dtype) == (torch.float32, torch.int64)


def test_an_object_out_of_the_crop_goes() -> None:
    transform, counts = detection_training_transform(20, scale=(3, 3), hflip=0), set()
    for seed in range(30):
        torch.manual_seed(seed)
        _, target = transform(*scene(20, 20, (0, 0, 4, 4), (16, 16, 4, 4)))
        counts.add(len(target["boxes"]))
        assert len(target["labels"]) == len(target["boxes"])
    assert counts == {0, 1}


def _first_boxes(dataset: DetectionDataset, workers: int, seed: int) -> list[list[float]]:
    torch.manual_seed(seed)
    loader = DataLoader(dataset, 2, num_workers=workers, collate_fn=collate_detection)
    return [target["boxes"].tolist() for _, targets in loader for target in targets]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_same_seed_gives_the_same_in_loader_processes() -> None:
    transform = pickle.loads(pickle.dumps(detection_training_transform(64)))
    dataset = create_detection_dataset(length=6, transform=transform)
    runs = [_first_boxes(dataset, 1, seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: expected at least 1, got 0"),
        ({"scale": (0, 1)}, r"scale: expected a range .* got \(0, 1\)"),
        ({"scale": (1.2, 0.8)}, "scale: expected a range"),
        ({"hflip": 1.5}, r"hflip: expected a probability in \[0, 1\], got 1.5"),
        ({"mean": (0.5,)}, r"mean: expected 3 numbers, one per channel, got \(0.5,\)"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    make: Callable[..., Any] = detection_training_transform
    with pytest.raises(ValueError, match=message):
        make(**options)
