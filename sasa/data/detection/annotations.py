"""The annotated objects of an image, and the checks of every box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# How far, in pixels, a box may extend beyond its image before it is an error: files round coordinates, and
# some count pixels from 0 where VOC counts from 1.
TOLERANCE = 1.0

# A box that is less wide or high, in pixels, has no area: COCO rounds to hundredths, and fp32 can hold it
# anywhere in an image.
MIN_SIDE = 0.01

_MAX_LISTED = 5

Id = int | float | str
"""The id of an image or category in an annotation file, a label."""


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one image, in COCO's terms.

    Attributes:
        boxes: (N, 4) float64, x, y, width, height in pixels; pixel (0, 0) covers [0, 1] × [0, 1].
        labels: (N,) int64, indices into the classes, 0 ≤ label < C.
        areas: (N,) float64, the areas of the objects in pixels (of their outlines if the file has them).
        crowds: (N,) bool, whether training and evaluation ignore the region.
    """

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    crowds: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Objects:
        return Objects(self.boxes[part], self.labels[part], self.areas[part], self.crowds[part])

    @classmethod
    def from_lists(
        cls,
        boxes: Sequence[Sequence[float]],
        labels: Sequence[int],
        areas: Sequence[float],
        crowds: Sequence[bool],
    ) -> Objects:
        """Objects from lists, which may be empty."""
        return cls(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(areas, np.float64),
            np.array(crowds, np.bool_),
        )


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message lists the first faults and their number."""


@dataclass
class Faults:
    """Faults in annotations, collected to be raised together.

    Attributes:
        location: The annotation file or data set.
        messages: The faults, each with the name of its annotation.
    """

    location: str
    messages: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Add one fault."""
        self.messages.append(message)

    def raise_any(self, advice: str) -> None:
        """Raise AnnotationError if there are faults."""
        if self.messages:
            raise AnnotationError(f"{self.location}: {listed(self.messages)}\n{advice}")


def listed(faults: Sequence[str]) -> str:
    """The number of faults and the first of them, one per line."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    more = f"\n  … and {len(faults) - _MAX_LISTED:,} more" if len(faults) > _MAX_LISTED else ""
    return count + "".join(f"\n  {fault}" for fault in faults[:_MAX_LISTED]) + more


def box_fault(box: Sequence[float], width: int, height: int) -> str | None:
    """The fault of a box (x, y, width, height) in an image of that width and height; None if it has none."""
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        fault = "is not finite"
    elif w < MIN_SIDE or h < MIN_SIDE:
        fault = "has no area"
    elif x < -TOLERANCE or y < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE:
        fault = f"extends beyond its {width}×{height} image"
    elif min(x + w, width) - max(x, 0) < MIN_SIDE or min(y + h, height) - max(y, 0) < MIN_SIDE:
        fault = f"lies outside of its {width}×{height} image"
    else:
        return None
    return f"box from ({x:g}, {y:g}) to ({x + w:g}, {y + h:g}) {fault}"


def duplicates(values: Iterable[object]) -> list[object]:
    """Each value that occurs more than once, in the order of the second occurrences."""
    seen: set[object] = set()
    repeated: dict[object, None] = {}
    for value in values:
        if value in seen:
            repeated[value] = None
        seen.add(value)
    return list(repeated)
