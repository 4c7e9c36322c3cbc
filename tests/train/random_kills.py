"""Runs killed by SIGKILL at random moments and resumed: `make kills`, which takes ten minutes.

A run is killed up to twice, at moments drawn from the time that a run takes. Its result is that of a run that
was never stopped, bit for bit, also in two processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sasa.train import (
    AugmentationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrainConfig,
    save_config,
)

KILLS = 20


@dataclasses.dataclass(frozen=True)
class Uninterrupted:
    """A finished run.

    Attributes:
        config: Its configuration.
        command: The start of the command that trains.
        seconds: The time that it took.
    """

    config: TrainConfig
    command: tuple[str, ...]
    seconds: float


def start(command: tuple[str, ...], *arguments: str) -> subprocess.Popen[bytes]:
    """A training with one thread per process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "train", *arguments], env=environment)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a training with the processes that it started; torchrun's are in sessions of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-processes"])
def whole(
    request: pytest.FixtureRequest,
    write_images: Callable[[int], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Uninterrupted:
    """Every kind of randomness, a moving average, mixup and accumulated gradients."""
    folder = tmp_path_factory.mktemp("kills")
    config = TrainConfig(
        model=ModelConfig(
            "sasa_resnet26",
            {"width_mult": 0.125, "num_heads": 1, "kernel_size": 3, "stem_stride": 1, "drop_path_rate": 0.2},
        ),
        data=DataConfig(str(write_images(8)), input_size=8, val_fraction=0.2),
        augmentation=AugmentationConfig(mixup=0.3, cutmix=0.3, re_prob=0.3),
        optimizer=OptimizerConfig(
            batch_size=8, grad_accum_steps=2, epochs=30, lr_base=20.0, ema_decay=0.9, clip_grad=1.0
        ),
        runtime=RuntimeConfig(accelerator="cpu"),
        run=str(folder / "whole"),
    )
    save_config(config, folder / "config.yaml")
    command: tuple[str, ...] = (sys.executable, "-m", "sasa.cli")
    if request.param == 2:
        launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "sasa.cli")
        command = (sys.executable, "-m", *launcher)
    began = time.monotonic()
    assert start(command, "--config", str(folder / "config.yaml")).wait() == 0
    return Uninterrupted(config, command, time.monotonic() - began)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_run_killed_at_random_moments_ends_as_if_never_stopped(whole: Uninterrupted, seed: int) -> None:
    moments = random.Random(seed)
    run = whole.config.folder.with_name(f"killed-{seed}")
    arguments = ["--config", str(whole.config.folder.with_name("config.yaml")), "--run", str(run)]
    for _ in range(2):
        with start(whole.command, *arguments) as process:
            time.sleep(moments.uniform(0, whole.seconds))
            kill(process)
        if (run / "config.yaml").exists():
            arguments = ["--resume", str(run)]
        if (run / "results.json").exists():
            break
    else:
        assert start(whole.command, *arguments).wait() == 0
    files = [load_file(folder / "model.safetensors") for folder in (whole.config.folder, run)]
    assert files[0].keys() == files[1].keys()
    different = [name for name, value in files[0].items() if not torch.equal(value, files[1][name])]
    assert not different
    names = [sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (whole.config.folder, run)]
    assert names[0] == names[1]
