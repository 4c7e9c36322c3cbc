"""Open any source of labeled images by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sasa.data.archives import ARCHIVE_SUFFIXES, ArchiveImages
from sasa.data.datasets import ImageDataset, ImageSource, Transform, skip_broken
from sasa.data.fashion_mnist import FashionMnistImages
from sasa.data.folders import FolderImages
from sasa.data.images import image_mode
from sasa.data.readers import HuggingFaceImages, TorchvisionImages
from sasa.data.streams import ImageStream

_FASHION_MNIST = "fashion-mnist"
_STREAMS = ("wds", "hfids", "tfds")
_MAPS: dict[str, Callable[..., ImageSource]] = {"torch": TorchvisionImages, "hfds": HuggingFaceImages}


def is_stream(source: str | Path) -> bool:
    """Whether create_dataset makes an ImageStream of this source."""
    return str(source).partition("/")[0] in _STREAMS and "/" in str(source)


def is_path(source: str | Path) -> bool:
    """Whether create_dataset looks for a folder or archive of this path, rather than taking a name."""
    source = str(source)
    named = "/" in source and source.partition("/")[0] in (*_STREAMS, *_MAPS)
    return source != _FASHION_MNIST and not named


def create_dataset(
    source: str | Path = _FASHION_MNIST,
    split: str | None = "train",
    *,
    in_chans: int | None = None,
    transform: Transform | None = None,
    on_broken: Literal["raise", "skip"] = "raise",
    **reader_options: Any,
) -> ImageDataset | ImageStream:
    """Open labeled images.

    Args:
        source: one of
            - "fashion-mnist", the built-in images, with splits "train" and "test";
            - a folder in ImageNet's layout, SPLIT/CLASS/…/IMAGE;
            - a .tar, .tar.gz (.bz2, .xz) or .zip archive with that layout inside, of which a
              compressed tar is read into memory;
            - timm's name for other data: "torch/…" (torchvision), "hfds/…" (Hugging Face), and the
              streams "wds/…" (WebDataset), "hfids/…" (Hugging Face), "tfds/…".
            A path that looks like one of the names is given as "./…".
        split: "train", "validation" (also "val") or "test"; "test" takes the validation folder
            where there is no test folder, as in ImageNet. Or any split's own name. None says that
            the folder or archive itself holds the class folders.
        in_chans: channels of the images, 1 ("L") or 3 ("RGB"), whatever they are stored in; None
            means 1 for "fashion-mnist" and 3 for all others.
        transform: applied to each PIL image; None leaves it as it is.
        on_broken: "raise": reading a broken image raises BrokenImageError, which names its file.
            "skip": every image is decoded once now; the broken ones are logged by name, counted
            (`skipped`) and left out.
        reader_options: for timm's readers only, such as root, download, target_key, and for streams
            is_training, batch_size, num_samples, classes (see ImageStream).

    Returns:
        An ImageDataset, or an ImageStream for a stream. Classes are numbered in sorted order of
        their folders' names.

    Raises:
        FileNotFoundError: there is no such source.
        ModuleNotFoundError: a reader's package is not installed.
        TypeError: reader_options for a source that is not timm's.
        ValueError: a missing split, an empty class folder, no images, a damaged archive, or an
            argument out of its range.
    """
    if on_broken not in ("raise", "skip"):
        raise ValueError(f"on_broken must be 'raise' or 'skip', got {on_broken!r}")
    source = str(source)
    if in_chans is None:
        in_chans = 1 if source == _FASHION_MNIST else 3
    mode = image_mode(in_chans)
    scheme = source.partition("/")[0] if "/" in source else ""
    if scheme in _STREAMS:
        return ImageStream(
            source, split, mode=mode, transform=transform, on_broken=on_broken, **reader_options
        )
    if scheme not in _MAPS and reader_options:
        raise TypeError(
            f"{', '.join(reader_options)}: reader options are for timm's readers "
            f"({', '.join(f'{name}/…' for name in (*_MAPS, *_STREAMS))}), not for {source!r}"
        )
    images = _MAPS[scheme](source, split, **reader_options) if scheme in _MAPS else _open_path(source, split)
    dataset = ImageDataset(images, mode=mode, transform=transform)
    return skip_broken(dataset) if on_broken == "skip" else dataset


def _open_path(source: str, split: str | None) -> ImageSource:
    if source == _FASHION_MNIST:
        return FashionMnistImages(split)
    path = Path(source).expanduser()
    if path.is_dir():
        return FolderImages(path, split)
    if not path.exists():
        raise FileNotFoundError(f"source {source!r} does not exist{_nearest(path)}")
    if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise ValueError(
            f"source {source!r} is a file; expected a folder or an archive ending in "
            f"{', '.join(ARCHIVE_SUFFIXES)}"
        )
    return ArchiveImages(path, split)


def _nearest(path: Path) -> str:
    """A hint, "; did you mean …?", with the known name or neighbor on disk most like a missing path."""
    wanted = str(path)
    names = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
    if "/" in wanted:
        names += [f"{scheme}/{path.name}" for scheme in (*_MAPS, *_STREAMS)]
    close = difflib.get_close_matches(wanted.lower(), [_FASHION_MNIST], n=1)
    close = close or difflib.get_close_matches(wanted, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; give {_FASHION_MNIST!r}, a folder, an archive, or a name of timm's such as 'hfds/…'"
