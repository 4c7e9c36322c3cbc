"""torch.compile, torch.export and shapes without numbers."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sasa import local_attention

from .runners import Runner

OPTIONS: dict[str, Any] = {"num_heads": 2, "kernel_size": 3, "scale": 0.7, "pool": 2}

# Inductor's CPU code goes through a C++ compiler.
COMPILERS = ["aot_eager"] + ["inductor"] * any(map(shutil.which, ("c++", "g++", "clang++")))


class Attention(nn.Module):
    """The op as a module, with the embeddings as its parameters."""

    def __init__(self, rel_row: Tensor, rel_col: Tensor, pool: int = 2) -> None:
        super().__init__()
        self.options = OPTIONS | {"pool": pool}
        self.rel_row, self.rel_col = nn.Parameter(rel_row), nn.Parameter(rel_col)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return local_attention(q, k, v, self.rel_row, self.rel_col, **self.options)


def inputs(*size: int, batch: int = 2) -> tuple[Tensor, ...]:
    """q, k, v, rel_row, rel_col in float32."""
    generator = torch.Generator().manual_seed(0)
    return Runner("auto", "cpu", torch.float32, generator).inputs(*size, batch=batch)


def results(function: Any, args: tuple[Tensor, ...]) -> list[Tensor]:
    """The output and every gradient."""
    leaves = [x.detach().requires_grad_() for x in args]
    out = function(*leaves, **OPTIONS)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    """Equal to rounding in float32, which a compiler may reorder. Measured: 2.3e-7."""
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=2e-6)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiled_in_one_graph_and_once(compiler: str) -> None:
    """An odd side, as a partial block's gradient is what a compiler got wrong."""
    torch.compiler.reset()
    compiled = torch.compile(local_attention, fullgraph=True, backend=compiler)
    args = inputs(5, 4)
    assert_close(results(compiled, args), results(local_attention, args))
    with torch.compiler.set_stance("fail_on_recompile"):
        other = tuple(x.flip(0) for x in args)
        assert_close(results(compiled, other), results(local_attention, other))
    torch.compiler.reset()


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiled_for_any_size_and_scale(compiler: str) -> None:
    """What differs between two calls becomes symbolic, the scale too."""
    torch.compiler.reset()
    compiled = torch.compile(local_attention, fullgraph=True, backend=compiler, dynamic=True)
    for size, scale in (((5, 4), 1.0), ((6, 9), 0.5), ((3, 8), 0.25)):
        args, options = inputs(*size), {**OPTIONS, "scale": scale}
        assert_close([compiled(*args, **options)], [local_attention(*args, **options)])
    torch.compiler.reset()


def test_exported() -> None:
    *maps, row, col = inputs(5, 4)
    module = Attention(row, col)
    program = torch.export.export(module, tuple(maps))
    assert torch.equal(program.module()(*maps), module(*maps))
    other = tuple(x.flip(0) for x in maps)
    assert torch.equal(program.module()(*other), module(*other))


@pytest.mark.parametrize("pool", [1, 2])
def test_exported_for_any_batch_and_size(pool: int) -> None:
    """One program for all sizes, with windows larger than the map; pool=2 is traced for sides from 3 on."""
    *maps, row, col = inputs(5, 4)
    module = Attention(row, col, pool=pool)
    dims = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(module, tuple(maps), dynamic_shapes=(dims, dims, dims))
    for batch, *size in ((2, 5, 4), (3, 8, 9), (1, 3, 4), *([(4, 2, 1)] * (pool == 1))):
        others = inputs(*size, batch=batch)[:3]
        assert torch.equal(program.module()(*others), module(*others))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", [1, 2])
def test_meta_tensors(dtype: torch.dtype, memory_format: torch.memory_format, pool: int) -> None:
    q, v = (
        torch.empty(2, c, 5, 7, device="meta", dtype=dtype).to(memory_format=memory_format) for c in (8, 6)
    )
    rel = torch.empty(2, 3, 2, device="meta", dtype=dtype, requires_grad=True)
    options = OPTIONS | {"pool": pool}
    out = local_attention(q, q, v, rel, rel, **options)
    assert out.shape == ((2, 6, 5, 7) if pool == 1 else (2, 6, 3, 4))
    assert (out.dtype, out.device.type) == (dtype, "meta")
    assert out.is_contiguous(memory_format=memory_format)
    out.sum().backward()
    assert rel.grad.shape == rel.shape
    assert rel.grad.dtype == dtype
