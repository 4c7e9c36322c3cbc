"""A 1 × 1 convolution, then local attention by one of its backends, whose name this backend has."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sasa.ops import function_transforms
from sasa.ops.dispatch import choose
from sasa.ops.local_attn.backends import LocalAttentionBackend, reference
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_self_attn.inputs import LocalSelfAttentionInputs
from sasa.ops.memory_format import is_channels_last, memory_format


class Projected:
    """The backend of local self-attention that a backend of local attention gives.

    Args:
        backend: That of local attention.
    """

    def __init__(self, backend: LocalAttentionBackend) -> None:
        self.NAME = backend.NAME
        self._backend = backend

    def why_not(self, inputs: LocalSelfAttentionInputs) -> list[str]:
        """Every reason why the backend cannot run the projected map."""
        reasons = self._backend.why_not(inputs.attention)
        if self._backend is not reference:  # which is differentiable in every way
            reasons += function_transforms.why_not(inputs.x, inputs.weight, inputs.bias)
        return reasons

    def local_self_attention(self, inputs: LocalSelfAttentionInputs) -> Tensor:
        """See `sasa.ops.local_self_attention`."""
        qkv = F.conv2d(inputs.x, inputs.weight, inputs.bias)
        q, *k, v = qkv.chunk(inputs.parts, dim=1)
        attention = inputs.attention
        projected = LocalAttentionInputs(
            q, k[0] if k else None, v, attention.rel_row, attention.rel_col, attention.spec
        )
        # Chosen again, as it depends on the projected map itself whether an image is too large for a kernel.
        out = choose((self._backend,), self.NAME, projected, standard=self._backend).local_attention(
            projected
        )
        return out.contiguous(memory_format=memory_format(is_channels_last(q)))
