"""The op against unfolding, FlexAttention and a 3 × 3 convolution, at ResNet-50's shapes.

k = 7, 8 heads, fp32, channels-last; q, k and v are the three slices of one map, as the layer makes them. The
backward pass gives the gradients of that map and of the embeddings. Sums are weighted by how often ResNet-50
has each shape. Every output and gradient is checked against the reference backend in float64 first.

    python -m benchmarks.op [--threads 2] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import sasa
from benchmarks.flex_attention import FlexLocalAttention
from benchmarks.measure import Contender, Report, Timings, against, arguments, measure, weighted_sum
from benchmarks.shapes import RESNET50, Spatial
from benchmarks.unfold import unfold_attention

HEADS, KERNEL = 8, 7
TOLERANCE = 1e-4  # of the largest value; fp32 and 49 keys leave about 1e-6


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, help="images; default 8")
    args = parser.parse_args()
    report = Report("op", args)
    batch = args.batch or (1 if args.quick else 8)
    rounds = args.rounds or (2 if args.quick else 11)
    turn = 0.01 if args.quick else 0.1

    whole = []
    for shape in RESNET50:
        timings = forward(report, shape, shape.stride, batch, rounds, turn)
        whole.append((shape.count, timings))
        if shape.stride == 2:
            forward(report, shape, 1, batch, rounds, turn)
        if shape == RESNET50[0]:
            best = min((name for name in timings.seconds if "Flex" in name), key=timings.time)
            flex = timings.ratio(best, "sasa")
    total = weighted_sum(whole)
    report.timings("forward, all sixteen layers", total, "sasa")
    report.target("op forward: unfold / sasa", total.ratio("unfold", "sasa"), ">=", 250)
    report.target(f"op forward, {RESNET50[0]}: compiled FlexAttention / sasa", flex, ">=", 60)

    rounds = args.rounds or (1 if args.quick else 7)  # unfold takes seconds a turn
    total = weighted_sum(
        (shape.count, forward_backward(report, shape, batch, rounds, turn)) for shape in RESNET50
    )
    report.timings("forward + backward, all sixteen layers", total, "sasa")
    report.target("op forward + backward: unfold / sasa", total.ratio("unfold", "sasa"), ">=", 100)
    report.finish()


def forward(report: Report, shape: Spatial, pool: int, batch: int, rounds: int, turn: float) -> Timings:
    """Time the forward pass of all at one shape."""
    channels, side = shape.channels, shape.side
    qkv, rel_row, rel_col = inputs(shape, batch)
    q, k, v = qkv.split(channels, 1)
    with torch.no_grad():
        truth = against(attention("reference", pool)(*(x.double() for x in (q, k, v, rel_row, rel_col))))
        ours, unfold = attention(report.backend, pool), unfolding(pool)
        contenders = [
            Contender("sasa", lambda: ours(q, k, v, rel_row, rel_col), truth, TOLERANCE),
            Contender("unfold", lambda: unfold(q, k, v, rel_row, rel_col), truth, TOLERANCE),
        ]
        if shape == RESNET50[0]:
            for name, tile in (("FlexAttention", None), ("FlexAttention, 4 × 4 tiles", 4)):
                flex = FlexLocalAttention(side, side, KERNEL, tile)
                run = partial(flex, q, k, v, rel_row, rel_col)
                contenders.append(Contender(name, run, truth, TOLERANCE))
        x, weight = convolution_inputs(shape, batch)
        convolve = partial(F.conv2d, stride=pool, padding=1)
        truth = against(convolve(x.double(), weight.double()))
        contenders.append(Contender("3×3 convolution", lambda: convolve(x, weight), truth, TOLERANCE))
        timings = measure(contenders, rounds=rounds, turn=turn)
    report.timings(f"forward, {channels} @ {side}, pool={pool}, batch {batch}", timings, "sasa")
    return timings


def forward_backward(report: Report, shape: Spatial, batch: int, rounds: int, turn: float) -> Timings:
    """Time forward and backward pass of all at one shape, pooled where ResNet-50 has stride 2."""
    leaves = [x.requires_grad_() for x in inputs(shape, batch)]
    out_side = -(-shape.side // shape.stride)
    grad = torch.randn(batch, shape.channels, out_side, out_side).to(memory_format=torch.channels_last)

    def gradients(op: Callable[..., Tensor], qkv: Tensor, rel_row: Tensor, rel_col: Tensor) -> list[Tensor]:
        out = op(*qkv.split(shape.channels, 1), rel_row, rel_col)
        return [out.detach(), *torch.autograd.grad(out, (qkv, rel_row, rel_col), grad.to(out.dtype))]

    doubles = [x.detach().double().requires_grad_() for x in leaves]
    truth = against(gradients(attention("reference", shape.stride), *doubles))
    contenders = [
        Contender(name, partial(gradients, op, *leaves), truth, TOLERANCE)
        for name, op in (
            ("sasa", attention(report.backend, shape.stride)),
            ("unfold", unfolding(shape.stride)),
        )
    ]
    x, weight = (leaf.requires_grad_() for leaf in convolution_inputs(shape, batch))

    def convolution_gradients(x: Tensor, weight: Tensor) -> list[Tensor]:
        out = F.conv2d(x, weight, stride=shape.stride, padding=1)
        return [out.detach(), *torch.autograd.grad(out, (x, weight), grad.to(out.dtype))]

    doubles = [leaf.detach().double().requires_grad_() for leaf in (x, weight)]
    truth = against(convolution_gradients(*doubles))
    run = partial(convolution_gradients, x, weight)
    contenders.append(Contender("3×3 convolution", run, truth, TOLERANCE))
    timings = measure(contenders, rounds=rounds, turn=turn)
    report.timings(f"forward + backward, {shape}, batch {batch}", timings, "sasa")
    return timings


def inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The map that holds q, k and v (B, 3·C, H, W), and the embeddings of rows and columns."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, 3 * shape.channels, shape.side, shape.side).to(memory_format=torch.channels_last)
    rel_row, rel_col = (torch.randn(HEADS, KERNEL, shape.channels // HEADS // 2) for _ in range(2))
    return qkv, rel_row, rel_col


def convolution_inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor]:
    """A map (B, C, H, W) and the weights of a 3 × 3 convolution, both channels-last."""
    x = torch.randn(batch, shape.channels, shape.side, shape.side)
    weight = torch.randn(shape.channels, shape.channels, 3, 3)
    return x.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)


def attention(backend: str, pool: int) -> Callable[..., Tensor]:
    """Our op, a function of q, k, v, rel_row and rel_col."""
    return partial(sasa.local_attention, num_heads=HEADS, kernel_size=KERNEL, pool=pool, backend=backend)


def unfolding(pool: int) -> Callable[..., Tensor]:
    """The same by unfolding."""
    return partial(unfold_attention, num_heads=HEADS, kernel_size=KERNEL, pool=pool)


if __name__ == "__main__":
    main()
