"""The model of networks: the counts of each op."""

from __future__ import annotations

from collections import Counter

import pytest
from torch import Tensor, nn

pytest.importorskip("triton", reason="triton is not installed; torch brings it on Linux")

import sasa
from benchmarks.shapes import RESNET50
from sasa.ops import cpu_extension
from studies.gpu_model import network_model as model
from studies.gpu_model.model import BF16, BYTES_PER_S, predict, with_dot

needs_kernels = pytest.mark.skipif(not cpu_extension.is_available(), reason="the CPU kernels are not built")


class Block(nn.Module):
    """Convolution, norm, ReLU and a residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1, bias=False)
        self.second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        return self.act(self.norm(self.second(out)) + out)


def test_an_op_takes_the_larger_of_its_bytes_and_products() -> None:
    """By hand: maps of 3 and of 16 channels, each read and written as in the module's docstring."""
    pixels = 128 * 224**2
    traced = model.trace(Block(), 128)
    weights = (3 * 16, 9 * 16 * 16)
    first = (3 + 16) * pixels + weights[0]
    second = 2 * 16 * pixels + weights[1]
    products = 2 * 16 * pixels * 9 * 16 / BF16.flops_per_s
    assert products < 2 * second / BYTES_PER_S
    kept = 16 * pixels
    inference = 2 * (first + second + kept) / BYTES_PER_S  # kept once more, by the addition
    assert model.inference(traced).total == pytest.approx(inference)
    # Forward the norm reads twice and writes. Backward it reads what it got and gets twice, and writes; the
    # ReLU reads its output twice; the gradients of both branches meet in an addition.
    norm, backward = 3 * kept, (2 * 2 + 1) * kept + 2 * kept + kept
    moved = first + second + norm + kept + backward + 2 * second + first  # images need no gradient
    parameters = sum(weights) + 2 * 16
    step = (2 * moved + 5 * 4 * parameters) / BYTES_PER_S
    assert model.training_step(traced).total == pytest.approx(step, rel=1e-6)
    # Images, the first convolution's output, the norm's input and the ReLU's output; the norm's own numbers.
    assert traced.kept == pytest.approx(2 * (3 + 16 + 16 + 16) * pixels, rel=1e-6)


def test_a_product_that_takes_longer_than_its_bytes_counts() -> None:
    conv = nn.Conv2d(512, 512, 3, bias=False)
    traced = model.trace(nn.Sequential(nn.Conv2d(3, 512, 1, bias=False), conv), 8)
    flops = 2 * 512 * 512 * 9 * 222**2 * 8
    alone = model.seconds(traced.forward[-1], training=False).total
    assert alone == pytest.approx(flops / BF16.flops_per_s)
    (gradients,) = (
        one
        for one in traced.backward
        if one.name == "aten::convolution_backward" and one.arguments[2].shape == conv.weight.shape
    )
    assert model.seconds(gradients, training=True).total == pytest.approx(2 * alone)


@needs_kernels
def test_attention_is_that_of_the_op_at_its_sixteen_shapes() -> None:
    traced = model.trace(sasa.create_model("sasa_resnet50_convstem"), 128)
    called = [one for one in traced.forward if one.name == "sasa::local_attention"]
    shapes = Counter((q.shape[1], q.shape[2]) for q in (one.arguments[0] for one in called))
    assert shapes == Counter({(s.channels, s.side): s.count for s in RESNET50})
    for step, directions in ((model.inference, ["forward"]), (model.training_step, ["forward", "backward"])):
        want = sum(
            shape.count * predict(shape, 128, direction, dot=with_dot(shape, direction)).seconds
            for shape in RESNET50
            for direction in directions
        )
        assert step(traced).attention == pytest.approx(want)


def test_an_unknown_op_is_an_error() -> None:
    traced = model.trace(nn.Sequential(nn.Conv2d(3, 16, 1), nn.GELU()), 128)
    with pytest.raises(ValueError, match="got aten::gelu"):
        model.inference(traced)
