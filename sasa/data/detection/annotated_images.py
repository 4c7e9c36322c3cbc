"""Annotated images in files, as the readers of COCO's, VOC's and YOLO's formats create them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sasa.data.detection.annotations import Faults, Id, Objects, box_fault, listed
from sasa.data.detection.frames import undecided
from sasa.data.detection.image_sizes import read_size
from sasa.data.files import FileImages, Files
from sasa.data.images import BrokenImageError
from sasa.data.orientation import turn_upright

_logger = logging.getLogger(__name__)

_ADVICE = "correct them; on_invalid='skip' leaves objects with such boxes out"


@dataclass(frozen=True)
class AnnotatedImage:
    """One image according to its annotations.

    Attributes:
        id: Its id, a label.
        file: Its file, relative to the folder or archive.
        size: Width and height in the frame of its boxes; None if the annotations do not state it.
    """

    id: Id
    file: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class AnnotatedObject:
    """One object: the index of its image, its name in messages, and the fields of `Objects`."""

    image: int
    name: str
    box: tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool


class AnnotatedImages(FileImages):
    """The annotated images of one split of a folder or archive.

    The annotations are held in a few arrays, which loader processes share.

    Args:
        files: The folder or archive with the image files.
        location: The annotation file or image set.
        folder: The folder of the images inside files; "" for the top.
        classes: Class names by label.
        category_ids: Category ids by label.
        images: The images.
        objects: The objects of all images.
        faults: The faults so far.
        on_invalid: "raise" adds invalid boxes to the faults; "skip" logs them and leaves them out.
        relative: Whether boxes and areas are shares of the upright image, as in YOLO's format.

    Attributes:
        image_ids: The id of each image.
        skipped: Descriptions of the objects that were left out.

    Raises:
        AnnotationError: There are faults.
        ValueError: The images of an archive cannot be kept (see `ArchiveFiles.keep_only`).
    """

    def __init__(
        self,
        files: Files,
        location: str,
        *,
        folder: str,
        classes: Sequence[str],
        category_ids: Sequence[Id],
        images: Sequence[AnnotatedImage],
        objects: Sequence[AnnotatedObject],
        faults: Faults,
        on_invalid: Literal["raise", "skip"],
        relative: bool = False,
    ) -> None:
        self._prefix = f"{folder}/" if folder else ""
        self.classes = list(classes)
        self.category_ids: Sequence[Id] = list(category_ids)
        self.image_ids: Sequence[Id] = [image.id for image in images]
        self._relative = relative
        sizes = [image.size for image in images]
        # What the annotations alone show is told before any image file is read.
        invalid = _box_faults(objects, sizes)
        if on_invalid == "raise" and invalid:
            faults.messages += invalid.values()
            faults.raise_any(_ADVICE)
        faults.raise_any("correct them")
        super().__init__(files, [image.file for image in images], location)
        if None in sizes:
            sizes = self._read_sizes(sizes, {entry.image for entry in objects}, faults)
            faults.raise_any("correct them")
            if relative:
                objects = [_in_pixels(entry, sizes[entry.image]) for entry in objects]
            invalid = _box_faults(objects, sizes)
            if on_invalid == "raise":
                faults.messages += invalid.values()
                faults.raise_any(_ADVICE)
        self.skipped = tuple(invalid.values())
        if invalid:
            _logger.warning("%s: objects left out: %s", location, listed(self.skipped))
        valid = [entry for number, entry in enumerate(objects) if number not in invalid]
        valid.sort(key=lambda entry: entry.image)
        self._objects = Objects.from_lists(
            [entry.box for entry in valid],
            [entry.label for entry in valid],
            [entry.area for entry in valid],
            [entry.crowd for entry in valid],
        )
        counts = np.bincount([entry.image for entry in valid], minlength=len(images))
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts])
        self._sizes = np.array(sizes).reshape(-1, 2)

    def _read_sizes(
        self, sizes: Sequence[tuple[int, int] | None], with_objects: set[int], faults: Faults
    ) -> list[tuple[int, int] | None]:
        """The sizes, those that the annotations do not state from the files."""
        complete = list(sizes)
        for index, size in enumerate(sizes):
            if size is not None:
                continue
            try:
                complete[index], turned = read_size(self._files, self._files.files[index])
            except BrokenImageError as error:
                faults.add(str(error))
            else:
                if turned != 1 and index in with_objects and not self._relative:
                    faults.add(f"{self.name(index)}: {undecided(turned)}")
        return complete

    def load(self, index: int) -> Image.Image:
        """Decode one image; raises OSError or BrokenImageError, which names the file."""
        image = super().load(index)
        return turn_upright(image, self.name(index)) if self._relative else image

    def file_name(self, index: int) -> str:
        """The name of one image file in its folder."""
        return self._files.files[index].removeprefix(self._prefix)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image according to its annotations."""
        width, height = self._sizes[index].tolist()
        return width, height

    def objects(self, index: int) -> Objects:
        """The annotated objects of one image."""
        return self._objects[slice(*self._ends[index : index + 2].tolist())]


def _box_faults(
    objects: Sequence[AnnotatedObject], sizes: Sequence[tuple[int, int] | None]
) -> dict[int, str]:
    """The faults of boxes in images whose size is known, by the number of the object."""
    faults = {}
    for number, entry in enumerate(objects):
        size = sizes[entry.image]
        fault = None if size is None else box_fault(entry.box, *size)
        if fault is not None:
            faults[number] = f"{entry.name}: {fault}"
    return faults


def _in_pixels(entry: AnnotatedObject, size: tuple[int, int] | None) -> AnnotatedObject:
    """An object whose box is given in shares of its image."""
    assert size is not None, "all sizes are known"
    (x, y, w, h), (width, height) = entry.box, size
    box = (x * width, y * height, w * width, h * height)
    return replace(entry, box=box, area=entry.area * width * height)
