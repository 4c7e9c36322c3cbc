"""sasa attention."""

from __future__ import annotations

import argparse

HELP = "draw where the attention layers look, over images"

_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "--run",
        help="run folder or .safetensors file (default: built-in, the network that comes with sasa)",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files (default: a test image of each of the first ten classes of the data that the "
        "weights were trained on; of fashion-mnist if they do not say and have its classes)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="names of layers (default: the stem and each group's last)",
    )
    parser.add_argument(
        "--heads", type=int, nargs="+", metavar="N", help="heads to draw one by one (default: their mean)"
    )
    parser.add_argument(
        "--query",
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=("ROW", "COLUMN"),
        help="the pixel that looks, as parts of height and width (default: 0.5 0.5)",
    )
    parser.add_argument("--out", default="attention.png", help="file of the picture (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Draw and say where."""
    from pathlib import Path

    from sasa.cli.results import show_data
    from sasa.models import attention_layers, query_attention_maps
    from sasa.report import draw_attention
    from sasa.train import BUILT_IN_WEIGHTS, first_image_per_class, load_images, load_weights
    from sasa.train.inputs import test_images_of

    folder = Path(args.out).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"--out: there is no folder {folder}; make it first")
    network, metadata = load_weights(args.run or BUILT_IN_WEIGHTS)
    if args.images:
        images, pictures = load_images(args.images, metadata)
        captions = [str(path) for path in args.images]
    else:
        dataset, data = test_images_of(metadata)
        show_data(data.described)
        images, pictures, captions = first_image_per_class(metadata, dataset, _CLASSES)
    layers = args.layers
    if layers is None:
        # The last layer of each part of the network, "stem", "layer1", …
        layers = list({name.partition(".")[0]: name for name in attention_layers(network)}.values())
    query = (args.query[0], args.query[1])
    views = query_attention_maps(network, images, query=query, layers=layers)
    arrays = {name: view.numpy() for name, view in views.items()}
    out = draw_attention(pictures, arrays, args.out, query=query, captions=captions, heads=args.heads)
    print(f"wrote {out}")
