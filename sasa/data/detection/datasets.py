"""The map-style data set of annotated images, in torchvision's convention for detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from sasa.data.datasets import Source, SourceDataset
from sasa.data.detection.annotations import Id, Objects
from sasa.data.detection.frames import annotated_frame
from sasa.data.images import convert_image

Target = dict[str, Any]
"""The annotations of an image, as described in DetectionDataset."""
DetectionTransform = Callable[[Image.Image, Target], tuple[Any, Target]]


class DetectionSource(Source, Protocol):
    """Annotated images by index.

    Attributes:
        category_ids: The ids of the categories in the annotation file and in results, by label.
        image_ids: The id of each image; its length is the number of images.
        skipped: Descriptions of the objects that were left out.
    """

    category_ids: Sequence[Id]
    image_ids: Sequence[Id]
    skipped: tuple[str, ...]

    def file_name(self, index: int) -> str:
        """The name of one image in COCO's "images" list."""

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image."""

    def objects(self, index: int) -> Objects:
        """The annotated objects of one image."""


class DetectionDataset(SourceDataset[tuple[Any, Target]]):
    """(image, target) pairs of a source, or a selection of them.

    A target has, for N ≥ 0 objects:

    - boxes: BoundingBoxes (N, 4), float32, x1 y1 x2 y2 in pixels, 0 ≤ x1 < x2 ≤ width, 0 ≤ y1 < y2 ≤ height;
    - labels: (N,) int64, 0 … C - 1, as for torchvision's RetinaNet with num_classes=C (no background);
    - area: (N,) float32, in square pixels;
    - iscrowd: (N,) int64, 1 for a region to ignore (COCO's crowds, VOC's difficult objects), else 0;
    - image_id: a number or a string, as in the annotation file.

    Args:
        source: The source of the images.
        transform: Applied to each RGB PIL image and its target; None leaves them as they are.

    Attributes:
        indices: Which images of the source, in order.
        classes: Class names by label.
        category_ids: Category ids by label.
        image_ids: The id of each image.
        skipped: Descriptions of the objects that were left out because they are invalid.
    """

    source: DetectionSource
    transform: DetectionTransform | None

    def __init__(self, source: DetectionSource, *, transform: DetectionTransform | None = None) -> None:
        super().__init__(source, range(len(source.image_ids)), transform)
        self.category_ids = source.category_ids
        self.skipped = source.skipped

    def _set_indices(self, indices: Sequence[int]) -> None:
        super()._set_indices(indices)
        self.image_ids = [self.source.image_ids[index] for index in self.indices]

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image, without decoding it."""
        return self.source.size(self.indices[index])

    def objects(self, index: int) -> Objects:
        """The annotated objects of one image, without decoding it."""
        return self.source.objects(self.indices[index])

    def image(self, index: int) -> Image.Image:
        """One RGB image without the transform.

        Raises:
            BrokenImageError: It cannot be decoded; the message names its file.
            ValueError: Its size is not that of its annotations, or it does not decide whether the boxes refer
                to the stored or the upright image (EXIF).
        """
        name = self.name(index)
        stored = self.source.load(self.indices[index])
        has_objects = len(self.objects(index)) > 0
        return convert_image(annotated_frame(stored, self.size(index), has_objects, name), "RGB", name)

    def target(self, index: int) -> Target:
        """One target without the transform."""
        return make_target(self.objects(index), self.image_ids[index], self.size(index))

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        image, target = self.image(index), self.target(index)
        return (image, target) if self.transform is None else self.transform(image, target)

    def ground_truth(self) -> dict[str, Any]:
        """All annotations in the format of a COCO annotation file, with the numbers of the source's own file.

        Returns:
            A dict of the lists "images" (id, file_name, width, height), "annotations" (id from 1, image_id,
            category_id, bbox as x, y, width, height, area, iscrowd) and "categories" (id, name), ready for
            json.dump and for sasa.detection.CocoEvaluation.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for position, (index, image_id) in enumerate(zip(self.indices, self.image_ids, strict=True)):
            width, height = self.size(position)
            name = self.source.file_name(index)
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            objects = self.objects(position)
            for box, label, area, crowd in zip(
                objects.boxes.tolist(),
                objects.labels.tolist(),
                objects.areas.tolist(),
                objects.crowds.tolist(),
                strict=True,
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": self.category_ids[label],
                        "bbox": box,
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
        categories = [
            {"id": number, "name": name} for number, name in zip(self.category_ids, self.classes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}


def make_target(objects: Objects, image_id: Id, size: tuple[int, int]) -> Target:
    """The target of one image of size (width, height); boxes are clipped to the image."""
    width, height = size
    corners = np.concatenate([objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]], axis=1)
    corners = corners.clip(0, [width, height, width, height]).astype(np.float32)
    return {
        "boxes": BoundingBoxes(
            torch.from_numpy(corners), format=BoundingBoxFormat.XYXY, canvas_size=(height, width)
        ),
        "labels": torch.from_numpy(objects.labels.copy()),
        "area": torch.from_numpy(objects.areas.astype(np.float32)),
        "iscrowd": torch.from_numpy(objects.crowds.astype(np.int64)),
        "image_id": image_id,
    }


def without_crowds(target: Target) -> Target:
    """The target for a loss: the regions to ignore are removed from all of its tensors."""
    keep = target["iscrowd"] == 0
    return {key: _rows(value, keep) for key, value in target.items()}


def _rows(value: Any, keep: Tensor) -> Any:
    if isinstance(value, BoundingBoxes):
        return BoundingBoxes(value[keep], format=value.format, canvas_size=value.canvas_size)
    return value[keep] if isinstance(value, Tensor) else value


def collate_detection(batch: Sequence[tuple[Any, Target]]) -> tuple[list[Any], list[Target]]:
    """Collate for a DataLoader: a list of images, whose sizes may differ, and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
