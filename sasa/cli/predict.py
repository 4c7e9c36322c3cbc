"""sasa predict."""

from __future__ import annotations

import argparse

HELP = "print the five most likely classes of images"
BATCH = 32
"""Images per forward pass, which bounds the memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--run",
        default="built-in",
        help="run folder or .safetensors file (default: built-in, the classifier that comes with sasa)",
    )


def run(args: argparse.Namespace) -> None:
    """Print a block per image."""
    import torch

    from sasa.train import load_images, load_weights

    network, metadata = load_weights(args.run)
    for start in range(0, len(args.images), BATCH):
        paths = args.images[start : start + BATCH]
        images, _ = load_images(paths, metadata)
        with torch.inference_mode():
            probabilities = network(images).softmax(1)
        top = probabilities.topk(min(5, len(metadata.classes)), dim=1)
        for path, values, indices in zip(paths, top.values.tolist(), top.indices.tolist(), strict=True):
            print(path)
            for value, index in zip(values, indices, strict=True):
                print(f"  {value:7.2%}  {metadata.classes[index]}")
