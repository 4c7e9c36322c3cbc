"""The effect of the norm and of the initial W_V and embeddings on training attention in FPN and heads.

    python -m studies.detection_heads [--out results.json]

Small fully attentional RetinaNets, and those with convolution in FPN and heads, overfit four images of two
items of clothing each. Results are the loss (mean of the last ten steps) and the largest weight in a window
of the class head, which is 0.04 for uniform attention.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor, nn

import sasa
from sasa.data import load_fashion_mnist
from sasa.detection import RetinaNet, create_retinanet
from studies.arms import arguments, run_arms

# Kind, norm, and standard deviations of W_V and of the relative embeddings.
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
    """Return a detector of a quarter of the channels with 5 × 5 windows."""
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
    """Return four gray images (3, 64, 64) with an item of 28 × 28 in each half, and their targets."""
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


def overfit(detector: RetinaNet, steps: int) -> dict[str, Any]:
    """Train a detector with Adam and return its losses and the largest weight of a window."""
    images, targets = scenes()
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-3)
    losses: list[float] = []
    for _ in range(steps):
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return {
        "loss": round(statistics.mean(losses[-10:]), 4),
        "largest_weight": largest_weight(detector),
        "losses": [round(loss, 3) for loss in losses[9::10]],
    }


@torch.no_grad()
def largest_weight(detector: RetinaNet) -> float | None:
    """Return the largest weight of a window, mean over P3, attention heads and layers of the class head."""
    weights: list[float] = []

    def keep(layer: sasa.LocalSelfAttention2d, inputs: tuple[Tensor], output: Tensor) -> None:
        weights.append(layer.attention_maps(inputs[0]).flatten(-2).amax(-1).mean().item())

    head = detector.head.classification_head
    hooks = [
        m.register_forward_hook(keep) for m in head.modules() if isinstance(m, sasa.LocalSelfAttention2d)
    ]
    head([detector.backbone(detector.transform(scenes()[0])[0].tensors)["p3"]])
    for hook in hooks:
        hook.remove()
    return round(statistics.mean(weights), 3) if weights else None


def main() -> None:
    """Run all arms with all seeds."""
    parser = arguments(__doc__, ARMS)
    parser.add_argument("--steps", type=int, default=100, help="default: 100")
    args = parser.parse_args()
    run_arms("detection_heads", args, ARMS, lambda arm: overfit(build(*ARMS[arm]), args.steps))


if __name__ == "__main__":
    main()
