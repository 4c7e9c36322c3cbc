"""Annotated images in files, as the readers of COCO's and VOC's formats create them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sasa.data.detection.annotations import Faults, Objects, box_fault, listed
from sasa.data.files import FileImages, Files

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotatedImage:
    """One image according to its annotations; `file` is relative to the folder or archive."""

    id: int
    file: str
    width: int
    height: int


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
        category_ids: Sequence[int],
        images: Sequence[AnnotatedImage],
        objects: Sequence[AnnotatedObject],
        faults: Faults,
        on_invalid: Literal["raise", "skip"],
    ) -> None:
        self._prefix = f"{folder}/" if folder else ""
        self.classes = list(classes)
        self.category_ids = list(category_ids)
        self.image_ids: Sequence[int] = [image.id for image in images]
        valid, invalid = [], []
        for entry in objects:
            image = images[entry.image]
            fault = box_fault(entry.box, image.width, image.height)
            if fault is None:
                valid.append(entry)
            else:
                invalid.append(f"{entry.name}: {fault}")
        if on_invalid == "raise" and invalid:
            faults.messages += invalid
            faults.raise_any("correct them; on_invalid='skip' leaves objects with such boxes out")
        faults.raise_any("correct them")
        self.skipped = tuple(invalid)
        if invalid:
            _logger.warning("%s: objects left out: %s", location, listed(invalid))
        valid.sort(key=lambda entry: entry.image)
        self._objects = Objects.from_lists(
            [entry.box for entry in valid],
            [entry.label for entry in valid],
            [entry.area for entry in valid],
            [entry.crowd for entry in valid],
        )
        counts = np.bincount([entry.image for entry in valid], minlength=len(images))
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts])
        self._sizes = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
        super().__init__(files, [image.file for image in images], location)

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
