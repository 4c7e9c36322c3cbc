"""The built-in detection data: Fashion-MNIST items on cluttered canvases, composed when they are loaded.

The layout is synthetic. Scenes are not stored: seed, split and index determine a scene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sasa.data.detection.annotations import Id, Objects
from sasa.data.fashion_mnist import CLASSES, load_fashion_mnist
from sasa.data.layout import split_spellings
from sasa.errors import require

# The seed of each split, in addition to the user's, and its default number of scenes.
_SPLITS = {"train": (0, 4000), "validation": (1, 500), "test": (2, 500)}

# Items of the training scenes; the other training images are the items of the validation scenes.
_TRAINING_ITEMS = 9000

MIN_SCALE, MAX_SCALE = 0.7, 2.5
_SIDE = 28  # of an item at scale 1

# Pixels of an item up to this gray level are background: some items have faint stray pixels.
_BACKGROUND = 24

# When items are placed, two boxes share at most this part of the smaller one, and at most this part of an
# item's pixels is hidden.
_OVERLAP = 0.2
_ATTEMPTS = 10

# Opacity by gray level.
_OPAQUE = [255 * (value > _BACKGROUND) for value in range(256)]

Gray = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x, y, width, height


class SceneImages:
    """Synthetic scenes: 0 … max_items items of ten classes on a cluttered canvas, gray pixels in RGB mode.

    An item is a Fashion-MNIST image, scaled by a log-uniform factor from 0.7 … 2.5 of its 28 pixels and drawn
    without its own background. Its box is tight around its visible pixels, and its area is their number. The
    clutter is a gray gradient, noise, lines, ellipses, rectangles, and fragments of items, which have no
    boxes. Training, validation and test scenes share no items: theirs are the first 9,000 and the other 1,000
    of the built-in training images, and the test images.

    Args:
        split: "train", "validation" (also "val") or "test".
        length: The number of scenes; None takes 4,000 for training and 500 for the other splits. Scene i does
            not depend on it.
        size: Width and height of the canvas in pixels, at least 32.
        max_items: The largest number of items; all numbers from 0 are equally likely, but items for which
            there is no space on the canvas are left out.
        seed: The seed of all scenes, 0 or more.

    Attributes:
        location: "scenes/train", "scenes/validation" or "scenes/test".
        classes: The ten class names.
        category_ids: 1 … 10.
        image_ids: 0 … length - 1.
        skipped: Empty.

    Raises:
        ValueError: An argument is out of range.
    """

    skipped: tuple[str, ...] = ()

    def __init__(
        self,
        split: str | None = "train",
        *,
        length: int | None = None,
        size: int = 128,
        max_items: int = 5,
        seed: int = 0,
    ) -> None:
        name = next((spelling for spelling in split_spellings(split or "") if spelling in _SPLITS), "")
        require(name != "", "split", f"one of {', '.join(_SPLITS)} for scenes", split)
        split = name
        split_seed, default_length = _SPLITS[split]
        length = default_length if length is None else length
        for option, value, least in (
            ("length", length, 1),
            ("size", size, 32),
            ("max_items", max_items, 0),
            ("seed", seed, 0),
        ):
            is_valid = isinstance(value, int) and value >= least
            require(is_valid, option, f"an integer of at least {least} for scenes", value)
        images, labels = load_fashion_mnist("test" if split == "test" else "train")
        if split != "test":
            part = slice(None, _TRAINING_ITEMS) if split == "train" else slice(_TRAINING_ITEMS, None)
            images, labels = images[part], labels[part]
        self._items, self._labels = images, labels
        self._seeds = seed, split_seed
        self._size, self._max_items = size, max_items
        self._last: tuple[int, Gray, npt.NDArray[np.int16], Objects] | None = None
        self.location = f"scenes/{split}"
        self.classes = list(CLASSES)
        self.category_ids: Sequence[Id] = list(range(1, len(CLASSES) + 1))
        self.image_ids: Sequence[Id] = range(length)

    def name(self, index: int) -> str:
        """The number of the scene in its split, "scenes/train[17]"."""
        return f"{self.location}[{index}]"

    def file_name(self, index: int) -> str:
        """The same as `name`."""
        return self.name(index)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the canvas, the same for every scene."""
        return self._size, self._size

    def objects(self, index: int) -> Objects:
        """The items of one scene."""
        return self._compose(index)[3]

    def load(self, index: int) -> Image.Image:
        """One scene, mode "RGB"."""
        _, pixels, owners, _ = self._compose(index)
        canvas = _background(self._random(index, 1), self._size, self._items)
        return Image.fromarray(np.where(owners >= 0, pixels, canvas)).convert("RGB")

    def _random(self, index: int, part: int) -> np.random.Generator:
        """The generator of a scene's items (part 0) or clutter (part 1)."""
        if not 0 <= index < len(self.image_ids):
            raise IndexError(
                f"index: expected 0 … {len(self.image_ids) - 1} for {self.location}, got {index}"
            )
        return np.random.default_rng((*self._seeds, index, part))

    def _compose(self, index: int) -> tuple[int, Gray, npt.NDArray[np.int16], Objects]:
        """Index, pixels of the items, the item shown by each pixel (-1 for none), and the items."""
        if self._last is not None and self._last[0] == index:
            return self._last
        random = self._random(index, 0)
        pixels = np.zeros((self._size, self._size), np.uint8)
        owners = np.full(pixels.shape, -1, np.int16)
        placed: list[Box] = []
        labels: list[int] = []
        totals: list[int] = []  # number of pixels of each item
        visible: list[int] = []  # number of those that no later item hides
        for _ in range(random.integers(self._max_items + 1)):
            number = random.integers(len(self._items))
            scale = math.exp(random.uniform(math.log(MIN_SCALE), math.log(MAX_SCALE)))
            item = _scaled(self._items[number], min(round(scale * _SIDE), self._size))
            brightness = random.uniform(0.7, 1.0)
            shape = item > _BACKGROUND
            height, width = item.shape
            for _ in range(_ATTEMPTS):
                x = int(random.integers(self._size - width + 1))
                y = int(random.integers(self._size - height + 1))
                part = np.s_[y : y + height, x : x + width]
                hidden = np.bincount(owners[part][shape] + 1, minlength=len(placed) + 1)[1:].tolist()
                if all(_free(box, (x, y, width, height)) for box in placed) and all(
                    now - less >= (1 - _OVERLAP) * total
                    for now, less, total in zip(visible, hidden, totals, strict=True)
                ):
                    break
            else:
                continue
            pixels[part][shape] = (item * brightness).astype(np.uint8)[shape]
            owners[part][shape] = len(placed)
            placed.append((x, y, width, height))
            labels.append(int(self._labels[number]))
            visible = [now - less for now, less in zip(visible, hidden, strict=True)]
            totals.append(int(shape.sum()))
            visible.append(totals[-1])
        boxes = [_tight(owners, number, box) for number, box in enumerate(placed)]
        objects = Objects.from_lists(boxes, labels, visible, [False] * len(boxes))
        self._last = index, pixels, owners, objects
        return self._last


