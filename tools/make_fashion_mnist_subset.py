"""Make the built-in images from the original files of Fashion-MNIST.

    python tools/make_fashion_mnist_subset.py /usr/share/datasets/fashion-mnist

The folder is that of the Debian package dataset-fashion-mnist. The files are the same byte for byte on every
run. The mean and standard deviation of the training images are printed too.
"""

from __future__ import annotations

import argparse
import gzip
import io
import lzma
from pathlib import Path

import numpy as np

OUTPUT = Path(__file__).parents[1] / "sasa" / "data" / "fashion_mnist"
CLASSES = 10
# Our file, prefix of the original files, and images per class.
SPLITS = (("train", "train", 1000), ("test", "t10k", 200))


def read_idx(path: Path, header: int) -> np.ndarray:
    """Return the bytes of an idx file after its header, flat, uint8."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def subset(folder: Path, prefix: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of each class in file order, (n, 28, 28) uint8, and labels, (n,) uint8."""
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 8)
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in range(CLASSES)]
    if any(len(indices) != per_class for indices in chosen):
        counts = [len(indices) for indices in chosen]
        raise ValueError(
            f"folder: expected {per_class} images of each of {CLASSES} classes in {folder}, got {counts}; "
            "use the original files"
        )
    order = np.sort(np.concatenate(chosen))
    return images[order], labels[order]


def main() -> None:
    """Write both files and print their contents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the four original .gz files")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder of the new files (default: %(default)s)"
    )
    arguments = parser.parse_args()
    for split, prefix, per_class in SPLITS:
        images, labels = subset(arguments.folder, prefix, per_class)
        arrays = io.BytesIO()
        np.save(arrays, images, allow_pickle=False)
        np.save(arrays, labels, allow_pickle=False)
        packed = lzma.compress(arrays.getvalue(), preset=9 | lzma.PRESET_EXTREME)
        (arguments.output / f"{split}.npy.xz").write_bytes(packed)
        print(f"{split}: {len(images)} images, {len(packed)} bytes")
        if split == "train":
            print(f"mean {images.mean() / 255:.4f}, std {images.std() / 255:.4f}")


if __name__ == "__main__":
    main()
