"""Cells' configurations, their hashes, and what is refused before anything is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sasa.train import DataConfig, ModelConfig, OptimizerConfig, TrainConfig, parse_config, plan_sweeps
from sasa.train.ablation.costs import cost_table
from sasa.train.ablation.plan import config_hash
from sasa.train.ablation.sweep_files import RECIPE


def test_recipe_then_sweep_then_arguments_then_cell(sweep: str, recipe: Path) -> None:
    arguments = ["--model.options.width_mult", "0.25", "--optimizer.epochs=5"]
    (planned,) = plan_sweeps([sweep, sweep], arguments, recipe)
    three, five = planned.cells
    assert (planned.name, planned.claims) == ("two", (("k = 5", "k = 3"),))
    for cell, size in ((three, 3), (five, 5)):
        assert cell.config.model.name == "sasa_resnet26_convstem"
        options = {"width_mult": 0.25, "num_heads": 1, "stem_stride": 1, "kernel_size": size}
        assert cell.config.model.options == options
        assert (cell.config.optimizer.epochs, cell.config.optimizer.lr_base) == (5, 20)
    assert three.training_images == 20
    assert three.training_flops == 3 * three.cost.flops * 20 * 5
    assert three.cost.flops < five.cost.flops
    assert three.run(Path("out"), 4).seed == 4
    assert three.run(Path("out"), 4).folder == Path("out", "runs", three.hash, "seed-4")


def test_the_hash_changes_with_the_configuration_alone() -> None:
    config = TrainConfig(model=ModelConfig("sasa_resnet26_convstem", {"width_mult": 0.5}))
    first = config_hash(config)
    assert config_hash(dataclasses.replace(config, seed=7, run="elsewhere")) == first
    for other in (
        dataclasses.replace(config, optimizer=OptimizerConfig(lr_base=1.7)),
        dataclasses.replace(config, data=DataConfig(val_fraction=0.05)),
        dataclasses.replace(config, model=ModelConfig("sasa_resnet26_convstem", {"width_mult": 0.25})),
        dataclasses.replace(config, model=ModelConfig("sasa_resnet26", {"width_mult": 0.5})),
        dataclasses.replace(
            config, model=ModelConfig("sasa_resnet26_convstem", {"width_mult": 0.5}, weights="x")
        ),
    ):
        assert config_hash(other) != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            ("sasa_resnet26_convstem", {}),
            ("sasa_resnet26_convstem", {"position": "relative", "width_mult": 1}),
        ),
        (("sasa_resnet26_convstem", {"stage_types": ["conv"] * 4}), ("sasa_resnet26_conv", {})),
        (("sasa_resnet26", {"stem_stride": 4, "content_gain": False}), ("sasa_resnet26", {})),
        (("sasa_resnet26", {"stem": "spatially_aware"}), ("sasa_resnet26", {})),
    ],
)
def test_the_same_network_said_in_two_ways_has_one_hash(
    one: tuple[str, dict[str, object]], other: tuple[str, dict[str, object]]
) -> None:
    hashes = {config_hash(TrainConfig(model=ModelConfig(*network))) for network in (one, other)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        ("sasa_resnet26_convstem", {"position": "none"}, "84c17ef0e651"),
        ("sasa_resnet26_convstem", {}, "a23de43fabb4"),
        ("sasa_resnet26_conv", {}, "013a04a87605"),
        ("sasa_resnet26", {}, "3aa792bdce06"),
    ],
)
def test_the_runs_of_docs_results_are_found(network: str, options: dict[str, object], expected: str) -> None:
    """Whoever changes these has all finished runs trained again."""
    file = Path(__file__).parents[3] / "recipes" / "cifar10_cpu.yaml"
    arguments = [f"--model.options.{key}={value}" for key, value in {"num_heads": 4, **options}.items()]
    config = parse_config(["--config", str(file), "--model.name", network, *arguments])
    assert config_hash(config) == expected


def test_null_and_the_size_that_it_stands_for_have_one_hash() -> None:
    config = parse_config(["--config", str(RECIPE), "--model.name", "sasa_resnet26_convstem"])
    assert config.data.input_size is None
    explicit = dataclasses.replace(config, data=dataclasses.replace(config.data, input_size=28))
    assert config_hash(config) == config_hash(explicit) == "cfcd5b862994"


@pytest.mark.parametrize("given", [["--data.input_size", "32"], ["--data.input_size=63"]])
def test_the_default_recipe_takes_a_users_small_images(sweep: str, images: Path, given: list[str]) -> None:
    arguments = ["--data.source", str(images), "--optimizer.batch_size", "8", *given]
    (planned,) = plan_sweeps([sweep], arguments)
    assert {str(cell.config.data.input_size) for cell in planned.cells} == {given[-1][-2:]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [],
            "data.input_size: expected less than 64 with the default recipe, got 224; .*input_size 32",
        ),
        (
            ["--data.input_size", "64"],
            "data.input_size: expected less than 64 .*, got 64; .*--config",
        ),
    ],
)
def test_the_default_recipe_is_not_for_large_images(
    sweep: str, images: Path, given: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_sweeps([sweep], ["--data.source", str(images), *given])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cifar10", "./cifar10", True),
        ("cifar10", "cifar10/", True),
        ("/data//cifar10.tar", "/data/./cifar10.tar", True),
        ("cifar10", "/cifar10", False),
        ("cifar10", "../cifar10", False),
        ("link/../cifar10", "cifar10", False),  # link may lead elsewhere
        ("fashion-mnist", "./fashion-mnist", False),  # the built-in images, a folder
        ("torch/mnist", "./torch/mnist", False),
        ("wds/https://host/x", "wds/https:/host/x", False),
    ],
)
def test_the_spelling_of_a_path_does_not_change_the_hash(one: str, other: str, same: bool) -> None:
    hashes = {config_hash(TrainConfig(data=DataConfig(source))) for source in (one, other)}
    assert (len(hashes) == 1) == same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "--seed: set by the sweep"),
        (["--run=x"], "--run: set by the sweep"),
        (["--model.options.kernel_size", "9"], "--model.options.kernel_size: the cells of two vary it"),
        (
            ["--model.options", "{width_mult: 0.5}"],
            "--model.options: .* vary --model.options.kernel_size; .* one by",
        ),
        (
            ["--model.options={kernel_size: 3}"],
            "--model.options: .* vary --model.options.kernel_size; .* one",
        ),
        (
            ["--model", "{options: {kernel_size: 3}}"],
            "--model: the cells of two vary --model.options.kernel_s",
        ),
        (["--model.options.kernel_size.x", "3"], "vary --model.options.kernel_size as a whole; leave it out"),
        (["--optimizer.epochz", "9"], "unknown key; did you mean 'optimizer.epochs'"),
        (["--model.options.num_heads", "3"], "two, k = 3: .*num_heads=3"),
        (["--model.options.windows", "3"], "two, k = 3: .*'windows'"),
        (
            ["--runtime.devices", "2"],
            "runtime.devices: expected 1, .* one process, got 2; .* --jobs N, or torchrun",
        ),
        (["--runtime.num_nodes=2"], "runtime.num_nodes: expected 1, .* one process, got 2; .* torchrun"),
        (["--optimizer.batch_size", "99"], "at most 20, the number of training images"),
    ],
)
def test_what_is_wrong_is_said_before_training(
    sweep: str, recipe: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_sweeps([sweep], arguments, recipe)


@pytest.mark.parametrize(
    ("name", "network"),
    [*((f"table{number}", "sasa_resnet50_convstem") for number in (3, 4, 5, 6)), ("table7", "sasa_resnet50")],
)
def test_the_papers_depth_of_the_sweeps_that_name_one_network(name: str, network: str, recipe: Path) -> None:
    (planned,) = plan_sweeps([name], ["--model.name", network], recipe)
    assert {cell.config.model.name for cell in planned.cells} == {network}


@pytest.mark.parametrize("name", ["table1", "figure5", "resnet26"])
def test_cells_that_name_their_networks_keep_them(name: str, recipe: Path) -> None:
    with pytest.raises(ValueError, match=f"--model.name: the cells of {name} vary it"):
        plan_sweeps([name], ["--model.name", "sasa_resnet50"], recipe)


def test_keys_beside_those_of_the_cells_are_free(sweep: str, recipe: Path) -> None:
    (planned,) = plan_sweeps([sweep], ["--model.options.width_mult", "0.25", "--model.weights=x"], recipe)
    assert {cell.config.model.weights for cell in planned.cells} == {"x"}
    assert {cell.config.model.options["width_mult"] for cell in planned.cells} == {0.25}


def test_two_equal_cells_are_refused(tmp_path: Path, recipe: Path) -> None:
    path = tmp_path / "same.yaml"
    path.write_text("title: x\ncells:\n- {name: a}\n- {name: b, model: {options: {kernel_size: 7}}}\n")
    with pytest.raises(ValueError, match="'b' and 'a' are the same network and recipe"):
        plan_sweeps([str(path)], [], recipe)


def test_two_sweeps_of_one_name_are_refused(sweep: str, recipe: Path, tmp_path: Path) -> None:
    """Rows are told apart by it: a file beside a built-in sweep, two files, and one file in two spellings."""
    mine, theirs = tmp_path / "two.yaml", tmp_path / "table5.yaml"
    for path in (mine, theirs):
        path.write_text(Path(sweep).read_text())
    for name, pair in (
        ("two", (sweep, str(mine))),
        ("two", (sweep, str(Path(sweep).parent / ".." / Path(sweep).parent.name / "two.yaml"))),
        ("table5", ("table5", str(theirs))),
    ):
        with pytest.raises(
            ValueError, match=f"sweeps: expected different names, .* got '{name}' twice; rename"
        ):
            plan_sweeps(pair, [], recipe)


def test_the_cost_table_counts_what_is_left(sweep: str, recipe: Path, tmp_path: Path) -> None:
    planned = plan_sweeps([sweep], [], recipe)
    three, _ = planned[0].cells
    folder = three.folder(tmp_path, 1)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    table = cost_table(planned, tmp_path, 2)
    assert f"k = 3  {three.hash}  {three.cost}, training" in table
    assert "1 of 2 runs finished" in table
    assert "0 of 2 runs finished" in table
    assert "\n3 runs remain" in table
