"""The backend that exports use, which is off otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sasa
from sasa.ops.standard_operations import standard_operations

from .cases import Case, judge


@pytest.mark.parametrize("seed", range(200))
def test_case(seed: int) -> None:
    case = Case.draw(seed)
    with standard_operations():
        errors = judge(sasa.local_attention, case, device="cpu", gradients=False)
    wrong = {name: error for name, error in errors.items() if not error <= 1}
    assert not wrong, f"error / allowed error = {wrong} in {case}"


@pytest.mark.parametrize("seed", range(40))
def test_larger_case(seed: int) -> None:
    case = Case.draw_large(seed)
    op = sasa.local_attention
    with standard_operations():
        errors = judge(op, case, device="cpu", gradients=False, large=True)
    wrong = {name: error for name, error in errors.items() if not error <= 1}
    assert not wrong, f"error / allowed error = {wrong} in {case}"


def test_it_is_off_outside_of_exports() -> None:
    """A NaN would reach pixels whose windows do not contain it."""
    q = torch.ones(1, 2, 4, 4)
    v = q.clone()
    v[..., 0, 0] = torch.nan
    finite = [sasa.local_attention(q, q, v, num_heads=1, kernel_size=3)[0, 0].isfinite().sum()]
    with standard_operations():
        finite += [sasa.local_attention(q, q, v, num_heads=1, kernel_size=3)[0, 0].isfinite().sum()]
    assert finite == [12, 0]


class _Attention(nn.Module):
    def __init__(self, pool: int) -> None:
        super().__init__()
        self.rel_row, self.rel_col = nn.Parameter(torch.randn(2, 5, 2)), nn.Parameter(torch.randn(2, 3, 2))
        self.pool = pool

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        options = {"num_heads": 2, "kernel_size": (5, 3), "pool": self.pool}
        return sasa.local_attention(q, k, v, self.rel_row, self.rel_col, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", [1, 2])
def test_it_is_exported_for_any_batch_and_size(pool: int) -> None:
    module = _Attention(pool)
    dims = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    args = tuple(torch.randn(3, 2, 8, 10, 9))
    with standard_operations():
        program = torch.export.export(module, args, dynamic_shapes=(dims, dims, dims))
    assert not [node for node in program.graph.nodes if "sasa" in str(node.target)]
    for size in ((1, 8, 5, 5), (2, 8, 7, 17), (5, 8, 16, 6)):
        maps = torch.randn(3, *size)
        torch.testing.assert_close(program.module()(*maps), module(*maps), rtol=0, atol=1e-5)
