"""Map-style data sets by timm's names: torchvision ("torch/…") and Hugging Face ("hfds/…")."""

from __future__ import annotations

import importlib.util
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.readers.reader_factory import create_reader

from sasa.data.images import DECODE_ERRORS, BrokenImageError, decode_image

_PACKAGES = {
    "hfds": "datasets",
    "hfids": "datasets",
    "wds": "webdataset",
    "tfds": "tensorflow_datasets",
}

# timm takes every split but "train" as their test split; we do not.
_TRAIN_OR_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
# timm falls back on the whole folder when the split is missing.
_FOLDERS = ("folder", "image_folder")


def require_package(source: str) -> None:
    """Raise ModuleNotFoundError, naming what to install, if a source's reader lacks its package."""
    package = _PACKAGES.get(source.partition("/")[0])
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"source {source!r} needs the package {package!r}: pip install {package}", name=package
        )


class TorchvisionImages:
    """A data set of torchvision, by timm's name for it, such as "torch/cifar10".

    Attributes:
        where: source and split.
        classes: torchvision's class names.
        targets: the label of each image.
    """

    def __init__(self, source: str, split: str | None, **options: Any) -> None:
        """Open it; options go to timm.data.create_dataset (root, download, …).

        Raises:
            ValueError: timm does not know the name, the set has no such split, or it gives no class
                names and labels.
        """
        name = source.partition("/")[2].lower()
        if split is None or (name in _TRAIN_OR_TEST and split not in ("train", "test")):
            raise ValueError(
                f"split of {source} must be 'train' or 'test', got {split!r}; for validation, hold "
                "out a part of the training images (sasa.data.train_val_split)"
            )
        if name in _FOLDERS:
            raise ValueError(f"source {source!r}: give the folder itself as source instead")
        try:
            self._dataset = create_dataset(source, split=split, **options)
        except AssertionError as error:
            raise ValueError(f"source {source!r}: {error}") from error
        if not hasattr(self._dataset, "classes") or not hasattr(self._dataset, "targets"):
            raise ValueError(f"source {source!r} gives no class names and labels, so it has no use")
        self.where = f"{source}/{split}"
        self.classes: list[str] = [str(name) for name in self._dataset.classes]
        self.targets: list[int] = [int(label) for label in self._dataset.targets]

    def name(self, index: int) -> str:
        """The image's number in its split, "torch/cifar10/train[17]"."""
        return f"{self.where}[{index}]"

    def load(self, index: int) -> Image.Image:
        """One image as torchvision gives it; raises BrokenImageError naming its number."""
        try:
            image: Image.Image = self._dataset[index][0]
        except DECODE_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BrokenImageError(f"{self.name(index)}: broken image: {error}") from error
        return image


class HuggingFaceImages:
    """A map-style data set of Hugging Face, by timm's name for it, such as "hfds/cifar10".

    Attributes:
        where: source and split.
        classes: the label feature's names.
        targets: the label of each image; -1 where the publisher left it out.
    """

    def __init__(self, source: str, split: str | None, **options: Any) -> None:
        """Open it; options go to timm's reader (root, input_key, target_key, …).

        Raises:
            ModuleNotFoundError: the package datasets is not installed.
            ValueError: split is None, class_map is given, or the set does not name its classes.
        """
        require_package(source)
        if split is None:
            raise ValueError(f"split of {source} must be one of its splits' names, got None")
        if "class_map" in options:
            raise ValueError(f"class_map is not supported for {source}: rename the classes there")
        self._reader = create_reader(source, split=split, **options)
        self.where = f"{source}/{split}"
        self.classes = class_names(self._reader, self.where)
        self.targets: list[int] = [int(n) for n in self._reader.dataset[self._reader.label_key]]

    def name(self, index: int) -> str:
        """The image's number in its split, "hfds/cifar10/train[17]"."""
        return f"{self.where}[{index}]"

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises BrokenImageError naming its number."""
        file, _ = self._reader[index]
        with file:
            return decode_image(file.read(), self.name(index))


def class_names(reader: Any, where: str) -> list[str]:
    """Class names of a timm reader, by index; ValueError if it does not know them."""
    index = getattr(reader, "class_to_idx", None)
    if not index:
        raise ValueError(
            f"{where}: the data does not name its classes; pass target_key= the feature that holds "
            "class labels, or for a stream classes=[…]"
        )
    return sorted(index, key=index.__getitem__)
