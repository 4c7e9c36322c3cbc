"""The Triton backend on CPU tensors, through Triton's interpreter: a program for `test_triton.py`.

    TRITON_INTERPRET=1 python -m tests.ops.block_attn.interpreted GROUP

prints a JSON object: for each case of the group its errors over the errors allowed. In this process the
Triton kernels stand for the compiled ones behind torch's schemas, so that gradients are joined as they are on
a GPU. What the interpreter shows and what not: see `tests.ops.local_attn.triton.interpreted`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sasa.ops.block_attn import schema
from sasa.ops.block_attn.backends import triton
from sasa.ops.block_attn.backends.triton import launch, op

from ..local_attn.triton.interpreted import correct_products, patch_once
from . import test_block_attention as tests
from .cases import Case, judge

OPS = {
    "block_attention": op.forward,
    "block_attention_statistics": op.statistics,
    "block_attention_backward": op.backward,
}
CASES: dict[str, dict[str, Any]] = {
    "stem, bfloat16": {"size": (3, 5), "heads": 1, "head_dim": 16, "dtype": torch.bfloat16},
    "small stem on gray, float16": {"size": (4, 5), "batch": 1, "channels": 1, "dtype": torch.float16},
    "single pixels": {"size": (2, 2), "batch": 1, "block_size": 1, "channels": 2, "layout": "transposed"},
    "three heads, wide": {"size": (3, 2), "batch": 1, "block_size": 2, "heads": 3, "head_dim": 20},
    "large blocks": {"size": (5, 3), "block_size": 5, "batch": 1, "channels": 4, "heads": 1, "head_dim": 5},
    "out of a larger image": {"size": (3, 2), "block_size": 2, "heads": 1, "head_dim": 3, "layout": "sliced"},
    "one column": {
        "size": (3, 4),
        "batch": 1,
        "block_size": 3,
        "heads": 1,
        "layout": "expanded",
        "magnitude": 3.0,
    },
}


def install() -> None:
    """Put the kernels in the place of the compiled ones, and let the backend take tensors on a CPU."""
    correct_products()
    patch_once()
    library = torch.library.Library("sasa", "IMPL")
    for name, kernel in OPS.items():
        library.impl(name, kernel, "CPU", allow_override=True)
    reasons = triton.why_not
    triton.why_not = lambda *x: [reason for reason in reasons(*x) if "the tensors are on cpu" not in reason]
    install.library = library  # type: ignore[attr-defined]  # it ends with its object


def cases() -> Iterator[tuple[str, float]]:
    """Single options; a program has one block."""
    for number, (name, change) in enumerate(CASES.items()):
        yield from judged(name, Case(**change, seed=number))


def programs() -> Iterator[tuple[str, float]]:
    """Several blocks a program, the last with fewer, and sums over several programs."""
    launch.FORWARD_PROGRAMS, launch.BACKWARD_PROGRAMS = 2, 2
    yield from judged(
        "five blocks", Case(size=(2, 9), batch=1, block_size=2, heads=1, layout="channels_last", seed=1)
    )
    yield from judged(
        "three blocks, of two images", Case(size=(2, 3), batch=3, block_size=2, heads=1, channels=1, seed=4)
    )
    launch.BLOCKS = 2
    yield from judged("two blocks at most", Case(size=(5, 2), batch=1, block_size=2, heads=1, seed=2))
    tests.check_variance_of_outputs_far_from_zero("triton", 1e3, (1, 2, 8, 12))
    yield "variance of outputs far from zero", 0.0


def judged(name: str, case: Case) -> Iterator[tuple[str, float]]:
    for result, error in judge(case, "triton").items():
        yield f"{name}, {result}", error


def checks() -> Iterator[tuple[str, float]]:
    """Tests of every backend, the kernels' promises, and what is not a number."""
    launch.FORWARD_PROGRAMS, launch.BACKWARD_PROGRAMS = 2, 2
    small = Case(size=(5, 1), heads=1, head_dim=2, seed=3)
    tests.check_equal_maxima_give_the_gradient_to_the_first("triton", torch.float32)
    yield "equal maxima", 0.0
    for value, place in ((np.nan, (0, 0)), (np.inf, (4, 0))):
        for dtype in (torch.float32, torch.bfloat16):
            tests.check_not_a_number_passes("triton", replace(small, dtype=dtype), value, place)
            yield f"{value} at {place}, {dtype}", 0.0
    tests.check_one_row_of_weights("triton", Case(size=(4, 4), batch=1, head_dim=2), 7)
    yield "one row of weights", 0.0
    tests.test_no_images("triton")
    _, mean, var = torch.ops.sasa.block_attention_statistics(
        *(a.contiguous() for a in Case(size=(4, 4), batch=0).arguments()), 4, False
    )
    assert torch.cat((mean, var)).isnan().all()
    yield "no images", 0.0
    for channels_last in (False, True):
        promised(channels_last)
        yield f"promised, channels_last={channels_last}", 0.0


def promised(channels_last: bool) -> None:
    """Results have the shapes, strides and dtypes of the fake kernels, and the same bits twice."""
    case = Case(size=(3, 2), block_size=2, channels=2, heads=1, dtype=torch.bfloat16)
    args = (*(a.contiguous() for a in case.arguments()), 2)
    out = op.forward(*args, False, channels_last)
    pooled, mean, var = op.statistics(*args, channels_last)
    back: list[tuple[Any, ...]] = [
        (out, None, None, None, *args, False),
        (pooled, var, None, mean, *args, True),
    ]

    def run(forward: Any, statistics: Any, backward: Any) -> list[Tensor]:
        return [
            *(forward(*args, pool, channels_last) for pool in (False, True)),
            *statistics(*args, channels_last),
            *(g for b in back for g in backward(*b)),
        ]

    results = run(op.forward, op.statistics, op.backward)
    fakes = run(schema._fake, schema._fake_statistics, schema._fake_backward)
    for got, want in zip(results, fakes, strict=True):
        assert (got.shape, got.stride(), got.dtype) == (want.shape, want.stride(), want.dtype)
    again = run(op.forward, op.statistics, op.backward)
    assert all(torch.equal(x, y) for x, y in zip(results, again, strict=True))


GROUPS: dict[str, Callable[[], Iterator[tuple[str, float]]]] = {
    "cases": cases,
    "programs": programs,
    "checks": checks,
}


if __name__ == "__main__":
    install()
    torch.use_deterministic_algorithms(True)  # new memory is NaN, so that what is not written shows
    print(json.dumps(dict(GROUPS[sys.argv[1]]())))
