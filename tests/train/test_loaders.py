"""Loaders for any number of processes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from sasa.train.loaders import EpochLoader, evaluation_batches


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("images", [4, 5, 7, 8, 9, 16, 17])
def test_every_image_once_in_as_many_batches(images: int, batch_size: int, world: int) -> None:
    shares = [evaluation_batches(images, batch_size, world, rank) for rank in range(world)]
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(images))
    assert len({len(share) for share in shares}) == 1
    sizes = [len(batch) for share in shares for batch in share]
    assert min(sizes) > 0
    assert max(sizes) <= max(2, batch_size)


def test_fewer_images_than_processes() -> None:
    with pytest.raises(ValueError, match=r"images: expected at least one per process \(3\), got 2"):
        evaluation_batches(2, 8, 3, 0)


class Draws(Dataset[tuple[float, float, float]]):
    """One number of each generator that the transforms use."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epochs_randomness_depends_on_seed_epoch_and_rank_alone(workers: int) -> None:
    def epoch(number: int, seed: int = 0, rank: int = 0) -> list[Any]:
        random.random()
        np.random.rand()
        torch.rand(3)
        loader = EpochLoader(Draws(), 4, num_workers=workers, seed=seed, rank=rank, epoch=lambda: number)
        (batch,) = loader
        draws = [part.tolist() for part in batch]
        return [*draws, random.random(), float(np.random.rand()), torch.rand(()).item()]

    first = epoch(0)
    epochs = [epoch(1), epoch(0, seed=1), epoch(0, rank=1)]
    assert epoch(0) == first
    for other in epochs:
        for one, two in zip(first, other, strict=True):
            assert one != two
