"""The Triton backend on CPU tensors, through Triton's interpreter: a program for `test_interpreted.py`.

    TRITON_INTERPRET=1 python -m tests.ops.local_attn.triton.interpreted GROUP

prints a JSON object: for each case of the group its errors over the errors allowed. The interpreter computes
what the kernels say, in NumPy; it says nothing of the compiler. exp2 and log2 are NumPy's, more precise than
a GPU's. Products on tensor cores are float32's, but for tf32's operands, which `correct_products` cuts off.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton._C.libtriton.ir import INPUT_PRECISION
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, interpreter_builder

from sasa.ops.local_attn import schema
from sasa.ops.local_attn.backends.triton import launch, op, tiles, tuning
from sasa.ops.local_attn.backends.triton.choices import CHOICES, Choice
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.spec import LocalAttentionSpec
from sasa.ops.memory_format import is_channels_last

from .. import test_nonfinite, test_registration
from ..cases import Case, judge
from ..runners import Runner
from .nonfinite import CHECKS
from .shapes import DOT_SHAPES, PLAIN, SHAPES


def correct_products() -> None:
    """Let the interpreter round to bfloat16, where it cuts off, and multiply it, not its bits.

    Operands of a tf32 product lose the 13 bits that a GPU does not read. "bf16x3", which the interpreter does
    not know, is three products of their high and low halves but the one of both low halves.
    """
    create_dot, cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl

    def rounded(self: Any, x: Any, dtype: Any) -> Any:
        if (x.dtype.scalar, dtype.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, x, dtype)
        bits = torch.from_numpy(x.data.copy()).bfloat16().view(torch.uint16)
        return TensorHandle(bits.numpy(), tl.bfloat16)

    def as_multiplied(self: Any, x: Any, precision: Any) -> Any:
        if x.dtype.scalar == tl.bfloat16:
            return self.create_fp_ext(x, tl.float32)
        if x.dtype.scalar == tl.float32 and precision == INPUT_PRECISION.TF32:
            bits = x.data.view(np.uint32) & np.uint32(0xFFFFE000)
            return TensorHandle(bits.view(np.float32), tl.float32)
        return x

    def split(x: Any) -> tuple[Any, Any]:
        high = torch.from_numpy(x.data).bfloat16().float()
        low = (torch.from_numpy(x.data) - high).bfloat16().float()
        return TensorHandle(high.numpy(), tl.float32), TensorHandle(low.numpy(), tl.float32)

    def dot(self: Any, a: Any, b: Any, total: Any, precision: Any, *rest: Any) -> Any:
        if precision == INPUT_PRECISION.BF16x3:
            (a, low_a), (b, low_b) = split(a), split(b)
            for x, y in ((low_a, b), (a, low_b)):
                total = create_dot(self, x, y, total, precision, *rest)
            total = TensorHandle(np.nan_to_num(total.data, nan=0.0, posinf=None, neginf=None), tl.float32)
        a, b = (as_multiplied(self, x, precision) for x in (a, b))
        return create_dot(self, a, b, total, precision, *rest)

    options = interpreter_builder.options
    allowed = (*options.allowed_dot_input_precisions, "bf16x3")
    interpreter_builder.options = replace(options, allowed_dot_input_precisions=allowed)
    InterpreterBuilder.create_dot = dot
    InterpreterBuilder.cast_impl = rounded


def patch_once() -> None:
    """Let the interpreter patch Triton's language for each function once and for good.

    It would do so at every call of a function, by a search through the whole language: a third of its time.
    """
    patch = interpreter._patch_lang

    @functools.cache
    def once(function: Callable[..., Any]) -> Any:
        patch(function)
        return interpreter._LangPatchScope()  # of nothing that is restored

    interpreter._patch_lang = once


class _Attention(torch.autograd.Function):
    """The kernels as the schema joins them: forward, then backward from the log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        spec: LocalAttentionSpec,
    ) -> Tensor:
        ctx.window = spec.arguments
        ctx.last = is_channels_last(q)
        save = any(ctx.needs_input_grad)
        out, lse = op.forward(q, k, v, rel_row, rel_col, *ctx.window, spec.relu, ctx.last, save)
        ctx.save_for_backward(q, k, v, rel_row, rel_col, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *given, lse = ctx.saved_tensors
        found = op.backward(grads[0], *given, lse, *ctx.window, ctx.last)
        return (*(None if x is None else g for g, x in zip(found, given, strict=True)), None)


def attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """`sasa.local_attention` of valid arguments, as api, backend and schema call the kernels."""
    defaults: dict[str, Any] = {"dilation": 1, "scale": 1.0, "pool": 1}
    spec = LocalAttentionSpec.validated(**(defaults | options))
    rel_row, rel_col = (None if x is None else x.float().contiguous() for x in (rel_row, rel_col))
    after = spec.relu and any(x is not None and x.requires_grad for x in (q, k, v, rel_row, rel_col))
    out = _Attention.apply(q, k, v, rel_row, rel_col, replace(spec, relu=spec.relu and not after))
    out = out.relu() if after else out
    return out.contiguous(
        memory_format=torch.channels_last if is_channels_last(q) else torch.contiguous_format
    )


class Interpreted(Runner):
    """So that tests written for every backend run with this one."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__("triton", "cpu", dtype, torch.Generator().manual_seed(0))

    def __call__(self, *args: Tensor | None, **options: Any) -> Tensor:
        return attention(*args, **options)

    def assert_close(self, got: Tensor, want: Tensor) -> None:
        """Where products are tf32, to two units of its last place; measured is 0.56."""
        if not (op.tf32() and self.dtype == torch.float32):
            return super().assert_close(got, want)
        peak = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=0, atol=2 * 2**-10 * peak)


def sweep(seeds: range) -> Iterator[tuple[str, float]]:
    """The first random cases of `test_sweep.py`, in float32 where they are in float64."""
    for seed in seeds:
        case = Case.draw(seed)
        if torch.float64 in (case.dtype, case.rel_dtype):
            case = replace(case, dtype=torch.float32, rel_dtype=torch.float32)
        yield from judged(f"seed {seed}", case)


def shapes() -> Iterator[tuple[str, float]]:
    """Single options, and sums over several programs' parts with fewer programs than tiles."""
    for name, change in SHAPES.items():
        yield from judged(name, replace(PLAIN, **change))
    launch.PROGRAMS = 2
    yield from judged("a program for several tiles", replace(PLAIN, size=(3, 9), batch=3))


def judged(name: str, case: Case) -> Iterator[tuple[str, float]]:
    """Its errors, forward and backward; with a ReLU forward alone too, where it is inside the kernel."""
    if case.relu:
        yield f"{name}, inference", judge(attention, case)["out"]
    for result, error in judge(attention, case, gradients=True).items():
        yield f"{name}, {result}", error


def nonfinite(dtype: torch.dtype = torch.float32, *names: str) -> Iterator[tuple[str, float]]:
    """What is outside is never read, and a NaN reaches only whom it must; with names those checks alone."""
    for name in names or CHECKS:
        CHECKS[name](Interpreted(dtype))  # raises
        yield name, 0.0


def promised() -> Iterator[tuple[str, float]]:
    """Results have the shapes, strides and dtypes of the fake kernels."""
    for name, (shape, values, heads, options) in test_registration.CASES.items():
        if options.get("dtype") == torch.float64:
            options = options | {"dtype": torch.float16}
        arguments = test_registration.arguments(shape, values, heads, **options, gradients=False)
        arguments = (*arguments[:-1], True)
        out, lse = op.forward(*arguments)
        backward = (torch.ones_like(out), *arguments[:5], lse, *arguments[5:12], arguments[13])
        pairs = [
            *zip((out, lse), schema._fake(*arguments), strict=True),
            *zip(op.backward(*backward), schema._fake_backward(*backward), strict=True),
        ]
        for got, want in pairs:
            assert (got.shape, got.stride(), got.dtype) == (want.shape, want.stride(), want.dtype), name
        yield name, 0.0


def dot() -> Iterator[tuple[str, float]]:
    """The form with products on tensor cores, wherever it can run and not only where it pays."""
    tiles.dot_pays = lambda *_, **__: True
    for name, change in DOT_SHAPES.items():
        changes: dict[str, Any] = {"dtype": torch.bfloat16, "batch": 1} | change
        yield from judged(name, replace(PLAIN, **changes))
    for seed in (1, 5, 12):
        case = Case.draw(seed)
        dtype = torch.float16 if seed == 12 else torch.bfloat16
        rel_dtype = torch.float32 if case.rel_dtype == torch.float64 else case.rel_dtype
        scale = abs(case.scale) or 0.3
        case = replace(case, dtype=dtype, rel_dtype=rel_dtype, dilation=(1, 1), scale=scale)
        yield from judged(f"seed {seed}", case)


def tf32() -> Iterator[tuple[str, float]]:
    """float32 maps on tensor cores, where products have 10 bits of float32's 23.

    In units of the error allowed in float32 those of outputs are 6 to 21, of gradients 0.03 to 1.2.
    """
    tiles.dot_pays = lambda *_, **__: True
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    for name, change in DOT_SHAPES.items():
        case = replace(PLAIN, **{"batch": 1} | change | {"dtype": torch.float32})
        errors = dict(judged(name, case))
        assert max(errors.values()) > 1, f"{name} is as precise as float32"
        for result, error in errors.items():
            yield result, error / (3.0 if ", d" in result else 40.0)
    # Half precision has the same masks; these are each kernel's own.
    yield from dot_nonfinite(torch.float32, "large logits", "v", "q", "gradient")


def dot_nonfinite(dtype: torch.dtype = torch.bfloat16, *names: str) -> Iterator[tuple[str, float]]:
    """As the other form, without dilation."""
    tiles.dot_pays = lambda *_, **__: True
    test_nonfinite.DILATION = (1, 1)
    test_nonfinite.WINDOW["dilation"] = (1, 1)
    yield from nonfinite(dtype, *names)


def tuned() -> Iterator[tuple[str, float]]:
    """What is measured to be fastest is used, and computes what it should with its own tile."""
    used: set[Choice] = set()
    run = launch.Launch.__call__

    def form(one: Any) -> Choice:
        return Choice("dot" in one.kernel.fn.__name__, one.warps)

    def recorded(self: launch.Launch) -> None:
        used.add(form(self))
        run(self)

    launch.Launch.__call__ = recorded
    case = replace(PLAIN, size=(5, 9), head_dim=16, value_head_dim=16, dtype=torch.bfloat16, batch=1)
    inputs = LocalAttentionInputs.validated(*case.tensors(), **case.options())
    for wanted in (Choice(False, 8), Choice(True, 2)):
        found, _ = tuning._measure(inputs, lambda one, wanted=wanted: float(form(one) != wanted))
        CHOICES.clear()
        CHOICES.update(found)
        used.clear()
        yield from judged(f"{wanted}", case)
        assert used == {wanted}, "other forms were launched than those measured"


GROUPS: dict[str, Callable[[], Iterator[tuple[str, float]]]] = {
    "sweep": lambda: sweep(range(8)),
    "shapes": shapes,
    "nonfinite": nonfinite,
    "promised": promised,
    "dot": dot,
    "dot_nonfinite": dot_nonfinite,
    "tf32": tf32,
    "tuned": tuned,
}


if __name__ == "__main__":
    correct_products()
    patch_once()
    torch.use_deterministic_algorithms(True)  # new memory is NaN, so that what is not written shows
    print(json.dumps(dict(GROUPS[sys.argv[1]]())))
