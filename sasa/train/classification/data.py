"""The images of a classifier's run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sasa.data import (
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    ImageDataset,
    ImageStream,
    check_classes,
    create_dataset,
    evaluation_transform,
    is_stream,
    train_val_split,
    training_transform,
)
from sasa.errors import require
from sasa.train.classification.config import DataConfig, TrainConfig
from sasa.train.classification.held_out import held_out_fingerprint
from sasa.train.config import options_of
from sasa.train.loaders import RunData


def input_size(data: DataConfig) -> tuple[int, int, int]:
    """(C, H, W) of the network's input, with the defaults of the source."""
    built_in = data.source == "fashion-mnist"
    channels = data.in_chans if data.in_chans is not None else 1 if built_in else 3
    side = data.input_size if data.input_size is not None else 28 if built_in else 224
    return channels, side, side


class ImageData(RunData):
    """The images of a classifier's run.

    Attributes:
        classes: Names of the classes, by index.
        input_size: (C, H, W) of the network's input.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Open and check all images.

        Raises:
            FileNotFoundError: The data do not exist.
            ValueError: The data or the configuration are invalid.
        """
        data = config.data
        super().__init__(config, data.num_workers)
        self._config = config
        built_in = data.source == "fashion-mnist"
        self.input_size = input_size(data)
        channels = self.input_size[0]
        self.mean = _normalization(
            data.mean, FASHION_MNIST_MEAN if built_in else IMAGENET_DEFAULT_MEAN, channels
        )
        self.std = _normalization(data.std, FASHION_MNIST_STD if built_in else IMAGENET_DEFAULT_STD, channels)
        self._open()
        self.classes = list(self.training.classes)

    def _open(self) -> None:
        data = self._config.data
        evaluation = evaluation_transform(
            self.input_size,
            mean=self.mean,
            std=self.std,
            crop_pct=data.crop_pct,
            interpolation=data.interpolation,
        )
        augmentation = self._config.augmentation
        training = training_transform(
            self.input_size,
            mean=self.mean,
            std=self.std,
            crop=augmentation.crop,
            padding=augmentation.padding,
            scale=augmentation.scale,
            ratio=augmentation.ratio,
            hflip=augmentation.hflip,
            color_jitter=augmentation.color_jitter,
            auto_augment=augmentation.auto_augment,
            re_prob=augmentation.re_prob,
            interpolation=data.interpolation,
        )
        self.training = self._split(data.train_split, training, is_training=True)
        self.test = self._split(data.test_split, evaluation)
        if data.val_split is not None:
            self.validation = self._split(data.val_split, evaluation)
        else:
            held_out = not isinstance(self.training, ImageStream)
            require(held_out, "data.val_split", "a split, as nothing can be held out of a stream", None)
            self.training, self.validation = train_val_split(
                self.training, data.val_fraction, self._config.seed, val_transform=evaluation
            )
        check_classes(self.training, self.test)
        check_classes(self.training, self.validation)

    def _split(self, split: str, transform: Any, is_training: bool = False) -> ImageDataset | ImageStream:
        data = self._config.data
        options = dict(data.dataset_options)
        if is_stream(data.source):
            options |= {
                "is_training": is_training,
                "batch_size": self._config.optimizer.batch_size if is_training else 1,
                "seed": self._config.seed,
            }
        with options_of("data"):
            return create_dataset(
                data.source,
                split,
                in_chans=self.input_size[0],
                transform=transform,
                on_broken=data.on_broken,
                **options,
            )

    @property
    def held_out(self) -> dict[str, Any] | None:
        """The fingerprint of the test images, if data.test_fraction chose them."""
        return None if self._config.data.test_fraction is None else held_out_fingerprint(self.test)

    def contents(self, images: ImageDataset | ImageStream) -> Iterator[str]:
        if isinstance(images, ImageDataset):
            for index, label in enumerate(images.targets):
                yield f"{images.name(index).removeprefix(images.location)} {label}"

    def setup(self, stage: str) -> None:
        """Open streams again if there are several processes, since timm's readers divide the samples then."""
        if isinstance(self.training, ImageStream) and self._trainer.world_size > 1:
            self._open()


def _normalization(given: list[float] | None, usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The given values, or the usual ones, averaged or repeated if the number of channels differs."""
    if given is not None:
        return tuple(given)
    return usual if len(usual) == channels else (sum(usual) / len(usual),) * channels
