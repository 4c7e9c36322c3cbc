"""The pictures of README.md: attention over a photo, and accuracy against inference time.

    python -m studies.readme_figures cifar10    # make figures DATA=cifar10

cifar10 is a folder of train/CLASS/IMAGE and test/CLASS/IMAGE. A network is trained on it first, unless the
run folder exists; this takes about 15 minutes of one core. The photo, a portrait of Grace Hopper by the
U.S. Navy, is in the public domain and comes with matplotlib. Accuracies and times are those in
docs/results/cifar10_cpu.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from sasa.data import evaluation_transform
from sasa.models import attention_layers, query_attention_maps
from sasa.report import draw_attention
from sasa.train import WeightsMetadata, load_weights, parse_config, train

ROOT = Path(__file__).parents[1]
EPOCHS, SIDE = 5, 56  # of training
PHOTO_SIDE = 160  # of the photo as input of the network
CROP = (96, 10, 416, 330)  # left, top, right and bottom of the part of the photo
QUERY = (0.565, 0.40)  # row and column of the marked pixel, as parts of height and width

# Sweep and cell of the results, with label, color (Okabe and Ito's) and marker.
POINTS = {
    ("gap", "convolution"): ("convolution", "#000000", "s"),
    ("gap", "conv 12, attention 34"): ("convolution in stages 1–2,\nattention in 3–4", "#0072B2", "D"),
    ("gap", "attention"): ("conv stem + attention", "#D55E00", "o"),
    ("table7", "spatially_aware"): ("full attention", "#009E73", "^"),
}


def main() -> None:
    """Train the network if necessary and draw both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="folder of CIFAR-10")
    parser.add_argument("--run", default="runs/readme_figures", help="run folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", help="folder of the pictures")
    args = parser.parse_args()
    if not Path(args.run).exists():
        train(
            parse_config(
                [
                    *("--config", str(ROOT / "recipes" / "cifar10_cpu.yaml"), "--data.source", args.data),
                    *("--data.input_size", str(SIDE), "--augmentation.padding", str(SIDE // 8)),
                    *("--model.options.num_heads", "4", "--optimizer.epochs", str(EPOCHS), "--run", args.run),
                ]
            )
        )
    args.out.mkdir(parents=True, exist_ok=True)
    network, metadata = load_weights(args.run)
    draw_photo(network, metadata, args.out / "attention.png")
    draw_accuracy(args.out / "accuracy_against_time.svg")
    print(f"wrote {args.out}; top-1 of the network {100 * (metadata.accuracy or 0):.1f} %")


def draw_photo(network: nn.Module, metadata: WeightsMetadata, out: Path) -> None:
    """Draw the attention of one pixel in the last layer of each stage, mean over heads."""
    with get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB").crop(CROP)
    layers = {name.partition(".")[0]: name for name in attention_layers(network)}  # the last of each stage
    del layers["stem"]  # its blocks of 4 × 4 pixels are too small for the picture
    transform = evaluation_transform(
        (3, PHOTO_SIDE, PHOTO_SIDE), mean=metadata.mean, std=metadata.std, crop_pct=1.0
    )
    maps = query_attention_maps(
        network, transform(photo).unsqueeze(0), query=QUERY, layers=list(layers.values())
    )
    titles = {name: f"stage {number}" for number, name in enumerate(layers.values(), 1)}
    pixels = np.asarray(photo, dtype=np.float32) / 255
    draw_attention(pixels[None], {titles[name]: x.numpy() for name, x in maps.items()}, out, query=QUERY)


def measured(sweep: str, cell: str) -> tuple[float, float, float]:
    """Return the inference time in ms per image, and mean and standard error of top-1 in percent."""
    results = ROOT / "docs" / "results" / "cifar10_cpu" / "results.json"
    runs = json.loads(results.read_text(encoding="utf-8"))["runs"]
    runs = [run for run in runs if (run["sweep"], run["cell"]) == (sweep, cell)]
    top1 = [100 * run["top1"] for run in runs]
    ms = 1e3 * statistics.mean(run["inference_seconds"] for run in runs)
    return ms, statistics.mean(top1), statistics.stdev(top1) / len(top1) ** 0.5


def draw_accuracy(out: Path) -> None:
    """Draw mean and standard error of top-1 over the seeds against the inference time per image."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for key, (label, color, marker) in POINTS.items():
        ms, mean, error = measured(*key)
        axes.errorbar(ms, mean, error, color=color, marker=marker, markersize=7, capsize=4)
        axes.annotate(label, (ms, mean), xytext=(10, 0), textcoords="offset points", va="center", color=color)
    axes.set(xlim=(0.16, 0.285), ylim=(57.8, 66.8), xlabel="inference time, ms per image")
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": "sasa"}):
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
