"""What the configurations of all runs share."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sasa.train import OptimizerConfig, RuntimeConfig, TrainConfig


@pytest.mark.parametrize(
    ("kind", "values", "key"),
    [
        (OptimizerConfig, {"name": "lamb"}, "optimizer.name"),
        (OptimizerConfig, {"batch_size": 0}, "optimizer.batch_size"),
        (OptimizerConfig, {"epochs": 0}, "optimizer.epochs"),
        (OptimizerConfig, {"lr": 0.0}, "optimizer.lr"),
        (OptimizerConfig, {"lr_base": 0.0}, "optimizer.lr_base"),
        (OptimizerConfig, {"lr_base_size": 0}, "optimizer.lr_base_size"),
        (OptimizerConfig, {"momentum": 1.0}, "optimizer.momentum"),
        (OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay"),
        (OptimizerConfig, {"warmup_epochs": 10.0}, "optimizer.warmup_epochs"),
        (OptimizerConfig, {"grad_accum_steps": 3}, "optimizer.grad_accum_steps"),
        (OptimizerConfig, {"clip_grad": 0.0}, "optimizer.clip_grad"),
        (OptimizerConfig, {"bn_momentum": 0.0}, "optimizer.bn_momentum"),
        (OptimizerConfig, {"ema_decay": 1.0}, "optimizer.ema_decay"),
        (RuntimeConfig, {"devices": 0}, "runtime.devices"),
        (RuntimeConfig, {"num_nodes": 0}, "runtime.num_nodes"),
    ],
)
def test_values_out_of_range_name_the_key(kind: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{key}: expected ")):
        kind(**values)


def test_learning_rate_follows_the_batch() -> None:
    assert OptimizerConfig(lr_base=1.6, batch_size=4096).peak_lr == 1.6
    assert OptimizerConfig(lr_base=1.6, batch_size=256).peak_lr == pytest.approx(0.1)
    assert OptimizerConfig(lr_base=0.1, lr_base_size=256, batch_size=512).peak_lr == pytest.approx(0.2)
    assert OptimizerConfig(lr=0.3, lr_base=1.6, batch_size=256).peak_lr == 0.3


def test_a_batch_is_divided_among_processes_and_accumulated_parts() -> None:
    config = TrainConfig(optimizer=OptimizerConfig(batch_size=12, grad_accum_steps=2))
    config.check_processes(3)
    message = (
        "optimizer.batch_size: expected a multiple of processes x optimizer.grad_accum_steps = 4 x 2, got 12"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        config.check_processes(4)
