from __future__ import annotations

import csv
import functools
import json
import logging
import math
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from timm.data.mixup import Mixup
from timm.optim import Muon
from timm.utils import ModelEmaV3
from torch import Tensor, nn

import sasa
from sasa.train import RuntimeConfig, TrainConfig, evaluate, load_config, load_weights, resume, train
from sasa.train.checkpoints import read_checkpoint
from sasa.train.classification.loss import ClassificationLoss, compute_logits
from sasa.train.classification.metrics import ClassificationMetrics
from sasa.train.modules import TrainingModule, mean_loss
from sasa.train.trainer import make_trainer

MakeConfig = Callable[..., TrainConfig]
Logits = Callable[[nn.Module, Tensor], Tensor]

# test_resnet's last convolution of stride 2 then has maps of 2 × 2. On maps of 1 × 1, as 16 pixels would
# give it, torch's gradient in bf16 holds what nobody wrote, which may be NaN.
WIDE_ENOUGH_FOR_BF16 = {"input_size": 32}


def module(config: TrainConfig, network: nn.Module | None = None) -> TrainingModule:
    if network is None:
        network = sasa.create_model(config.model.name, num_classes=3)
    loss = ClassificationLoss(config.augmentation, 3)
    return TrainingModule(network, loss, ClassificationMetrics(3), config.optimizer, steps_per_epoch=10)


def patch_logits(
    monkeypatch: pytest.MonkeyPatch, logits: Callable[[Logits, nn.Module, Tensor], Tensor]
) -> None:
    """Replace what computes the logits of training and evaluation; it is given the original."""

    def replacement(network: nn.Module, images: Tensor, *, channels_last: bool) -> Tensor:
        return logits(functools.partial(compute_logits, channels_last=channels_last), network, images)

    for name in ("loss", "metrics"):
        monkeypatch.setattr(f"sasa.train.classification.{name}.compute_logits", replacement)


def test_run_folder_and_results(make_config: MakeConfig) -> None:
    config = make_config(optimizer={"epochs": 3})
    results = train(config)

    assert results["top1"] > 0.9, "colors are easy"
    assert results["images"] == 7
    assert "top5" not in results, "there are three classes"
    assert results["training_images"] == 26 - 6
    assert results["steps"] == 3 * (20 // 8)
    assert results["epochs"] == 3
    network = sasa.create_model("test_resnet", num_classes=3)
    assert results["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert results["versions"]["lightning"] == lightning.__version__
    assert results["versions"]["timm"] == timm.__version__

    folder = config.folder
    assert json.loads((folder / "results.json").read_text()) == results
    assert load_config(folder / "config.yaml") == config
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4"), ("3", "6")]
    assert set(rows[0]) == {
        "epoch",
        "step",
        "lr",
        "train_loss",
        "val_loss",
        "val_top1",
        "seconds",
        "images_per_second",
    }
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[-1]["val_top1"]) == pytest.approx(results["val_top1"], abs=1e-6)
    again = evaluate(folder, config.data.source)
    assert (again["top1"], again["images"]) == (results["top1"], 7)
    assert again["loss"] == pytest.approx(results["loss"], rel=1e-5)


def test_learning_rates_of_the_steps(make_config: MakeConfig) -> None:
    config = make_config(optimizer={"epochs": 4, "warmup_epochs": 2.0, "lr_base": 1.0})
    optimizers = module(config).configure_optimizers()
    optimizer, schedule = optimizers["optimizer"], optimizers["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = 8 / 4096
    assert optimizers["lr_scheduler"]["interval"] == "step"
    assert rates[0] == pytest.approx(peak / 20)
    assert max(rates) == rates[19] == pytest.approx(peak)
    assert rates[30] == pytest.approx(peak / 2)
    assert 0 < rates[-1] < peak / 50


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("muon", Muon)]
)
def test_optimizer_decays_matrices_only(
    make_config: MakeConfig, name: str, kind: type[torch.optim.Optimizer]
) -> None:
    network = sasa.create_model("sasa_resnet26", num_classes=3, width_mult=0.125, num_heads=1)
    config = make_config(optimizer={"name": name, "weight_decay": 0.25})
    optimizer = module(config, network).configure_optimizers()["optimizer"]
    assert isinstance(optimizer, kind)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    stepped = {names[id(parameter)]: state for parameter, state in optimizer.state.items()}
    decayed, of_adamw = set(), set()
    for group in optimizer.param_groups:
        if name == "sgd":
            assert group["nesterov"]
        if name != "adamw":
            assert group["momentum"] == 0.9
        if name == "muon":
            of_adamw |= {names[id(p)] for p in group["params"] if group.get("use_fallback") or p.ndim < 2}
        assert group["weight_decay"] in (0.0, 0.25)
        if group["weight_decay"]:
            decayed |= {names[id(parameter)] for parameter in group["params"]}
    free = set(names.values()) - decayed
    assert {"layer1.0.conv1.weight", "fc.weight"} <= decayed
    assert {"fc.bias", "layer1.0.bn1.weight", "layer1.0.spatial.rel_row", "layer1.0.spatial.rel_col"} <= free
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    if name == "muon":
        assert of_adamw == free
        assert "momentum_buffer" in stepped["layer1.0.conv1.weight"]
        assert all("exp_avg" in stepped[name] for name in free)


