"""Table 2 of the paper, copied here from the paper once more, and what ours cost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sasa
from sasa.detection import create_retinanet, detector_cost
from sasa.detection.paper_table import INTERPRETATIONS, ROWS, Row, render
from sasa.models import Cost

from .detectors import LAYER_TYPES, lively, small

# FPN and heads, backbone: FLOPs in B, parameters in M, mAP in %.
PRINTED = {
    ("conv", "sasa_resnet50_conv"): (182, 33.4, 36.5),
    ("conv", "sasa_resnet50_convstem"): (173, 25.9, 36.8),
    ("conv", "sasa_resnet50"): (173, 25.9, 36.2),
    ("attention", "sasa_resnet50_convstem"): (111, 22.0, 36.6),
    ("attention", "sasa_resnet50"): (110, 22.0, 36.6),
}


@pytest.fixture(scope="module")
def ours() -> list[Cost]:
    return [row.cost() for row in ROWS]


def test_the_rows_are_the_papers() -> None:
    assert {
        (row.fpn_and_heads, row.backbone): (row.flops, row.parameters, row.mean_ap) for row in ROWS
    } == PRINTED


def test_costs_are_near_the_printed_ones(ours: list[Cost]) -> None:
    for row, cost in zip(ROWS, ours, strict=True):
        if row.fpn_and_heads == "conv":
            assert cost.flops / 1e9 == pytest.approx(row.flops, rel=0.06)
            assert cost.parameters / 1e6 == pytest.approx(row.parameters, rel=0.06)


def test_savings_are_near_the_printed_ones(ours: list[Cost]) -> None:
    """In points; only the parameters of the attention in FPN and heads are further off than 2.5."""
    for row, cost in zip(ROWS, ours, strict=True):
        flops = 100 * (1 - cost.flops / ours[0].flops), 100 * (1 - row.flops / 182)
        parameters = 100 * (1 - cost.parameters / ours[0].parameters), 100 * (1 - row.parameters / 33.4)
        assert abs(flops[0] - flops[1]) < 2.5
        assert abs(parameters[0] - parameters[1]) < (0.5 if row.fpn_and_heads == "conv" else 6)


def test_parameters_by_hand(ours: list[Cost]) -> None:
    def classifier(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in sasa.create_model(name, num_classes=0).parameters())

    norms = 2 * 256 * (6 + 8)
    lateral = (512 + 1024 + 2048) * 256
    conv = 9 * 256 * 256
    fpn_and_heads = lateral + (3 + 8) * conv + 2 * (conv + 256) + norms
    fpn_and_heads += (9 * 256 + 1) * (720 + 36)
    assert ours[0].parameters == classifier("sasa_resnet50_conv") + fpn_and_heads

    def attention(out: int, bias: bool) -> int:
        return 3 * 256 * out + bias * 3 * out + 2 * 7 * out // 2

    fpn_and_heads = lateral + norms
    fpn_and_heads += (3 + 8) * attention(256, False) + 2 * attention(256, True)
    fpn_and_heads += attention(720, True) + (720 + 1) * 720 + attention(48, True) + (48 + 1) * 36
    assert ours[4].parameters == classifier("sasa_resnet50") + fpn_and_heads


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
def test_flops_of_fpn_and_heads_by_hand(layer_type: str) -> None:
    """On maps of 8, 4, 2, 1 and 1 pixels a side, with the formulas of `sasa.cost` for the layers alone."""
    detector = small(fpn_and_heads=layer_type)
    channels = [64, 128, 256]
    detector.backbone.body = _Maps(channels)
    sides = (8, 4, 2, 1, 1)
    pixels = sum(side**2 for side in sides)

    def layer(c_in: int, c_out: int, side: int, stride: int = 1, bias: bool = False) -> int:
        module: nn.Module = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=bias)
        if layer_type == "attention":
            module = sasa.LocalSelfAttention2d(c_in, c_out, 3, stride, num_heads=2, bias=bias)
        return sasa.cost(module, (c_in, side, side)).flops

    norm = 7 * 32
    expected = 0
    for c, side in zip(channels, (8, 4, 2), strict=True):
        expected += (2 * c * 32 + norm) * side**2 + layer(32, 32, side) + norm * side**2
    expected += 32 * (64 + 16)  # top-down additions
    expected += layer(32, 32, 2, 2, True) + 32 + layer(32, 32, 1, 2, True)  # P6, ReLU, P7
    for side in sides:
        expected += 8 * layer(32, 32, side)
        for out in (27, 36):
            if layer_type == "conv":
                expected += layer(32, out, side, bias=True)
            else:
                inner = -(-out // 4) * 4
                expected += layer(32, inner, side, bias=True) + (2 * inner + 1) * out * side**2
    expected += 8 * (norm + 32) * pixels  # with the ReLU
    assert detector_cost(detector, (3, 64, 64)).flops == expected


class _Maps(nn.Module):
    """A backbone without cost."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x.new_zeros(1, 1, 1, 1)] + [
            x.new_zeros(1, c, x.shape[2] // stride, x.shape[3] // stride)
            for c, stride in zip(self.channels, (8, 16, 32), strict=True)
        ]


