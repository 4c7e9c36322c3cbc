"""Inference of sasa_resnet50 and two sasav2 networks against torchvision's ResNet-50 at 224 × 224.

All eager, and all compiled with Inductor's freezing, in eval mode, channels-last, no_grad; ours after
`sasa.fuse`. The faster form of each network is compared. With --dtype bf16 all run under autocast. Logits
are checked against those of the same network in plain fp32 (ours with the reference backend, not fused).

    python -m benchmarks.network [--threads 2] [--dtype fp32|bf16] [--quick]
"""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import sasa
from benchmarks.frozen import frozen
from benchmarks.measure import Contender, Report, Timings, against, arguments

OURS = ("sasa_resnet50", "sasav2_resnet50", "sasav2_resnet50_hybrid")
TOLERANCE = {"fp32": 1e-4, "bf16": 0.15}  # of the largest logit; the errors are about 1e-6 and 0.03
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
        **{name: calibrated(create(name, report.layer_backend), images) for name in OURS},
    }
    if report.backend == "reference":
        report.note("ours only eager: Inductor takes minutes to compile the reference backend")
    for batch in batches:
        timings = at_batch(report, networks, images[:batch])
        conv, *ours = (
            min((name for name in timings.seconds if name.startswith(f"{network},")), key=timings.time)
            for network in networks
        )
        for name, fastest in zip(OURS, ours, strict=True):
            what = f"network, {args.dtype}, batch {batch}: {name} / ResNet-50"
            report.target(what, timings.ratio(fastest, conv), "<=", TARGET[args.dtype])
    report.finish()


@torch.no_grad()
def at_batch(report: Report, networks: dict[str, nn.Module], x: Tensor) -> Timings:
    """Time the networks, eager and compiled, on the images x."""
    torch.compiler.reset()  # otherwise each batch size is one more recompilation of the first
    dtype, contenders = report.args.dtype, []
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        for name, network in networks.items():
            ours = name in OURS
            error, tolerance = against(plain_logits(network, x)), TOLERANCE[dtype]
            if ours:
                network = sasa.fuse(network)
            contenders.append(Contender(f"{name}, eager", partial(network, x), error, tolerance))
            if not (ours and report.backend == "reference"):
                run = partial(frozen(network, x), x)
                contenders.append(Contender(f"{name}, compiled", run, error, tolerance))
        title = f"{dtype}, {x.shape[-1]} × {x.shape[-1]}, batch {len(x)}"
        return report.measure(title, contenders, "ResNet-50, compiled", rounds=15, turn=0.2)


def resnet50() -> nn.Module:
    """Return torchvision's network, channels-last."""
    return stabilized(torchvision.models.resnet50())


def create(name: str, backend: str) -> nn.Module:
    """Return a network of ours, channels-last."""
    return stabilized(sasa.create_model(name, backend=backend))


def stabilized(network: nn.Module) -> nn.Module:
    """Prepare a new network so that outputs can be compared, and convert it to channels-last.

    The residual branches are scaled by 0.2, and what starts at zero in the attention is drawn at random.

    With large branches an untrained network amplifies rounding errors from block to block (in bf16 beyond the
    logits themselves); with last batch norms of zero it has no branches at all.
    """
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, 0.2)
        elif name.endswith(("content_gain", "dw.weight")):
            nn.init.normal_(parameter, std=0.2)
    return network.to(memory_format=torch.channels_last)


def smooth_images(batch: int, side: int) -> Tensor:
    """Return channels-last images that differ in more than noise, which attention would average away."""
    torch.manual_seed(0)
    coarse = 2 * torch.randn(batch, 3, 4, 4) + torch.randn(batch, 3, 1, 1)
    return F.interpolate(coarse, size=side, mode="bicubic").to(memory_format=torch.channels_last)


@torch.no_grad()
def calibrated(network: nn.Module, images: Tensor) -> nn.Module:
    """Switch to eval mode with batch norms that have the statistics of these images"""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    network.train()(images)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


@torch.no_grad()
def plain_logits(network: nn.Module, x: Tensor) -> Tensor:
    """Return the network's logits in contiguous fp32 with the reference backend."""
    plain = with_reference(network).to(memory_format=torch.contiguous_format)
    with torch.autocast("cpu", enabled=False):
        return plain(x.contiguous())


def with_reference(network: nn.Module) -> nn.Module:
    """Return a copy whose attention is plain PyTorch."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, sasa.LocalSelfAttention2d):
            module.backend = "reference"
        elif isinstance(module, sasa.AttentionStem):  # with a hook on a part, it calls its parts one by one
            module.query_key.register_forward_hook(_no_change)
    return network


def _no_change(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Leave the output as it is."""


if __name__ == "__main__":
    main()
