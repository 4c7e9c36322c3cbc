"""Fused Triton kernels for tensors on a CUDA device, forward and backward.

Nothing here imports triton until a kernel is launched, so that `sasa` can be imported without it.
"""

from __future__ import annotations

import torch

from sasa.ops import function_transforms, reasons
from sasa.ops.cuda_kernels import register_cuda_kernel
from sasa.ops.local_attn import schema
from sasa.ops.local_attn.inputs import LocalAttentionInputs

NAME = "triton"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not(inputs: LocalAttentionInputs) -> list[str]:
    """Every reason why this backend cannot run these inputs."""
    return [
        *reasons.triton_kernels(inputs.device),
        *reasons.dtypes("q, k and v are", inputs.maps.values(), _DTYPES),
        *reasons.precision(inputs.embeddings, inputs.q.dtype),
        *reasons.image_sizes(inputs.maps),
        *function_transforms.why_not(*inputs.tensors),
    ]


local_attention = schema.call

register_cuda_kernel("local_attention", f"{__name__}.op", "forward")
register_cuda_kernel("local_attention_backward", f"{__name__}.op", "backward")
