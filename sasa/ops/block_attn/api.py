"""Attention inside blocks as users call it: validate the arguments, choose a backend, call it."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled
from sasa.ops.autocast import autocast_off, cast
from sasa.ops.block_attn.backends import BACKENDS, Backend, reference
from sasa.ops.local_attn.memory_format import is_channels_last

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def block_attention(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    *,
    block_size: int,
    max_pool: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Multi-head attention of every pixel over its own block_size × block_size block, for few channels.

    For each head n, with i and j over the P = block² positions of a block, row by row::

        logit[i, j] = x_i · qk_weight[n] x_j + x_i · rel_weight[n, :, i, j]
        out_i       = Σ softmax(logit)[i, j] · v_weight[j, its channels] x_j

    With queries W_q x and keys W_k x, qk_weight is W_qᵀ W_k, and C² products stand for 2·C·D of them. Blocks
    at the right and lower edge are cut off: what is outside the image takes no part in the softmax and the
    maximum. Under autocast x is cast to the autocast dtype; sums are accumulated in at least float32.

    Args:
        x: The image (B, C, H, W), float16, bfloat16, float32 or float64, any strides.
        qk_weight: W_qᵀ W_k of each head, (N, C, C).
        rel_weight: What a query adds for each key position, (N, C, P, P): query position before key position.
        v_weight: The values' matrix of each position, (P, O, C). Head n owns the O/N outputs from n·O/N on.
        block_size: The side of the blocks, at least 1.
        max_pool: Whether the maximum over each block is taken.
        backend: "auto" takes the first of "cpu" (compiled), "triton" (CUDA devices) and "reference" that can
            run the arguments; the first two have no gradient of x. One asked for by name runs or raises, it
            never falls back.

    Returns:
        (B, O, H, W), or with max_pool (B, O, ceil(H/block_size), ceil(W/block_size)), in x's dtype (the
        autocast dtype under autocast) and memory format.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    if not isinstance(max_pool, bool):
        raise TypeError(f"max_pool: expected a bool, got {type(max_pool).__name__} {max_pool!r}")
    _validate(x, qk_weight, rel_weight, v_weight, block_size)
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    x = cast(x)
    chosen = _choose(backend, x, qk_weight, rel_weight, v_weight)
    with autocast_off(x):
        out = chosen.block_attention(x, qk_weight, rel_weight, v_weight, block_size, max_pool)
    return out.contiguous(memory_format=layout)


def block_attention_statistics(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    *,
    block_size: int,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """`block_attention` with max_pool=True, and the statistics that a batch norm before the maximum needs.

    Args and errors as in `block_attention`.

    Returns:
        The maxima, and the mean and (biased) variance of each channel over all outputs, both (O,) and in at
        least float32.
    """
    _validate(x, qk_weight, rel_weight, v_weight, block_size)
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    x = cast(x)
    chosen = _choose(backend, x, qk_weight, rel_weight, v_weight)
    with autocast_off(x):
        out, mean, var = chosen.block_attention_statistics(x, qk_weight, rel_weight, v_weight, block_size)
    return out.contiguous(memory_format=layout), mean, var


def _choose(name: str, x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor) -> Backend:
    names = [b.NAME for b in BACKENDS]
    if not isinstance(name, str):
        raise TypeError(f"backend: expected 'auto' or one of {names}, got {type(name).__name__}")
    if name != "auto" and name not in names:
        raise ValueError(f"backend: expected 'auto' or one of {names}, got {name!r}")
    refusals = []
    for backend in BACKENDS:
        if name in ("auto", backend.NAME):
            reasons = backend.why_not(x, qk_weight, rel_weight, v_weight)
            if not reasons:
                if name == "auto" and backend is reference and x.device.type == "cpu":
                    compiled.warn_once_if_missing()
                return backend
            refusals.append(f"{backend.NAME}: {'; '.join(reasons)}")
    raise ValueError(f"backend={name!r} cannot run these arguments. {'. '.join(refusals)}")


def _validate(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int) -> None:
    arguments = {"x": x, "qk_weight": qk_weight, "rel_weight": rel_weight, "v_weight": v_weight}
    for name, argument in arguments.items():
        if not isinstance(argument, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(argument).__name__}")
        if argument.dtype not in _DTYPES or argument.layout != torch.strided:
            raise TypeError(
                f"{name}: expected a floating dtype ({', '.join(map(str, _DTYPES))}) and dense, "
                f"got {argument.dtype}, {argument.layout}; convert it first"
            )
        if argument.device != x.device:
            raise ValueError(f"{name}: expected device {x.device} as x has, got {argument.device}")
    if isinstance(block_size, bool) or not isinstance(block_size, int):
        raise TypeError(f"block_size: expected an int, got {type(block_size).__name__} {block_size!r}")
    if block_size < 1:
        raise ValueError(f"block_size: expected at least 1, got {block_size}")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"x: expected (B, C, H, W) with C, H, W ≥ 1, got {tuple(x.shape)}")
    channels, positions = x.shape[1], block_size * block_size
    if qk_weight.ndim != 3 or len(qk_weight) == 0 or qk_weight.shape[1:] != (channels, channels):
        raise ValueError(
            f"qk_weight: expected (heads, {channels}, {channels}) for x's channels, "
            f"got {tuple(qk_weight.shape)}"
        )
    heads = len(qk_weight)
    if rel_weight.shape != (heads, channels, positions, positions):
        raise ValueError(
            f"rel_weight: expected (N, C, block², block²) = {(heads, channels, positions, positions)}, "
            f"got {tuple(rel_weight.shape)}"
        )
    if v_weight.ndim != 3 or (v_weight.shape[0], v_weight.shape[2]) != (positions, channels):
        raise ValueError(
            f"v_weight: expected (block², outputs, C) = ({positions}, outputs, {channels}), "
            f"got {tuple(v_weight.shape)}"
        )
    if v_weight.shape[1] == 0 or v_weight.shape[1] % heads:
        raise ValueError(
            f"v_weight: expected a multiple of the {heads} heads of qk_weight as outputs, "
            f"got {v_weight.shape[1]}"
        )
