"""The effect of the scale, 1 (Eq. 3) or 1/√D, and of the initialization on accuracy, on the built-in images.

    python -m studies.scale_and_initialization [--out results.json]

A sasa_resnet26 of a quarter of the width with two heads, so that the head dimensions are those of the full
network (8, 16, 32, 64), is trained on the training images and evaluated on the test images.
"""

from __future__ import annotations

import statistics

import torch
import torch.nn.functional as F
from torch import nn

import sasa
from sasa.data import FASHION_MNIST_MEAN, FASHION_MNIST_STD, load_fashion_mnist
from studies.arms import arguments, run_arms, top1

BATCH = 64
# The scale, and the standard deviations of the projections and of the embeddings; D is the head_dim.
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
    """Return the network with initial values of an arm; in the stem these apply to the embeddings alone."""
    model = sasa.create_model("sasa_resnet26", num_classes=10, in_chans=1, width_mult=0.25, num_heads=2)
    for layer in model.modules():
        if isinstance(layer, sasa.LocalSelfAttention2d):
            head_dim = layer.out_channels // layer.num_heads
            layer.scale = head_dim**-0.5 if scale == "D" else scale
            std = layer.in_channels**-0.5 if projection == "in" else (2 / layer.qkv.out_channels) ** 0.5
            nn.init.normal_(layer.qkv.weight, std=std)
            if projection == "out, queries/√D":
                nn.init.normal_(layer.qkv.weight[: layer.out_channels], std=std * head_dim**-0.5)
        if isinstance(layer, (sasa.LocalSelfAttention2d, sasa.AttentionStem)):
            head_dim = layer.out_channels // layer.num_heads
            for parameter in (layer.rel_row, layer.rel_col):
                nn.init.normal_(parameter, std=head_dim**-0.5 if embedding == "D" else embedding)
    return model


def images(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalized images, (count, 1, 28, 28) float, and labels of one split."""
    pixels, labels = load_fashion_mnist(split)
    x = torch.tensor(pixels).unsqueeze(1).float() / 255
    return (x - FASHION_MNIST_MEAN[0]) / FASHION_MNIST_STD[0], torch.tensor(labels).long()


def train(arm: str, epochs: int, lr: float, limit: int) -> dict[str, float]:
    """Train one network and evaluate it."""
    model = build(*ARMS[arm])
    x, y = (part[:limit] for part in images("train"))
    position = model.no_weight_decay()
    plain = [p for n, p in model.named_parameters() if n in position or p.ndim == 1]
    decayed = [p for n, p in model.named_parameters() if n not in position and p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for index in order[: len(x) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return {"test_top1": top1(model, *images("test")), "last_train_loss": statistics.mean(losses[-20:])}


def main() -> None:
    """Run all arms with all seeds."""
    parser = arguments(__doc__, ARMS)
    parser.add_argument("--epochs", type=int, default=3, help="default: 3")
    parser.add_argument("--lr", type=float, default=0.1, help="largest learning rate (default: 0.1)")
    parser.add_argument("--limit", type=int, default=4_000, help="training images, of 10,000 (default: 4000)")
    args = parser.parse_args()
    run_arms("scale_and_initialization", args, ARMS, lambda arm: train(arm, args.epochs, args.lr, args.limit))


if __name__ == "__main__":
    main()
