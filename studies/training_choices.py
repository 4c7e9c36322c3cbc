"""The effect of training choices on the accuracy of attention on CIFAR-10, one choice at a time.

    python -m studies.training_choices cifar10 [--out results.json]

cifar10 is a folder of train/CLASS/IMAGE and test/CLASS/IMAGE. A sasa_resnet26 of a quarter of the width with
two heads, so that the head dimensions are those of the full network (8, 16, 32, 64), is trained with a short
warm-up and cosine decay; position embeddings, norms and biases are not decayed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

import sasa
from sasa.train.schedule import warmup_cosine
from studies.arms import arguments, run_arms, top1

BATCH, PADDING, MOMENTUM = 128, 4, 0.9
# Learning rate and weight decay of each optimizer.
OPTIMIZERS = {"sgd": (0.5, 5e-4), "adamw": (0.003, 0.02), "muon": (0.01, 0.02)}
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


def attention_layers(model: nn.Module) -> list[sasa.LocalSelfAttention2d]:
    """Return the attention layers of the stages, without the stem."""
    return [module for module in model.modules() if isinstance(module, sasa.LocalSelfAttention2d)]


def divide_logits(model: nn.Module) -> None:
    """Use the scale 1/√D, as in Transformers; the paper has 1 (Eq. 3)."""
    for layer in attention_layers(model):
        layer.scale = (layer.out_channels // layer.num_heads) ** -0.5


def shrink_embeddings(model: nn.Module) -> None:
    """Draw relative embeddings from N(0, 1/D), a common initialization of embeddings."""
    for layer in attention_layers(model):
        for embedding in (layer.rel_row, layer.rel_col):
            nn.init.normal_(embedding, std=(layer.out_channels // layer.num_heads) ** -0.5)


def enlarge_embeddings(model: nn.Module) -> None:
    """Draw relative embeddings from N(0, 9), so that each head attends to few positions at first."""
    for layer in attention_layers(model):
        for embedding in (layer.rel_row, layer.rel_col):
            nn.init.normal_(embedding, std=3)


def pool_first(model: nn.Module) -> None:
    """Move the 2 × 2 average pooling of strided layers before the attention (the paper: after it, §4.1)."""
    for block in model.modules():
        spatial = getattr(block, "spatial", None)
        if isinstance(spatial, sasa.LocalSelfAttention2d) and spatial.stride != 1:
            plain = sasa.LocalSelfAttention2d(
                spatial.in_channels, spatial.out_channels, spatial.kernel_size, num_heads=spatial.num_heads
            )
            plain.load_state_dict(spatial.state_dict())
            block.spatial = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), plain)


def slow_batch_norm(model: nn.Module) -> None:
    """Use a momentum of 0.01 instead of 0.1 for the running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01


def nothing(model: nn.Module) -> None:
    """Leave the network as it is."""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        network: Name of the network.
        optimizer: Key of `OPTIMIZERS`.
        change: Function that changes the new network.
        warmup: Part of the training that is warm-up, in [0, 1].
        decay_embeddings: Whether weight decay applies to position embeddings.
    """

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
    """Return all pixels, (count, 3, 32, 32) uint8, and labels in the folder of a split."""
    split = ImageFolder(str(folder))
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image, _ in split])
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def normalized(pixels: Tensor) -> Tensor:
    """Return uint8 or float pixels in 0 … 255 as float32, normalized per channel."""
    return (pixels / 255 - MEAN.to(pixels.device)) / STD.to(pixels.device)


def augment(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Shift each image by up to PADDING pixels, flip it with probability 1/2, and normalize it.

    Args:
        x: Pixels, (B, 3, H, W).
        generator: Random numbers on the device of the pixels; None takes torch's global generator.
    """
    count, _, height, width = x.shape
    on_device: dict[str, Any] = {"generator": generator, "device": x.device}
    x = F.pad(x.float(), (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count, 1), **on_device)
    columns = torch.arange(width, device=x.device)
    columns = torch.where(torch.rand(count, 1, **on_device) < 0.5, columns.flip(0), columns)
    rows = top + torch.arange(height, device=x.device)
    image = torch.arange(count, device=x.device)[:, None, None]
    x = x.permute(0, 2, 3, 1)[image, rows[:, :, None], (left + columns)[:, None]]
    return normalized(x.permute(0, 3, 1, 2))


def train(
    way: Arm, epochs: float, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Train one network and evaluate the moving average of its weights."""
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
    (x, y), losses = training, []
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
    return {
        "test_top1": top1(average.module, normalized(test[0]), test[1]),
        "last_train_loss": statistics.mean(losses[-20:]),
    }


def main() -> None:
    """Run all arms with all seeds."""
    parser = arguments(__doc__, ARMS)
    parser.add_argument("data", type=Path, help="folder of train/CLASS/IMAGE and test/CLASS/IMAGE")
    parser.add_argument("--epochs", type=float, default=1, help="default: 1")
    args = parser.parse_args()
    training, test = images(args.data / "train"), images(args.data / "test")
    run_arms("training_choices", args, ARMS, lambda arm: train(ARMS[arm], args.epochs, training, test))


if __name__ == "__main__":
    main()
