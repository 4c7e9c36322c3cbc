"""Data sets reach loader processes, however these are started."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from sasa.data import (
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    BrokenImageError,
    create_dataset,
    evaluation_transform,
    zips,
)

TRANSFORM = evaluation_transform((1, 28, 28), mean=FASHION_MNIST_MEAN, std=FASHION_MNIST_STD)
KINDS = ("tar", "gztar", "zip")


@pytest.fixture
def everything(tree: Path) -> ConcatDataset[tuple[torch.Tensor, int]]:
    """Images of a folder, of each archive and of the built-in data."""
    packed = [shutil.make_archive(f"{tree}-{kind}", kind, tree) for kind in KINDS]
    parts = [create_dataset(part, in_chans=1, transform=TRANSFORM) for part in (tree, *packed)]
    built_in = create_dataset(split="test", transform=TRANSFORM).select(range(6), TRANSFORM)  # type: ignore[union-attr]
    return ConcatDataset([*parts, built_in])  # type: ignore[list-item]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_the_same(everything: ConcatDataset, start: str) -> None:
    # Open handles in this process first: a fork must not share their positions.
    expected = [everything[i] for i in range(len(everything))]
    workers = 2 if start == "fork" else 1
    loader = DataLoader(everything, 6, num_workers=workers, multiprocessing_context=start)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(images, torch.stack([image for image, _ in expected]))
    assert labels.tolist() == [label for _, label in expected]


def test_each_process_opens_a_zip_itself(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = create_dataset(shutil.make_archive(f"{tree}-own", "zip", tree))
    dataset[0], dataset[1]
    opened: list[str] = []
    open_zip = zipfile.ZipFile
    monkeypatch.setattr(zips.zipfile, "ZipFile", lambda path: opened.append(path) or open_zip(path))
    monkeypatch.setattr(zips.os, "getpid", lambda: -1)
    assert dataset[1][1] == 0
    assert len(opened) == 1


def test_pickled_built_in_data_equals_itself() -> None:
    dataset = create_dataset(split="test", transform=TRANSFORM)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3][0], dataset[3][0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_names_the_broken_file(tree: Path) -> None:
    (tree / "train" / "cat" / "1.png").write_bytes(b"")
    loader = DataLoader(create_dataset(tree, transform=TRANSFORM, in_chans=1), 6, num_workers=1)
    with pytest.raises(BrokenImageError, match=r"cat/1\.png: broken image"):
        list(loader)
