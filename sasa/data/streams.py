"""Data read in order, shard by shard: "wds/…" (WebDataset), "hfids/…" (Hugging Face), "tfds/…"."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset
from torch.utils.data import IterableDataset

from sasa.data.images import BrokenImageError, convert_image
from sasa.data.readers import class_names, require_package
from sasa.errors import require

_logger = logging.getLogger(__name__)


class ImageStream(IterableDataset[tuple[Any, int]]):
    """(image, label) pairs in the order of timm's reader.

    A stream has no random access: it has no `targets`, and it cannot be split. timm divides the shards among
    processes and workers, and shuffles in training. Iteration raises ValueError for a label that is not in
    0 … len(classes) - 1.

    Args:
        source: timm's name, "wds/…", "hfids/…" or "tfds/…".
        split: The split as timm's reader takes it.
        mode: "L" or "RGB".
        transform: Applied to each PIL image; None leaves it as it is.
        on_broken: "skip" for "wds", whose reader logs broken samples and continues; "raise" for the others,
            which raise Pillow's error without the name of the file.
        is_training: Whether to shuffle and fill up the last batch; required.
        classes: Class names by label if the data does not have them.
        options: For timm.data.create_dataset: root, batch_size, num_samples, seed, …

    Attributes:
        classes: Class names by label.
        transform: Applied to each PIL image; None leaves it as it is.
        location: Source and split.

    Raises:
        ModuleNotFoundError: The package of the reader is not installed.
        ValueError: An argument is missing or not supported, or the number of samples or the classes are
            unknown.
    """

    def __init__(
        self,
        source: str,
        split: str | None,
        *,
        mode: str,
        transform: Callable[[Image.Image], Any] | None,
        on_broken: str,
        is_training: bool | None = None,
        classes: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        require_package(source)
        self.location = f"{source}/{split}"
        supported = "skip" if source.startswith("wds/") else "raise"
        expected = f"{supported!r} for {self.location}, as timm's reader supports nothing else"
        require(on_broken == supported, "on_broken", expected, on_broken)
        if split is None or is_training is None:
            raise ValueError(
                f"split and is_training: expected a name and True or False for {source}, got {split!r} and "
                f"{is_training!r}"
            )
        # timm's own conversion would clip pixels deeper than 8 bits. TensorFlow decodes into that mode.
        stored = mode if source.startswith("tfds/") else ""
        self._mode, self._skips = mode, supported == "skip"
        self._stream = create_dataset(
            source, split=split, input_img_mode=stored, is_training=is_training, **options
        )
        if len(self._stream) == 0:
            raise ValueError(
                f"num_samples: expected the number of samples of {self.location}, which timm does not "
                "know, got none"
            )
        self.classes = list(classes or class_names(self._stream.reader, self.location))
        self.transform = transform

    def __len__(self) -> int:
        """The number of samples of this process in one epoch, as estimated by timm."""
        return len(self._stream)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for image, label in self._stream:
            if not 0 <= label < len(self.classes):
                raise ValueError(
                    f"labels: expected 0 … {len(self.classes) - 1} for {len(self.classes)} classes in "
                    f"{self.location}, got {label}"
                )
            try:
                image = convert_image(image, self._mode, self.location)
            except BrokenImageError as error:
                if not self._skips:
                    raise
                _logger.warning("skipped an image: %s", error)
                continue
            yield (image if self.transform is None else self.transform(image)), int(label)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the shuffling depends; call it before each epoch."""
        self._stream.set_epoch(epoch)

    def set_workers(self, count: int) -> None:
        """Set the number of loader workers; call it before the loader starts them."""
        self._stream.set_loader_cfg(num_workers=count)
