"""Random cases of local attention, and the judge that compares an implementation with the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sasa

from ..layouts import LAYOUTS, arrange
from . import oracle

# The error allowed, in units of eps of the arithmetic times a bound on what is rounded (`_units`).
# Measured with plain PyTorch in 5,000 cases: at most 1.09 for outputs and 0.33 for gradients.
OUTPUT_FACTOR = 4.0
GRADIENT_FACTOR = 1.0

Args = tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]
Op = Callable[..., Tensor]

# The multiply-adds of a larger case are between these.
LARGE_WORK = (1e6, 40e6)

# The arithmetic error allowed in a larger case, in units of plain PyTorch's. Measured with the "cpu" backend
# in 150 cases: at most 5.7, which includes the rounding of the result.
LARGE_FACTOR = 16.0

NAMES = ("q", "k", "v", "rel_row", "rel_col")


@dataclass(frozen=True)
class Case:
    """One call of local attention; everything follows from the seed."""

    seed: int
    batch: int
    heads: int
    head_dim: int
    value_head_dim: int
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
        head_dim = rng.choice([1, 2, 3, 4, 6, 8])
        options = ["k", "rel_row", "rel_col"] if head_dim % 2 == 0 else ["k"]
        given = tuple(name for name in options if rng.random() < 0.7) or (rng.choice(options),)
        dtype = rng.choice([torch.float64, torch.float32, torch.float16, torch.bfloat16])
        rel_dtype = rng.choice([dtype, dtype, torch.float32])  # as under autocast
        return Case(
            seed=seed,
            batch=rng.choice([0, 1, 1, 1, 2, 2, 3]),
            heads=rng.randint(1, 4),
            head_dim=head_dim,
            value_head_dim=rng.choice([1, 2, 3, 4, 5, 8]),
            size=(_length(rng), _length(rng)),
            kernel=(rng.choice([1, 3, 5, 7, 9]), rng.choice([1, 3, 5, 7, 9])),
            dilation=(rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2, 3])),
            scale=rng.choice([1.0, 1.0, head_dim**-0.5, 0.3, -0.5, 0.0]),
            pool=rng.choice([1, 2]),
            given=given,
            dtype=dtype,
            rel_dtype=rel_dtype,
            layouts=(rng.choice(LAYOUTS), rng.choice(LAYOUTS), rng.choice(LAYOUTS)),
            magnitude=rng.choice([0.3, 1.0, 1.0, 3.0]),
            relu=rng.choice([False, False, True]),
        )

    @staticmethod
    def draw_large(seed: int) -> Case:
        """The larger case of this seed: several vectors a row, strips and threads a map, groups of heads.

        Head widths and windows are those of networks, so that a fused backend's special cases are met.
        """
        rng = random.Random(seed)
        while True:
            head_dim = rng.choice([6, 8, 16, 16, 24, 32, 64])
            extent = rng.choice([3, 5, 7, 7, 9, 11])
            given = rng.choice([("k", "rel_row", "rel_col")] * 2 + [("k",), ("rel_row", "rel_col")])
            dtype = rng.choice([torch.float64, torch.float32, torch.float32, torch.bfloat16])
            dilation = rng.choice([1, 1, 1, 2])
            mixed = (rng.choice(LAYOUTS), rng.choice(LAYOUTS), rng.choice(LAYOUTS))
            layouts = rng.choice([mixed, mixed, ("contiguous",) * 3, ("channels_last",) * 3])
            case = Case(
                seed=seed,
                batch=rng.randint(1, 3),
                heads=rng.randint(1, 8),
                head_dim=head_dim,
                value_head_dim=rng.choice([3, 7, 8, 12, 16, 16, 24, 32, 40, 64]),
                size=(rng.randint(5, 24), rng.randint(9, 70)),
                kernel=rng.choice([(extent, extent)] * 3 + [(extent, 15)]),
                dilation=rng.choice([(dilation, dilation)] * 3 + [(dilation, 3)]),
                scale=rng.choice([1.0, head_dim**-0.5, head_dim**-0.5, -0.3]),
                pool=rng.choice([1, 1, 2]),
                given=given,
                dtype=dtype,
                rel_dtype=rng.choice([dtype, torch.float32]),
                layouts=layouts,
                magnitude=rng.choice([0.3, 1.0, 1.0]),
                relu=rng.choice([False, False, True]),
            )
            if LARGE_WORK[0] <= case.work <= LARGE_WORK[1]:
                return case

    @property
    def work(self) -> int:
        """Multiply-adds of q·k and of the weighted sum, as if every window were inside the map."""
        queries = self.batch * self.heads * self.size[0] * self.size[1]
        return queries * self.kernel[0] * self.kernel[1] * (self.head_dim + self.value_head_dim)

    def tensors(self, device: str = "cpu") -> Args:
        """q, k, v, rel_row, rel_col."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(dtype: torch.dtype, *shape: int) -> Tensor:
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * self.magnitude
            return x.to(device, dtype)

        channels, values = self.heads * self.head_dim, self.heads * self.value_head_dim
        q, k, v = (
            arrange(draw(self.dtype, self.batch, c, *self.size), layout)
            for c, layout in zip((channels, channels, values), self.layouts, strict=True)
        )
        half = self.head_dim // 2
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


