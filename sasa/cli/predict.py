"""sasa predict."""

from __future__ import annotations

import argparse

HELP = "print the five most likely classes of images"
BATCH = 32
"""Images per forward pass, which bounds the memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, folders, or patterns in quotes"
    )
    parser.add_argument(
        "--run",
        default="built-in",
        help="run folder, .safetensors file, or .onnx file of sasa export (default: built-in, the classifier "
        "that comes with sasa)",
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write the probabilities of all classes to this file, a row per image"
    )
    parser.add_argument("--json", metavar="FILE", help="write the same as JSON")


def run(args: argparse.Namespace) -> None:
    """Print a block per image, and write the files that are asked for."""
    from collections.abc import Iterator
    from itertools import islice

    import torch

    from sasa.cli import exit_if_broken
    from sasa.data import BrokenImageError
    from sasa.data.image_paths import find_images
    from sasa.deploy import load_onnx
    from sasa.report import write_predictions_csv, write_predictions_json
    from sasa.train import load_images, load_weights

    network, metadata = (load_onnx if args.run.endswith(".onnx") else load_weights)(args.run)
    paths = [image.path for image in find_images(args.images)]
    broken: list[str] = []

    def intact() -> Iterator[tuple[str, torch.Tensor]]:
        for path in paths:
            try:
                pixels, _ = load_images([path], metadata)
            except (OSError, BrokenImageError) as error:
                broken.append(str(error))
            else:
                yield path, pixels

    rows: list[tuple[str, list[float]]] = []
    images = intact()
    while batch := list(islice(images, BATCH)):
        with torch.inference_mode():
            probabilities = network(torch.cat([pixels for _, pixels in batch])).softmax(1)
        if args.csv or args.json:
            rows += [(path, values) for (path, _), values in zip(batch, probabilities.tolist(), strict=True)]
        top = probabilities.topk(min(5, len(metadata.classes)), dim=1)
        for (path, _), values, indices in zip(batch, top.values.tolist(), top.indices.tolist(), strict=True):
            print(path)
            for value, index in zip(values, indices, strict=True):
                print(f"  {value:7.2%}  {metadata.classes[index]}")
    if args.csv:
        write_predictions_csv(rows, metadata.classes, args.csv)
    if args.json:
        write_predictions_json(rows, metadata.classes, args.json)
    exit_if_broken(broken, len(paths))
