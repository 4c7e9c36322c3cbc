"""What the configurations of all training runs share: optimizer, runtime, seed and run folder."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from sasa.errors import require


@contextmanager
def options_of(key: str) -> Iterator[None]:
    """Turn the TypeError of a call that takes a configuration's options into a ValueError that names the key.

    An unknown option is a mistake in the configuration, not in the code that makes the call.
    """
    try:
        yield
    except TypeError as error:
        raise ValueError(f"{key}: {error}") from error


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise ValueError for a key such as "width:0.5", which YAML reads if no space follows the colon."""
    for key, value in options.items():
        require(
            ":" not in str(key) or value is not None, name, "KEY: VALUE with a space after the colon", key
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD, AdamW or Muon with a linear warm-up and a cosine decay to zero, updated at every step.

    Attributes:
        name: The optimizer, timm's implementation. `sgd` uses Nesterov momentum; `muon` trains biases, norms
            and position embeddings with AdamW. Each needs its own learning rate.
        batch_size: Images per optimizer step, over all processes and accumulated parts.
        epochs: Passes over the training images.
        lr: Peak learning rate of a step. Null means lr_base · batch_size / lr_base_size.
        lr_base: Peak learning rate for a batch of lr_base_size images.
        lr_base_size: Batch size that lr_base refers to.
        momentum: Momentum of sgd and muon, in (0, 1).
        weight_decay: Weight decay of matrices and kernels, 0 or more; L2 for sgd, decoupled for the others.
            Biases, norms and position embeddings have none.
        warmup_epochs: Epochs of linear warm-up from zero, 0 or more and fewer than epochs.
        grad_accum_steps: Parts into which a batch is divided to save memory.
        clip_grad: Maximum norm of the gradient. Null is off.
        bn_momentum: Momentum of the running statistics of batch norms, as in torch, in (0, 1]. The paper's
            0.0001 needs tens of thousands of steps.
        ema_decay: Decay of the moving average of the weights, which is evaluated and saved, in [0, 1). 0 is
            off.
        ema_warmup: Use a decay of min(ema_decay, t / (t + 9)) in step t, so that short runs forget the
            initial weights.
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
        def check(key: str, condition: bool, expected: str) -> None:
            require(condition, f"optimizer.{key}", expected, getattr(self, key))

        check("name", self.name in ("sgd", "adamw", "muon"), "sgd, adamw or muon")
        check("batch_size", self.batch_size > 0, "a positive number")
        check("epochs", self.epochs > 0, "a positive number")
        check("lr", self.lr is None or 0 < self.lr < math.inf, "a positive, finite number or null")
        check("lr_base", 0 < self.lr_base < math.inf, "a positive, finite number")
        check("lr_base_size", self.lr_base_size > 0, "a positive number")
        check("momentum", 0 < self.momentum < 1, "a number in (0, 1)")
        check("weight_decay", self.weight_decay >= 0, "0 or more")
        check(
            "warmup_epochs",
            0 <= self.warmup_epochs < self.epochs,
            f"a number in [0, optimizer.epochs = {self.epochs})",
        )
        check(
            "grad_accum_steps",
            self.grad_accum_steps > 0 and self.batch_size % self.grad_accum_steps == 0,
            f"a divisor of optimizer.batch_size = {self.batch_size}",
        )
        check("clip_grad", self.clip_grad is None or self.clip_grad > 0, "a positive number or null")
        check("bn_momentum", 0 < self.bn_momentum <= 1, "a number in (0, 1]")
        check("ema_decay", 0 <= self.ema_decay < 1, "a number in [0, 1)")

    @property
    def peak_lr(self) -> float:
        """Peak learning rate of a step."""
        return self.lr_base * self.batch_size / self.lr_base_size if self.lr is None else self.lr


@dataclass(frozen=True)
class RuntimeConfig:
    """Precision, devices and processes.

    Attributes:
        precision: Precision of the arithmetic. Weights are always kept in 32 bits.
        channels_last: Use the channels-last memory format for images and convolution weights.
        compile: Use torch.compile.
        deterministic: Use deterministic algorithms if available, with a warning if not.
        accelerator: `auto` takes a GPU if available.
        devices: Processes on this machine. `auto` is one, or as many as torchrun started.
        num_nodes: Number of machines. Under torchrun, its own count is used.
        strategy: `auto` is ddp for several processes. fsdp needs GPUs and optimizer.ema_decay 0.
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
        positive = self.devices == "auto" or self.devices > 0
        require(positive, "runtime.devices", "a positive number or auto", self.devices)
        require(self.num_nodes > 0, "runtime.num_nodes", "a positive number", self.num_nodes)


class RunConfig(ABC):
    """What the configurations of all training runs share.

    Attributes:
        command: The command that starts such a run.
        trains: What it trains.
    """

    optimizer: OptimizerConfig
    runtime: RuntimeConfig
    seed: int
    run: str | None

    command: ClassVar[str]
    trains: ClassVar[str]

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "a number in [0, 2**32)", self.seed)
        require(
            self.runtime.strategy != "fsdp" or self.optimizer.ema_decay == 0,
            "optimizer.ema_decay",
            "0 with runtime.strategy fsdp",
            self.optimizer.ema_decay,
            "sharded weights are not averaged: use ddp, or set it to 0",
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the run folder by default."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path("runs", self.name) if self.run is None else Path(self.run)

    def check_processes(self, processes: int) -> None:
        """Raise ValueError unless a batch can be divided among the processes and the accumulated parts."""
        size, steps = self.optimizer.batch_size, self.optimizer.grad_accum_steps
        require(
            size % (processes * steps) == 0,
            "optimizer.batch_size",
            f"a multiple of processes x optimizer.grad_accum_steps = {processes} x {steps}",
            size,
        )
