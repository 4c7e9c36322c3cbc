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
from benchmarks.measure import Contender, Report, Timings, against, arguments, measure, weighted_sum
from benchmarks.shapes import RESNET50, Spatial

TOLERANCE = 1e-4  # of the largest value


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, help="images; default 8")
    args = parser.parse_args()
    report = Report("layer", args)
    report.keep_freed_memory()
    batch = args.batch or (1 if args.quick else 8)
    rounds = args.rounds or (2 if args.quick else 21)
    turn = 0.01 if args.quick else 0.1
    compiles = report.backend != "reference"
    if not compiles:
        report.note("only eager: it takes Inductor minutes to compile the reference backend")
    whole = []
    for shape in RESNET50:
        timings = one_shape(shape, batch, report.layer_backend, compiles, rounds, turn)
        report.timings(f"{shape}, batch {batch}", timings, "convolution")
        whole.append((shape.count, timings))
    total = weighted_sum(whole)
    report.timings("all sixteen layers", total, "convolution")
    report.target("layers, eager: sasa / convolution", total.ratio("sasa", "convolution"), "<=", 1.0)
    if compiles:
        ratio = total.ratio("sasa, compiled", "convolution, compiled")
        report.target("layers, compiled: sasa / convolution", ratio, "<=", 1.0)
    report.finish()


@torch.no_grad()
def one_shape(shape: Spatial, batch: int, backend: str, compiles: bool, rounds: int, turn: float) -> Timings:
    """Time both layers at one shape."""
    torch.manual_seed(0)
    torch.compiler.reset()  # each shape is compiled for itself, not as one more case of the last
    channels, side, stride = shape.channels, shape.side, shape.stride
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
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
    return measure(contenders, rounds=rounds, turn=turn)


if __name__ == "__main__":
    main()
