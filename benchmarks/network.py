"""Inference of sasa_resnet50 against torchvision's ResNet-50 at 224 × 224, each at its best.

Both eager, and both compiled with Inductor's freezing, channels-last, eval, no_grad; ours is fused first
where sasa.fuse exists. The fastest of each is compared. With --dtype bf16 both run under autocast. Logits
are checked against those of the same network in plain fp32 (ours with the reference backend, unfused).

    python -m benchmarks.network [--threads 2] [--dtype fp32|bf16] [--quick]
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import sasa
from benchmarks.frozen import frozen
from benchmarks.measure import Contender, Report, Timings, against, arguments, measure

TOLERANCE = {"fp32": 1e-4, "bf16": 0.15}  # of the largest logit; both networks are some 1e-6 and 0.03 off
TARGET = {"fp32": 0.95, "bf16": 1.0}


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--dtype", choices=TARGET, default="fp32")
    args = parser.parse_args()
    report = Report("network", args, variant="" if args.dtype == "fp32" else args.dtype)
    report.keep_freed_memory()
    batches, side = ((1, 4), 128) if args.quick else ((1, 8), 224)
    images = smooth_images(max(batches), side)
    networks = {
        "ResNet-50": calibrated(resnet50(), images),
        "sasa_resnet50": calibrated(sasa_resnet50(report.layer_backend), images),
    }
    if not hasattr(sasa, "fuse"):
        report.note("sasa.fuse does not exist in this version: sasa_resnet50 is not fused")
    if report.backend == "reference":
        report.note("sasa_resnet50 only eager: it takes Inductor minutes to compile the reference backend")
    for batch in batches:
        timings = at_batch(networks, images[:batch], args, report.backend)
        report.timings(f"{args.dtype}, {side} × {side}, batch {batch}", timings, "ResNet-50, compiled")
        conv, ours = (
            min((name for name in timings.seconds if name.startswith(network)), key=timings.time)
            for network in networks
        )
        what = f"network, {args.dtype}, batch {batch}: sasa / ResNet-50"
        report.target(what, timings.ratio(ours, conv), "<=", TARGET[args.dtype])
    report.finish()


@torch.no_grad()
def at_batch(networks: dict[str, nn.Module], x: Tensor, args: argparse.Namespace, backend: str) -> Timings:
    """Time every configuration of both networks on the images x."""
    torch.compiler.reset()  # each batch size is compiled for itself, not as one more case of the last
    contenders = []
    with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16"):
        for name, network in networks.items():
            ours = name == "sasa_resnet50"
            error, tolerance = against(plain_logits(network, x)), TOLERANCE[args.dtype]
            if ours and hasattr(sasa, "fuse"):
                network = sasa.fuse(network)
            contenders.append(Contender(f"{name}, eager", partial(network, x), error, tolerance))
            if not (ours and backend == "reference"):
                run = partial(frozen(network, x), x)
                contenders.append(Contender(f"{name}, compiled", run, error, tolerance))
        rounds = args.rounds or (2 if args.quick else 15)
        return measure(contenders, rounds=rounds, turn=0.01 if args.quick else 0.2)


def resnet50() -> nn.Module:
    """torchvision's, channels-last."""
    return steady(torchvision.models.resnet50())


def sasa_resnet50(backend: str) -> nn.Module:
    """Ours, channels-last."""
    return steady(sasa.create_model("sasa_resnet50", backend=backend))


def steady(network: nn.Module) -> nn.Module:
    """With branches of 0.2 in every block and channels-last, so that outputs can be compared.

    Untrained networks amplify rounding from block to block (in bf16 to more than the logits) unless their
    branches are small, and start without any branch where the last batch norms start at zero.
    """
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, 0.2)
    return network.to(memory_format=torch.channels_last)


def smooth_images(batch: int, side: int) -> Tensor:
    """Channels-last images that differ, and not only by noise, which attention would average away."""
    torch.manual_seed(0)
    coarse = 2 * torch.randn(batch, 3, 4, 4) + torch.randn(batch, 3, 1, 1)
    return F.interpolate(coarse, size=side, mode="bicubic").to(memory_format=torch.channels_last)


@torch.no_grad()
def calibrated(network: nn.Module, images: Tensor) -> nn.Module:
    """In eval mode, its batch norms with the statistics of these images, so that values keep their size."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it saw
    network.train()(images)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


@torch.no_grad()
def plain_logits(network: nn.Module, x: Tensor) -> Tensor:
    """The network's logits in contiguous fp32, with the reference backend."""
    plain = with_reference(network).to(memory_format=torch.contiguous_format)
    with torch.autocast("cpu", enabled=False):
        return plain(x.contiguous())


def with_reference(network: nn.Module) -> nn.Module:
    """A copy whose attention is plain PyTorch."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, sasa.LocalSelfAttention2d):
            module.backend = "reference"
        elif isinstance(module, sasa.AttentionStem):  # where one watches, it calls its parts one by one
            module.query_key.register_forward_hook(_watch)
    return network


def _watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """A hook."""


if __name__ == "__main__":
    main()
