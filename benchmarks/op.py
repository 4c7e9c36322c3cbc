"""The op against F.unfold, FlexAttention and a 3 × 3 convolution, at the shapes of ResNet-50.

k = 7, 8 heads, fp32, channels-last; q, k and v are the three slices of one map, as the layer makes them. The
backward pass computes the gradients of this map and of the embeddings. Sums are weighted by how often
ResNet-50 has each shape. Every output and gradient is first checked in float64 against the reference backend.

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
from benchmarks.measure import Contender, Report, Timings, against, arguments, weighted_sum
from benchmarks.shapes import RESNET50, Spatial
from benchmarks.unfold import unfold_attention

HEADS, KERNEL = 8, 7
TOLERANCE = 1e-4  # of the largest value; fp32 and 49 keys leave about 1e-6


def main() -> None:
    """Measure, print and write."""
    report = Report("op", arguments(__doc__, batch=True).parse_args())
    parts = []
    for shape in RESNET50:
        timings = forward(report, shape, shape.stride)
        parts.append((shape.count, timings))
        if shape.stride == 2:
            forward(report, shape, 1)
        if shape == RESNET50[0]:
            best = min((name for name in timings.seconds if "Flex" in name), key=timings.time)
            flex = timings.ratio(best, "sasa")
    total = weighted_sum(parts)
    report.timings("forward, all sixteen layers", total, "sasa")
    report.target("op forward: unfold / sasa", total.ratio("unfold", "sasa"), ">=", 250)
    report.target(f"op forward, {RESNET50[0]}: compiled FlexAttention / sasa", flex, ">=", 60)

    total = weighted_sum((shape.count, forward_backward(report, shape)) for shape in RESNET50)
    report.timings("forward + backward, all sixteen layers", total, "sasa")
    report.target("op forward + backward: unfold / sasa", total.ratio("unfold", "sasa"), ">=", 100)
    report.finish()


@torch.no_grad()
def forward(report: Report, shape: Spatial, pool: int) -> Timings:
    """Time the forward pass of all contenders at one shape."""
    tensors = inputs(shape, report.batch)
    slices = (*tensors[0].split(shape.channels, 1), *tensors[1:])
    truth = against(attention("reference", pool)(*(x.double() for x in slices)))
    calls = {"sasa": attention(report.backend, pool), "unfold": unfolding(pool)}
    if shape == RESNET50[0]:
        calls["FlexAttention"] = FlexLocalAttention(shape.side, shape.side, KERNEL)
        calls["FlexAttention, 4 × 4 tiles"] = FlexLocalAttention(shape.side, shape.side, KERNEL, 4)
    contenders = [Contender(name, partial(call, *slices), truth, TOLERANCE) for name, call in calls.items()]
    x, weight = convolution_inputs(shape, report.batch)
    convolve = partial(F.conv2d, stride=pool, padding=1)
    truth = against(convolve(x.double(), weight.double()))
    contenders.append(Contender("3×3 convolution", partial(convolve, x, weight), truth, TOLERANCE))
    title = f"forward, {shape.channels} @ {shape.side}, pool={pool}, batch {report.batch}"
    return report.measure(title, contenders, "sasa", rounds=11)


def forward_backward(report: Report, shape: Spatial) -> Timings:
    """Time forward and backward pass of all contenders at one shape, pooled if ResNet-50 has stride 2."""
    batch, side = report.batch, shape.out_side
    grad = torch.randn(batch, shape.channels, side, side).to(memory_format=torch.channels_last)

    def with_gradients(op: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in tensors]
        out = op(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]

    def contenders(
        ops: dict[str, Callable[..., Tensor]], reference: Callable[..., Tensor], tensors: tuple[Tensor, ...]
    ) -> list[Contender]:
        truth = against(with_gradients(reference, *(x.double() for x in tensors)))
        return [
            Contender(name, partial(with_gradients, op, *tensors), truth, TOLERANCE)
            for name, op in ops.items()
        ]

    def of_slices(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda qkv, *rel: op(*qkv.split(shape.channels, 1), *rel)

    ours = of_slices(attention(report.backend, shape.stride))
    reference = of_slices(attention("reference", shape.stride))
    unfold = of_slices(unfolding(shape.stride))
    convolve = partial(F.conv2d, stride=shape.stride, padding=1)
    return report.measure(
        f"forward + backward, {shape}, batch {batch}",
        [
            *contenders({"sasa": ours, "unfold": unfold}, reference, inputs(shape, batch)),
            *contenders({"3×3 convolution": convolve}, convolve, convolution_inputs(shape, batch)),
        ],
        "sasa",
        rounds=7,  # unfold takes seconds per turn
    )


def inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the map of q, k and v, (B, 3·C, H, W), and the embeddings of rows and columns."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, 3 * shape.channels, shape.side, shape.side).to(memory_format=torch.channels_last)
    rel_row, rel_col = (torch.randn(HEADS, KERNEL, shape.channels // HEADS // 2) for _ in range(2))
    return qkv, rel_row, rel_col


def convolution_inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor]:
    """Return a map (B, C, H, W) and the weights of a 3 × 3 convolution, both channels-last."""
    x = torch.randn(batch, shape.channels, shape.side, shape.side)
    weight = torch.randn(shape.channels, shape.channels, 3, 3)
    return x.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)


def attention(backend: str, pool: int) -> Callable[..., Tensor]:
    """Return our op as a function of q, k, v, rel_row and rel_col."""
    return partial(sasa.local_attention, num_heads=HEADS, kernel_size=KERNEL, pool=pool, backend=backend)


def unfolding(pool: int) -> Callable[..., Tensor]:
    """Return the same op by F.unfold."""
    return partial(unfold_attention, num_heads=HEADS, kernel_size=KERNEL, pool=pool)


if __name__ == "__main__":
    main()
