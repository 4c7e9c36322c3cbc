"""Loaders of training, validation and test images, for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch.utils.data import DataLoader, DistributedSampler

from sasa.data import ImageStream
from sasa.errors import require
from sasa.train.config import RunConfig

Collate = Callable[[Any], Any]


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose epochs do not depend on what happened before them.

    When an epoch starts, all generators of this process are seeded from (seed, epoch, rank). The randomness
    of the network and of the loader processes, which are started anew in each epoch, follows from them.
    """

    def __init__(self, *args: Any, seed: int, rank: int, epoch: Callable[[], int], **kwargs: Any) -> None:
        """Create the loader.

        Args:
            args: Arguments of DataLoader.
            seed: The seed of the run.
            rank: The number of this process.
            epoch: Returns the number of the epoch that is about to start.
            kwargs: Keyword arguments of DataLoader.
        """
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
    """The batches of one process in an evaluation, in which every image belongs to exactly one process.

    Collective operations within a forward pass need the same number of batches in every process. The batches
    of a process may therefore differ in size by one.

    Args:
        images: Number of images.
        batch_size: Largest batch.
        world: Number of processes.
        rank: Number of this process, 0 <= rank < world.

    Raises:
        ValueError: There are fewer images than processes.
    """
    require(images >= world, "images", f"at least one per process ({world})", images, "use fewer processes")
    # With batches of one, a process with one image fewer would lack its last batch.
    count = math.ceil(math.ceil(images / world) / max(2, batch_size))
    return [part.tolist() for part in torch.arange(rank, images, world).tensor_split(count)]


def evaluation_loader(
    dataset: Any, trainer: Trainer, *, batch_size: int, num_workers: int, collate: Collate | None = None
) -> DataLoader[Any]:
    """A loader that gives every image to exactly one process.

    Args:
        dataset: An ImageDataset, ImageStream or DetectionDataset.
        trainer: The Trainer, for the number of processes.
        batch_size: Images per batch.
        num_workers: Loader processes.
        collate: Makes a batch of samples. None means torch's default.

    Raises:
        ValueError: The data are a stream and there are several processes, or there are fewer images than
            processes.
    """
    world, pin_memory = trainer.world_size, trainer.strategy.root_device.type == "cuda"
    if isinstance(dataset, ImageStream):
        advice = "evaluate in one process, or give a folder or archive"
        require(world == 1, dataset.location, "one process for the evaluation of a stream", world, advice)
        dataset.set_workers(num_workers)
        return DataLoader(dataset, batch_size, num_workers=num_workers, pin_memory=pin_memory)
    return DataLoader(
        dataset,
        batch_sampler=evaluation_batches(len(dataset), batch_size, world, trainer.global_rank),
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
    )


class RunData(LightningDataModule):
    """The training, validation and test images of a run; a subclass opens them.

    Attributes:
        training: The training images.
        validation: The images evaluated after every epoch.
        test: The images evaluated at the end.
    """

    training: Any
    validation: Any
    test: Any

    def __init__(self, config: RunConfig, num_workers: int, collate: Collate | None = None) -> None:
        """Set up the loaders.

        Args:
            config: The configuration, for batch size and seed.
            num_workers: Loader processes per training process.
            collate: Makes a batch of samples. None means torch's default.
        """
        super().__init__()
        self._optimizer, self._seed = config.optimizer, config.seed
        self._num_workers, self._collate = num_workers, collate

    def contents(self, images: Any) -> Iterator[str]:
        """The name and labels of every image of a part; none for a stream, which has no names."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the training images; the remaining images differ from epoch to epoch.

        Raises:
            ValueError: There is no whole batch.
        """
        size, images = self._optimizer.batch_size, len(self.training)
        require(
            size <= images, "optimizer.batch_size", f"at most {images}, the number of training images", size
        )
        return images // size

    @property
    def _trainer(self) -> Trainer:
        assert self.trainer is not None, "loaders are created by a Trainer"
        return self.trainer

    @property
    def _batch_size(self) -> int:
        """Images per batch of one process."""
        optimizer = self._optimizer
        return optimizer.batch_size // (self._trainer.world_size * optimizer.grad_accum_steps)

    def train_dataloader(self) -> EpochLoader:
        """Shuffled batches; those of several processes together are those of one."""
        trainer = self._trainer
        sampler: DistributedSampler[Any] | None = None
        if isinstance(self.training, ImageStream):
            self.training.set_workers(self._num_workers)
        else:
            sampler = DistributedSampler(
                self.training,
                num_replicas=trainer.world_size,
                rank=trainer.global_rank,
                seed=self._seed,
                drop_last=True,
            )
        return EpochLoader(
            self.training,
            self._batch_size,
            sampler=sampler,
            drop_last=True,
            num_workers=self._num_workers,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            collate_fn=self._collate,
            seed=self._seed,
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
            num_workers=self._num_workers,
            collate=self._collate,
        )
