"""The ops of the schema: allocate the results, launch the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.block_attn.backends.triton import launch
from sasa.ops.memory_format import empty_map


def forward(*arguments: Any) -> Tensor:
    """sasa::block_attention."""
    *given, channels_last = arguments
    problem = launch.Problem(*given)
    out = empty_map(problem.x, problem.output_shape, channels_last)
    if len(problem.x) > 0:
        launch.forward(problem, out)()
    return out


def statistics(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::block_attention_statistics; of no images mean and variance are not numbers."""
    x, qk_weight, rel_weight, v_weight, block_size, channels_last = arguments
    problem = launch.Problem(x, qk_weight, rel_weight, v_weight, block_size, max_pool=True)
    outputs, like = problem.v_weight.shape[1], problem.qk_weight
    out = empty_map(problem.x, problem.output_shape, channels_last)
    mean, var = like.new_full((outputs,), torch.nan), like.new_full((outputs,), torch.nan)
    if len(problem.x) > 0:
        parts = like.new_empty((launch.forward_programs(problem), 3, outputs))
        launch.forward(problem, out, parts)()
        launch.merge(parts, mean, var)()
    return out, mean, var


def backward(
    grad: Tensor, grad_mean: Tensor | None, grad_var: Tensor | None, mean: Tensor | None, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """sasa::block_attention_backward."""
    problem = launch.Problem(*arguments)
    weights = tuple(problem.weights.values())
    if len(problem.x) == 0:
        to_qk, to_rel, to_v = (torch.zeros_like(weight) for weight in weights)
        return to_qk, to_rel, to_v
    programs = launch.backward_programs(problem)
    parts = [weight.new_empty((programs, *weight.shape)) for weight in weights]
    given = None
    if grad_mean is not None or grad_var is not None:
        zero = problem.qk_weight.new_zeros(problem.v_weight.shape[1])
        center, shift, slope = (zero if g is None else g for g in (mean, grad_mean, grad_var))
        count = problem.x[:, 0].numel()
        given = torch.stack((center, shift / count, slope * (2 / count)))
    launch.backward(problem, grad, given, parts)()
    to_qk, to_rel, to_v = (part.sum(0) for part in parts)
    return to_qk, to_rel, to_v
