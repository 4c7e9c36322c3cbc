"""What is annotated in one image, and the checks that every box goes through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# How far, in pixels, a box may stick out of its image before it is an error: files round coordinates, and
# some count pixels from 0 where VOC counts from 1.
TOLERANCE = 1.0

# A box less wide or high, in pixels, has no area: COCO rounds to hundredths, and 32 bits hold it anywhere.
MIN_SIDE = 0.01

_SHOWN = 5


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one image, in COCO's terms.

    Attributes:
        boxes: (N, 4) float64, x, y, width, height in pixels; pixel (0, 0) covers [0, 1] × [0, 1].
        labels: (N,) int64, indices into the classes, 0 ≤ label < C.
        areas: (N,) float64, the objects' areas in pixels (of their outlines where the file has them).
        crowds: (N,) bool, regions that training and evaluation ignore.
    """

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    crowds: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.labels)

    def __getitem__(self, part: slice) -> Objects:
        """Some of the objects, without a copy."""
        return Objects(self.boxes[part], self.labels[part], self.areas[part], self.crowds[part])

    @classmethod
    def make(
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
    """Annotations that cannot be used; the message names the file, the first faults and their number."""


@dataclass
class Faults:
    """Collects what is wrong with annotations, to raise it all at once.

    Attributes:
        where: the annotation file or data set.
        found: the faults, each naming its annotation.
    """

    where: str
    found: list[str] = field(default_factory=list)

    def add(self, fault: str) -> None:
        """Note one fault."""
        self.found.append(fault)

    def raise_any(self, hint: str = "") -> None:
        """Raise AnnotationError with the first faults and their number if there are any."""
        if self.found:
            raise AnnotationError(f"{self.where}: {listed(self.found)}{hint}")


def listed(faults: Sequence[str]) -> str:
    """The number of faults and the first of them, a line each."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    more = f"\n  … and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return count + "".join(f"\n  {fault}" for fault in faults[:_SHOWN]) + more


def box_fault(box: Sequence[float], width: int, height: int) -> str | None:
    """What is wrong with a box x, y, width, height in an image of that size; None if nothing is."""
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        fault = "is not finite"
    elif w < MIN_SIDE or h < MIN_SIDE:
        fault = "has no area"
    elif x < -TOLERANCE or y < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE:
        fault = f"sticks out of its {width}×{height} image"
    elif min(x + w, width) - max(x, 0) < MIN_SIDE or min(y + h, height) - max(y, 0) < MIN_SIDE:
        fault = f"lies outside of its {width}×{height} image"
    else:
        return None
    return f"box from ({x:g}, {y:g}) to ({x + w:g}, {y + h:g}) {fault}"


def duplicates(values: Iterable[object]) -> list[object]:
    """Each value that comes more than once, in the order in which it comes again."""
    seen: set[object] = set()
    again: dict[object, None] = {}
    for value in values:
        if value in seen:
            again[value] = None
        seen.add(value)
    return list(again)