def judge(
    op: Op, case: Case, *, device: str = "cpu", gradients: bool = False, large: bool = False
) -> dict[str, float]:
    """Each result's largest error over the error allowed: above 1, or not a number, is wrong.

    `op` takes what `sasa.local_attention` takes. What is right follows from the same rounded inputs in
    float64, so an error is one of arithmetic, with accumulation in at least float32 as promised, and of
    rounding the result to its dtype: eps/2 of the largest value expected. No tolerance is relative to the
    single element. An output within that error of a ReLU's kink may lie on either side of it, so no gradient
    is sent through it. A large case is judged by the reference backend, any other by the oracle.
    """
    args = case.tensors(device)
    if gradients:
        args = tuple(x if x is None else x.detach().requires_grad_() for x in args)
    out = op(*args, **case.options())
    want = _expected_large(case) if large else _expected(case, gradients)
    assert out.dtype == case.dtype
    got: dict[str, Tensor | None] = {"out": out}
    if gradients:
        got |= _gradients(out, args, want.upstream.to(out))
    return {name: _error(x, want.results[name], want.arithmetic[name]) for name, x in got.items()}


@dataclass(frozen=True)
class Expected:
    """What is right in a case, "out", "dq" and so on, and the error that arithmetic may add to each."""

    results: dict[str, np.ndarray]
    arithmetic: dict[str, float]
    upstream: Tensor


@lru_cache(maxsize=128)
def _expected(case: Case, gradients: bool) -> Expected:
    """By the oracle; once for all that are judged by the case."""
    arrays = [None if x is None else to_array(x) for x in case.tensors()]
    out = oracle.forward(*arrays, case.window)
    results, arithmetic = {"out": out}, {}
    unit, gradient_unit = _units(case, *arrays)
    arithmetic["out"] = OUTPUT_FACTOR * unit
    linear = oracle.forward(*arrays, case.window._replace(relu=False)) if case.relu else out
    upstream = _upstream(case, linear, arithmetic["out"])
    if gradients:
        exact = oracle.backward(to_array(upstream), *arrays, case.window)
        for name, gradient in zip(NAMES, exact, strict=True):
            if gradient is not None:
                results[f"d{name}"] = gradient
                arithmetic[f"d{name}"] = GRADIENT_FACTOR * gradient_unit
    return Expected(results, arithmetic, upstream)


@lru_cache(maxsize=4)
def _expected_large(case: Case) -> Expected:
    """By the reference in float64, which the oracle covers; arithmetic's share by the reference in float32.

    The latter's error, in units of eps, is measured in float32 whatever the case's dtype. The ReLU is left to
    the upstream gradient, so that both are on one side of the kink.
    """
    options = case.options() | {"relu": False, "backend": "reference"}
    given = case.tensors()
    rounded = tuple(x if x is None else x.float() for x in given)

    def run(args: Args, dtype: torch.dtype) -> tuple[Args, Tensor]:
        leaves = tuple(x if x is None else x.to(dtype).detach().requires_grad_() for x in args)
        return leaves, sasa.local_attention(*leaves, **options)

    def results(leaves: Args, out: Tensor) -> dict[str, np.ndarray]:
        found = {"out": out} | _gradients(out, leaves, passed.to(out))
        return {name: to_array(x) for name, x in found.items() if x is not None}

    exact, single = run(given, torch.float64), run(rounded, torch.float32)
    exact_of_rounded = run(rounded, torch.float64) if case.dtype == torch.float64 else exact
    units = LARGE_FACTOR * eps_of_arithmetic(case) / torch.finfo(torch.float32).eps
    linear = exact[1].detach()
    upstream = _upstream(case, to_array(linear), units * (single[1] - exact_of_rounded[1]).abs().max().item())
    passed = upstream * (linear > 0) if case.relu else upstream

    wanted, got = results(*exact), results(*single)
    right = wanted if exact_of_rounded is exact else results(*exact_of_rounded)
    arithmetic = {name: units * float(np.abs(x - right[name]).max()) for name, x in got.items()}
    if case.relu:
        wanted["out"] = np.maximum(0, wanted["out"])
    return Expected(wanted, arithmetic, upstream)


def _gradients(out: Tensor, args: Args, upstream: Tensor) -> dict[str, Tensor | None]:
    """Those of the arguments that are given; None for one that never came."""
    given = {name: x for name, x in zip(NAMES, args, strict=True) if x is not None}
    found = torch.autograd.grad(out, list(given.values()), upstream, allow_unused=True)
    return dict(zip((f"d{name}" for name in given), found, strict=True))


def _upstream(case: Case, linear: np.ndarray, arithmetic: float) -> Tensor:
    """A random gradient of the output; zero where the output before a ReLU is too close to its kink."""
    upstream = torch.randn(linear.shape, generator=torch.Generator().manual_seed(case.seed))
    if case.relu and linear.size:
        far = np.abs(linear) > _allowed(linear, case.dtype, arithmetic)
        upstream = upstream.where(torch.from_numpy(far), 0)
    return upstream.to(case.dtype)


def to_array(x: Tensor) -> np.ndarray:
    """A float64 copy."""
    return x.detach().to("cpu", torch.float64).numpy().copy()


def eps_of_arithmetic(case: Case) -> float:
    """Sums are in at least float32."""
    return torch.finfo(torch.promote_types(case.dtype, torch.float32)).eps


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
    eps = eps_of_arithmetic(case)
    if not q.size:
        return eps, eps
    peak_q, peak_v = np.abs(q).max(), np.abs(v).max()
    peak_r = max(np.abs(x).max() for x in (k, row, col) if x is not None)
    logit = abs(case.scale) * case.head_dim * peak_q * peak_r
    places = min(case.kernel[0], case.size[0]) * min(case.kernel[1], case.size[1])
    slope = abs(case.scale) * case.value_head_dim * peak_v * max(peak_q, peak_r)
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
