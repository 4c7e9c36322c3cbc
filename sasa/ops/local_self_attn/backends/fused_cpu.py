"""C++ kernels (csrc/) that project the rows of a map just before they are used; for inference."""

from __future__ import annotations

import torch

from sasa.ops import cpu_extension, function_transforms, reasons
from sasa.ops.local_self_attn import schema
from sasa.ops.local_self_attn.inputs import LocalSelfAttentionInputs

NAME = "fused_cpu"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(inputs: LocalSelfAttentionInputs) -> list[str]:
    """Every reason why this backend cannot run these inputs."""
    found = [
        *reasons.cpu_kernels(inputs.device),
        *reasons.dtypes("x, weight and bias are", (inputs.x,), _DTYPES),
        *reasons.precision(inputs.attention.embeddings, inputs.x.dtype),
        *reasons.gradient("x or a weight", *inputs.tensors),
        *function_transforms.why_not(*inputs.tensors),
    ]
    if inputs.x.dtype == torch.bfloat16 and not cpu_extension.multiplies_bfloat16():
        found.append("the processor does not multiply bfloat16 (AVX512_BF16), or may not be used to")
    return found


local_self_attention = schema.call
