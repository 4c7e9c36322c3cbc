"""Does scale 1 (Eq. 3) or 1/√D train better, and from which initialization? On the built-in images.

    python benchmarks/scale_and_initialization.py --json benchmarks/results/scale_and_initialization.json

A SASA-ResNet-26 of a quarter of the width with two heads, so that its heads are as wide as in the full
network (8, 16, 32, 64), is trained on the training images and evaluated on the test images.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import sasa
from sasa.data import FASHION_MNIST_MEAN, FASHION_MNIST_STD, load_fashion_mnist

# name: (scale, standard deviation of the projections, of the embeddings); D is the width of a head.
ARMS = {
    "scale 1, projections 1/√in, embeddings 1/√D": (1.0, "in", "D"),
    "scale 1/√D, projections 1/√in, embeddings 1/√D": ("D", "in", "D"),
    "scale 1, projections 1/√in, embeddings 1": (1.0, "in", 1.0),
    "scale 1/√D, projections 1/√in, embeddings 1": ("D", "in", 1.0),
    "scale 1, projections √(2/out), embeddings 1": (1.0, "out", 1.0),
    "scale 1/√D, projections √(2/out), embeddings 1": ("D", "out", 1.0),
    "scale 1, projections √(2/out), queries 1/√D of it, embeddings 1": (1.0, "out, queries/√D", 1.0),
}


def build(scale: float | str, projection: str, embedding: float | str) -> nn.Module:
    """The network with its attention layers drawn as the arm says (the stem's embeddings only)."""
    model = sasa.create_model("sasa_resnet26", num_classes=10, in_chans=1, width_mult=0.25, num_heads=2)
    for layer in model.modules():
        if isinstance(layer, sasa.LocalSelfAttention2d):
            head = layer.out_channels // layer.num_heads
            layer.scale = head**-0.5 if scale == "D" else scale
            std = layer.in_channels**-0.5 if projection == "in" else (2 / layer.qkv.out_channels) ** 0.5
            nn.init.normal_(layer.qkv.weight, std=std)
            if projection == "out, queries/√D":
                nn.init.normal_(layer.qkv.weight[: layer.out_channels], std=std * head**-0.5)
        if isinstance(layer, (sasa.LocalSelfAttention2d, sasa.AttentionStem)):
            head = layer.out_channels // layer.num_heads
            for parameter in (layer.rel_row, layer.rel_col):
                nn.init.normal_(parameter, std=head**-0.5 if embedding == "D" else embedding)
    return model


def images(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized float images (count, 1, 28, 28) and labels of one split."""
    pixels, labels = load_fashion_mnist(split)
    x = torch.tensor(pixels).unsqueeze(1).float() / 255
    return (x - FASHION_MNIST_MEAN[0]) / FASHION_MNIST_STD[0], torch.tensor(labels).long()


def run(arm: str, seed: int, epochs: int, lr: float, limit: int) -> dict[str, float | int | str]:
    """Train one network and evaluate it."""
    torch.manual_seed(seed)
    model = build(*ARMS[arm])
    x, y = images("train")
    x, y = x[:limit], y[:limit]
    position = model.no_weight_decay()
    plain = [p for n, p in model.named_parameters() if n in position or p.ndim == 1]
    decayed = [p for n, p in model.named_parameters() if n not in position and p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    batch = 64
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    start, losses = time.time(), []
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for index in order[: len(x) // batch * batch].split(batch):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    model.eval()
    x, y = images("test")
    with torch.inference_mode():
        correct = sum(
            (model(a).argmax(1) == b).sum().item() for a, b in zip(x.split(250), y.split(250), strict=True)
        )
    return {
        "arm": arm,
        "seed": seed,
        "test_top1": 100 * correct / len(x),
        "last_train_loss": statistics.mean(losses[-20:]),
        "seconds": round(time.time() - start, 1),
    }


def main() -> None:
    """Run every arm with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arms", type=int, nargs="+", default=range(len(ARMS)), help="numbers of the arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--limit", type=int, default=4_000, help="training images (of 10,000)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    arms = [list(ARMS)[number] for number in args.arms]
    results = []
    for seed in range(args.seeds):
        for arm in arms:
            results.append(run(arm, seed, args.epochs, args.lr, args.limit))
            print(json.dumps(results[-1], ensure_ascii=False), flush=True)
            if args.json:
                record = {
                    "epochs": args.epochs,
                    "lr": args.lr,
                    "limit": args.limit,
                    "torch": torch.__version__,
                    "sasa": sasa.__version__,
                    "machine": platform.processor() or platform.machine(),
                    "results": results,
                }
                args.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{'arm':<64} top-1 %: mean ± standard error   training loss")
    for arm in arms:
        of_arm = [r for r in results if r["arm"] == arm]
        top1 = [float(r["test_top1"]) for r in of_arm]
        error = statistics.stdev(top1) / len(top1) ** 0.5 if len(top1) > 1 else float("nan")
        loss = statistics.mean(float(r["last_train_loss"]) for r in of_arm)
        print(f"{arm:<64} {statistics.mean(top1):6.2f} ± {error:.2f}  {loss:20.3f}")


if __name__ == "__main__":
    main()
