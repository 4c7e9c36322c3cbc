"""Accuracy of full-width networks on CIFAR-10, trained on one GPU in nine minutes; `make gpu-accuracy`.

ResNet-26 with convolution, with the paper's attention and sasav2, all with the stem of stride 1 for small
images, are trained in turns: one epoch each, so that all have had about the same number whenever the run
ends. Each seed draws the initial weights, and the same order, shifts and flips of the images for all
contenders. Nothing adapts to the time: the schedule is that of --epochs.

    python -m studies.gpu_accuracy cifar10.tar.gz [--out FOLDER] [--minutes 8.5] [--epochs 12] [--seeds 1] …

The data are a folder or an archive of train/CLASS/IMAGE and test/CLASS/IMAGE. OUT/gpu_accuracy.json is
written after each epoch, and so is a checkpoint of each network. The same command continues from there: after
the time, an interruption, a crash, or a failure of a contender. A contender that fails (a kernel raises, the
loss is not finite, no memory is left) ends alone, and the exit status is then 1. After an illegal memory
access every call of CUDA in the process fails, and with it all contenders; the same command goes on. On a CPU
a continued run computes the same bits as an uninterrupted one; on a GPU the order of sums may differ.

Before its first epoch, the logits of a network with attention are compared with those of plain PyTorch in
float32 (the backend "reference"); tolerance 0.15 of the largest logit in bfloat16. A rehearsal on a CPU:

    python -m studies.gpu_accuracy cifar10.tar.gz --fraction 0.01 --width 0.25 --epochs 2 --batch 50
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import importlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

import sasa
from benchmarks.deadline import deadline
from benchmarks.gpu import machine
from benchmarks.measure import WrongOutputError, against
from benchmarks.network import TOLERANCE, calibrated, plain_logits
from benchmarks.record import new_record, write_record
from sasa.data import ImageDataset, check_classes, create_dataset
from sasa.errors import require
from sasa.train.atomic import replacing
from sasa.train.schedule import warmup_cosine
from studies.training_choices import augment, normalized

# Model name and options of each contender.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "convolution": ("sasa_resnet26_conv", {}),
    "paper": ("sasa_resnet26_convstem", {}),
    "sasav2": ("sasav2_resnet26_hybrid", {}),
}
# An estimate for an H100, not measured: a forward pass of all three takes 4.2 GFLOP per image and a training
# step three times that, so an epoch of each with its test takes 680 TFLOP, or 34 s at an assumed 20 TFLOP/s.
# Twelve epochs take 7 minutes; the rest is for reading the images and compiling kernels.
EPOCHS = 12
# Of recipes/cifar10.yaml; the decay of the average is that of recipes/cifar10_cpu.yaml, for short runs.
WEIGHT_DECAY, LABEL_SMOOTHING, MOMENTUM, EMA_DECAY, WARMUP = 5e-4, 0.1, 0.9, 0.99, 0.1
# Seconds after --minutes until the process is ended whatever it does, because a kernel may hang.
SLACK = 15.0

FILE = "gpu_accuracy.json"
NUMBERS: tuple[tuple[str, type, float, str], ...] = (
    ("minutes", float, 8.5, "duration of the run"),
    ("epochs", int, EPOCHS, "epochs of the schedule"),
    ("seeds", int, 1, "seeds of each contender"),
    ("fraction", float, 1.0, "part of the images, at most 1"),
    ("width", float, 1.0, "factor of all channel numbers"),
    ("batch", int, 512, "images per step"),
    ("lr", float, 0.1, "peak learning rate at a batch of 128; it is proportional to the batch"),
)

Images = tuple[Tensor, Tensor]  # pixels (count, 3, H, W) uint8, labels (count,)


class Training:
    """One contender with one seed: the network and all that is needed to continue.

    Attributes:
        result: What the JSON contains about it.
    """

    def __init__(self, result: dict[str, Any], args: argparse.Namespace, train: Images, classes: int) -> None:
        """Create the network, check it, and load the checkpoint if there is one."""
        x, seed = train[0], result["seed"]
        self.result, self._args, self._train = result, args, train
        self._file = args.out / f"{result['contender']}-{seed}.pt"
        torch.manual_seed(seed)
        name, options = CONTENDERS[result["contender"]]
        network = sasa.create_model(
            name, num_classes=classes, stem_stride=1, width_mult=args.width, **options
        )
        cost = sasa.cost(network, (3, *x.shape[2:]))
        result |= {"parameters": cost.parameters, "flops": cost.flops}
        self._network = network.to(x.device).to(memory_format=torch.channels_last).train()
        result["logits_error"] = check_output(self._network, normalized(x[:8]))
        self._step: Callable[..., Tensor] = torch.compile(network) if args.compile else network
        self._ema = ModelEmaV3(network, EMA_DECAY, use_warmup=True, warmup_gamma=9, warmup_power=1)
        self._optimizer = create_optimizer_v2(
            network, "sgd", lr=args.lr, weight_decay=WEIGHT_DECAY, momentum=MOMENTUM
        )
        self._generator = torch.Generator(x.device).manual_seed(seed)
        if not self._file.exists():
            result["epochs"] = []
        else:
            state = torch.load(self._file, map_location="cpu", weights_only=True)
            network.load_state_dict(state["network"])
            self._ema.module.load_state_dict(state["ema"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._generator.set_state(state["generator"])
            result["epochs"] = state["epochs"]

    def epoch(self, test: Images) -> dict[str, Any]:
        """Train for one epoch, evaluate the average of the weights, and return the row of the results."""
        cuda = self._train[0].is_cuda
        before = time.perf_counter()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated() if cuda else 0
        train_loss, count = self._train_epoch()
        seconds = time.perf_counter() - before
        memory = torch.cuda.max_memory_allocated() - held if cuda else None
        test_loss, top1 = evaluate(self._ema.module, test, self._args.batch)
        number = len(self.result["epochs"]) + 1
        for name, loss in (("training", train_loss), ("test", test_loss)):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the {name} loss of epoch {number} is {loss}; lower --lr")
        return {
            "epoch": number,
            "train_loss": train_loss,
            "test_loss": test_loss,
            "test_top1": top1,
            "seconds": time.perf_counter() - before,
            "images/s": count / seconds,  # in training
            "memory_bytes": memory,  # peak in training, without the images and the state of all networks
        }

    def _train_epoch(self) -> tuple[float, int]:
        """Train for one epoch; return the mean loss and the number of images."""
        (x, y), batch, losses = self._train, self._args.batch, []
        steps = max(1, len(x) // batch)
        first, total = len(self.result["epochs"]) * steps, self._args.epochs * steps
        peak, warmup = self._args.lr * batch / 128, int(WARMUP * total)
        order = torch.randperm(len(x), generator=self._generator, device=x.device)[: steps * batch]
        for step, index in enumerate(order.split(batch), first):
            for group in self._optimizer.param_groups:
                group["lr"] = peak * warmup_cosine(step, total, warmup)
            with autocast(x.device):
                logits = self._step(augment(x[index], self._generator))
                loss = F.cross_entropy(logits, y[index], label_smoothing=LABEL_SMOOTHING)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._ema.update(self._network, step=step + 1)
            losses.append(loss.detach())
        return torch.stack(losses).mean().item(), len(order)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "network": self._network.state_dict(),
            "ema": self._ema.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "epochs": self.result["epochs"],
        }
        with replacing(self._file) as temporary:
            torch.save(state, temporary)


def autocast(device: torch.device) -> torch.autocast:
    """Return the precision of all networks: bfloat16 on a GPU, float32 on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.no_grad()
