"""Attention inside squares as users call it: validate the arguments, choose a backend, call it."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled
from sasa.ops.autocast import autocast_off, cast
from sasa.ops.local_attention.memory_format import is_channels_last
from sasa.ops.square_attention.backends import BACKENDS, Backend, reference

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def square_attention(
    x: Tensor,
    forms: Tensor,
    relative: Tensor,
    matrices: Tensor,
    *,
    block: int,
    pool: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Multi-head attention of every pixel over its own block × block square, for few channels.

    For each head n, with i and j over the P = block² positions of a square, row by row::

        logit[i, j] = x_i · forms[n] x_j + x_i · relative[n, :, i, j]
        out_i       = Σ softmax(logit)[i, j] · matrices[j, its channels] x_j

    With queries W_q x and keys W_k x the forms are W_qᵀ W_k, and C² products stand for 2·C·D of them. Squares
    at the right and lower edge are cut off: what is outside the image takes no part in the softmax and the
    maximum. Under autocast x is cast to the autocast dtype; sums are accumulated in at least float32.

    Args:
        x: The image (B, C, H, W), float16, bfloat16, float32 or float64, any strides.
        forms: The heads' bilinear forms (N, C, C).
        relative: What a query adds for each key position, (N, C, P, P): query position before key position.
        matrices: The values' matrix of each position, (P, O, C). Head n owns the O/N outputs from n·O/N on.
        block: The side of the squares, at least 1.
        pool: Whether the maximum over each square is taken.
        backend: "auto" takes the first of "cpu" (compiled), "triton" (CUDA devices) and "reference" that can
            run the arguments; the first two have no gradient of x. One asked for by name runs or raises, it
            never falls back.

    Returns:
        (B, O, H, W), or with pool (B, O, ceil(H/block), ceil(W/block)), in x's dtype (the autocast dtype
        under autocast) and memory format.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    if not isinstance(pool, bool):
        raise TypeError(f"pool: expected a bool, got {type(pool).__name__} {pool!r}")
    _validate(x, forms, relative, matrices, block)
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    x = cast(x)
    chosen = _choose(backend, x, forms, relative, matrices)
    with autocast_off(x):
        out = chosen.square_attention(x, forms, relative, matrices, block, pool)
    return out.contiguous(memory_format=layout)


def square_attention_statistics(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, *, block: int, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """`square_attention` with pool=True, and what a batch norm before the maximum needs of all its outputs.

    Args and errors as in `square_attention`.

    Returns:
        The maxima, and the mean and (biased) variance of each channel over all outputs, both (O,) and in at
        least float32.
    """
    _validate(x, forms, relative, matrices, block)
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    x = cast(x)
    chosen = _choose(backend, x, forms, relative, matrices)
    with autocast_off(x):
        out, mean, var = chosen.square_attention_statistics(x, forms, relative, matrices, block)
    return out.contiguous(memory_format=layout), mean, var


def _choose(name: str, x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor) -> Backend:
    names = [b.NAME for b in BACKENDS]
    if not isinstance(name, str):
        raise TypeError(f"backend: expected 'auto' or one of {names}, got {type(name).__name__}")
    if name != "auto" and name not in names:
        raise ValueError(f"backend: expected 'auto' or one of {names}, got {name!r}")
    refusals = []
    for backend in BACKENDS:
        if name in ("auto", backend.NAME):
            reasons = backend.why_not(x, forms, relative, matrices)
            if not reasons:
                if name == "auto" and backend is reference and x.device.type == "cpu":
                    compiled.warn_once_if_missing()
                return backend
            refusals.append(f"{backend.NAME}: {'; '.join(reasons)}")
    raise ValueError(f"backend={name!r} cannot run these arguments. {'. '.join(refusals)}")


def _validate(x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int) -> None:
    arguments = {"x": x, "forms": forms, "relative": relative, "matrices": matrices}
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
    if isinstance(block, bool) or not isinstance(block, int):
        raise TypeError(f"block: expected an int, got {type(block).__name__} {block!r}")
    if block < 1:
        raise ValueError(f"block: expected at least 1, got {block}")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"x: expected (B, C, H, W) with C, H, W ≥ 1, got {tuple(x.shape)}")
    channels, positions = x.shape[1], block * block
    if forms.ndim != 3 or len(forms) == 0 or forms.shape[1:] != (channels, channels):
        raise ValueError(
            f"forms: expected (heads, {channels}, {channels}) for x's channels, got {tuple(forms.shape)}"
        )
    heads = len(forms)
    if relative.shape != (heads, channels, positions, positions):
        raise ValueError(
            f"relative: expected (N, C, block², block²) = {(heads, channels, positions, positions)}, "
            f"got {tuple(relative.shape)}"
        )
    if matrices.ndim != 3 or (matrices.shape[0], matrices.shape[2]) != (positions, channels):
        raise ValueError(
            f"matrices: expected (block², outputs, C) = ({positions}, outputs, {channels}), "
            f"got {tuple(matrices.shape)}"
        )
    if matrices.shape[1] == 0 or matrices.shape[1] % heads:
        raise ValueError(
            f"matrices: expected a multiple of the {heads} heads of forms as outputs, got {matrices.shape[1]}"
        )
