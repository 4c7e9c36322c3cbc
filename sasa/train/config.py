"""What a training run is made of: every choice, its unit and its range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal


def require(condition: bool, key: str, expected: str, got: Any) -> None:
    """Raise ValueError that names the key unless the condition holds."""
    if not condition:
        raise ValueError(f"{key} must be {expected}, got {got!r}")


@contextmanager
def options_of(key: str) -> Iterator[None]:
    """Around a call that takes a configuration's options: its TypeError becomes a ValueError with the key.

    An unknown option is the fault of whoever wrote the configuration, no longer that of the caller.
    """
    try:
        yield
    except TypeError as error:
        raise ValueError(f"{key}: {error}") from error


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        name: of one of our networks (see `sasa models`) or of any of timm's
        options: for sasa.create_model, such as {width_mult: 0.5, stem: small}
        weights: safetensors file (or the run folder that holds one) to start from, or built-in, the
            classifier that comes with sasa; null starts from scratch. If its classes are not those of the
            data, the classifier starts anew
    """

    name: str = "sasa_resnet26"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        for key in ("num_classes", "in_chans"):
            if key in self.options:
                raise ValueError(f"model.options must not hold {key!r}: it follows from the data")


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        source: fashion-mnist (built in), a folder or archive in ImageNet's layout, or timm's name for
            other data
        train_split: split to train on
        test_split: split for the evaluation at the end
        val_split: split for the validation after every epoch; null holds out a part of the
            training split
        val_fraction: share of the training images held out for validation, in (0, 1), class by class
        in_chans: 1 (grayscale) or 3 (RGB); null means 1 for fashion-mnist and 3 otherwise
        input_size: side in pixels of the square the network sees; null means 28 for fashion-mnist, else 224
        mean: of each channel, for pixels in [0, 1]; null means fashion-mnist's own or ImageNet's
        std: of each channel, for pixels in [0, 1]; null means fashion-mnist's own or ImageNet's
        crop_pct: in evaluation, side of the center crop over the side resized to, in (0, 1]; null means 1 for
            inputs under 64 pixels, else 0.875
        interpolation: of resizing
        on_broken: raise stops at a broken image, skip leaves it out and counts it
        num_workers: processes that load images, for each training process; 0 loads in the training process
        options: for timm's readers only, such as {root: folder, download: true}
    """

    source: str = "fashion-mnist"
    train_split: str = "train"
    test_split: str = "test"
    val_split: str | None = None
    val_fraction: float = 0.04
    in_chans: int | None = None
    input_size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] = "bilinear"
    on_broken: Literal["raise", "skip"] = "raise"
    num_workers: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.val_fraction < 1, "data.val_fraction", "in (0, 1)", self.val_fraction)
        require(self.in_chans in (None, 1, 3), "data.in_chans", "1, 3 or null", self.in_chans)
        require(
            self.input_size is None or self.input_size > 0,
            "data.input_size",
            "positive or null",
            self.input_size,
        )
        require(self.num_workers >= 0, "data.num_workers", "0 or more", self.num_workers)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to the training images and labels, timm's; the defaults are a crop and a flip.

    Attributes:
        crop: resized takes a part of random size and aspect, padded a shifted whole; null means padded for
            inputs under 64 pixels, else resized
        padding: pixels on each side for crop padded; null means an eighth of the side
        scale: range of the part's share of the area for crop resized, in (0, 1]
        ratio: range of the part's aspect ratio for crop resized
        hflip: probability of a horizontal flip, in [0, 1]
        color_jitter: strength of random brightness, contrast and saturation; 0 is off
        auto_augment: timm's policy, such as rand-m9-mstd0.5; null is off
        re_prob: probability of erasing a random rectangle, in [0, 1]
        mixup: alpha of mixup; 0 is off
        cutmix: alpha of CutMix; 0 is off
        label_smoothing: share of the label spread over all classes, in [0, 1); 0 is off
    """

    crop: Literal["resized", "padded"] | None = None
    padding: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    color_jitter: float = 0.0
    auto_augment: str | None = None
    re_prob: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.mixup >= 0, "augmentation.mixup", "0 or more", self.mixup)
        require(self.cutmix >= 0, "augmentation.cutmix", "0 or more", self.cutmix)
        require(
            0 <= self.label_smoothing < 1, "augmentation.label_smoothing", "in [0, 1)", self.label_smoothing
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD, AdamW or Muon with a linear warm-up and a cosine decay to zero, changed at every step.

    Attributes:
        name: sgd, with Nesterov's momentum, adamw, or muon, with AdamW for biases, norms and position
            embeddings, all of them timm's; each needs a learning rate of its own
        batch_size: images of one step, over all processes and accumulated parts
        epochs: passes over the training images
        lr: peak learning rate of a step; null means lr_base · batch_size / lr_base_size
        lr_base: peak learning rate at a batch of lr_base_size images
        lr_base_size: batch size that lr_base is for
        momentum: of sgd and muon, in (0, 1)
        weight_decay: of matrices and kernels, L2 for sgd and decoupled for the others, 0 or more; biases,
            norms and position embeddings have none
        warmup_epochs: epochs of linear warm-up from zero, 0 or more and less than epochs
        grad_accum_steps: parts that a batch is computed in, one after the other, to save memory
        clip_grad: largest norm of the whole gradient; null is off
        bn_momentum: of the batch norms' running statistics, as in torch, in (0, 1]; the paper's 0.0001 needs
            tens of thousands of steps
        ema_decay: of the moving average of the weights that is evaluated and kept, in [0, 1); 0 is off
        ema_warmup: step t averages with min(ema_decay, t / (t + 9)), so that short runs forget their start
    """

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    batch_size: int = 128
    epochs: int = 10
    lr: float | None = None
    lr_base: float = 1.6
    lr_base_size: int = 4096
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.5
    grad_accum_steps: int = 1
    clip_grad: float | None = None
    bn_momentum: float = 0.1
    ema_decay: float = 0.9999
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        require(self.name in ("sgd", "adamw", "muon"), "optimizer.name", "sgd, adamw or muon", self.name)
        require(self.batch_size > 0, "optimizer.batch_size", "positive", self.batch_size)
        require(self.epochs > 0, "optimizer.epochs", "positive", self.epochs)
        require(
            self.lr is None or 0 < self.lr < math.inf, "optimizer.lr", "positive and finite, or null", self.lr
        )
        require(0 < self.lr_base < math.inf, "optimizer.lr_base", "positive and finite", self.lr_base)
        require(self.lr_base_size > 0, "optimizer.lr_base_size", "positive", self.lr_base_size)
        require(0 < self.momentum < 1, "optimizer.momentum", "in (0, 1)", self.momentum)
        require(self.weight_decay >= 0, "optimizer.weight_decay", "0 or more", self.weight_decay)
        require(
            0 <= self.warmup_epochs < self.epochs,
            "optimizer.warmup_epochs",
            f"in [0, optimizer.epochs = {self.epochs})",
            self.warmup_epochs,
        )
        require(
            self.grad_accum_steps > 0 and self.batch_size % self.grad_accum_steps == 0,
            "optimizer.grad_accum_steps",
            f"a divisor of optimizer.batch_size = {self.batch_size}",
            self.grad_accum_steps,
        )
        require(
            self.clip_grad is None or self.clip_grad > 0,
            "optimizer.clip_grad",
            "positive or null",
            self.clip_grad,
        )
        require(0 < self.bn_momentum <= 1, "optimizer.bn_momentum", "in (0, 1]", self.bn_momentum)
        require(0 <= self.ema_decay < 1, "optimizer.ema_decay", "in [0, 1)", self.ema_decay)

    @property
    def peak_lr(self) -> float:
        """Peak learning rate of a step."""
        return self.lr_base * self.batch_size / self.lr_base_size if self.lr is None else self.lr


@dataclass(frozen=True)
class RuntimeConfig:
    """The machine.

    Attributes:
        precision: of the arithmetic; weights are always kept in 32 bits
        channels_last: keep images and convolution weights with the channels innermost
        compile: run the network through torch.compile
        deterministic: choose algorithms that repeat bit for bit where there are any, and warn where not
        accelerator: auto takes a GPU where there is one
        devices: processes on this machine; auto is one, or as many as torchrun started
        num_nodes: machines; torchrun's own count where it started us
        strategy: auto is ddp where there are several processes; fsdp needs GPUs and optimizer.ema_decay 0
    """

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = True
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    def __post_init__(self) -> None:
        require(
            self.devices == "auto" or self.devices > 0, "runtime.devices", "positive or auto", self.devices
        )
        require(self.num_nodes > 0, "runtime.num_nodes", "positive", self.num_nodes)


class RunConfig:
    """What the configurations of all training runs share.

    Attributes:
        command: the command that starts such a run.
        trains: what it trains.
    """

    optimizer: OptimizerConfig
    runtime: RuntimeConfig
    seed: int
    run: str | None

    command: ClassVar[str]
    trains: ClassVar[str]

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "in [0, 2**32)", self.seed)
        if self.runtime.strategy == "fsdp" and self.optimizer.ema_decay > 0:
            raise ValueError(
                "optimizer.ema_decay must be 0 with runtime.strategy fsdp, got "
                f"{self.optimizer.ema_decay!r}; sharded weights are not averaged: use ddp, or set it to 0"
            )

    @property
    def name(self) -> str:
        """What the run folder is called unless run says otherwise."""
        raise NotImplementedError  # each kind of run has its own

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path("runs", self.name) if self.run is None else Path(self.run)


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A training run.

    Attributes:
        model: the network
        data: the images
        augmentation: random changes to them
        optimizer: the recipe
        runtime: the machine
        seed: of everything random, 0 or more
        run: where results go; null means runs/NAME of the model
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    run: str | None = None

    command: ClassVar[str] = "sasa train"
    trains: ClassVar[str] = "a classifier"

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name
