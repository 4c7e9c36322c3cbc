"""Map-style data sets of images with a source, and the images of them that cannot be decoded."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from PIL import Image
from torch.utils.data import Dataset

from sasa.data.images import BrokenImageError, convert_image
from sasa.data.layout import quoted

if TYPE_CHECKING:
    from typing_extensions import Self

_logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image], Any]

_Item = TypeVar("_Item", covariant=True)


class Source(Protocol):
    """Images by index.

    Attributes:
        location: The name of the source in messages, such as its path.
        classes: Class names by label.
    """

    location: str
    classes: list[str]

    def name(self, index: int) -> str:
        """The name of one image in messages: its file, if it has one."""

    def load(self, index: int) -> Image.Image:
        """One image in its stored mode; raises BrokenImageError, which names the image."""


class ImageSource(Source, Protocol):
    """Labeled images by index.

    Attributes:
        targets: The label of each image; its length is the number of images.
    """

    targets: list[int]


class SourceDataset(Dataset[_Item]):
    """Images of a source, or a selection of them; the base of the data sets for classification and detection.

    Attributes:
        source: The source of the images.
        indices: Which images of the source, in order.
        transform: Applied to each image, or to image and target; None leaves them as they are.
        classes: Class names by label.
    """

    source: Source
    transform: Callable[..., Any] | None

    def __init__(
        self, source: Source, indices: Sequence[int], transform: Callable[..., Any] | None = None
    ) -> None:
        self.source = source
        self.transform = transform
        self.classes = source.classes
        self._set_indices(indices)

    def _set_indices(self, indices: Sequence[int]) -> None:
        self.indices = list(indices)

    @property
    def location(self) -> str:
        """The name of the source in messages."""
        return self.source.location

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """The name of one image in messages: its file, if it has one."""
        return self.source.name(self.indices[index])

    def select(self, positions: Sequence[int], transform: Callable[..., Any] | None) -> Self:
        """A data set of some of these images, in the given order, with its own transform.

        Args:
            positions: Indices into this data set.
            transform: The transform of the selection; None gives PIL images.
        """
        selection = copy.copy(self)
        selection.transform = transform
        selection._set_indices([self.indices[position] for position in positions])
        return selection


class ImageDataset(SourceDataset[tuple[Any, int]]):
    """(image, label) pairs of a source, or a selection of them.

    Args:
        source: The source of the images.
        mode: The mode of the images, "L" or "RGB".
        transform: Applied to each PIL image; None leaves it as it is.

    Attributes:
        indices: Which images of the source, in order.
        classes: Class names by label.
        targets: The label of each image, known without decoding it.
        broken: Names of the images that were left out because they cannot be decoded.
    """

    source: ImageSource
    transform: Transform | None

    def __init__(self, source: ImageSource, *, mode: str, transform: Transform | None = None) -> None:
        super().__init__(source, range(len(source.targets)), transform)
        self.mode = mode
        self.broken: tuple[str, ...] = ()

    def _set_indices(self, indices: Sequence[int]) -> None:
        super()._set_indices(indices)
        self.targets = [self.source.targets[index] for index in self.indices]

    @property
    def skipped(self) -> int:
        """The number of broken images that were left out."""
        return len(self.broken)

    def image(self, index: int) -> Image.Image:
        """One image in the mode of this data set, without the transform.

        Raises:
            BrokenImageError: It cannot be decoded; the message names its file.
        """
        stored = self.source.load(self.indices[index])
        return convert_image(stored, self.mode, self.name(index))

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def find_broken(dataset: ImageDataset) -> dict[int, str]:
    """Decode every image once, on as many threads as there are CPU cores.

    Returns:
        The error message of each image that cannot be decoded, by its index.
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
    """Leave out the images that cannot be decoded, with a warning in the log for each.

    This is done once, before the first step: all processes and epochs leave out the same images, their number
    (`skipped`) is known, batches keep their size, and evaluation counts no image twice.

    Raises:
        ValueError: A class has no image left.
    """
    faults = find_broken(dataset)
    if not faults:
        return dataset
    for reason in faults.values():
        _logger.warning("skipped %s", reason)
    _logger.warning("%s: skipped %d of %d images", dataset.location, len(faults), len(dataset))
    intact = dataset.select([i for i in range(len(dataset)) if i not in faults], dataset.transform)
    intact.broken = (*dataset.broken, *(dataset.name(index) for index in faults))
    lost = set(dataset.targets) - set(intact.targets)
    if lost:
        names = quoted(dataset.classes[label] for label in lost)
        raise ValueError(
            f"{dataset.location}: expected an intact image of every class, got only broken ones of {names}; "
            "repair them or remove the classes"
        )
    return intact
