"""Loaders of training, validation and test images, for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, DistributedSampler

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
from sasa.train.config import DataConfig, RunConfig, TrainConfig, options_of

Collate = Callable[[Any], Any]


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose every epoch is the same whatever went before it.

    As an epoch's iterator is made, all generators of this process are seeded from (seed, epoch, rank); loader
    processes, started anew each epoch, and the network's own randomness follow from them.
    """

    def __init__(self, *args: Any, seed: int, rank: int, epoch: Callable[[], int], **kwargs: Any) -> None:
        """Take a DataLoader's arguments, and epoch, which tells the number of the epoch about to begin."""
        super().__init__(*args, **kwargs)
        self._seeds = (seed, rank)
        self._epoch = epoch

    def __iter__(self) -> Any:
        """Start the epoch."""
        seed, rank = self._seeds
        epoch = self._epoch()
        for part in (self.sampler, self.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
        seed_everything(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]), verbose=False)
        return super().__iter__()


def evaluation_batches(images: int, batch_size: int, world: int, rank: int) -> list[list[int]]:
    """One process's share of an evaluation: every image once in one process, as many batches in each.

    Collectives inside a forward pass need the same number of batches in every process, so the batches of a
    process may differ in size by one instead.

    Args:
        images: number of images.
        batch_size: largest batch.
        world: number of processes.
        rank: which of them, 0 <= rank < world.

    Raises:
        ValueError: there are fewer images than processes.
    """
    if images < world:
        raise ValueError(f"evaluating on {world} processes needs as many images, got {images}; use fewer")
    # With batches of one, a process with one image fewer would lack its last batch.
    count = math.ceil(math.ceil(images / world) / max(2, batch_size))
    return [part.tolist() for part in torch.arange(rank, images, world).tensor_split(count)]


def evaluation_loader(
    dataset: Any, trainer: Trainer, *, batch_size: int, num_workers: int, collate: Collate | None = None
) -> DataLoader[Any]:
    """A loader that brings every image to exactly one process.

    Args:
        dataset: of any kind of ours.
        trainer: knows the processes.
        batch_size: images at a time.
        num_workers: processes that load them.
        collate: makes a batch of samples; None means torch's own way.

    Raises:
        ValueError: a stream on several processes, or fewer images than processes.
    """
    world, pin_memory = trainer.world_size, trainer.strategy.root_device.type == "cuda"
    if isinstance(dataset, ImageStream):
        if world > 1:
            raise ValueError(
                f"{dataset.where}: a stream cannot be divided exactly among {world} processes for "
                "evaluation; evaluate in one process, or give a folder or archive"
            )
        dataset.set_workers(num_workers)
        return DataLoader(dataset, batch_size, num_workers=num_workers, pin_memory=pin_memory)
    return DataLoader(
        dataset,
        batch_sampler=evaluation_batches(len(dataset), batch_size, world, trainer.global_rank),
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
    )


def input_size(data: DataConfig) -> tuple[int, int, int]:
    """(C, H, W) of the images that the network sees, the defaults of the source filled in."""
    built_in = data.source == "fashion-mnist"
    channels = data.in_chans if data.in_chans is not None else 1 if built_in else 3
    side = data.input_size if data.input_size is not None else 28 if built_in else 224
    return channels, side, side


class RunData(LightningDataModule):
    """The three sets of images of a run; a subclass opens them.

    Attributes:
        training: the training images.
        validation: the images evaluated after every epoch.
        test: the images evaluated at the end.
        num_workers: processes that load images, for each training process.
        collate: makes a batch of samples; None means torch's own way.
    """

    training: Any
    validation: Any
    test: Any
    num_workers: int
    collate: Collate | None = None

    def __init__(self, config: RunConfig) -> None:
        """Take the recipe."""
        super().__init__()
        self._config: Any = config

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images; what is left over changes from epoch to epoch.

        Raises:
            ValueError: there is not one.
        """
        batch_size = self._config.optimizer.batch_size
        if len(self.training) < batch_size:
            raise ValueError(
                f"optimizer.batch_size must be at most {len(self.training)}, the number of training images, "
                f"got {batch_size}"
            )
        return len(self.training) // batch_size

    @property
    def _trainer(self) -> Trainer:
        assert self.trainer is not None, "only Lightning's Trainer asks for loaders"
        return self.trainer

    @property
    def _batch_size(self) -> int:
        """Images that one process takes at a time."""
        recipe = self._config.optimizer
        return recipe.batch_size // (self._trainer.world_size * recipe.grad_accum_steps)

    def train_dataloader(self) -> EpochLoader:
        """Shuffled batches: those of W processes together are those of one."""
        trainer = self._trainer
        sampler: DistributedSampler[Any] | None = None
        if isinstance(self.training, ImageStream):
            self.training.set_workers(self.num_workers)
        else:
            sampler = DistributedSampler(
                self.training,
                num_replicas=trainer.world_size,
                rank=trainer.global_rank,
                seed=self._config.seed,
                drop_last=True,
            )
        return EpochLoader(
            self.training,
            self._batch_size,
            sampler=sampler,
            drop_last=True,
            num_workers=self.num_workers,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            collate_fn=self.collate,
            seed=self._config.seed,
            rank=trainer.global_rank,
            # Not current_epoch, which is one behind while Lightning restores a checkpoint.
            epoch=lambda: cast(Any, trainer.fit_loop.epoch_progress.current).processed,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once."""
        return self._evaluation_loader(self.validation)

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once."""
        return self._evaluation_loader(self.test)

    def _evaluation_loader(self, dataset: Any) -> DataLoader[Any]:
        return evaluation_loader(
            dataset,
            self._trainer,
            batch_size=self._batch_size,
            num_workers=self.num_workers,
            collate=self.collate,
        )


class ImageData(RunData):
    """The images of a classifier's run.

    Attributes:
        classes: index → class name.
        input_size: (C, H, W).
        mean: of each channel, for pixels in [0, 1].
        std: of each channel.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Open everything and check it; raises ValueError or FileNotFoundError."""
        super().__init__(config)
        data = config.data
        self.num_workers = data.num_workers
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
        elif isinstance(self.training, ImageStream):
            raise ValueError(
                f"data.val_split must name a split of {data.source!r}: nothing can be held out of a stream"
            )
        else:
            self.training, self.validation = train_val_split(
                self.training, data.val_fraction, self._config.seed, val_transform=evaluation
            )
        check_classes(self.training, self.test)
        check_classes(self.training, self.validation)

    def _split(self, split: str, transform: Any, is_training: bool = False) -> ImageDataset | ImageStream:
        data = self._config.data
        options = dict(data.options)
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

    def setup(self, stage: str) -> None:
        """Open streams anew where there are several processes: timm's readers ask for their number then."""
        if isinstance(self.training, ImageStream) and self._trainer.world_size > 1:
            self._open()


def _normalization(given: list[float] | None, usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """What was given, or else the usual values, averaged or repeated where the number of channels differs."""
    if given is not None:
        return tuple(given)
    return usual if len(usual) == channels else (sum(usual) / len(usual),) * channels
