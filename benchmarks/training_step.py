"""A training step of sasa_resnet50 against torchvision's ResNet-50: time and peak memory.

Cross-entropy, SGD with momentum, fp32, eager, channels-last, batch 8 at 224 × 224. Times are taken in turns
in one process. Memory is the peak of a process of its own for each network, above what it held once torch
and the networks' code were imported and the images made: weights, gradients, momentum, activations and
workspaces. Loss and gradients are checked against the same network in float64, ours with the reference
backend.

    python -m benchmarks.training_step [--threads 2] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Contender, Output, Report, arguments, measure
from benchmarks.network import resnet50, sasa_resnet50, smooth_images, with_reference

NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    "ResNet-50": lambda backend: resnet50(),
    "sasa_resnet50": sasa_resnet50,
}
TOLERANCE = 2e-2  # of the norm of loss and gradients; ResNet-50 itself is 0.4e-2 off in fp32
STEPS = 3  # for memory: momentum exists from the second on


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, help="images; default 8")
    parser.add_argument("--memory-of", choices=NETWORKS, help="only print the peak of this one, in bytes")
    args = parser.parse_args()
    if args.memory_of:
        print(peak_memory(args))
        return
    report = Report("training_step", args)
    memory = {name: memory_in_fresh_process(name, args, report.backend) for name in NETWORKS}
    x, labels = batch_of(args)
    torch.manual_seed(0)
    contenders = []
    for name, create in NETWORKS.items():
        network = create(report.backend).train()
        error = gradient_error(network)
        contenders.append(Contender(name, training_step(network, x, labels), error, TOLERANCE))
    timings = measure(contenders, rounds=args.rounds or (2 if args.quick else 15), turn=0)
    report.timings(f"training step, {tuple(x.shape)}", timings, "ResNet-50")
    print("\nPeak memory\n" + "\n".join(f"  {name:15}{b / 2**20:8.0f} MiB" for name, b in memory.items()))
    report.record["peak_memory_bytes"] = memory
    ratio = timings.ratio("sasa_resnet50", "ResNet-50")
    report.target("training step, time: sasa / ResNet-50", ratio, "<=", 1.1)
    share = memory["sasa_resnet50"] / memory["ResNet-50"]
    report.target("training step, memory: sasa / ResNet-50", share, "<=", 1.3)
    report.finish()


def batch_of(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    batch, side = (args.batch or 2, 64) if args.quick else (args.batch or 8, 224)
    return smooth_images(batch, side), torch.arange(batch)


def training_step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """A function that takes one step and returns the loss before it."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def gradient_error(network: nn.Module) -> Callable[[Output], float]:
    """Measures how far loss and gradients of the network are from float64 on a few small images.

    The output that it is given is the loss of a step, which must be finite.
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
    """`peak_memory` of one network, from a process that did nothing else."""
    options = ["--memory-of", name, "--backend", backend, "--threads", str(args.threads)]
    options += ["--quick"] * args.quick + (["--batch", str(args.batch)] if args.batch else [])
    command = [sys.executable, "-m", "benchmarks.training_step", *options]
    root = Path(__file__).parents[1]
    return int(subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout)


def peak_memory(args: argparse.Namespace) -> int:
    """Bytes that creating the network and some steps needed at most, above what was held before."""
    torch.set_num_threads(args.threads)
    x, labels = batch_of(args)
    before = memory_status("VmRSS")
    step = training_step(NETWORKS[args.memory_of](args.backend).train(), x, labels)
    for _ in range(STEPS):
        step()
    return memory_status("VmHWM") - before


def memory_status(field: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at most (VmHWM).

    The kernel's own figures, as getrusage's ru_maxrss of a child starts from the peak of the parent.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


if __name__ == "__main__":
    main()