def check_output(network: nn.Module, x: Tensor) -> float | None:
    """Compare the logits of a new network with those of plain PyTorch in float32.

    Returns:
        The largest difference, relative to the largest logit; None for a network without attention.

    Raises:
        WrongOutputError: It exceeds the tolerance of `benchmarks.network`, 0.15 in bfloat16.
    """
    if not any(isinstance(m, (sasa.LocalSelfAttention2d, sasa.AttentionStem)) for m in network.modules()):
        return None
    network, x = copy.deepcopy(network), x.contiguous(memory_format=torch.channels_last)
    for parameter in network.parameters():
        if not parameter.any():  # a branch that starts at zero would hide its errors
            nn.init.normal_(parameter, std=0.2)
    with autocast(x.device):
        calibrated(network, x)
        logits = network(x)
    error = against(plain_logits(network, x))(logits)
    tolerance = TOLERANCE["bf16" if x.is_cuda else "fp32"]
    if not error <= tolerance:
        raise WrongOutputError(
            f"the logits are wrong by {error:.2g} of the largest value, tolerance {tolerance:.2g}"
        )
    return error


@torch.no_grad()
def evaluate(network: nn.Module, images: Images, batch: int) -> tuple[float, float]:
    """Return the mean loss and the top-1 accuracy in percent of a network in eval mode."""
    x, y = images
    with autocast(x.device):
        parts = [
            network(normalized(part).contiguous(memory_format=torch.channels_last)) for part in x.split(batch)
        ]
    logits = torch.cat(parts).float()
    return F.cross_entropy(logits, y).item(), 100 * (logits.argmax(1) == y).double().mean().item()


