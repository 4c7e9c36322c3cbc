"""Cut the built-in images out of Fashion-MNIST's original files.

    python tools/make_fashion_mnist_subset.py /usr/share/datasets/fashion-mnist

The folder is the one that the Debian package dataset-fashion-mnist installs. The output is the same
byte for byte on every run; the last lines are the training images' mean and standard deviation.
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
# (our file, the original files' prefix, images a class)
SPLITS = (("train", "train", 1000), ("test", "t10k", 200))


def read_idx(path: Path, header: int) -> np.ndarray:
    """Read the bytes of an idx file behind its header of the given length, uint8, flat."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def subset(folder: Path, prefix: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """The first per_class images of each class in file order: (n, 28, 28) and (n,), uint8."""
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 8)
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in range(CLASSES)]
    if any(len(indices) != per_class for indices in chosen):
        raise ValueError(f"{folder}: expected {per_class} images of each of {CLASSES} classes")
    order = np.sort(np.concatenate(chosen))
    return images[order], labels[order]


def main() -> None:
    """Write both files and print what they hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four original .gz files")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write")
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
