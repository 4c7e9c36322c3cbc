"""Call the registered ops with random, mostly inconsistent arguments: python random_calls.py SEED COUNT.

Prints each call before it is made, so that the last line names the one that ended the process.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import sasa  # noqa: F401

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.complex64)
INTEGERS = (-(2**40), -3, -1, 0, 1, 2, 3, 4, 7, 2**40, 2**62)
SIDES = (0, 1, 2, 3, 5, 8)


def local_attention(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::local_attention that fit, up to relu."""
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    maps = [torch.randn(2, 8, 5, 4, dtype=dtype) for _ in range(3)]
    return [*maps, *(torch.randn(2, 3, 2, dtype=sums) for _ in range(2)), 2, 3, 3, 1, 1, 1.0, 1]


def local_attention_backward(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::local_attention_backward that fit."""
    *tensors, heads, rows, cols, dilation, _, scale, pool = local_attention(dtype)
    lse = torch.ops.sasa.local_attention(*local_attention(dtype), False, False, True)[1]
    window = (heads, rows, cols, dilation, dilation, scale, pool)
    return [torch.randn_like(tensors[0]), *tensors, lse, *window, False]


def pack_projection(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::pack_projection that fit."""
    return [torch.randn(24, 6, 1, 1, dtype=dtype), torch.randn(24, dtype=dtype), 3]


def local_self_attention(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::local_self_attention that fit."""
    packed = torch.ops.sasa.pack_projection(*pack_projection(dtype))
    *_, row, col = local_attention(dtype)[:5]
    window = local_attention(dtype)[5:]
    return [torch.randn(2, 6, 5, 4, dtype=dtype), packed, row, col, 8, *window, True, False, False]


def block_attention(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::block_attention that fit."""
    return [*block_attention_statistics(dtype)[:5], True, False]


def block_attention_statistics(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::block_attention_statistics that fit."""
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    weights = [torch.randn(shape, dtype=sums) for shape in ((2, 3, 3), (2, 3, 4, 4), (4, 8, 3))]
    return [torch.randn(2, 3, 5, 4, dtype=dtype), *weights, 2, False]


def block_attention_backward(dtype: torch.dtype) -> list[Any]:
    """Arguments of sasa::block_attention_backward that fit."""
    x, *weights, block, _ = block_attention_statistics(dtype)
    vectors = [torch.randn(8, dtype=weights[0].dtype) for _ in range(3)]
    return [torch.randn(2, 8, 3, 2, dtype=dtype), *vectors, x, *weights, block, True]


OPS: dict[str, Callable[[torch.dtype], list[Any]]] = {
    "local_attention": lambda dtype: [*local_attention(dtype), False, False, True],
    **{
        make.__name__: make
        for make in (
            local_attention_backward,
            pack_projection,
            local_self_attention,
            block_attention,
            block_attention_statistics,
            block_attention_backward,
        )
    },
}


def other_tensor(x: Tensor, generator: random.Random) -> Tensor | None:
    """Another tensor in the place of x: of another shape, dtype, layout or device, or without memory."""
    change = generator.randrange(8)
    if change == 0:
        return None
    if change == 1:
        return x.to(generator.choice(DTYPES))
    if change == 2:
        shape = list(x.shape)
        shape[generator.randrange(len(shape))] = generator.choice(SIDES)
        return torch.ones(shape, dtype=x.dtype)
    if change == 3:
        return torch.ones([generator.choice(SIDES) for _ in range(generator.randrange(6))], dtype=x.dtype)
    if change == 4:
        return x.transpose(*generator.sample(range(x.dim()), 2)) if x.dim() > 1 else x[::2]
    if change == 5:
        return x[:1].expand(x.shape) if x.shape[0] else x.unsqueeze(0)
    if change == 6:
        return without_memory(x)
    return x.to(generator.choice(("meta", "cpu"))) if x.dim() % 2 else x.to_sparse()


def without_memory(x: Tensor) -> Tensor:
    """A tensor of x's shape whose memory was freed, as FSDP leaves parameters."""
    x = torch.cat((x, x))[len(x) :]  # does not begin where its memory does
    x.untyped_storage().resize_(0)
    return x


def other(argument: Any, generator: random.Random) -> Any:
    """Another value in the place of an argument."""
    if isinstance(argument, Tensor):
        return other_tensor(argument, generator)
    if isinstance(argument, bool):
        return not argument
    if isinstance(argument, int):
        return generator.choice(INTEGERS)
    return generator.choice((0.0, -1.0, float("inf"), float("nan"))) if argument is not None else None


def describe(argument: Any) -> str:
    """An argument without its values."""
    if not isinstance(argument, Tensor):
        return repr(argument)
    strides = argument.stride() if argument.layout == torch.strided else argument.layout
    return f"{argument.dtype} {tuple(argument.shape)} {strides} {argument.device}"


def main(seed: int, count: int) -> None:
    """Make the calls; the last line has the number of those that returned."""
    generator = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    returned = 0
    for _ in range(count):
        name = generator.choice(list(OPS))
        arguments = OPS[name](generator.choice((torch.float32, torch.float64)))
        for place in generator.sample(range(len(arguments)), generator.randrange(4)):
            arguments[place] = other(arguments[place], generator)
        print(name, *map(describe, arguments), sep=" | ", flush=True)
        try:
            getattr(torch.ops.sasa, name)(*arguments)
        except Exception:
            continue
        returned += 1
    print(returned)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
