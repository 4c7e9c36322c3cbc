"""Arguments for attention inside blocks, and the error that a result may have."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sasa.ops import block_attention, block_attention_statistics

from ..layouts import arrange
from . import oracle

# Of the units below. Measured over 400 random cases in float32 and float64, the reference and the kernels of
# every capability: at most 0.16 in outputs, maxima, means and variances, 0.008 in gradients.
FACTOR = 0.4
GRADIENT_FACTOR = 0.02


@dataclass(frozen=True)
class Case:
    """One call."""

    size: tuple[int, int] = (9, 14)
    batch: int = 2
    channels: int = 3
    heads: int = 2
    head_dim: int = 4
    block_size: int = 4
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    magnitude: float = 1.0
    seed: int = 0

    @classmethod
    def draw(cls, seed: int) -> Case:
        """Small, often with odd edges; sometimes the shape of a stem, for color or a narrow one for gray."""
        rng = random.Random(seed)
        block_size = rng.choice([1, 2, 3, 4, 4, 4, 5, 7])
        stem, small = rng.random() < 0.4, rng.random() < 0.25
        return cls(
            size=(rng.randint(1, 3 * block_size), rng.randint(1, 3 * block_size)),
            batch=rng.randint(1, 3),
            channels=(1 if small else 3) if stem else rng.randint(1, 5),
            heads=rng.randint(1, 4),
            head_dim=(4 if small else 16) if stem else rng.choice([1, 2, 3, 5, 8, 17, 20]),
            block_size=4 if stem else block_size,
            dtype=rng.choice([torch.float32, torch.float32, torch.bfloat16, torch.float64]),
            layout=rng.choice(["contiguous", "channels_last", "transposed", "sliced", "expanded"]),
            magnitude=rng.choice([0.3, 1.0, 3.0]),
            seed=seed,
        )

    def arguments(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x in the case's dtype and layout; qk_weight, rel_weight and v_weight in that of the arithmetic."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        positions, wide = self.block_size**2, torch.promote_types(self.dtype, torch.float32)
        x = draw(self.dtype, self.batch, self.channels, *self.size) * self.magnitude
        return (
            arrange(x, self.layout),
            draw(wide, self.heads, self.channels, self.channels),
            draw(wide, self.heads, self.channels, positions, positions).mT,  # not contiguous
            draw(wide, positions, self.heads * self.head_dim, self.channels),
        )


def units(
    x: np.ndarray, qk_weight: np.ndarray, rel_weight: np.ndarray, v_weight: np.ndarray, dtype: torch.dtype
) -> tuple[float, float]:
    """What rounding can amount to in the output and in a gradient, to a factor.

    A logit's rounding error is in proportion to the sum of its terms' sizes and is a weight's relative error.
    """
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    peak_x = np.abs(x).sum(1).max()
    logit = peak_x * (peak_x * np.abs(qk_weight).max() + np.abs(rel_weight).max())
    value = peak_x * np.abs(v_weight).max()
    places = x[0, 0].size * len(x)
    return eps * (1 + logit) * value, eps * (1 + logit) * (1 + value) * (1 + peak_x) ** 2 * places


def error(got: Tensor, want: np.ndarray, unit: float) -> float:
    """The largest |got − want| over arithmetic's share and half a unit of got's last place."""
    assert tuple(got.shape) == want.shape
    difference = np.abs(got.detach().double().cpu().numpy() - want).max()
    allowed = unit + torch.finfo(got.dtype).eps / 2 * np.abs(want).max()
    return float(difference / allowed) if np.isfinite(difference) else np.inf


def arrays(args: tuple[Tensor, ...]) -> list[np.ndarray]:
    """Copies in float64."""
    return [x.detach().double().numpy().copy() for x in args]


def judge(case: Case, backend: str, device: str = "cpu") -> dict[str, float]:
    """Each result's largest error over the error allowed: above 1, or not a number, is wrong.

    Outputs are the loops' in float64; gradients those of the reference in float64, which the loops and
    `gradcheck` judge.
    """
    args = case.arguments()
    numbers = arrays(args)
    want = oracle.block_attention(*numbers, case.block_size)
    unit, gradient_unit = (
        factor * u for factor, u in zip((FACTOR, GRADIENT_FACTOR), units(*numbers, case.dtype), strict=True)
    )
    options: dict[str, Any] = {"block_size": case.block_size, "backend": backend}
    x, *rest = case.arguments(device)
    learned = [x, *(x.requires_grad_() for x in rest)]
    exact = [x.detach().double().requires_grad_(i > 0) for i, x in enumerate(args)]

    out = block_attention(*learned, **options)
    pooled = block_attention(*learned, **options, max_pool=True)
    maximum, mean, var = block_attention_statistics(*learned, **options)
    assert out.dtype == pooled.dtype == maximum.dtype == case.dtype
    assert mean.dtype == var.dtype == args[1].dtype
    errors = {
        "out": error(out, want, unit),
        "pooled": error(pooled, oracle.maximum(want, case.block_size), unit),
        "maximum": error(maximum, oracle.maximum(want, case.block_size), unit),
        "mean": error(mean, want.mean((0, 2, 3)), unit),
        "var": error(var, want.var((0, 2, 3)), unit * (1 + np.abs(want).max())),
    }
    generator = torch.Generator().manual_seed(case.seed)

    def upstream(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)  # its dtype and device

    reference: dict[str, Any] = {"block_size": case.block_size, "backend": "reference"}
    for name, got, wanted in (
        ("", (out,), (block_attention(*exact, **reference),)),
        (" of the maximum", (pooled,), (block_attention(*exact, **reference, max_pool=True),)),
        (
            " of the statistics",
            (maximum, mean, var),
            block_attention_statistics(*exact, **reference),
        ),
    ):
        grads = [upstream(x) for x in got]
        mine = torch.autograd.grad(got, learned[1:], grads)
        theirs = torch.autograd.grad(wanted, exact[1:], [g.double().cpu() for g in grads])
        for argument, x, y in zip(("qk_weight", "rel_weight", "v_weight"), mine, theirs, strict=True):
            errors[f"d{argument}{name}"] = error(x, y.numpy(), gradient_unit)
    return errors
