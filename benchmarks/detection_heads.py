"""Does attention in pyramid and heads learn without a norm, and from which first W_V and embeddings?

    python benchmarks/detection_heads.py --json benchmarks/results/detection_heads.json

Small fully attentional RetinaNets, and those with convolution there, learn four images of two items of
clothing each by heart; printed are the loss, the mean of the last ten steps, and how sharply the class
head's attention then looks: the largest weight of a window, 0.04 where it is uniform.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import sasa
from sasa.data import load_fashion_mnist
from sasa.detection import RetinaNet, create_retinanet

# name: (kind, norm, deviations of W_V and of the relative embeddings).
ARMS = {
    "convolution, no norm": ("conv", "none", None, None),
    "convolution, group norm": ("conv", "group", None, None),
    "attention, no norm, W_V 0.01": ("attention", "none", 0.01, 1.0),
    "attention, no norm, W_V 0.1": ("attention", "none", 0.1, 1.0),
    "attention, group norm, W_V 0.01": ("attention", "group", 0.01, 1.0),
    "attention, group norm, W_V 0.1": ("attention", "group", 0.1, 1.0),
    "attention, group norm, W_V 0.1, embeddings 3": ("attention", "group", 0.1, 3.0),
}


def build(kind: str, norm: str, value_std: float | None, embedding_std: float | None) -> RetinaNet:
    """A quarter of the channels, 5 × 5 windows."""
    detector = create_retinanet(
        "sasa_resnet26",
        num_classes=10,
        fpn_and_heads=kind,
        norm=norm,
        fpn_channels=64,
        num_heads=4,
        kernel_size=5,
        backbone_options={"width_mult": 0.25, "num_heads": 4, "kernel_size": 5},
    )
    for part in (detector.head, detector.backbone.fpn):
        for layer in part.modules():
            if isinstance(layer, sasa.LocalSelfAttention2d):
                if part is detector.head:
                    nn.init.normal_(layer.qkv.weight[-layer.out_channels :], std=value_std)
                for embedding in (layer.rel_row, layer.rel_col):
                    nn.init.normal_(embedding, std=embedding_std)
    return detector


def scenes() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Four gray images (3, 64, 64) with an item, 28 × 28, in the upper and one in the lower half."""
    pixels, labels = load_fashion_mnist("train")
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for scene in range(4):
        image, boxes = torch.full((3, 64, 64), 0.2), []
        for half in range(2):
            x, y = torch.randint(0, 36, (1,), generator=generator).item(), 2 + 32 * half
            item = torch.tensor(pixels[2 * scene + half]).float() / 255
            image[:, y : y + 28, x : x + 28] += 0.8 * item
            boxes.append([x, y, x + 28, y + 28])
        images.append(image)
        targets.append(
            {
                "boxes": torch.tensor(boxes).float(),
                "labels": torch.tensor(labels[2 * scene : 2 * scene + 2]).long(),
            }
        )
    return images, targets


def train(detector: RetinaNet, steps: int) -> list[float]:
    """The loss of each step of Adam."""
    images, targets = scenes()
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-3)
    losses = []
    for _ in range(steps):
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def sharpness(detector: RetinaNet) -> float | None:
    """The largest weight of a window, mean over P3, attention heads and layers of the class head."""
    layers = [
        m for m in detector.head.classification_head.modules() if isinstance(m, sasa.LocalSelfAttention2d)
    ]
    found: list[float] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, x, out: found.append(layer.attention_maps(x[0]).flatten(-2).amax(-1).mean().item())
        )
        for layer in layers
    ]
    p3 = detector.backbone(detector.transform(scenes()[0])[0].tensors)["p3"]
    detector.head.classification_head([p3])
    for hook in hooks:
        hook.remove()
    return round(statistics.mean(found), 3) if found else None


def main() -> None:
    """Train every arm with every seed and print what is left of the loss."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", type=int, nargs="+", default=range(len(ARMS)), help="numbers of the arms")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here")
    args = parser.parse_args()
    results = []
    for number in args.arms:
        name, arm = list(ARMS.items())[number]
        last, sharp = [], []
        for seed in args.seeds:
            torch.manual_seed(seed)
            start = time.perf_counter()
            detector = build(*arm)
            losses = train(detector, args.steps)
            last.append(statistics.mean(losses[-10:]))
            sharp.append(sharpness(detector))
            results.append(
                {
                    "arm": name,
                    "seed": seed,
                    "loss": round(last[-1], 4),
                    "largest_weight": sharp[-1],
                    "losses": [round(loss, 3) for loss in losses[9::10]],
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
        losses = [round(loss, 3) for loss in last]
        print(f"{name:<46} {statistics.mean(last):.3f}  {losses}  largest weight {sharp}", flush=True)
    if args.json:
        record = {
            "steps": args.steps,
            "torch": torch.__version__,
            "sasa": sasa.__version__,
            "machine": platform.machine(),
            "results": results,
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
