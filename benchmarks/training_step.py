"""Time and peak memory of a training step of sasa_resnet50 and two sasav2 networks against ResNet-50.

Cross-entropy, SGD with momentum, fp32, eager, channels-last, batch 8 at 224 × 224. Times are taken in turns
in one process. Memory is the peak of a separate process per network, minus what it held after importing
torch and making the images: weights, gradients, momentum, activations and workspaces. Loss and gradients are
checked in float64 against the same network, ours with the reference backend.

    python -m benchmarks.training_step [--threads 2] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Contender, Output, Report, arguments
from benchmarks.network import OURS, create, resnet50, smooth_images, with_reference

NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    "ResNet-50": lambda backend: resnet50(),
    **{name: partial(create, name) for name in OURS},
}
TOLERANCE = 2e-2  # of the norm of loss and gradients; the error of ResNet-50 in fp32 is 0.4e-2
STEPS = 3  # for memory; momentum exists from the second step on


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, batch=True)
    parser.add_argument(
        "--memory_of", choices=NETWORKS, help="only print the peak memory of this network, in bytes"
    )
    args = parser.parse_args()
    if args.memory_of:
        print(peak_memory(args))
        return
    report = Report("training_step", args)
    memory = {name: memory_in_fresh_process(name, args, report.backend) for name in NETWORKS}
    x, labels = batch_of(args)
    torch.manual_seed(0)
    contenders = []
    for name, new in NETWORKS.items():
        network = new(report.backend).train()
        error = gradient_error(network)
        contenders.append(Contender(name, training_step(network, x, labels), error, TOLERANCE))
    title = f"training step, {tuple(x.shape)}"
    timings = report.measure(title, contenders, "ResNet-50", rounds=15, turn=0)
    print("\nPeak memory\n" + "\n".join(f"  {name:25}{b / 2**20:8.0f} MiB" for name, b in memory.items()))
    report.record["peak_memory_bytes"] = memory
    for name in OURS:
        ratio = timings.ratio(name, "ResNet-50")
        report.target(f"training step, time: {name} / ResNet-50", ratio, "<=", 1.1)
        report.target(
            f"training step, memory: {name} / ResNet-50", memory[name] / memory["ResNet-50"], "<=", 1.3
        )
    ratio = timings.ratio("sasav2_resnet50", "sasa_resnet50")
    report.target("training step, time: sasav2_resnet50 / sasa_resnet50", ratio, "<=", 1.03)
    report.finish()


def batch_of(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return images and labels."""
    batch, side = (args.batch or 2, 64) if args.quick else (args.batch or 8, 224)
    return smooth_images(batch, side), torch.arange(batch)


def training_step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """Return a function that takes one step and returns the loss before it."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def gradient_error(network: nn.Module) -> Callable[[Output], float]:
    """Return a function for the error of loss and gradients on a few small images, relative to float64.

    The argument of the function is the loss of a step, which must be finite.
    """

    def gradients(network: nn.Module, dtype: torch.dtype) -> Tensor:
        loss = F.cross_entropy(network(smooth_images(4, 128).to(dtype)), torch.arange(4))
        parts = torch.autograd.grad(loss, list(network.parameters()))
        return torch.cat([loss.detach().view(1), *(part.flatten() for part in parts)]).double()

    def error(loss: Output) -> float:
        if not (isinstance(loss, Tensor) and loss.isfinite()):
            return float("inf")
        got = gradients(copy.deepcopy(network), torch.float32)
        want = gradients(with_reference(network).double(), torch.float64)
        return float((got - want).norm() / want.norm())

    return error


def memory_in_fresh_process(name: str, args: argparse.Namespace, backend: str) -> int:
    """Return the `peak_memory` of one network in a new process."""
    options = ["--memory_of", name, "--backend", backend, "--threads", str(args.threads)]
    options += ["--quick"] * args.quick + (["--batch", str(args.batch)] if args.batch else [])
    command = [sys.executable, "-m", "benchmarks.training_step", *options]
    root = Path(__file__).parents[1]
    return int(subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout)


def peak_memory(args: argparse.Namespace) -> int:
    """Return the peak bytes of creating the network and taking some steps, minus those held before."""
    torch.set_num_threads(args.threads)
    x, labels = batch_of(args)
    before = memory_status("VmRSS")
    step = training_step(NETWORKS[args.memory_of](args.backend).train(), x, labels)
    for _ in range(STEPS):
        step()
    return memory_status("VmHWM") - before


def memory_status(field: str) -> int:
    """Return the resident bytes of this process: now (VmRSS) or at their peak (VmHWM).

    They are read from /proc, because ru_maxrss of a child process starts from the peak of its parent.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


if __name__ == "__main__":
    main()
