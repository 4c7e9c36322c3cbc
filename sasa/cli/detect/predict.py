"""sasa detect predict."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sasa.data.image_paths import ImagePath

HELP = "detect objects in images; writes the images with boxes, and detections.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, folders, or patterns in quotes"
    )
    parser.add_argument("--run", required=True, help="run folder or .safetensors file")
    parser.add_argument(
        "--out",
        default="detections",
        metavar="FOLDER",
        help="folder for the images with boxes, IMAGE.png, and detections.json (default: %(default)s)",
    )
    parser.add_argument(
        "--min_score",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="lowest score of a detection, in [0, 1] (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Detect, draw and write."""
    import json

    import numpy as np
    from tqdm import tqdm

    from sasa.cli import exit_if_broken
    from sasa.data.image_paths import find_images
    from sasa.report import DrawnBoxes, draw_boxes
    from sasa.train import detect_in_files

    out = Path(args.out)
    images = find_images(args.images, without=out)
    pictures = _pictures(images, out)
    content, count = [], 0
    broken: list[str] = []
    detections = detect_in_files(args.run, list(pictures), min_score=args.min_score, broken=broken)
    with tqdm(total=len(pictures), unit="image", disable=None) as bar:
        for path, image, found in detections:
            picture = pictures[str(path)]
            picture.parent.mkdir(parents=True, exist_ok=True)
            boxes = DrawnBoxes(found.boxes, found.labels, found.names, found.scores)
            draw_boxes(np.asarray(image), boxes, picture)
            objects = [
                {"class": name, "score": score, "box": box}
                for name, score, box in zip(found.names, found.scores, found.boxes, strict=True)
            ]
            content.append(
                {"image": path, "width": image.width, "height": image.height, "detections": objects}
            )
            count += len(objects)
            bar.update(len(content) + len(broken) - bar.n)
    if content:
        (out / "detections.json").write_text(json.dumps(content, indent=2) + "\n")
        print(f"{count} objects in {len(content)} images; pictures and detections.json are in {out}")
    exit_if_broken(broken, len(pictures))


def _pictures(images: Sequence[ImagePath], out: Path) -> dict[str, Path]:
    """The output file of each image; raises ValueError if it would replace another file of the command."""
    names = [Path(image.name).with_suffix(".png") for image in images]
    shared = Counter(names)
    # Of photo.jpg and photo.tif, each keeps its ending: photo.jpg.png and photo.tif.png.
    pictures = {
        image.path: out / (name if shared[name] == 1 else f"{image.name}.png")
        for image, name in zip(images, names, strict=True)
    }
    taken: dict[Path, str] = {Path(image).resolve(): image for image in pictures}
    for image, picture in pictures.items():
        if picture.resolve() in taken:
            raise ValueError(
                f"--out: expected a free file name for {image}, got {picture}, which belongs to "
                f"{taken[picture.resolve()]}; give another folder, or use one command per image"
            )
        taken[picture.resolve()] = image
    return pictures