def test_momentum_of_batch_norms(make_config: MakeConfig) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    module(make_config(optimizer={"bn_momentum": 1e-4}), network)
    batch_norm = network[1]
    assert isinstance(batch_norm, nn.BatchNorm2d)
    assert batch_norm.momentum == 1e-4


@pytest.mark.parametrize("warmup", [True, False])
def test_moving_average_is_the_recursion(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, warmup: bool
) -> None:
    seen: list[dict[str, Tensor]] = []
    update = ModelEmaV3.update

    def recorded(self: ModelEmaV3, model: nn.Module, step: int | None = None) -> None:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        update(self, model, step)

    monkeypatch.setattr(ModelEmaV3, "update", recorded)
    config = make_config(optimizer={"ema_decay": 0.3, "ema_warmup": warmup, "epochs": 3})
    train(config)
    assert len(seen) == 6
    average = seen[0]
    for step, current in enumerate(seen[1:], start=1):
        decay = min(0.3, step / (step + 9)) if warmup else 0.3
        average = {
            name: decay * average[name] + (1 - decay) * value if value.is_floating_point() else value
            for name, value in current.items()
        }
    saved = load_file(config.folder / "model.safetensors")
    torch.testing.assert_close(saved, average)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(saved, seen[-1])


def test_without_moving_average_the_last_weights_are_kept(make_config: MakeConfig) -> None:
    config = make_config(optimizer={"ema_decay": 0.0, "epochs": 1, "warmup_epochs": 0.0})
    train(config)
    state = read_checkpoint(config.folder / "checkpoints" / "epoch-0001.ckpt")["state_dict"]
    assert not any(name.startswith("ema.") for name in state)
    for name, value in load_file(config.folder / "model.safetensors").items():
        assert torch.equal(value, state[f"network.{name}"])
    recipe = load_weights(config.folder)[1].recipe
    assert recipe == yaml.safe_load((config.folder / "config.yaml").read_text(encoding="utf-8"))


def test_accumulation_equals_the_whole_batch(
    make_config: MakeConfig, norm_free: dict[str, dict[str, Any]]
) -> None:
    scores, weights = [], []
    for parts in (1, 4):
        recipe = {**norm_free, "optimizer": {**norm_free["optimizer"], "grad_accum_steps": parts}}
        config = make_config(f"parts{parts}", **recipe)
        scores.append(train(config))
        weights.append(load_file(config.folder / "model.safetensors"))
    assert scores[0]["steps"] == scores[1]["steps"] == 4
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-4)


