"""Create the data set of any source of labeled images by the source's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sasa.data.archives import ARCHIVE_SUFFIXES, open_archive
from sasa.data.datasets import ImageDataset, ImageSource, Transform, skip_broken
from sasa.data.fashion_mnist import FashionMnistImages
from sasa.data.files import ClassFolderImages, existing_path
from sasa.data.folders import FolderFiles
from sasa.data.images import image_mode
from sasa.data.layout import find_split, is_hidden
from sasa.data.readers import HuggingFaceImages, TorchvisionImages
from sasa.data.splits import train_test_split
from sasa.data.streams import ImageStream
from sasa.errors import require

_FASHION_MNIST = "fashion-mnist"
_STREAMS = ("wds", "hfids", "tfds")
_MAPS: dict[str, Callable[..., ImageSource]] = {"torch": TorchvisionImages, "hfds": HuggingFaceImages}
_EXPECTED = (
    f"{_FASHION_MNIST!r}, a folder, an archive ({', '.join(ARCHIVE_SUFFIXES)}), or timm's name of other "
    "data, such as 'hfds/…'"
)


def is_stream(source: str | Path) -> bool:
    """Whether create_dataset creates an ImageStream of this source."""
    return str(source).partition("/")[0] in _STREAMS and "/" in str(source)


def is_path(source: str | Path) -> bool:
    """Whether create_dataset takes this source as the path of a folder or archive."""
    source = str(source)
    named = "/" in source and source.partition("/")[0] in (*_STREAMS, *_MAPS)
    return source != _FASHION_MNIST and not named


def create_dataset(
    source: str | Path = _FASHION_MNIST,
    split: str | None = "train",
    *,
    in_chans: int | None = None,
    transform: Transform | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_broken: Literal["raise", "skip"] = "raise",
    **reader_options: Any,
) -> ImageDataset | ImageStream:
    """Create a data set of labeled images.

    Args:
        source: One of
            - "fashion-mnist", the built-in images, with the splits "train" and "test";
            - a folder in ImageNet's layout, SPLIT/CLASS/…/IMAGE;
            - a .tar, .tar.gz (.bz2, .xz) or .zip archive of that layout; a compressed tar is read into
              memory;
            - timm's name of other data: "torch/…" (torchvision), "hfds/…" (Hugging Face), and the streams
              "wds/…" (WebDataset), "hfids/…" (Hugging Face), "tfds/…".
            A path that looks like one of the names is given as "./…".
        split: "train", "validation" (also "val"), "test", or the name of any other split. "test" falls back
            to the validation folder if there is no test folder, as in ImageNet. None takes the folder or
            archive itself, which then contains the class folders.
        in_chans: Channels of the images, 1 ("L") or 3 ("RGB"), whatever they are stored in; None takes 1 for
            "fashion-mnist" and 3 for all others.
        transform: Applied to each PIL image; None leaves it as it is.
        test_fraction: For a folder or archive without splits, CLASS/…/IMAGE: the share of each class that is
            held out as the split "test", in (0, 1); the others are the split "train" (see
            `train_test_split`). Images added later change the choice.
        split_seed: The seed of that choice.
        on_broken: "raise": reading a broken image raises BrokenImageError, which names its file. "skip":
            every image is decoded once now, and broken images are left out, logged by name and counted
            (`skipped`).
        reader_options: For timm's readers only, such as root, download, target_key, and for streams
            is_training, batch_size, num_samples, classes (see ImageStream).

    Returns:
        An ImageDataset, or an ImageStream for a stream. Classes are numbered in the sorted order of their
        folders' names.

    Raises:
        FileNotFoundError: There is no such source.
        ModuleNotFoundError: The package of a reader is not installed.
        TypeError: There are reader_options for a source that is not timm's.
        ValueError: A split is missing, test_fraction is given for data with splits, a class folder is empty,
            there are no images, an archive is damaged, or an argument is out of range.
    """
    require(on_broken in ("raise", "skip"), "on_broken", "'raise' or 'skip'", on_broken)
    source = str(source)
    if in_chans is None:
        in_chans = 1 if source == _FASHION_MNIST else 3
    mode = image_mode(in_chans)
    if test_fraction is not None:
        require(is_path(source), "test_fraction", f"None, as {source!r} has splits", test_fraction)
        require(split in ("train", "test"), "split", "'train' or 'test' beside test_fraction", split)
    scheme = source.partition("/")[0] if "/" in source else ""
    if scheme in _STREAMS:
        return ImageStream(
            source, split, mode=mode, transform=transform, on_broken=on_broken, **reader_options
        )
    if scheme not in _MAPS and reader_options:
        readers = ", ".join(f"{name}/…" for name in (*_MAPS, *_STREAMS))
        raise TypeError(
            f"reader_options: expected none for {source!r}, as they are for timm's readers ({readers}), got "
            f"{', '.join(reader_options)}"
        )
    if scheme in _MAPS:
        images = _MAPS[scheme](source, split, **reader_options)
    else:
        images = _open_path(source, None if test_fraction is not None else split)
    dataset = ImageDataset(images, mode=mode, transform=transform)
    if test_fraction is not None:
        # Before broken images are left out, which are known only if all are decoded.
        training, test = train_test_split(dataset, test_fraction, split_seed)
        dataset = training if split == "train" else test
    return skip_broken(dataset) if on_broken == "skip" else dataset


def _open_path(source: str, split: str | None) -> ImageSource:
    if source == _FASHION_MNIST:
        return FashionMnistImages(split)
    names = [_FASHION_MNIST]
    if "/" in source:
        names += [f"{scheme}/{Path(source).name}" for scheme in (*_MAPS, *_STREAMS)]
    path = existing_path(source, names=names, expected=_EXPECTED, suffixes=ARCHIVE_SUFFIXES)
    if path.is_dir():
        # Only the folder of the split is listed completely: the others may hold millions of files.
        top = [entry.name for entry in os.scandir(path) if entry.is_dir() and not is_hidden(entry.name)]
        return ClassFolderImages(FolderFiles(path / find_split(top, split, str(path))))
    files = open_archive(path)
    return ClassFolderImages(files, find_split(files.folders, split, files.location))
