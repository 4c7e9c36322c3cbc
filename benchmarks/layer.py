"""LocalSelfAttention2d against the 3 × 3 convolution that it replaces, in each bottleneck of ResNet-50.

Projections, attention and pooling against nn.Conv2d(C, C, 3, stride, 1, bias=False): k = 7, 8 heads, fp32,
channels-last, no_grad; both eager, and both compiled with Inductor's freezing.

    python -m benchmarks.layer [--threads 2] [--quick]
"""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import nn

import sasa
from benchmarks.frozen import frozen
from benchmarks.measure import Contender, Report, Timings, against, arguments, weighted_sum
from benchmarks.shapes import RESNET50, Spatial

TOLERANCE = 1e-4  # of the largest value


def main() -> None:
    """Measure, print and write."""
    report = Report("layer", arguments(__doc__, batch=True).parse_args())
    report.keep_freed_memory()
    compiles = report.backend != "reference"
    if not compiles:
        report.note("only eager: Inductor takes minutes to compile the reference backend")
    total = weighted_sum((shape.count, one_shape(report, shape, compiles)) for shape in RESNET50)
    report.timings("all sixteen layers", total, "convolution")
    report.target("layers, eager: sasa / convolution", total.ratio("sasa", "convolution"), "<=", 1.0)
    if compiles:
        ratio = total.ratio("sasa, compiled", "convolution, compiled")
        report.target("layers, compiled: sasa / convolution", ratio, "<=", 1.0)
    report.finish()


@torch.no_grad()
def one_shape(report: Report, shape: Spatial, compiles: bool) -> Timings:
    """Time both layers at one shape."""
    torch.manual_seed(0)
    torch.compiler.reset()  # otherwise each shape is one more recompilation of the first
    channels, side, stride = shape.channels, shape.side, shape.stride
    x = torch.randn(report.batch, channels, side, side).to(memory_format=torch.channels_last)
    backend = report.layer_backend
    attention = sasa.LocalSelfAttention2d(channels, channels, 7, stride, num_heads=8, backend=backend)
    convolution = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
    contenders = []
    for name, layer in (("convolution", convolution), ("sasa", attention)):
        truth = copy.deepcopy(layer).double()
        truth.backend = "reference"
        error = against(truth(x.double()))
        layer.eval().to(memory_format=torch.channels_last)
        contenders.append(Contender(name, partial(layer, x), error, TOLERANCE))
        if compiles:
            run = partial(frozen(layer, x), x)
            contenders.append(Contender(f"{name}, compiled", run, error, TOLERANCE))
    return report.measure(f"{shape}, batch {report.batch}", contenders, "convolution", rounds=21)


if __name__ == "__main__":
    main()
