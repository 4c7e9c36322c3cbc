"""Which choices of training cost attention its accuracy? One choice changed at a time, on CIFAR-10.

    python benchmarks/training_choices.py cifar10 --json results.json

cifar10 is a folder of train/CLASS/IMAGE and test/CLASS/IMAGE. A SASA-ResNet-26 of a quarter of the width with
two heads, so that its heads are as wide as in the full network (8, 16, 32, 64), is trained with a short
warm-up and cosine decay; position embeddings, norms and biases are not decayed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

import sasa
from sasa.train.schedule import warmup_cosine

BATCH, PADDING, MOMENTUM = 128, 4, 0.9
# name: (learning rate, weight decay)
OPTIMIZERS = {"sgd": (0.5, 5e-4), "adamw": (0.003, 0.02), "muon": (0.01, 0.02)}
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


def attention_layers(model: nn.Module) -> list[sasa.LocalSelfAttention2d]:
    """The groups' layers; the stem's are left as they are."""
    return [module for module in model.modules() if isinstance(module, sasa.LocalSelfAttention2d)]


def divide_logits(model: nn.Module) -> None:
    """Scale 1/√D, as Transformers have it; the paper has 1 (Eq. 3)."""
    for layer in attention_layers(model):
        layer.scale = (layer.out_channels // layer.num_heads) ** -0.5


def shrink_embeddings(model: nn.Module) -> None:
    """Relative embeddings from N(0, 1/D), as tables of embeddings often start."""
    for layer in attention_layers(model):
        for embedding in (layer.rel_row, layer.rel_col):
            nn.init.normal_(embedding, std=(layer.out_channels // layer.num_heads) ** -0.5)


def enlarge_embeddings(model: nn.Module) -> None:
    """Relative embeddings from N(0, 9): each head starts with few positions."""
    for layer in attention_layers(model):
        for embedding in (layer.rel_row, layer.rel_col):
            nn.init.normal_(embedding, std=3)


def pool_first(model: nn.Module) -> None:
    """The 2 × 2 average pool of strided layers before the attention and not after it (§4.1)."""
    for block in model.modules():
        spatial = getattr(block, "spatial", None)
        if isinstance(spatial, sasa.LocalSelfAttention2d) and spatial.stride != 1:
            plain = sasa.LocalSelfAttention2d(
                spatial.in_channels, spatial.out_channels, spatial.kernel_size, num_heads=spatial.num_heads
            )
            plain.load_state_dict(spatial.state_dict())
            block.spatial = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), plain)


def slow_batch_norm(model: nn.Module) -> None:
    """Running statistics with decay 0.99 and not 0.9."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01


def nothing(model: nn.Module) -> None:
    """As it is."""


@dataclass(frozen=True)
class Arm:
    """One way to train; warmup is a part of the training."""

    network: str = "sasa_resnet26"
    optimizer: str = "sgd"
    change: Callable[[nn.Module], None] = nothing
    warmup: float = 0.1
    decay_embeddings: bool = False


ARMS = {
    "convolution": Arm("sasa_resnet26_conv"),
    "attention": Arm(),
    "attention, scale 1/√D": Arm(change=divide_logits),
    "attention, embeddings from N(0, 1/D)": Arm(change=shrink_embeddings),
    "attention, embeddings from N(0, 9)": Arm(change=enlarge_embeddings),
    "attention, embeddings decayed": Arm(decay_embeddings=True),
    "attention, no warm-up": Arm(warmup=0.0),
    "attention, batch-norm decay 0.99": Arm(change=slow_batch_norm),
    "attention, pool before strided attention": Arm(change=pool_first),
    "convolution, AdamW": Arm("sasa_resnet26_conv", "adamw"),
    "attention, AdamW": Arm(optimizer="adamw"),
    "convolution, Muon": Arm("sasa_resnet26_conv", "muon"),
    "attention, Muon": Arm(optimizer="muon"),
}


def images(folder: Path) -> tuple[Tensor, Tensor]:
    """All pixels (count, 3, 32, 32), uint8, and labels of a split's folder."""
    split = ImageFolder(str(folder))
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image, _ in split])
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def augment(x: Tensor) -> Tensor:
    """A shift of up to PADDING pixels and a flip for each image, then normalization."""
    count, _, height, width = x.shape
    x = F.pad(x.float(), (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count, 1))
    columns = torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(0), columns)
    rows = top + torch.arange(height)
    x = x.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], (left + columns)[:, None]]
    return (x.permute(0, 3, 1, 2) / 255 - MEAN) / STD


def run(
    arm: str, seed: int, epochs: float, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, float | int | str]:
    """Train one network and evaluate the moving average of its weights."""
    way = ARMS[arm]
    torch.manual_seed(seed)
    options = {} if way.network.endswith("_conv") else {"num_heads": 2}
    model = sasa.create_model(way.network, num_classes=10, width_mult=0.25, **options)
    way.change(model)
    if way.decay_embeddings:
        model.no_weight_decay = lambda: ()  # type: ignore[assignment]
    model = model.to(memory_format=torch.channels_last).train()
    lr, weight_decay = OPTIMIZERS[way.optimizer]
    optimizer = create_optimizer_v2(
        model,
        way.optimizer,
        lr=lr,
        weight_decay=weight_decay,
        momentum=MOMENTUM,
        fallback_no_weight_decay=True,
    )
    average = ModelEmaV3(model, 0.99, use_warmup=True, warmup_gamma=9, warmup_power=1)
    (x, y), losses, start = train, [], time.time()
    steps = int(epochs * len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, steps, round(way.warmup * steps))
    )
    order = torch.cat([torch.randperm(len(x)) for _ in range(int(epochs) + 1)])[: steps * BATCH]
    for index in order.split(BATCH):
        loss = F.cross_entropy(model(augment(x[index])), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        average.update(model, step=len(losses))
    evaluated = average.module.eval()
    with torch.inference_mode():
        correct = sum(
            (evaluated((a / 255 - MEAN) / STD).argmax(1) == b).sum().item()
            for a, b in zip(test[0].split(250), test[1].split(250), strict=True)
        )
    return {
        "arm": arm,
        "seed": seed,
        "test_top1": 100 * correct / len(test[0]),
        "last_train_loss": statistics.mean(losses[-20:]),
        "seconds": round(time.time() - start, 1),
    }


def main() -> None:
    """Run every arm with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of train/CLASS/IMAGE and test/CLASS/IMAGE")
    parser.add_argument("--arms", type=int, nargs="+", default=range(len(ARMS)), help="numbers of the arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    train, test = images(args.data / "train"), images(args.data / "test")
    arms = [list(ARMS)[number] for number in args.arms]
    results = []
    for seed in range(args.seeds):
        for arm in arms:
            results.append(run(arm, seed, args.epochs, train, test))
            print(json.dumps(results[-1], ensure_ascii=False), flush=True)
            if args.json:
                record = {
                    "epochs": args.epochs,
                    "torch": torch.__version__,
                    "sasa": sasa.__version__,
                    "machine": platform.processor() or platform.machine(),
                    "results": results,
                }
                args.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{'arm':<44} top-1 %: mean ± standard error   training loss")
    for arm in arms:
        of_arm = [r for r in results if r["arm"] == arm]
        top1 = [float(r["test_top1"]) for r in of_arm]
        error = statistics.stdev(top1) / len(top1) ** 0.5 if len(top1) > 1 else float("nan")
        loss = statistics.mean(float(r["last_train_loss"]) for r in of_arm)
        print(f"{arm:<44} {statistics.mean(top1):6.2f} ± {error:.2f}  {loss:20.3f}")


if __name__ == "__main__":
    main()