def decoded(dataset: ImageDataset, fraction: float, device: torch.device) -> Images:
    """Decode a random part of the images, always the same, and put them on the device."""
    count = max(1, round(fraction * len(dataset)))
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    chosen = dataset.select(order[:count].tolist(), pil_to_tensor)
    pixels = [chosen[index][0] for index in range(count)]
    sizes = {tuple(image.shape) for image in pixels}
    require(len(sizes) == 1, "data", "images of one size", sizes, "resize them first")
    return torch.stack(pixels).to(device), torch.tensor(chosen.targets, device=device)


def new_call() -> dict[str, Any]:
    """Return the record of this command: code, versions and machine."""
    call = new_record("studies.gpu_accuracy")
    triton = importlib.import_module("triton").__version__ if importlib.util.find_spec("triton") else None
    call["versions"] |= {"triton": triton, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        call["machine"] |= machine()
    return call


def opened(args: argparse.Namespace, images: dict[str, int]) -> dict[str, Any]:
    """Return the record in the folder, or a new one, with this call and its contenders; without errors.

    The process exits if the record in the folder has other options.
    """
    file, names = args.out / FILE, ("epochs", "fraction", "width", "batch", "lr", "compile")
    options = {name: getattr(args, name) for name in names} | {"images": images, "contenders": CONTENDERS}
    options = json.loads(json.dumps(options))  # with lists, as in the file
    record: dict[str, Any] = {"options": options, "calls": [], "results": []}
    if file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
        other = {name: value for name, value in options.items() if record["options"][name] != value}
        if other:
            same = {name: record["options"][name] for name in other}
            sys.exit(f"--out: expected {same} as in {file}, got {other}; choose another folder")
    record["calls"].append(new_call())
    rows = {(row["contender"], row["seed"]): row for row in record["results"]}
    for seed in range(args.seeds):
        for name in CONTENDERS:
            rows.setdefault((name, seed), {"contender": name, "seed": seed, "epochs": []})
    record["results"] = [row | {"error": None} for row in rows.values()]
    return record


class Run:
    """One run: its results so far, as gpu_accuracy.json contains them, and the time that is left."""

    def __init__(self, args: argparse.Namespace, record: dict[str, Any], started: float) -> None:
        self._record, self._args = record, args
        self._end = started + 60 * args.minutes

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end - time.monotonic()

    def write(self) -> None:
        """Write the results so far."""
        with replacing(self._args.out / FILE) as temporary:
            write_record(self._record, temporary)

    def train(self, train: Images, test: Images, classes: int) -> None:
        """Train all contenders, seed by seed, until all are done or there is no time for the next epoch."""
        try:
            for seed in range(self._args.seeds):
                rows = [row for row in self._record["results"] if row["seed"] == seed and self._open(row)]
                make = partial(Training, args=self._args, train=train, classes=classes)
                trainings = [self._attempt(row, partial(make, row)) for row in rows]
                self.write()
                while trainings := [one for one in trainings if one is not None and self._open(one.result)]:
                    self._epoch(min(trainings, key=lambda one: len(one.result["epochs"])), test)
        except TimeoutError:
            print("No time is left; the same command continues.")

    def _open(self, result: dict[str, Any]) -> bool:
        return result["error"] is None and len(result["epochs"]) < self._args.epochs

    def _epoch(self, one: Training, test: Images) -> None:
        """Train one contender for an epoch and keep the results."""
        epochs = one.result["epochs"]
        if epochs and self.left() < epochs[-1]["seconds"]:
            raise TimeoutError
        row = self._attempt(one.result, partial(one.epoch, test))
        if row is not None:
            epochs.append(row | {"call": len(self._record["calls"])})
            one.save()
            print(f"{one.result['contender']}, seed {one.result['seed']}: {json.dumps(row)}", flush=True)
        self.write()

    def _attempt(self, result: dict[str, Any], action: Callable[[], Any]) -> Any:
        """Return what the action returns, or None after an error, which ends this contender alone."""
        try:
            with deadline(self.left()):
                return action()
        except Exception as error:
            if self.left() <= 0:  # whatever a compiler made of the error of the deadline
                raise TimeoutError from error
            result["error"] = f"{type(error).__name__}: {str(error)[:2000]}"
            return None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder or archive of train/CLASS/IMAGE and test/CLASS/IMAGE")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_accuracy"), help="folder of the results")
    for name, kind, default, what in NUMBERS:
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{what} (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    args = parser.parse_args(arguments)
    try:
        expected = "an existing folder or archive of train/CLASS/IMAGE and test/CLASS/IMAGE"
        require(args.data.exists(), "data", expected, str(args.data))
        for name, *_ in NUMBERS:
            require(getattr(args, name) > 0, f"--{name}", "a positive number", getattr(args, name))
        require(args.fraction <= 1, "--fraction", "at most 1", args.fraction)
    except ValueError as error:
        parser.error(str(error))
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print and write."""
    started, args = time.monotonic(), parse(arguments)
    # A call into C that never returns receives no signal.
    faulthandler.dump_traceback_later(60 * args.minutes + SLACK, exit=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        splits: dict[str, Any] = {
            split: create_dataset(args.data.resolve(), split) for split in ("train", "test")
        }
        check_classes(splits["train"], splits["test"])
        images = {name: decoded(split, args.fraction, device) for name, split in splits.items()}
        record = opened(args, {name: len(labels) for name, (_, labels) in images.items()})
        args.out.mkdir(parents=True, exist_ok=True)
        one = Run(args, record, started)
        one.write()
        print(f"Images read after {time.monotonic() - started:.0f} s", flush=True)
        one.train(images["train"], images["test"], len(splits["train"].classes))
    finally:
        faulthandler.cancel_dump_traceback_later()
    for row in record["results"]:
        top1 = f"{row['epochs'][-1]['test_top1']:.2f} %" if row["epochs"] else "no accuracy"
        after = f"after {len(row['epochs'])} of {args.epochs} epochs"
        print(f"{row['contender']}, seed {row['seed']}: {top1} {after}", *filter(None, [row["error"]]))
    print(f"Written to {args.out / FILE}")
    if any(row["error"] for row in record["results"]):
        sys.exit("A contender failed: see above")


if __name__ == "__main__":
    main()
