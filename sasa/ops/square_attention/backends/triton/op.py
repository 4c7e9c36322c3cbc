"""The ops of the schema: allocate the results, launch the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops.square_attention.backends.triton import launch


def forward(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int, pool: bool, channels_last: bool
) -> Tensor:
    """sasa::square_attention."""
    out = _empty(x, matrices.shape[1], block if pool else 1, channels_last)
    if len(x) > 0:
        launch.forward(launch.Problem(x, forms, relative, matrices, block), out, pool=pool)()
    return out


def statistics(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::square_attention_statistics; of no images mean and variance are not numbers."""
    outputs = matrices.shape[1]
    out = _empty(x, outputs, block, channels_last)
    mean, var = forms.new_full((outputs,), torch.nan), forms.new_full((outputs,), torch.nan)
    if len(x) > 0:
        problem = launch.Problem(x, forms, relative, matrices, block)
        parts = forms.new_empty((launch.forward_programs(problem), 3, outputs))
        launch.forward(problem, out, pool=True, parts=parts)()
        launch.merge(parts, mean, var)()
    return out, mean, var


def backward(
    grad: Tensor,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    mean: Tensor | None,
    x: Tensor,
    forms: Tensor,
    relative: Tensor,
    matrices: Tensor,
    block: int,
    pool: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::square_attention_backward."""
    if len(x) == 0:
        return torch.zeros_like(forms), torch.zeros_like(relative), torch.zeros_like(matrices)
    problem = launch.Problem(x, forms, relative, matrices, block)
    programs = launch.backward_programs(problem)
    parts = [forms.new_empty((programs, *learned.shape)) for learned in (forms, relative, matrices)]
    given = None
    if any(g is not None for g in (grad_mean, grad_var)):
        zero = forms.new_zeros(matrices.shape[1])
        center, shift, slope = (zero if g is None else g for g in (mean, grad_mean, grad_var))
        count = x[:, 0].numel()
        given = torch.stack((center, shift / count, slope * (2 / count)))
    launch.backward(problem, grad, given, parts, pool=pool)()
    to_forms, to_relative, to_matrices = (part.sum(0) for part in parts)
    return to_forms, to_relative, to_matrices


def _empty(x: Tensor, outputs: int, step: int, channels_last: bool) -> Tensor:
    size = (x.shape[0], outputs, -(-x.shape[2] // step), -(-x.shape[3] // step))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
