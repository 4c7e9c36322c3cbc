"""The fixture `runner`: every backend that can run here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ..kernels import use_capability
from .runners import RUNNERS, Runner


@pytest.fixture(params=RUNNERS, ids=str)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A backend with a fresh stream of random numbers."""
    use_capability(monkeypatch, request.param.capability)
    return replace(request.param, generator=torch.Generator().manual_seed(0))
