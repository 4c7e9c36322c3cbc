"""sasa attention."""

from __future__ import annotations

import argparse

HELP = "draw attention maps over images"

_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "--run",
        default="built-in",
        help="run folder or .safetensors file (default: built-in, the classifier that comes with sasa)",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files (default: a test image of each of the first ten classes of the data that the "
        "weights were trained on; of fashion-mnist if these are unknown and the classes agree)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="names of attention layers (default: the last of the stem and of each stage)",
    )
    parser.add_argument(
        "--heads",
        type=int,
        nargs="+",
        metavar="N",
        help="heads to draw separately (default: the mean of all heads)",
    )
    parser.add_argument(
        "--query",
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=("ROW", "COLUMN"),
        help="the query pixel, relative to height and width (default: 0.5 0.5)",
    )
    parser.add_argument("--out", default="attention.png", help="picture file (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Draw, and print the path of the picture."""
    from pathlib import Path

    from sasa.models import attention_layers, query_attention_maps
    from sasa.report import draw_attention, format_data
    from sasa.train import first_image_per_class, load_images, load_weights
    from sasa.train.classification.inputs import test_images_of

    folder = Path(args.out).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--out: expected a file in an existing folder, got {args.out}; create {folder}"
        )
    network, metadata = load_weights(args.run)
    if args.images:
        images, pictures = load_images(args.images, metadata)
        captions = [str(path) for path in args.images]
    else:
        dataset, data = test_images_of(metadata)
        print(format_data(data.described))
        images, pictures, captions = first_image_per_class(metadata, dataset, _CLASSES)
    layers = args.layers
    if layers is None:
        # The last attention layer of each part of the network: "stem", "layer1", …
        layers = list({name.partition(".")[0]: name for name in attention_layers(network)}.values())
    query = (args.query[0], args.query[1])
    maps = query_attention_maps(network, images, query=query, layers=layers)
    arrays = {name: weights.numpy() for name, weights in maps.items()}
    out = draw_attention(pictures, arrays, args.out, query=query, captions=captions, heads=args.heads)
    print(f"wrote {out}")
