"""Measure which form of the Triton kernels is fastest on this GPU, if the user calls these functions.

They are private to this backend until they were measured on a GPU. Without them the table of `tiles.py`
decides.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sasa.ops.local_attn.backends import triton
from sasa.ops.local_attn.backends.triton import choices
from sasa.ops.local_attn.backends.triton.choices import KERNELS, Choice, Machine
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.schema import in_arithmetic
from sasa.ops.memory_format import empty_map, is_channels_last

if TYPE_CHECKING:
    from sasa.ops.local_attn.backends.triton.launch import Launch, Maps

# Of a program, without products on tensor cores and with them.
_WARPS = {False: (4, 8), True: (1, 2, 4)}


def tune_local_attention(
    inputs: LocalAttentionInputs, file: str | PathLike[str]
) -> dict[str, dict[str, float]]:
    """Time every form of `local_attention`'s Triton kernels, forward and backward, and use the fastest.

    From now on this process launches it for inputs of the same shapes, dtype, memory format and options,
    the batch included, and `file` keeps it for `load_tuning`. Up to fifteen kernels are compiled, and each
    runs for an eighth of a second. Results can differ in their last bits from those of another form.

    Args:
        inputs: On a CUDA device and finite. If torch allows tf32 for float32 maps, those forms are timed too,
            and used only while it does.
        file: JSON, created if it does not exist; its other choices are kept, and used too.

    Returns:
        For each kernel ("forward", and "queries" and "keys" of the backward pass) the median milliseconds of
        each form, "dot, warps 1" with products on tensor cores, "ordinary, warps 8" without; the first is the
        table's.

    Raises:
        ValueError: The backend cannot run the inputs, there is no image, or `file` is of another device or
            version of Triton, or something else.
    """
    reasons = triton.why_not(inputs)
    if reasons or not len(inputs.q):
        raise ValueError(f"q: expected what backend 'triton' runs, got {'; '.join(reasons) or 'no image'}")
    with torch.cuda.device(inputs.q.device):
        machine = Machine.current()
        known = choices.read(file, machine) if Path(file).exists() else {}
        found, milliseconds = _measure(inputs, _time)
    choices.write(file, known | found, machine)
    choices.CHOICES.update(known | found)
    return milliseconds


def load_tuning(file: str | PathLike[str]) -> None:
    """Use what `tune_local_attention` wrote, in this process, in addition to what is in use already.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It was measured on another device than the current CUDA device, or with another version of
            Triton; or it is something else.
        RuntimeError: There is no CUDA device.
    """
    choices.CHOICES.update(choices.read(file, Machine.current()))


def _time(run: Callable[[], Any]) -> float:
    """Median milliseconds, with a cold second-level cache; the first call, which compiles, is not timed."""
    from triton.testing import do_bench

    return float(do_bench(run, return_mode="median"))


def _measure(
    inputs: LocalAttentionInputs, time: Callable[[Callable[[], Any]], float]
) -> tuple[dict[str, Choice], dict[str, dict[str, float]]]:
    """The fastest choice of each kernel by its key, and the times of all by names."""
    from sasa.ops.local_attn.backends.triton import op

    with torch.no_grad():
        maps = op.maps_of(in_arithmetic(inputs), is_channels_last(inputs.q))
    found, milliseconds = {}, {}
    for kernel, make in zip(KERNELS, _launches(maps), strict=True):
        make(maps.table(kernel))()  # the next kernel reads what it writes
        times = {choice: time(make(choice)) for choice in _candidates(maps, kernel)}
        found[maps.key(kernel)] = min(times, key=times.__getitem__)
        milliseconds[kernel] = {
            f"{'dot' if choice.dot else 'ordinary'}, warps {choice.warps}": one
            for choice, one in times.items()
        }
    return found, milliseconds


def _candidates(maps: Maps, kernel: str) -> list[Choice]:
    """The table's choice, then the others."""
    table = maps.table(kernel)
    forms = (False, True) if maps.can_dot else (False,)
    return [table, *(c for dot in forms for n in _WARPS[dot] if (c := Choice(dot, n)) != table)]


def _launches(maps: Maps) -> list[Callable[[Choice], Launch]]:
    """For each of KERNELS, how it is launched with a choice, on results of its own."""
    from sasa.ops.local_attn.backends.triton import launch

    batch, _, height, width = maps.q.shape
    outputs = (batch, maps.v.shape[1], *maps.spec.output_size(height, width))
    out = empty_map(maps.v, outputs, maps.channels_last)
    grad = torch.ones_like(out)
    lse = maps.q.new_empty((batch, maps.spec.num_heads, height, width), dtype=torch.float32)
    delta = torch.empty_like(lse)
    grad_q, grad_v = (empty_map(x, tuple(x.shape), maps.channels_last) for x in (maps.q, maps.v))
    grad_k = None if maps.k is None else torch.empty_like(grad_q)

    def queries(choice: Choice) -> Launch:
        size = () if maps.rel is None else (launch.programs(maps, choice), *maps.rel.shape)
        return launch.queries(maps, grad, lse, grad_q, delta, lse.new_zeros(size), choice=choice)

    return [
        lambda choice: launch.forward(maps, out, lse, save_lse=True, choice=choice),
        queries,
        lambda choice: launch.keys(maps, grad, lse, delta, grad_k, grad_v, choice=choice),
    ]