def test_a_terminated_run_exits_with_its_signal_and_can_be_resumed(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    calls = iter(range(100))

    def terminating(logits: Logits, network: nn.Module, images: Tensor) -> Tensor:
        if network.training and next(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return logits(network, images)

    with monkeypatch.context() as patch:
        patch_logits(patch, terminating)
        with pytest.raises(SystemExit) as caught:
            train(config)
    assert caught.value.code == 143
    assert resume(config.folder)["epochs"] == config.optimizer.epochs


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_loss_that_is_not_finite_stops_the_run(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    calls = iter(range(100))

    def broken(logits: Logits, network: nn.Module, images: Tensor) -> Tensor:
        return logits(network, images) * (float("nan") if network.training and next(calls) == 3 else 1)

    patch_logits(monkeypatch, broken)
    config = make_config(data=WIDE_ENOUGH_FOR_BF16, runtime={"precision": precision})
    with pytest.raises(FloatingPointError, match=r"the loss is nan in step 4 \(epoch 2\)") as caught:
        train(config)
    known = "smaller than its stride" in str(caught.value)
    assert known == (precision == "bf16-mixed")
    assert not (config.folder / "results.json").exists()


def test_the_mean_loss_is_over_the_images() -> None:
    """Also where batches differ in size, and NaN where one of them is."""
    metric = mean_loss()
    metric.update(torch.tensor(1.0), weight=3)
    metric.update(torch.tensor(2.0), weight=1)
    assert metric.compute() == 1.25
    metric.update(torch.tensor(math.nan), weight=1)
    assert metric.compute().isnan()


def test_a_batch_of_validation_that_is_not_finite_is_not_left_out_of_the_loss(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def broken(logits: Logits, network: nn.Module, images: Tensor) -> Tensor:
        return logits(network, images) * (1 if network.training or next(calls) else float("nan"))

    patch_logits(monkeypatch, broken)
    config = make_config(optimizer={"epochs": 2})
    train(config)
    with (config.folder / "metrics.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert [math.isfinite(loss) for loss in losses] == [False, True]


@pytest.mark.parametrize(
    "augmentation", [{"label_smoothing": 0.25}, {"mixup": 0.5, "cutmix": 0.5, "label_smoothing": 0.25}]
)
def test_loss_of_smoothed_and_mixed_labels(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, augmentation: dict[str, float]
) -> None:
    mixed: list[tuple[Tensor, Tensor]] = []
    mix = Mixup.__call__

    def recorded(self: Mixup, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed.append(mix(self, images, labels))
        return mixed[-1]

    monkeypatch.setattr(Mixup, "__call__", recorded)
    losses: list[tuple[Tensor, Tensor]] = []
    step = TrainingModule.training_step

    def compared(self: TrainingModule, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.eval()  # the same output for the same input
        images, labels = batch[0].clone(), batch[1]
        loss = step(self, batch, index)
        if mixed:
            images, targets = mixed[-1]
        else:
            targets = F.one_hot(labels, 3) * 0.75 + 0.25 / 3
        expected = -(targets * self.network(images).log_softmax(1)).sum(1).mean()
        losses.append((loss.detach(), expected.detach()))
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", compared)
    train(make_config(augmentation=augmentation, optimizer={"epochs": 1, "warmup_epochs": 0.0}))
    assert bool(mixed) == ("mixup" in augmentation)
    assert len(losses) == 2
    for loss, expected in losses:
        torch.testing.assert_close(loss, expected)


def test_the_seed_decides(make_config: MakeConfig) -> None:
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        config = make_config(f"run{number}", seed=seed, data={"val_split": "test"})
        train(config)
        weights.append(load_file(config.folder / "model.safetensors")["fc.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_workers_start_every_epoch_from_the_seed(make_config: MakeConfig) -> None:
    weights = []
    for number in range(2):
        config = make_config(f"run{number}", data={"num_workers": 2}, augmentation={"re_prob": 0.5})
        torch.manual_seed(number)
        train(config)
        weights.append(load_file(config.folder / "model.safetensors")["fc.weight"])
    assert torch.equal(weights[0], weights[1])


def seen_by_first_layer(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[nn.Conv2d, Tensor, Tensor]]:
    """Train, and return layer, input and output of the first convolution at every call."""
    seen = []

    def watched(logits: Logits, network: nn.Module, images: Tensor) -> Tensor:
        handle = network.conv1[0].register_forward_hook(
            lambda layer, inputs, output: seen.append((layer, inputs[0], output))
        )
        try:
            return logits(network, images)
        finally:
            handle.remove()

    with monkeypatch.context() as patched:
        patch_logits(patched, watched)
        train(config)
    return seen


@pytest.mark.parametrize("on", [True, False])
def test_channels_last(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    seen = seen_by_first_layer(make_config(runtime={"channels_last": on}), monkeypatch)
    assert seen
    for layer, images, output in seen:
        for tensor in (layer.weight, images, output):
            assert tensor.is_contiguous(memory_format=torch.channels_last) == on


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    config = make_config(data=WIDE_ENOUGH_FOR_BF16, runtime={"precision": precision})
    seen = seen_by_first_layer(config, monkeypatch)
    assert {output.dtype for _, _, output in seen} == {dtype}
    weights = load_file(config.folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}
    assert [name for name, value in weights.items() if not value.isfinite().all()] == []


def test_compile(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = nn.Module.compile
    compiled = []

    def without_code_generation(self: nn.Module) -> None:
        compiled.append(self)
        compile_module(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", without_code_generation)
    configs = [make_config(f"{on}", runtime={"compile": on}) for on in (False, True)]
    for config in configs:
        train(config)
    assert [type(network).__name__ for network in compiled] == ["ResNet"]
    one, other = (load_file(config.folder / "model.safetensors") for config in configs)
    torch.testing.assert_close(one, other)
    evaluate(configs[0].folder, configs[0].data.source, runtime=RuntimeConfig("32-true", compile=True))
    assert len(compiled) == 2


def test_clip_grad_reaches_the_step(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.SGD.step

    def recorded(self: torch.optim.SGD, closure: Any = None) -> Any:
        result = step(self, closure)  # Lightning computes and clips the gradient in the closure
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)
    train(make_config(optimizer={"clip_grad": 0.01, "epochs": 1, "warmup_epochs": 0.0}))
    assert len(norms) == 2
    assert max(norms) <= 0.0101


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"optimizer": {"batch_size": 21}},
            "optimizer.batch_size: expected at most 20, the number of training images, got 21",
        ),
        (
            {"runtime": {"precision": "16-mixed"}},
            "runtime.precision: expected 32-true or bf16-mixed on this machine",
        ),
        ({"data": {"test_split": "exam"}}, "split.*'exam'"),
        ({"data": {"source": "/nowhere"}}, "'/nowhere'"),
        ({"model": {"name": "test_resnett"}}, "'test_resnett'"),
        (
            {"augmentation": {"mixup": 0.5}, "optimizer": {"batch_size": 5}},
            "optimizer.batch_size: expected an even multiple of .* for mixup and cutmix, got 5",
        ),
    ],
)
def test_faults_are_found_before_the_first_step(
    make_config: MakeConfig, overrides: dict[str, Any], message: str
) -> None:
    config = make_config(**overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(config)
    assert not config.folder.exists(), "a run that did not start leaves nothing behind"


def test_starting_from_weights(make_config: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    first = make_config("first")
    train(first)
    second = make_config("second", model={"weights": str(first.folder)}, optimizer={"lr_base": 1e-9})
    with caplog.at_level(logging.INFO, "sasa"):
        train(second)
    assert "initialized anew" not in caplog.text
    one, two = (load_file(config.folder / "model.safetensors") for config in (first, second))
    torch.testing.assert_close(one["fc.weight"], two["fc.weight"], rtol=0, atol=1e-6)


def test_deterministic_is_for_the_run_only(make_config: MakeConfig) -> None:
    train(make_config(optimizer={"epochs": 1, "warmup_epochs": 0.0}))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_warm_up_that_rounds_to_the_whole_run_ends_before_it(make_config: MakeConfig) -> None:
    config = make_config(optimizer={"epochs": 1, "warmup_epochs": 0.9})
    train(config)
    assert (config.folder / "model.safetensors").is_file()


def test_a_users_own_files_among_the_checkpoints_stay(make_config: MakeConfig) -> None:
    config = make_config()
    own = config.folder / "checkpoints" / "kept.ckpt.copy"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    (own.parent / ".notes").mkdir()
    train(config)
    assert own.read_text() == "mine"
    ours = sorted(path.name for path in own.parent.glob("*.ckpt"))
    assert ours == ["best.ckpt", "epoch-0001.ckpt", "epoch-0002.ckpt"]


def test_one_process_by_default_however_many_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def trainer(**options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(precision=options["precision"])

    monkeypatch.setattr("sasa.train.trainer.Trainer", trainer)
    make_trainer(RuntimeConfig())
    assert asked["devices"] == 1