def _scaled(item: Gray, side: int) -> Gray:
    """An item scaled to side × side and cropped to its own pixels."""
    scaled = np.asarray(Image.fromarray(item).resize((side, side), Image.Resampling.BILINEAR))
    rows, columns = (np.flatnonzero((scaled > _BACKGROUND).any(axis)) for axis in (1, 0))
    return scaled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free(placed: Box, box: Box) -> bool:
    """Whether two boxes overlap by at most _OVERLAP of the smaller one."""
    width = min(placed[0] + placed[2], box[0] + box[2]) - max(placed[0], box[0])
    height = min(placed[1] + placed[3], box[1] + box[3]) - max(placed[1], box[1])
    if width <= 0 or height <= 0:
        return True
    return width * height <= _OVERLAP * min(placed[2] * placed[3], box[2] * box[3])


def _tight(owners: npt.NDArray[np.int16], number: int, box: Box) -> Box:
    """The tight box around the visible pixels of an item that was placed in a box."""
    x, y, width, height = box
    visible = owners[y : y + height, x : x + width] == number
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    return (
        x + int(columns[0]),
        y + int(rows[0]),
        int(columns[-1] - columns[0]) + 1,
        int(rows[-1] - rows[0]) + 1,
    )


def _background(random: np.random.Generator, size: int, items: Gray) -> Gray:
    """A canvas with clutter."""
    slope = random.uniform(-40, 40, 2) / size
    gray = random.uniform(20, 110) + slope[0] * np.arange(size)[:, None] + slope[1] * np.arange(size)
    canvas = Image.fromarray(gray.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(random.integers(7)):
        x1, x2 = sorted(random.integers(size, size=2).tolist())
        y1, y2 = sorted(random.integers(size, size=2).tolist())
        value, form = int(random.integers(200)), random.integers(3)
        width = int(random.integers(1, 4))
        if form == 0:
            ends = (x1, y1, x2, y2) if random.integers(2) else (x1, y2, x2, y1)
            draw.line(ends, fill=value, width=width)
        elif form == 1:
            draw.ellipse((x1, y1, x2, y2), outline=value, width=width)
        else:
            draw.rectangle((x1, y1, x2, y2), outline=value, width=width)
    for _ in range(random.integers(4)):
        item = items[random.integers(len(items))]
        side = int(random.integers(8, 13))
        top, left = random.integers(_SIDE - side + 1, size=2).tolist()
        piece = Image.fromarray(item[top : top + side, left : left + side])
        x, y = random.integers(size - side + 1, size=2).tolist()
        canvas.paste(piece, (x, y), piece.point(_OPAQUE))
    noise = random.standard_normal((size, size), np.float32)
    noisy = np.asarray(canvas) + np.float32(random.uniform(2, 10)) * noise
    return noisy.clip(0, 255).astype(np.uint8)
