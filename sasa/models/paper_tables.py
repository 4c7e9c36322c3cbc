"""Tables 1 and 3 to 7 of the paper: the printed values, and our network for each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import timm

from sasa.errors import require
from sasa.layers.attention_stem import STEM_VALUES
from sasa.models.flops import Cost, cost


@dataclass(frozen=True)
class Row:
    """One row as printed (FLOPs in B, parameters in M or None, top-1 in %), with our network."""

    label: str
    flops: float
    parameters: float | None
    top1: float
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def cost(self) -> Cost:
        """The cost of our network at 224 × 224."""
        return cost(timm.create_model(self.model, device="meta", **self.options))


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    number: int
    title: str
    rows: Sequence[Row]


def _table_1() -> list[Row]:
    printed = {
        26: ((4.7, 13.7, 74.5), (4.5, 10.3, 75.8), (4.7, 10.3, 74.8)),
        38: ((6.5, 19.6, 76.2), (5.7, 14.1, 77.1), (6.0, 14.1, 76.9)),
        50: ((8.2, 25.6, 76.9), (7.0, 18.0, 77.4), (7.2, 18.0, 77.6)),
    }
    variants = (("convolution", "_conv"), ("conv stem + attention", "_convstem"), ("full attention", ""))
    return [
        Row(f"ResNet-{depth}, {label}", *figures, f"sasa_resnet{depth}{variant}")
        for depth, results in printed.items()
        for (label, variant), figures in zip(variants, results, strict=True)
    ]


def _table_3() -> list[Row]:
    printed = {
        "": (7.0, 18.0, 80.2),
        "1": (7.3, 18.1, 80.7),
        "12": (7.5, 18.5, 80.7),
        "123": (8.0, 20.8, 80.2),
        "1234": (8.2, 25.6, 79.5),
        "234": (7.9, 25.5, 79.7),
        "34": (7.8, 25.0, 79.6),
        "4": (7.2, 22.7, 79.9),
    }
    rows = []
    for conv, figures in printed.items():
        attention = "".join(stage for stage in "1234" if stage not in conv)
        stage_types = tuple("conv" if stage in conv else "attention" for stage in "1234")
        label = f"conv {conv or '–'}, attention {attention or '–'}"
        rows.append(Row(label, *figures, "sasa_resnet50_convstem", {"stage_types": stage_types}))
    return rows


def _on_conv_stem(printed: Sequence[tuple[str, float, float | None, float, dict[str, Any]]]) -> list[Row]:
    return [
        Row(label, flops, parameters, top1, "sasa_resnet50_convstem", options)
        for label, flops, parameters, top1, options in printed
    ]


TABLES: tuple[Table, ...] = (
    Table(1, "ImageNet, ResNets of three sizes", _table_1()),
    Table(3, "Stages of convolution and of attention (top-1 on a validation split)", _table_3()),
    Table(
        4,
        "Spatial extent k",
        _on_conv_stem(
            [
                (f"k = {k}", flops, None, top1, {"kernel_size": k})
                for k, flops, top1 in (
                    (3, 6.6, 76.4),
                    (5, 6.7, 77.2),
                    (7, 7.0, 77.4),
                    (9, 7.3, 77.7),
                    (11, 7.7, 77.6),
                )
            ]
        ),
    ),
    Table(
        5,
        "Position (top-1 on a validation split)",
        _on_conv_stem(
            [
                ("none", 6.9, 18.0, 77.6, {"position": "none"}),
                ("absolute", 6.9, 18.0, 78.2, {"position": "absolute"}),
                ("relative", 7.0, 18.0, 80.2, {"position": "relative"}),
            ]
        ),
    ),
    Table(
        6,
        "Content",
        _on_conv_stem(
            [("q·r", 6.1, 16.7, 76.9, {"content": False}), ("q·k + q·r", 7.0, 18.0, 77.4, {"content": True})]
        ),
    ),
    Table(
        7,
        "Attention stem, values",
        [
            Row(values, flops, None, top1, "sasa_resnet50", {"stem": values})
            for values, (flops, top1) in zip(
                reversed(STEM_VALUES), ((7.1, 76.2), (7.4, 77.2), (7.2, 77.6)), strict=True
            )
        ],
    ),
)

NOTES = """\
Parameters: ours equal the printed values to the printed digit, except for 14.18 and 14.19 M (printed: 14.1),
25.10 M (25.0) and 16.78 M (16.7). Our 1 x 1 projections are full. The text of the paper describes projections
of each head's own channels, which would have a fraction of these parameters, so the paper must have
counted full projections.

FLOPs: the paper does not state its convention. Ours (help(sasa.cost)) counts the equations as written,
without window positions outside of the map; Table 4 therefore rises as slowly with k as in the paper. The
first two rows of Table 5 differ most: without relative embeddings, ours have 0.17 B less, the cost of 49
products q·r per pixel, and the paper prints 0.1 B less. The other differences are at most 0.06 B; they depend
on how stems, batch norms, softmax and pooling are counted."""


def render(numbers: Sequence[int] | None = None) -> str:
    """The tables as Markdown, with ours beside the printed values and notes on the differences.

    Args:
        numbers: The tables to print; None takes all.

    Raises:
        ValueError: A number is not that of one of these tables.
    """
    known = {table.number: table for table in TABLES}
    parts = []
    for number in known if numbers is None else numbers:
        advice = "sasa tables --detection prints Table 2" if number == 2 else ""
        require(number in known, "table", f"one of {list(known)}", number, advice)
        table = known[number]
        lines = [
            f"Table {number}. {table.title}",
            "",
            "| network | FLOPs, B: paper | ours | diff. | params, M: paper | ours | top-1, %: paper |",
            "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in table.rows:
            ours = row.cost()
            flops, parameters = ours.flops / 1e9, ours.parameters / 1e6
            printed = "–" if row.parameters is None else f"{row.parameters:.1f}"
            cells = [f"{row.flops:.1f}", f"{flops:.2f}", f"{flops - row.flops:+.2f}", printed]
            cells += [f"{parameters:.2f}", f"{row.top1:.1f}"]
            lines.append(markdown_row(f"{row.label:<34}", cells))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, NOTES])


def markdown_row(label: str, cells: Iterable[str]) -> str:
    """One row of a Markdown table: the label, then the cells, right-aligned in 5 characters."""
    return f"| {label} | {' | '.join(f'{cell:>5}' for cell in cells)} |"
