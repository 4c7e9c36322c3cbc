"""Turns and medians of times, by a clock of the networks' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sasa.train.ablation import inference_time
from sasa.train.ablation.inference_time import BATCH, ROUNDS, Timed, inference_seconds


def test_networks_take_turns_of_a_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network has many batches a turn, a slow one a single one; the warm-up counts for neither."""
    now = 0.0
    order: list[tuple[str, bool]] = []

    class Slow(nn.Module):
        def __init__(self, name: str, seconds: float) -> None:
            super().__init__()
            self.name, self.seconds = name, seconds

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nonlocal now
            assert images.shape == (BATCH, 3, 8, 8)
            assert not self.training
            assert torch.is_inference_mode_enabled()
            first = not any(name == self.name for name, _ in order)
            now += 100 if first else self.seconds
            order.append((self.name, torch.is_autocast_enabled("cpu")))
            return images

    monkeypatch.setattr(inference_time, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(inference_time, "TURN_SECONDS", 1.0)
    networks = {
        "fast": Timed(Slow("fast", 0.25), (3, 8, 8)),
        "slow": Timed(Slow("slow", 2.0), (3, 8, 8), "bf16-mixed"),
    }
    assert inference_seconds(networks) == {"fast": 0.25 / BATCH, "slow": 2.0 / BATCH}
    warm_up = [("fast", False), ("slow", True)]
    assert order == [*warm_up, *([("fast", False)] * 4 + [("slow", True)]) * ROUNDS]
