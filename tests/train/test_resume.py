from __future__ import annotations

import csv
import dataclasses
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sasa
from sasa.data import ImageDataset
from sasa.train import TrainConfig, evaluate, load_config, load_weights, resume, save_config, train
from sasa.train.checkpoints import newest_readable, read_checkpoint
from sasa.train.classification.task import ClassificationTask

MOMENTS = (
    "in-first-epoch",
    "before-first-checkpoint",
    "mid-epoch",
    "in-validation",
    "writing-checkpoint",
    "after-training",
)


def run_in_new_process(*arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], env=environment, check=True, timeout=300)


def random_everywhere(make_config: Callable[..., TrainConfig]) -> TrainConfig:
    """Attention, batch norm, and every kind of randomness: images, labels, dropout and paths."""
    options = {
        "width_mult": 0.125,
        "num_heads": 1,
        "kernel_size": 3,
        "stem_stride": 1,
        "drop_rate": 0.2,
        "drop_path_rate": 0.2,
    }
    return make_config(
        model={"name": "sasa_resnet26", "options": options},
        data={"input_size": 8},
        augmentation={"color_jitter": 0.3, "re_prob": 0.3, "mixup": 0.3, "cutmix": 0.3},
        optimizer={"epochs": 4, "clip_grad": 1.0},
    )


@pytest.fixture(scope="module")
def module_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture
def runs(make_config: Callable[..., TrainConfig], module_tmp: Path) -> Path:
    """A folder with the run that was never stopped, "whole", and one killed at each moment."""
    if not (module_tmp / "whole").exists():
        config = random_everywhere(make_config)
        train(dataclasses.replace(config, run=str(module_tmp / "whole")))
        save_config(config, module_tmp / "config.yaml")
        script = str(Path(__file__).with_name("kill_at.py"))
        killed = [f"{moment}:{module_tmp / moment}" for moment in MOMENTS]
        run_in_new_process(script, str(module_tmp / "config.yaml"), *killed)
    return module_tmp


def table(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock says."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
        for row in rows
    ]


def assert_same_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_if_never_stopped(
    runs: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, killed = runs / "whole", runs / moment
    assert not (killed / "results.json").exists()
    resume(killed)
    assert "damaged" not in caplog.text, "a checkpoint is written as a whole"
    assert_same_bits(load_file(whole / "model.safetensors"), load_file(killed / "model.safetensors"))
    for name in ("best.ckpt", "epoch-0003.ckpt", "epoch-0004.ckpt"):
        one, other = (read_checkpoint(run / "checkpoints" / name) for run in (whole, killed))
        assert_same_bits(one["state_dict"], other["state_dict"])
    assert len(table(whole)) == 4
    assert table(killed) == table(whole)


def test_only_two_epochs_and_the_best_are_kept(runs: Path) -> None:
    names = sorted(path.name for path in (runs / "whole" / "checkpoints").iterdir())
    assert names == ["best.ckpt", "epoch-0003.ckpt", "epoch-0004.ckpt"]
    best = read_checkpoint(runs / "whole" / "checkpoints" / "best.ckpt")
    scores = [float(row["val_top1"]) for row in table(runs / "whole")]
    assert best["epoch"] == scores.index(max(scores))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_used(
    runs: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(runs / "whole", run)
    (run / "results.json").unlink()
    newest = run / "checkpoints" / "epoch-0004.ckpt"
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    resume(run)
    assert "epoch-0004.ckpt: expected a checkpoint, got a damaged file" in caplog.text
    assert "trying the previous one" in caplog.text
    assert_same_bits(load_file(runs / "whole" / "model.safetensors"), load_file(run / "model.safetensors"))
    assert table(run) == table(runs / "whole")


def test_no_readable_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "epoch-0001.ckpt").write_bytes(b"")
    (tmp_path / "epoch-0002.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a readable checkpoint, got 2 damaged ones"):
        newest_readable(tmp_path)


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "harm"),))

    torch.save({"state_dict": Harm()}, tmp_path / "epoch-0001.ckpt")
    with pytest.raises(ValueError, match=r"a pickle that refers to code, posix\.mkdir, which is not run"):
        read_checkpoint(tmp_path / "epoch-0001.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("start", ["pretrained", "checkpoint_path", "weights"])
def test_what_a_run_began_from_is_not_needed_again(
    make_config: Callable[..., TrainConfig], tmp_path: Path, start: str
) -> None:
    """Neither at its end, nor to resume or evaluate it."""
    torch.manual_seed(0)
    file = tmp_path / "start.pth"
    classes = 3 if start == "checkpoint_path" else 1000
    state = sasa.create_model("test_resnet", num_classes=classes).state_dict()
    torch.save(state, file)
    model: dict[str, Any] = {
        "pretrained": {"options": {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}},
        "checkpoint_path": {"options": {"checkpoint_path": str(file)}},
        "weights": {"weights": str(file)},
    }[start]
    optimizer = {"ema_decay": 0.0, "lr_base": 1e-9, "weight_decay": 0.0, "epochs": 2}
    config = make_config(model=model, optimizer=optimizer)
    build = ClassificationTask.build_network

    def built_once(self: ClassificationTask, *, initial: bool = True) -> None:
        build(self, initial=initial)
        file.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassificationTask, "build_network", built_once)
        train(config)
    folder = config.folder
    whole = load_file(folder / "model.safetensors")
    torch.testing.assert_close(whole["conv1.0.weight"], state["conv1.0.weight"])
    assert load_weights(folder)[1].options == {}
    assert load_config(folder / "config.yaml").model == config.model, "what began the run is written down"
    for name in ("results.json", "model.safetensors", "checkpoints/epoch-0002.ckpt"):
        (folder / name).unlink()
    resume(folder)
    assert_same_bits(load_file(folder / "model.safetensors"), whole)
    assert evaluate(folder)["images"] == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pretrained": True, "pretrained_cfg_overlay": {"file": "/nowhere"}},
            r"model\.options: expected weights to start from \(pretrained: True\), got an error: ",
        ),
        ({"checkpoint_path": "/nowhere"}, r"model\.options: .*checkpoint_path: /nowhere"),
    ],
)
def test_initial_weights_that_are_not_there(
    make_config: Callable[..., TrainConfig], options: dict[str, Any], message: str
) -> None:
    config = make_config(model={"options": options})
    with pytest.raises(OSError, match=message):
        train(config)
    assert not config.folder.exists()


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "epoch-0001.ckpt")
    with pytest.raises(ValueError, match="expected a checkpoint of a training run, got another file"):
        read_checkpoint(tmp_path / "epoch-0001.ckpt")


