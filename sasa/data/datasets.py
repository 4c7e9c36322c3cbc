"""The map-style data set that everything else here makes, selects from and checks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from PIL import Image
from torch.utils.data import Dataset

from sasa.data.images import BrokenImageError, convert_image
from sasa.data.layout import quoted

_logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image], Any]


class ImageSource(Protocol):
    """Where images come from: names, labels and pictures, by index.

    Attributes:
        where: the source's name for messages.
        classes: index → class name.
        targets: the label of each image; its length is the number of images.
    """

    where: str
    classes: list[str]
    targets: list[int]

    def name(self, index: int) -> str:
        """What to call one image in a message, its file where there is one."""

    def load(self, index: int) -> Image.Image:
        """One image in the mode it is stored in; raises BrokenImageError naming it."""


class ImageDataset(Dataset[tuple[Any, int]]):
    """(image, label) pairs of a source, or of a selection from it.

    Attributes:
        source: where the images come from.
        mode: the images' mode, "L" or "RGB".
        transform: applied to the PIL image; None leaves it as it is.
        indices: which of the source's images are in, and in which order.
        classes: index → class name.
        targets: the labels, known without decoding an image.
        broken: names of the images left out because they cannot be decoded.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        mode: str,
        transform: Transform | None = None,
        indices: Sequence[int] | None = None,
        broken: Sequence[str] = (),
    ) -> None:
        """Take the images of source named by indices, all of them by default."""
        self.source = source
        self.mode = mode
        self.transform = transform
        self.indices = list(range(len(source.targets)) if indices is None else indices)
        self.classes = source.classes
        self.targets = [source.targets[index] for index in self.indices]
        self.broken = tuple(broken)

    @property
    def skipped(self) -> int:
        """Number of broken images left out."""
        return len(self.broken)

    def __len__(self) -> int:
        """Number of images, the broken ones that were skipped not counted."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """What one image is called, its file where there is one."""
        return self.source.name(self.indices[index])

    def image(self, index: int) -> Image.Image:
        """One image in this data set's mode, without the transform.

        Raises:
            BrokenImageError: it cannot be decoded; the message names its file.
        """
        stored = self.source.load(self.indices[index])
        return convert_image(stored, self.mode, self.name(index))

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The transformed image and its label; raises BrokenImageError naming a broken file."""
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def select(self, positions: Sequence[int], transform: Transform | None) -> ImageDataset:
        """A data set of some of these images, in the order given, with a transform of its own.

        Args:
            positions: indices into this data set.
            transform: the selection's transform; None gives PIL images.
        """
        return ImageDataset(
            self.source,
            mode=self.mode,
            transform=transform,
            indices=[self.indices[position] for position in positions],
            broken=self.broken,
        )


def find_broken(dataset: ImageDataset) -> dict[int, str]:
    """Decode every image once and return index → error message of those that fail.

    Decoding runs on as many threads as there are CPU cores.
    """

    def fault(index: int) -> str | None:
        try:
            dataset.image(index)
        except BrokenImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = list(pool.map(fault, range(len(dataset))))
    return {index: reason for index, reason in enumerate(faults) if reason is not None}


def skip_broken(dataset: ImageDataset) -> ImageDataset:
    """Leave out the images that cannot be decoded, logging a warning that names each.

    Done once, before the first step: the same images are left out in every process and epoch, the
    count (`skipped`) is known, batches keep their size and evaluation counts no image twice.

    Raises:
        ValueError: a class has no image left.
    """
    faults = find_broken(dataset)
    if not faults:
        return dataset
    for reason in faults.values():
        _logger.warning("skipped %s", reason)
    _logger.warning("%s: skipped %d of %d images", dataset.source.where, len(faults), len(dataset))
    sound = dataset.select([i for i in range(len(dataset)) if i not in faults], dataset.transform)
    sound.broken = (*dataset.broken, *(dataset.name(index) for index in faults))
    lost = set(dataset.targets) - set(sound.targets)
    if lost:
        raise ValueError(
            f"{dataset.source.where}: every image is broken of the classes "
            f"{quoted(dataset.classes[label] for label in lost)}; repair them or remove the classes"
        )
    return sound