def test_the_detector_is_not_touched() -> None:
    detector = lively(small()).train()
    before = {name: x.clone() for name, x in detector.state_dict().items()}
    detector_cost(detector, (3, 64, 64))
    assert all(module.training for module in detector.modules())
    assert all(torch.equal(x, before[name]) for name, x in detector.state_dict().items())


def test_every_interpretation_is_another_detector(ours: list[Cost]) -> None:
    """By how many parameters it differs from ours."""
    more = [
        sum(p.numel() for p in build(row).parameters()) - ours[ROWS.index(row)].parameters
        for _, build, row in INTERPRETATIONS
    ]
    layers = 6 + 8
    p6 = 9 * 256 * (2048 - 256)
    attention = 3 * 256 + 3 + 7  # of each channel
    last = attention * (720 + 48) + (720 + 1) * 720 + (48 + 1) * 36
    assert more == [
        256 * layers - 2 * 256 * layers,  # biases instead of norms
        p6,
        256 * 3 + 3 * 256 * 3 + 8 * 3 * 256 - 2 * 256 * layers,
        2 * attention * 256 + 257 * (720 + 36) - last,
        (9 * 256 + 1) * (720 + 36) - last,
    ]


def test_render(monkeypatch: pytest.MonkeyPatch, ours: list[Cost]) -> None:
    monkeypatch.setattr(Row, "cost", lambda row: ours[ROWS.index(row)])
    monkeypatch.setattr(
        "sasa.detection.paper_table.detector_cost", lambda detector: Cost(12_345_678, 98_765_432_100)
    )
    lines = render().splitlines()
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells[0] == "conv, convolution"
    assert (cells[1], cells[3], cells[4], cells[5], cells[9]) == ("182", "–", "–", "33.4", "36.5")
    cells = [cell.strip() for cell in lines[7].strip("|").split("|")]
    assert cells[0] == "attention, conv stem + attention"
    assert cells[1:4] == ["111", f"{ours[3].flops / 1e9:.1f}", "39.0"]
    assert cells[4] == f"{100 * (1 - ours[3].flops / ours[0].flops):.1f}"
    assert cells[5:8] == ["22.0", f"{ours[3].parameters / 1e6:.2f}", "34.1"]
    assert sum("|  98.8 | 12.35 |" in line for line in lines) == len(INTERPRETATIONS)


def test_width_and_classes_count(ours: list[Cost]) -> None:
    with torch.device("meta"):
        fewer = create_retinanet("sasa_resnet50_conv", 20, fpn_and_heads="conv")
    assert ours[0].parameters - sum(p.numel() for p in fewer.parameters()) == (9 * 256 + 1) * 9 * 60
