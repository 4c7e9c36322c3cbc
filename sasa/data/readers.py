"""Map-style data sets by timm's names: torchvision ("torch/…") and Hugging Face ("hfds/…")."""

from __future__ import annotations

import importlib.util
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.readers.reader_factory import create_reader

from sasa.data.images import DECODE_ERRORS, BrokenImageError, decode_image
from sasa.errors import require

_PACKAGES = {
    "hfds": "datasets",
    "hfids": "datasets",
    "wds": "webdataset",
    "tfds": "tensorflow_datasets",
}

# timm takes every split but "train" as the test split of these; we refuse other names.
_TRAIN_OR_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
# timm falls back to the whole folder if the split is missing.
_FOLDERS = ("folder", "image_folder")


def require_package(source: str) -> None:
    """Raise ModuleNotFoundError with what to install if the package of a source's reader is missing."""
    package = _PACKAGES.get(source.partition("/")[0])
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"source {source!r} needs the package {package!r}: pip install {package}", name=package
        )


class TorchvisionImages:
    """A data set of torchvision by timm's name, such as "torch/cifar10".

    Args:
        source: timm's name.
        split: The name of the split.
        options: For timm.data.create_dataset (root, download, …).

    Attributes:
        location: Source and split.
        classes: torchvision's class names.
        targets: The label of each image.

    Raises:
        ValueError: timm does not know the name, or the data set has no such split, class names or labels.
    """

    def __init__(self, source: str, split: str | None, **options: Any) -> None:
        name = source.partition("/")[2].lower()
        if split is None or (name in _TRAIN_OR_TEST and split not in ("train", "test")):
            raise ValueError(
                f"split: expected 'train' or 'test' for {source}, got {split!r}; for validation, split the "
                "training images (sasa.data.train_val_split)"
            )
        require(name not in _FOLDERS, "source", "the folder itself", source)
        try:
            self._dataset = create_dataset(source, split=split, **options)
        except AssertionError as error:
            raise ValueError(
                f"source: expected a data set that timm supports, got {source!r}: {error}"
            ) from error
        labeled = hasattr(self._dataset, "classes") and hasattr(self._dataset, "targets")
        require(labeled, "source", "a data set with class names and labels", source)
        self.location = f"{source}/{split}"
        self.classes: list[str] = [str(name) for name in self._dataset.classes]
        self.targets: list[int] = [int(label) for label in self._dataset.targets]

    def name(self, index: int) -> str:
        """The number of the image in its split, "torch/cifar10/train[17]"."""
        return f"{self.location}[{index}]"

    def load(self, index: int) -> Image.Image:
        """One image as returned by torchvision; raises BrokenImageError, which names its number."""
        try:
            image: Image.Image = self._dataset[index][0]
        except DECODE_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BrokenImageError(f"{self.name(index)}: broken image: {error}") from error
        return image


class HuggingFaceImages:
    """A map-style data set of Hugging Face by timm's name, such as "hfds/cifar10".

    Args:
        source: timm's name.
        split: The name of the split.
        options: For timm's reader (root, input_key, target_key, …).

    Attributes:
        location: Source and split.
        classes: The names of the label feature.
        targets: The label of each image; -1 if the publisher left it out.

    Raises:
        ModuleNotFoundError: The package datasets is not installed.
        ValueError: split is None, class_map is given, or the data set does not name its classes.
    """

    def __init__(self, source: str, split: str | None, **options: Any) -> None:
        require_package(source)
        if split is None:
            raise ValueError(f"split: expected the name of a split of {source}, got None")
        if "class_map" in options:
            raise ValueError(
                f"class_map: expected none for {source}, got {options['class_map']!r}; rename the "
                "classes there"
            )
        self._reader = create_reader(source, split=split, **options)
        self.location = f"{source}/{split}"
        self.classes = class_names(self._reader, self.location)
        self.targets: list[int] = [int(n) for n in self._reader.dataset[self._reader.label_key]]

    def name(self, index: int) -> str:
        """The number of the image in its split, "hfds/cifar10/train[17]"."""
        return f"{self.location}[{index}]"

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises BrokenImageError, which names its number."""
        file, _ = self._reader[index]
        with file:
            return decode_image(file.read(), self.name(index))


def class_names(reader: Any, location: str) -> list[str]:
    """Class names of a timm reader, by label; ValueError if it does not know them."""
    index = getattr(reader, "class_to_idx", None)
    if not index:
        raise ValueError(
            f"{location}: expected data with class names, got none; pass target_key= the feature with the "
            "class labels, or classes=[…] for a stream"
        )
    return sorted(index, key=index.__getitem__)
