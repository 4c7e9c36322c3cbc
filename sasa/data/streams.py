"""Data read in order, shard by shard: "wds/…" (WebDataset), "hfids/…" (Hugging Face), "tfds/…"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset
from torch.utils.data import IterableDataset

from sasa.data.readers import class_names, require_package


class ImageStream(IterableDataset[tuple[Any, int]]):
    """(image, label) pairs in the order in which timm's reader brings them.

    A stream has no random access: it has no `targets`, and no part of it can be held out. timm
    divides the shards among processes and workers, and shuffles when training.

    Attributes:
        classes: index → class name.
        transform: applied to the PIL image; None leaves it as it is.
        where: source and split.
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
        """Open a stream.

        Args:
            source: timm's name, "wds/…", "hfids/…" or "tfds/…".
            split: the split as timm's reader takes it.
            mode: "L" or "RGB".
            transform: see the class.
            on_broken: timm's "wds" reader logs broken samples and goes on, so there it must be
                "skip"; the others raise Pillow's error, which does not name the file, so there
                it must be "raise".
            is_training: True shuffles and fills up the last batch; must be given.
            classes: names of the classes where the data does not hold them.
            options: for timm.data.create_dataset: root, batch_size, num_samples, seed, …

        Raises:
            ModuleNotFoundError: the reader's package is not installed.
            ValueError: an argument is missing or cannot be honored, or the number of samples or
                the classes are unknown.
        """
        require_package(source)
        self.where = f"{source}/{split}"
        can = "skip" if source.startswith("wds/") else "raise"
        if on_broken != can:
            raise ValueError(
                f"on_broken must be {can!r} for {self.where}, got {on_broken!r}: timm's reader of "
                f"this kind can only {can}"
            )
        if split is None or is_training is None:
            raise ValueError(
                f"the stream {source!r} needs a split and is_training=True or False, got "
                f"split={split!r}, is_training={is_training!r}"
            )
        self._stream = create_dataset(
            source, split=split, input_img_mode=mode, is_training=is_training, **options
        )
        if len(self._stream) == 0:
            raise ValueError(f"{self.where}: the number of samples is unknown; pass num_samples=…")
        self.classes = list(classes or class_names(self._stream.reader, self.where))
        self.transform = transform

    def __len__(self) -> int:
        """Number of samples of this process in one epoch, as timm estimates it."""
        return len(self._stream)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Yield pairs; raises ValueError for a label outside 0 … len(classes) - 1."""
        for image, label in self._stream:
            if not 0 <= label < len(self.classes):
                raise ValueError(
                    f"{self.where}: labels must be 0 … {len(self.classes) - 1} for "
                    f"{len(self.classes)} classes, got {label}"
                )
            yield (image if self.transform is None else self.transform(image)), int(label)

    def set_epoch(self, epoch: int) -> None:
        """Tell the reader the epoch, on which its shuffling depends; call it before each."""
        self._stream.set_epoch(epoch)

    def set_workers(self, count: int) -> None:
        """Tell the reader how many loader workers there will be, before the loader starts them."""
        self._stream.set_loader_cfg(num_workers=count)
