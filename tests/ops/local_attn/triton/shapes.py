"""Cases that meet each part of the Triton kernels: for the interpreter and for a GPU."""

from __future__ import annotations

from typing import Any

import torch

from ..cases import Case

PLAIN = Case(
    seed=0,
    batch=1,
    heads=2,
    head_dim=8,
    value_head_dim=8,
    size=(4, 5),
    kernel=(3, 3),
    dilation=(1, 1),
    scale=0.5,
    pool=1,
    given=("k", "rel_row", "rel_col"),
    dtype=torch.float32,
    rel_dtype=torch.float32,
    layouts=("channels_last",) * 3,
    magnitude=1.0,
)
# Head widths and maps of networks, in part: several tiles along each axis, several groups of heads.
SHAPES: dict[str, dict[str, Any]] = {
    "paper's window, several tiles": {"size": (3, 17), "kernel": (7, 7), "batch": 1},
    "paper's window, pooled": {"size": (3, 5), "kernel": (7, 7), "batch": 1, "pool": 2},
    "bf16, 8 heads of 16": {
        "heads": 8,
        "head_dim": 16,
        "value_head_dim": 16,
        "size": (3, 9),
        "dtype": torch.bfloat16,
    },
    "more heads than a tile": {"heads": 11, "head_dim": 4, "size": (3, 4), "batch": 1},
    "wide heads": {"head_dim": 128, "value_head_dim": 40, "size": (3, 4), "batch": 1},
    "wide values": {"head_dim": 4, "value_head_dim": 128, "size": (3, 4), "batch": 1, "dtype": torch.float16},
    "contiguous, several tiles": {"layouts": ("contiguous",) * 3, "size": (3, 18), "batch": 1, "heads": 1},
    "wide window, dilated": {"kernel": (3, 11), "dilation": (3, 2), "size": (4, 9), "batch": 1},
    "tall window": {"kernel": (9, 1), "size": (5, 3), "batch": 1, "pool": 2},
    "no k, one embedding": {"given": ("rel_col",), "size": (4, 5)},
    "k alone, odd width": {"given": ("k",), "head_dim": 5, "value_head_dim": 3, "size": (4, 5)},
    "relu": {"relu": True, "pool": 2, "size": (5, 5)},
}
# Tensor cores can run all of them, in half precision and tf32; `tiles.dot_pays` chooses them for some.
DOT_SHAPES: dict[str, dict[str, Any]] = {
    "heads of 16": {
        "head_dim": 16,
        "value_head_dim": 16,
        "size": (4, 10),
        "kernel": (7, 7),
        "dtype": torch.float16,
    },
    "heads of 32, pooled": {
        "head_dim": 32,
        "value_head_dim": 32,
        "size": (3, 9),
        "kernel": (7, 7),
        "pool": 2,
    },
    "a narrow map": {"head_dim": 16, "value_head_dim": 24, "size": (5, 3), "kernel": (5, 7)},
    "wide window": {"head_dim": 16, "kernel": (3, 15), "size": (3, 19), "layouts": ("contiguous",) * 3},
    "no k": {"head_dim": 16, "given": ("rel_row",), "kernel": (5, 5)},
    "relu, pooled": {"relu": True, "pool": 2, "size": (5, 5)},
}
