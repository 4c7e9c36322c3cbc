"""Which kernels and devices this machine has."""

from __future__ import annotations

import pytest
import torch

from sasa.ops import cpu_extension

needs_kernels = pytest.mark.skipif(
    not cpu_extension.is_available(), reason="nothing was compiled; `sasa version` says what may be why"
)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def capabilities(backend: str) -> tuple[str, ...]:
    """The instruction sets that a backend can be told to use on this machine."""
    return cpu_extension.capabilities() if backend == "cpu" else ("",)


def use_capability(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """Let the kernels use these instructions until the test ends, in its backward passes too."""
    if capability:
        monkeypatch.setenv("SASA_CPU_CAPABILITY", capability)
