"""The map-style data set of annotated images, in torchvision's convention for detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from sasa.data.detection.annotations import Objects
from sasa.data.images import convert_image

Target = dict[str, Any]
"""What is annotated in an image, as DetectionDataset describes it."""
DetectionTransform = Callable[[Image.Image, Target], tuple[Any, Target]]


class DetectionSource(Protocol):
    """Where annotated images come from, by index.

    Attributes:
        where: the source's name for messages.
        classes: label → class name.
        category_ids: label → the category's id in the annotation file and in results.
        image_ids: of each image; its length is the number of images.
        skipped: descriptions of the annotations left out.
    """

    where: str
    classes: list[str]
    category_ids: list[int]
    image_ids: Sequence[int]
    skipped: tuple[str, ...]

    def name(self, index: int) -> str:
        """What to call one image in a message, its file where there is one."""

    def file_name(self, index: int) -> str:
        """The image's name in COCO's "images" list."""

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image."""

    def objects(self, index: int) -> Objects:
        """What is annotated in one image."""

    def load(self, index: int) -> Image.Image:
        """One image in the mode it is stored in; raises BrokenImageError naming it."""


class DetectionDataset(Dataset[tuple[Any, Target]]):
    """(image, target) pairs of a source, or of a selection from it.

    A target holds, for N ≥ 0 objects:

    - boxes: BoundingBoxes (N, 4), float32, x1 y1 x2 y2 in pixels, 0 ≤ x1 < x2 ≤ width, 0 ≤ y1 < y2 ≤ height;
    - labels: (N,) int64, 0 … C - 1, as torchvision's RetinaNet with num_classes=C takes them (no background);
    - area: (N,) float32, square pixels;
    - iscrowd: (N,) int64, 1 for a region to ignore (COCO's crowds, VOC's difficult objects), else 0;
    - image_id: int.

    Attributes:
        source: where the images come from.
        transform: applied to the RGB PIL image and the target together; None leaves them as they are.
        indices: which of the source's images are in, and in which order.
        classes: label → class name.
        category_ids: label → category id.
        image_ids: of each image.
        skipped: descriptions of the annotations left out because they are invalid.
    """

    def __init__(
        self,
        source: DetectionSource,
        *,
        transform: DetectionTransform | None = None,
        indices: Sequence[int] | None = None,
    ) -> None:
        """Take the images of source named by indices, all of them by default."""
        self.source = source
        self.transform = transform
        self.indices = range(len(source.image_ids)) if indices is None else list(indices)
        self.classes = source.classes
        self.category_ids = source.category_ids
        self.image_ids = [source.image_ids[index] for index in self.indices]
        self.skipped = source.skipped

    def __len__(self) -> int:
        """Number of images, those without objects counted."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """What one image is called, its file where there is one."""
        return self.source.name(self.indices[index])

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image, without decoding it."""
        return self.source.size(self.indices[index])

    def objects(self, index: int) -> Objects:
        """What is annotated in one image, without decoding it."""
        return self.source.objects(self.indices[index])

    def image(self, index: int) -> Image.Image:
        """One RGB image without the transform.

        Raises:
            BrokenImageError: it cannot be decoded; the message names its file.
            ValueError: it has another size than its annotations say.
        """
        stored = self.source.load(self.indices[index])
        if stored.size != self.size(index):
            raise ValueError(
                f"{self.name(index)}: the image is {stored.width}×{stored.height}, but its annotations say "
                f"{'×'.join(map(str, self.size(index)))}, so its boxes would be wrong; correct one of them"
            )
        return convert_image(stored, "RGB", self.name(index))

    def target(self, index: int) -> Target:
        """One target without the transform; see the class."""
        return make_target(self.objects(index), self.image_ids[index], self.size(index))

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        """The transformed image and target; raises what image() does."""
        image, target = self.image(index), self.target(index)
        return (image, target) if self.transform is None else self.transform(image, target)

    def select(self, positions: Sequence[int], transform: DetectionTransform | None) -> DetectionDataset:
        """A data set of some of these images, in the order given, with a transform of its own.

        Args:
            positions: indices into this data set.
            transform: the selection's transform; None gives PIL images.
        """
        indices = [self.indices[position] for position in positions]
        return DetectionDataset(self.source, transform=transform, indices=indices)

    def ground_truth(self) -> dict[str, Any]:
        """All annotations as a COCO annotation file holds them, numbers as in the source's own file.

        Returns:
            A dict of the lists "images" (id, file_name, width, height), "annotations" (id from 1, image_id,
            category_id, bbox as x, y, width, height, area, iscrowd) and "categories" (id, name), ready for
            json.dump and for sasa.detection.CocoEvaluation.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for position, index in enumerate(self.indices):
            width, height = self.source.size(index)
            image_id = self.image_ids[position]
            name = self.source.file_name(index)
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            objects = self.source.objects(index)
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


def make_target(objects: Objects, image_id: int, size: tuple[int, int]) -> Target:
    """The target of one image of size (width, height); boxes are cut off at its border."""
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
    """The target as a loss wants it: the regions to ignore are left out of all its tensors."""
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
