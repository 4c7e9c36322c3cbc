"""Random cases of local attention, and the judge that compares an implementation with the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import oracle

LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed", "expanded")

# The error allowed, in units of eps of the arithmetic times a bound on what is rounded (`_units`).
# Measured with plain PyTorch in 5,000 cases: at most 1.09 for outputs and 0.33 for gradients.
OUTPUT_FACTOR = 4.0
GRADIENT_FACTOR = 1.0

Args = tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]
Op = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One call of local attention; everything follows from the seed."""

    seed: int
    batch: int
    heads: int
    width: int
    value_width: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    scale: float
    pool: int
    given: tuple[str, ...]  # the optional arguments that are given: of k, rel_row, rel_col
    dtype: torch.dtype
    rel_dtype: torch.dtype
    layouts: tuple[str, str, str]  # of q, k, v
    magnitude: float
    relu: bool = False

    @staticmethod
    def draw(seed: int) -> Case:
        """The case of this seed."""
        rng = random.Random(seed)
        width = rng.choice([1, 2, 3, 4, 6, 8])
        options = ["k", "rel_row", "rel_col"] if width % 2 == 0 else ["k"]
        given = tuple(name for name in options if rng.random() < 0.7) or (rng.choice(options),)
        dtype = rng.choice([torch.float64, torch.float32, torch.float16, torch.bfloat16])
        rel_dtype = rng.choice([dtype, dtype, torch.float32])  # as under autocast
        return Case(
            seed=seed,
            batch=rng.choice([0, 1, 1, 1, 2, 2, 3]),
            heads=rng.randint(1, 4),
            width=width,
            value_width=rng.choice([1, 2, 3, 4, 5, 8]),
            size=(_length(rng), _length(rng)),
            kernel=(rng.choice([1, 3, 5, 7, 9]), rng.choice([1, 3, 5, 7, 9])),
            dilation=(rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2, 3])),
            scale=rng.choice([1.0, 1.0, width**-0.5, 0.3, -0.5, 0.0]),
            pool=rng.choice([1, 2]),
            given=given,
            dtype=dtype,
            rel_dtype=rel_dtype,
            layouts=(rng.choice(LAYOUTS), rng.choice(LAYOUTS), rng.choice(LAYOUTS)),
            magnitude=rng.choice([0.3, 1.0, 1.0, 3.0]),
            relu=rng.choice([False, False, True]),
        )

    def tensors(self, device: str = "cpu") -> Args:
        """q, k, v, rel_row, rel_col."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(dtype: torch.dtype, *shape: int) -> Tensor:
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * self.magnitude
            return x.to(device, dtype)

        channels, values = self.heads * self.width, self.heads * self.value_width
        q, k, v = (
            arrange(draw(self.dtype, self.batch, c, *self.size), layout)
            for c, layout in zip((channels, channels, values), self.layouts, strict=True)
        )
        half = self.width // 2
        # The row embeddings are not contiguous, the column embeddings are.
        row = draw(self.rel_dtype, self.heads, half, self.kernel[0]).mT
        col = draw(self.rel_dtype, self.heads, self.kernel[1], half)
        return (
            q,
            k if "k" in self.given else None,
            v,
            row if "rel_row" in self.given else None,
            col if "rel_col" in self.given else None,
        )

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return {
            "num_heads": self.heads,
            "kernel_size": self.kernel,
            "dilation": self.dilation,
            "scale": self.scale,
            "pool": self.pool,
            "relu": self.relu,
        }

    @property
    def window(self) -> oracle.Window:
        return oracle.Window(self.heads, self.kernel, self.dilation, self.scale, self.pool, self.relu)


def _length(rng: random.Random) -> int:
    """A side of the map: 1 to 12, small ones more often."""
    return min(rng.randint(1, 12), rng.randint(1, 12))


def arrange(x: Tensor, layout: str) -> Tensor:
    """A tensor in the layout; "expanded" repeats x's first column, all others hold x's values."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.mT.contiguous().mT
    if layout == "sliced":  # out of a larger tensor whose other elements are NaN
        batch, channels, height, width = x.shape
        shape = (batch + 1, channels + 2, 2 * height + 1, width + 3)
        larger = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)
        view = larger[1:, 1:-1, 1::2, 2:-1]
        view.copy_(x)
        return view
    if layout == "expanded":
        return x[..., :1].expand_as(x)
    return x.contiguous()


