"""The built-in images: a balanced subset of Fashion-MNIST (MIT license, see LICENSE and README.md).

10,000 training and 2,000 test images of 28 × 28 gray pixels in ten classes; each split is taken from the
original split of the same name.
"""

from __future__ import annotations

import functools
import io
import lzma
from importlib import resources

import numpy as np
import numpy.typing as npt
from PIL import Image

from sasa.errors import require

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Class names by label."""

MEAN = (0.2867,)
"""Mean of the training images, for pixels in [0, 1]; printed by tools/make_fashion_mnist_subset.py."""
STD = (0.3540,)
"""Standard deviation of the training images, likewise."""


@functools.lru_cache(maxsize=2)
def load_fashion_mnist(split: str | None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Load the built-in images.

    Args:
        split: "train" or "test".

    Returns:
        Images, (10000 or 2000, 28, 28), and labels, (10000 or 2000,), 0 … 9; both uint8 and read-only, in the
        order of the original files.

    Raises:
        ValueError: It is another split.
    """
    require(
        split in ("train", "test"),
        "split",
        "'train' or 'test' for fashion-mnist",
        split,
        "for validation, split the training images (sasa.data.train_val_split)",
    )
    packed = resources.files(__name__).joinpath(f"{split}.npy.xz").read_bytes()
    arrays = io.BytesIO(lzma.decompress(packed))
    images, labels = np.load(arrays, allow_pickle=False), np.load(arrays, allow_pickle=False)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


class FashionMnistImages:
    """The built-in images of one split, mode "L".

    Args:
        split: "train" or "test".

    Attributes:
        location: "fashion-mnist/train" or "fashion-mnist/test".
        classes: The ten class names.
        targets: The labels, 0 … 9.

    Raises:
        ValueError: It is another split.
    """

    def __init__(self, split: str | None) -> None:
        self._images, labels = load_fashion_mnist(split)
        self.location = f"fashion-mnist/{split}"
        self.classes = list(CLASSES)
        self.targets: list[int] = labels.tolist()

    def name(self, index: int) -> str:
        """The number of the image in its split, "fashion-mnist/train[17]"."""
        return f"{self.location}[{index}]"

    def load(self, index: int) -> Image.Image:
        """One 28 × 28 image, mode "L"."""
        return Image.fromarray(self._images[index])
