"""A run folder has one run at a time, and a failed start does not spoil it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sasa.train import TrainConfig, resume, train
from sasa.train.checkpoints import AtomicCheckpointIO
from sasa.train.run_lock import run_lock

HOLD = """
import sys
from pathlib import Path
from sasa.train.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(make_config: Callable[..., TrainConfig]) -> TrainConfig:
    return make_config(optimizer={"epochs": 1, "warmup_epochs": 0})


def test_a_second_run_in_a_folder_names_the_first(config: TrainConfig, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(config.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=rf"to which process {other.pid} on .* writes; wait for it"):
            train(config)
        other.kill()
        other.wait()
    # The lock ends with its process, even if that is killed.
    with run_lock(config.folder):
        assert (config.folder / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_run_that_failed_at_once_can_start_again(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
        with pytest.raises(OSError, match="No space left"):
            train(config)
    assert (config.folder / "config.yaml").exists()
    assert train(config)["epochs"] == 1
    with pytest.raises(FileExistsError, match="which is finished"):
        resume(config.folder)


def test_a_folder_removed_during_the_run_is_named(config: TrainConfig) -> None:
    folder = config.folder / "checkpoints"
    folder.mkdir(parents=True)
    shutil.rmtree(config.folder)
    with pytest.raises(FileNotFoundError, match=r"checkpoints: the folder was removed while the run wrote"):
        AtomicCheckpointIO().save_checkpoint({}, folder / "epoch-0001.ckpt")


def test_a_batch_of_one_value_per_channel_is_named_before_the_first_step(
    make_config: Callable[..., TrainConfig],
) -> None:
    config = make_config(
        model={"name": "sasa_resnet26_conv", "options": {"width_mult": 0.125}},
        data={"input_size": 32},
        optimizer={"batch_size": 1},
    )
    with pytest.raises(ValueError, match=r"optimizer.batch_size: expected 2 or more images per step"):
        train(config)
    assert not (config.folder / "config.yaml").exists()
