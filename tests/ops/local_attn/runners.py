"""The backends that can run on this machine, each with a device and its most precise dtype.

A test that takes the fixture `runner` runs for each of them, so a new backend joins by being in BACKENDS. The
backend "cpu" is there once for each instruction set that this machine has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import sasa
from sasa.ops import support

from ..kernels import DEVICES, capabilities


@dataclass
class Runner:
    """Calls one backend on tensors of one kind."""

    backend: str
    device: str
    dtype: torch.dtype
    generator: torch.Generator = field(default_factory=torch.Generator)
    capability: str = ""  # "": the backend has but one

    def __str__(self) -> str:
        words = (self.backend, self.capability, self.device, str(self.dtype).removeprefix("torch."))
        return "-".join(word for word in words if word)

    def __call__(self, *args: Tensor | None, **options: Any) -> Tensor:
        return sasa.local_attention(*args, **options, backend=self.backend)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers, the same ones in every run of a test."""
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return x.to(self.device, self.dtype)

    def inputs(
        self,
        *size: int,
        batch: int = 2,
        heads: int = 2,
        head_dim: int = 4,
        value_head_dim: int = 3,
        kernel: tuple[int, int] = (3, 3),
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v, rel_row, rel_col for a map of this size."""
        return (
            self.randn(batch, heads * head_dim, *size),
            self.randn(batch, heads * head_dim, *size),
            self.randn(batch, heads * value_head_dim, *size),
            self.randn(heads, kernel[0], head_dim // 2),
            self.randn(heads, kernel[1], head_dim // 2),
        )

    def assert_close(self, got: Tensor, want: Tensor) -> None:
        """Equal to rounding: 16 units of the last place of the largest value, or of one.

        Measured over the tests that use it, the reference in float64: at most 2.5 units.
        """
        peak = max(1.0, want.abs().max().item()) if want.numel() else 1.0
        atol = 16 * torch.finfo(want.dtype).eps * peak
        torch.testing.assert_close(got, want, rtol=0, atol=atol)


def _most_precise() -> list[Runner]:
    runners: list[Runner] = []
    for device in DEVICES:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            x = torch.ones(1, 4, 3, 3, dtype=dtype, device=device)
            rel = torch.ones(1, 3, 2, dtype=dtype, device=device)
            table = support(
                sasa.local_attention, x, x, x, rel, rel, num_heads=1, kernel_size=3, dilation=2, pool=2
            )
            for name, reasons in table.items():
                known = [(runner.backend, runner.device) for runner in runners]
                if not reasons and (name, device) not in known:
                    runners += [Runner(name, device, dtype, capability=c) for c in capabilities(name)]
    return runners


RUNNERS = _most_precise()
