"""Fused Triton kernels for tensors on a CUDA device, forward and backward.

Nothing here imports triton until a kernel is launched, so that `sasa` can be imported without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import function_transforms, reasons
from sasa.ops.local_attn import schema
from sasa.ops.local_attn.backends.triton import register  # noqa: F401  (adds the CUDA kernels to the ops)
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


def local_attention(inputs: LocalAttentionInputs) -> Tensor:
    """See `sasa.local_attention`."""
    return schema.call(inputs)
