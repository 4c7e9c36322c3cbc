"""Table 2 of the paper: what it printed, our detector for each row, and other readings of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from sasa.detection.flops import detector_cost
from sasa.detection.retinanet import RetinaNet, create_retinanet
from sasa.layers import LocalSelfAttention2d
from sasa.models import Cost

NUM_CLASSES = 80
"""Of COCO."""


@dataclass(frozen=True)
class Row:
    """One row as printed (FLOPs in B, parameters in M, mAP in %) and our detector for it."""

    fpn_and_heads: str
    label: str
    flops: float
    parameters: float
    mean_ap: float
    backbone: str

    def detector(self) -> RetinaNet:
        """Ours, without memory."""
        with torch.device("meta"):
            return create_retinanet(self.backbone, NUM_CLASSES, fpn_and_heads=self.fpn_and_heads)

    def cost(self) -> Cost:
        """What ours costs at 640 × 640."""
        return detector_cost(self.detector())


ROWS = (
    Row("conv", "convolution", 182, 33.4, 36.5, "sasa_resnet50_conv"),
    Row("conv", "conv stem + attention", 173, 25.9, 36.8, "sasa_resnet50_convstem"),
    Row("conv", "full attention", 173, 25.9, 36.2, "sasa_resnet50"),
    Row("attention", "conv stem + attention", 111, 22.0, 36.6, "sasa_resnet50_convstem"),
    Row("attention", "full attention", 110, 22.0, 36.6, "sasa_resnet50"),
)


def without_norm(row: Row) -> RetinaNet:
    """No norm in pyramid and heads."""
    with torch.device("meta"):
        return create_retinanet(row.backbone, NUM_CLASSES, fpn_and_heads=row.fpn_and_heads, norm="none")


def p6_from_c5(row: Row) -> RetinaNet:
    """P6 from the backbone's last map instead of P5."""
    detector = row.detector()
    with torch.device("meta"):
        detector.backbone.fpn.extra_blocks = LastLevelP6P7(2048, 256)
    return detector


def _with_last_layers(row: Row, make: type[nn.Module]) -> RetinaNet:
    detector = row.detector()
    classes, boxes = detector.head.classification_head, detector.head.regression_head
    with torch.device("meta"):
        classes.cls_logits = make(9 * NUM_CLASSES)
        boxes.bbox_reg = make(9 * 4)
    return detector


class _AttentionOf256(nn.Sequential):
    def __init__(self, outputs: int) -> None:
        super().__init__(LocalSelfAttention2d(256, 256, bias=True), nn.Conv2d(256, outputs, 1))


class _Convolution(nn.Sequential):
    def __init__(self, outputs: int) -> None:
        super().__init__(nn.Conv2d(256, outputs, 3, padding=1))


def last_attention_of_256(row: Row) -> RetinaNet:
    """The last attention layers have 256 channels too; the 1 × 1 convolution goes to the outputs."""
    return _with_last_layers(row, _AttentionOf256)


def last_convolutions(row: Row) -> RetinaNet:
    """The last 3 × 3 convolutions stay."""
    return _with_last_layers(row, _Convolution)


# What is read otherwise, the row, and whether the baseline changes with it.
READINGS = (
    ("no norm in pyramid and heads", without_norm, ROWS[0]),
    ("P6 from C5 instead of P5", p6_from_c5, ROWS[0]),
    ("no norm in pyramid and heads", without_norm, ROWS[3]),
    ("last attention of 256 channels, then 1 × 1", last_attention_of_256, ROWS[3]),
    ("last 3 × 3 convolutions stay", last_convolutions, ROWS[3]),
)

NOTES = """\
Costs at 640 × 640 and 80 classes, from the image to logits and box offsets, by the convention of sasa.cost;
savings against the first row. mAP is the paper's, on COCO.

Convolutional rows: 4 to 6 % more FLOPs and 1 to 2 % more parameters than printed; the paper names neither
the image size nor what it counts. Their savings, and the FLOPs that attention in pyramid and heads saves,
come out within 2.5 points. Its parameters do not: 13 layers of 256 channels and the two last ones have 3.7 M
where the printed numbers leave 5.5 M for them. docs/detection.md says which reading was taken."""


def render() -> str:
    """The table as Markdown, ours beside the paper's, then other readings, and notes on the differences."""
    base, ours_base = ROWS[0], ROWS[0].cost()
    lines = [
        "Table 2. COCO, RetinaNet",
        "",
        "| FPN + heads, backbone | FLOPs, B: paper | ours | saved, %: paper | ours "
        "| params, M: paper | ours | saved, %: paper | ours | mAP, %: paper |",
        f"| :--- {'| ---: ' * 9}|",
    ]
    for row in ROWS:
        ours = ours_base if row is base else row.cost()
        cells = [
            f"{row.flops:.0f}",
            f"{ours.flops / 1e9:.1f}",
            _saved(row.flops, base.flops),
            _saved(ours.flops, ours_base.flops),
            f"{row.parameters:.1f}",
            f"{ours.parameters / 1e6:.2f}",
            _saved(row.parameters, base.parameters),
            _saved(ours.parameters, ours_base.parameters),
            f"{row.mean_ap:.1f}",
        ]
        lines.append(_line(f"{row.fpn_and_heads}, {row.label}", cells))
    lines += [
        "",
        "Other readings",
        "",
        "| row | reading | FLOPs, B | params, M |",
        "| :--- | :--- | ---: | ---: |",
    ]
    for reading, build, row in READINGS:
        other = detector_cost(build(row))
        cells = [f"{reading:<42}", f"{other.flops / 1e9:.1f}", f"{other.parameters / 1e6:.2f}"]
        lines.append(_line(f"{row.fpn_and_heads}, {row.label}", cells))
    return "\n".join([*lines, "", NOTES])


def _line(label: str, cells: list[str]) -> str:
    return f"| {label:<32} | {' | '.join(f'{cell:>5}' for cell in cells)} |"


def _saved(value: float, base: float) -> str:
    return "–" if value == base else f"{100 * (1 - value / base):.1f}"