def judge(op: Op, case: Case, *, device: str = "cpu", gradients: bool = False) -> dict[str, float]:
    """Each result's largest error over the error allowed: above 1, or not a number, is wrong.

    `op` takes what `sasa.local_attention` takes. The oracle sees the same rounded inputs in float64, so an
    error is one of arithmetic, with accumulation in at least float32 as promised, and of rounding the result
    to its dtype: eps/2 of the largest value expected. No tolerance is relative to the single element. An
    output within that error of a ReLU's kink may lie on either side of it, so no gradient is sent through it.
    """
    args = case.tensors(device)
    if gradients:
        args = tuple(x if x is None else x.detach().requires_grad_() for x in args)
    out = op(*args, **case.options())
    arrays = [None if x is None else to_array(x) for x in args]
    want = oracle.forward(*arrays, case.window)
    assert tuple(out.shape) == want.shape
    assert out.dtype == case.dtype

    unit, gradient_unit = _units(case, *arrays)
    errors = {"out": _error(out, want, OUTPUT_FACTOR * unit)}
    if gradients:
        upstream = torch.randn(want.shape, generator=torch.Generator().manual_seed(case.seed))
        if case.relu and want.size:
            linear = torch.from_numpy(oracle.forward(*arrays, case.window._replace(relu=False)))
            slack = _allowed(linear.numpy(), case.dtype, OUTPUT_FACTOR * unit)
            upstream = upstream.where(linear.abs() > slack, 0)
        upstream = upstream.to(out)
        given = [x for x in args if x is not None]
        got = iter(torch.autograd.grad(out, given, upstream, allow_unused=True))
        wanted = oracle.backward(to_array(upstream), *arrays, case.window)
        for name, x, gradient in zip(("q", "k", "v", "rel_row", "rel_col"), args, wanted, strict=True):
            if x is not None:
                errors[f"d{name}"] = _error(next(got), gradient, GRADIENT_FACTOR * gradient_unit)
    return errors


def to_array(x: Tensor) -> np.ndarray:
    """A float64 copy."""
    return x.detach().to("cpu", torch.float64).numpy().copy()


def _units(
    case: Case,
    q: np.ndarray,
    k: np.ndarray | None,
    v: np.ndarray,
    row: np.ndarray | None,
    col: np.ndarray | None,
) -> tuple[float, float]:
    """What the rounding of the arithmetic can amount to in the output and in a gradient, to a factor.

    A logit's rounding error is in proportion to |q||k| + |q||r|, and is what a weight's relative error is.
    """
    arithmetic = torch.float64 if case.dtype == torch.float64 else torch.float32
    eps = torch.finfo(arithmetic).eps
    if not q.size:
        return eps, eps
    peak_q, peak_v = np.abs(q).max(), np.abs(v).max()
    peak_r = max(np.abs(x).max() for x in (k, row, col) if x is not None)
    logit = abs(case.scale) * case.width * peak_q * peak_r
    places = min(case.kernel[0], case.size[0]) * min(case.kernel[1], case.size[1])
    slope = abs(case.scale) * case.value_width * peak_v * max(peak_q, peak_r)
    return eps * (1 + logit) * peak_v, eps * (1 + logit) * (1 + slope) * places


def _error(got: Tensor | None, want: np.ndarray, arithmetic: float) -> float:
    """The largest |got − want| over arithmetic's share and half a unit of got's last place."""
    if got is None:  # a gradient that never came
        return np.inf
    assert tuple(got.shape) == want.shape
    if not want.size:
        return 0.0
    error = np.abs(to_array(got) - want).max()
    return float(error / _allowed(want, got.dtype, arithmetic)) if np.isfinite(error) else np.inf


def _allowed(want: np.ndarray, dtype: torch.dtype, arithmetic: float) -> float:
    """Arithmetic's share and the rounding of the largest value to the dtype."""
    return float(arithmetic + torch.finfo(dtype).eps / 2 * np.abs(want).max())