def test_what_cannot_be_resumed_or_started(runs: Path, tmp_path: Path, make_config: Any) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"--resume: expected a run folder, got .* without config\.yaml"
    ):
        resume(tmp_path)
    with pytest.raises(FileExistsError, match="which is finished"):
        resume(runs / "whole")
    config = dataclasses.replace(make_config(), run=str(runs / "whole"))
    with pytest.raises(FileExistsError, match=r"run: expected a folder without a run, got .*; continue it"):
        train(config)


@pytest.fixture
def stopped(make_config: Callable[..., TrainConfig], folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run without its results, and the images that it was trained on."""
    images = tmp_path / "images"
    shutil.copytree(folder, images)
    config = make_config(data={"source": str(images)}, optimizer={"epochs": 1, "warmup_epochs": 0})
    train(config)
    (config.folder / "results.json").unlink()
    return config.folder, images


def test_a_renamed_class_is_an_error(stopped: tuple[Path, Path]) -> None:
    run, images = stopped
    for split in ("train", "test"):
        (images / split / "class0").rename(images / split / "other")
    with pytest.raises(ValueError, match=r"got 3 classes without 'class0' and with 'other'; restore them"):
        resume(run)


@pytest.mark.parametrize(("accept", "level"), [(False, "WARNING"), (True, "INFO")])
def test_other_images_are_logged(
    stopped: tuple[Path, Path], accept: bool, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    run, images = stopped
    (images / "test" / "class0" / "0.png").unlink()
    (images / "train" / "class1" / "0.png").rename(images / "train" / "class1" / "x.png")
    caplog.set_level("INFO", "sasa")
    resume(run, accept_images=accept)
    (record,) = (record for record in caplog.records if "images are not those" in record.message)
    assert record.levelname == level
    assert "test: expected 7, got 6" in record.message
    assert "training: 20 as before, but with other names" in record.message


@pytest.mark.parametrize(
    ("old", "new"), [("name: sgd", "name: adamw"), ("name: test_resnet", "name: resnet18")]
)
def test_another_optimizer_or_network_is_an_error(stopped: tuple[Path, Path], old: str, new: str) -> None:
    file = stopped[0] / "config.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(
        ValueError, match=r"config.yaml: (optimizer|model).name: expected '(sgd|test_resnet)', as in"
    ):
        resume(stopped[0])


# torch's iterator raises once more when it is deleted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_loader_process_is_named(
    make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its second epoch, as by the kernel when the memory is full; the run goes on from the first."""
    config = make_config("killed", data={"num_workers": 1})
    image, calls = ImageDataset.image, multiprocessing.Value("i", 0)

    def fatal(self: ImageDataset, index: int) -> Any:
        with calls.get_lock():
            calls.value += 1
            if calls.value == 25 and torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
        return image(self, index)

    monkeypatch.setattr(ImageDataset, "image", fatal)
    with pytest.raises(ChildProcessError, match=r"^data\.num_workers: .*DataLoader worker.* use fewer"):
        train(config)
    monkeypatch.undo()
    assert resume(config.folder)["epochs"] == 2
