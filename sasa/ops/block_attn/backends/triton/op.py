"""The ops of the schema: allocate the results, launch the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops.block_attn.backends.triton import launch


def forward(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    block_size: int,
    max_pool: bool,
    channels_last: bool,
) -> Tensor:
    """sasa::block_attention."""
    out = _empty(x, v_weight.shape[1], block_size if max_pool else 1, channels_last)
    if len(x) > 0:
        problem = launch.Problem(x, qk_weight, rel_weight, v_weight, block_size)
        launch.forward(problem, out, max_pool=max_pool)()
    return out


def statistics(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::block_attention_statistics; of no images mean and variance are not numbers."""
    outputs = v_weight.shape[1]
    out = _empty(x, outputs, block_size, channels_last)
    mean, var = qk_weight.new_full((outputs,), torch.nan), qk_weight.new_full((outputs,), torch.nan)
    if len(x) > 0:
        problem = launch.Problem(x, qk_weight, rel_weight, v_weight, block_size)
        parts = qk_weight.new_empty((launch.forward_programs(problem), 3, outputs))
        launch.forward(problem, out, max_pool=True, parts=parts)()
        launch.merge(parts, mean, var)()
    return out, mean, var


def backward(
    grad: Tensor,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    mean: Tensor | None,
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    block_size: int,
    max_pool: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::block_attention_backward."""
    if len(x) == 0:
        return torch.zeros_like(qk_weight), torch.zeros_like(rel_weight), torch.zeros_like(v_weight)
    problem = launch.Problem(x, qk_weight, rel_weight, v_weight, block_size)
    programs = launch.backward_programs(problem)
    parts = [qk_weight.new_empty((programs, *learned.shape)) for learned in (qk_weight, rel_weight, v_weight)]
    given = None
    if any(g is not None for g in (grad_mean, grad_var)):
        zero = qk_weight.new_zeros(v_weight.shape[1])
        center, shift, slope = (zero if g is None else g for g in (mean, grad_mean, grad_var))
        count = x[:, 0].numel()
        given = torch.stack((center, shift / count, slope * (2 / count)))
    launch.backward(problem, grad, given, parts, max_pool=max_pool)()
    to_forms, to_relative, to_matrices = (part.sum(0) for part in parts)
    return to_forms, to_relative, to_matrices


def _empty(x: Tensor, outputs: int, step: int, channels_last: bool) -> Tensor:
    size = (x.shape[0], outputs, -(-x.shape[2] // step), -(-x.shape[3] // step))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
