"""Annotated images in files: what a reader of COCO's or VOC's format makes, and how the images are loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sasa.data.archives import ArchiveFiles
from sasa.data.detection.annotations import Faults, Objects, box_fault, listed
from sasa.data.folders import FolderFiles
from sasa.data.images import decode_image

_logger = logging.getLogger(__name__)

Files = FolderFiles | ArchiveFiles


@dataclass(frozen=True)
class AnnotatedImage:
    """One image as its annotations describe it; file is relative to the folder or archive."""

    id: int
    file: str
    width: int
    height: int


@dataclass(frozen=True)
class AnnotatedObject:
    """One object: which image it is in, what to call it in a message, and as in Objects."""

    image: int
    name: str
    box: tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool


class FileImages:
    """The annotated images of one split of a folder or archive.

    The annotations lie in a few arrays, which loader processes share.

    Attributes:
        where: the annotation file or image set.
        classes: label → class name.
        category_ids: label → category id.
        image_ids: of each image.
        skipped: descriptions of the annotations left out.
    """

    def __init__(
        self,
        files: Files,
        where: str,
        *,
        folder: str,
        classes: Sequence[str],
        category_ids: Sequence[int],
        images: Sequence[AnnotatedImage],
        objects: Sequence[AnnotatedObject],
        faults: Faults,
        on_invalid: Literal["raise", "skip"],
    ) -> None:
        """Check the boxes and keep the images' files.

        Args:
            files: where the images' files lie.
            where: what the source is called.
            folder: the images' folder inside files, "" for its top.
            classes: label → class name.
            category_ids: label → category id.
            images: the images.
            objects: the objects; an object's image is an index into images.
            faults: what was found wrong before.
            on_invalid: "raise" adds wrong boxes to the faults; "skip" logs them and leaves them out.

        Raises:
            AnnotationError: there are faults.
            ValueError: an archive's images cannot be kept (see ArchiveFiles).
        """
        self.where = where
        self._prefix = f"{folder}/" if folder else ""
        self.classes = list(classes)
        self.category_ids = list(category_ids)
        self.image_ids: Sequence[int] = [image.id for image in images]
        good, wrong = [], []
        for thing in objects:
            image = images[thing.image]
            fault = box_fault(thing.box, image.width, image.height)
            if fault is None:
                good.append(thing)
            else:
                wrong.append(f"{thing.name}: {fault}")
        if on_invalid == "raise" and wrong:
            faults.found += wrong
            faults.raise_any("\ncorrect them; on_invalid='skip' leaves objects with such boxes out")
        faults.raise_any("\ncorrect them")
        self.skipped = tuple(wrong)
        if wrong:
            _logger.warning("%s: objects left out: %s", where, listed(wrong))
        order = sorted(range(len(good)), key=lambda number: good[number].image)
        good = [good[number] for number in order]
        self._objects = Objects.make(
            [thing.box for thing in good],
            [thing.label for thing in good],
            [thing.area for thing in good],
            [thing.crowd for thing in good],
        )
        counts = np.bincount([thing.image for thing in good], minlength=len(images))
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts])
        self._sizes = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
        self._files = files
        files.keep([image.file for image in images])

    def name(self, index: int) -> str:
        """Path of one image file."""
        return self._files.name(self._files.files[index])

    def file_name(self, index: int) -> str:
        """Name of one image file in its folder."""
        return self._files.files[index].removeprefix(self._prefix)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image as its annotations give them."""
        width, height = self._sizes[index].tolist()
        return width, height

    def objects(self, index: int) -> Objects:
        """What is annotated in one image."""
        return self._objects[slice(*self._ends[index : index + 2].tolist())]

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises OSError or BrokenImageError naming the file."""
        return decode_image(self._files.read(self._files.files[index]), self.name(index))
