"""Fused C++ kernels for tensors on a CPU (csrc/), forward and backward."""

from __future__ import annotations

import torch

from sasa.ops import function_transforms, reasons
from sasa.ops.local_attn import schema
from sasa.ops.local_attn.inputs import LocalAttentionInputs

NAME = "cpu"

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(inputs: LocalAttentionInputs) -> list[str]:
    """Every reason why this backend cannot run these inputs."""
    return [
        *reasons.cpu_kernels(inputs.device),
        *reasons.dtypes("q, k and v are", inputs.maps.values(), DTYPES),
        *reasons.precision(inputs.embeddings, inputs.q.dtype),
        *function_transforms.why_not(*inputs.tensors),
    ]


local_attention = schema.call
