"""Without gradients a layer computes its projections some images at a time."""

from __future__ import annotations

import pytest
import torch

from sasa import LocalSelfAttention2d
from sasa.layers import local_self_attention


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("limit", "calls"), [(10**9, 1), (2 * 24 * 5 * 6 * 4, 3), (1, 5)])
def test_same_output_in_parts(monkeypatch: pytest.MonkeyPatch, limit: int, calls: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(4, 8, 3, stride, num_heads=2).to(memory_format=torch.channels_last)
    x = torch.randn(5, 4, 5, 6).to(memory_format=torch.channels_last)
    seen = []
    layer.qkv.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    whole = layer(x)
    assert seen == [5], "with gradients all images at once"
    monkeypatch.setattr(local_self_attention, "_PROJECTION_BYTES", limit)
    with torch.no_grad():
        out = layer(x)
    assert len(seen[1:]) == calls
    assert sum(seen[1:]) == 5
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, whole.detach(), rtol=0, atol=1e-6)
