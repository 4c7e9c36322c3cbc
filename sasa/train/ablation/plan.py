"""The configuration of every cell of sweeps, checked before the first run starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sasa.data.dataset_factory import is_path
from sasa.data.transforms import SMALL, is_small
from sasa.errors import require
from sasa.models import Cost, cost, create_model, list_models
from sasa.models.options import network_options
from sasa.models.sasa_resnet import network_arguments
from sasa.train.ablation.sweep_files import RECIPE, CellFile, SweepFile, read_sweep
from sasa.train.classification.config import DataConfig, TrainConfig
from sasa.train.classification.data import ImageData, input_size
from sasa.train.config import RuntimeConfig
from sasa.train.config_files import config_from, leaves, parse_config, plain, read_yaml


@dataclass(frozen=True)
class Cell:
    """A network and a recipe, to be trained once per seed.

    Attributes:
        name: Name within the sweep.
        config: The configuration; seed and run folder do not matter.
        hash: Hash of the configuration. Cells with the same hash share their runs.
        cost: Parameters, and FLOPs of the forward pass of an image.
        num_classes: Number of classes in the data.
        training_images: Images per epoch.
        paper: The paper's top-1 in %, or None.
        series: Cells of a series are joined by a line in plots; None for a single point.
    """

    name: str
    config: TrainConfig
    hash: str
    cost: Cost
    num_classes: int
    training_images: int
    paper: float | None
    series: str | None

    @property
    def training_flops(self) -> int:
        """FLOPs of a run, counting the backward pass as twice the forward pass."""
        return 3 * self.cost.flops * self.training_images * self.config.optimizer.epochs

    def run(self, out: Path, seed: int) -> TrainConfig:
        """The configuration of a run."""
        return dataclasses.replace(self.config, seed=seed, run=str(self.folder(out, seed)))

    def folder(self, out: Path, seed: int) -> Path:
        """The folder of a run."""
        return out / "runs" / self.hash / f"seed-{seed}"


@dataclass(frozen=True)
class Sweep:
    """A sweep whose cells are ready to run.

    Attributes:
        name: As in SweepFile.
        title: As in SweepFile.
        paper: As in SweepFile.
        note: As in SweepFile.
        cells: The cells.
        claims: As in SweepFile.
    """

    name: str
    title: str
    paper: str
    note: str
    cells: tuple[Cell, ...]
    claims: tuple[tuple[str, str], ...]


def plan_sweeps(
    sweeps: Sequence[str], arguments: Sequence[str] = (), recipe: str | Path | None = None
) -> list[Sweep]:
    """Read sweeps, and configure and check their cells.

    Settings are applied in this order, and later ones take precedence: recipe, sweep, arguments, cell. The
    data are opened, and every network is built on the meta device, so most errors are raised here.

    Args:
        sweeps: Names from sweep_names, or YAML files.
        arguments: Overrides as for `sasa train`, such as ["--optimizer.epochs", "1"].
        recipe: YAML file for `sasa train`; None takes the one of `sasa ablate`, for small images on a CPU.

    Raises:
        FileNotFoundError: The recipe or the data do not exist.
        ValueError: A sweep or key is unknown, two sweeps have the same name, an argument sets what the cells
            vary, or a network or the data are invalid.
    """
    given = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument[:2] == "--"}
    for key in ("seed", "run", "config"):
        if key in given:
            raise ValueError(f"--{key}: set by the sweep; leave it out")
    recipe_file = RECIPE if recipe is None else Path(recipe)
    opened: dict[str, ImageData] = {}
    planned: list[Sweep] = []
    for name in dict.fromkeys(sweeps):
        sweep = read_sweep(name)
        if sweep.name in {other.name for other in planned}:
            raise ValueError(
                f"sweeps: expected different names, which are those of the files, got {sweep.name!r} twice; "
                f"rename {name!r}, or leave it out"
            )
        merged = _merge(read_yaml(recipe_file), sweep.config)
        merged = {key: value for key, value in merged.items() if key not in ("seed", "run")}
        start = config_from(merged, f"{recipe_file} with sweep {sweep.name}")
        base = plain(parse_config(arguments, base=start, command="sasa ablate"))
        for file in sweep.cells:
            _check_free(given, file, sweep.name)
        cells = []
        for index, file in enumerate(sweep.cells):
            config = config_from(_merge(base, file.config), f"{sweep.name}, {file.name}")
            _check_one_process(config.runtime)
            if recipe is None:
                _check_small(config.data)
            cells.append(_cell(sweep, index, config, opened))
        hashes = [cell.hash for cell in cells]
        for index, cell in enumerate(cells):
            if cell.hash in hashes[:index]:
                same = cells[hashes.index(cell.hash)].name
                raise ValueError(f"{sweep.name}: {cell.name!r} and {same!r} are the same network and recipe")
        planned.append(Sweep(sweep.name, sweep.title, sweep.paper, sweep.note, tuple(cells), sweep.claims))
    return planned


def check_seeds(seeds: int) -> None:
    """Raise ValueError unless there is at least one run per cell."""
    require(seeds >= 1, "seeds", "at least 1", seeds)


def config_hash(config: TrainConfig) -> str:
    """Twelve hexadecimal digits that identify a configuration except for its seed and run folder.

    Two specifications of the same network of sasa have the same hash, and so do two spellings of the path of
    the data, such as cifar10 and ./cifar10/, and null and the input size that it means. The runtime and
    data.num_workers are part of the hash, since the results depend on them. A change of what is hashed,
    including a new key with a default, makes all finished runs be trained again.
    """
    content = plain(config)
    del content["seed"], content["run"]
    content["data"]["source"] = _spelled_alike(config.data.source)
    content["data"]["input_size"] = input_size(config.data)[1]
    if config.data.test_fraction is None:
        # Without these two keys, as before they existed.
        del content["data"]["test_fraction"], content["data"]["split_seed"]
    name, options = config.model.name, config.model.options
    if name in list_models():
        content["model"] = {"arguments": network_arguments(name, options), "weights": config.model.weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _spelled_alike(source: str) -> str:
    """The source in a normal form, if it is a path."""
    # normpath would also remove link/.. A folder whose name is also the name of a data set keeps its ./.
    path = Path(source).as_posix()
    return path if is_path(source) and is_path(path) else source


def _cell(sweep: SweepFile, index: int, config: TrainConfig, opened: dict[str, ImageData]) -> Cell:
    file = sweep.cells[index]
    # The images depend on nothing else, so they are opened once for all cells.
    key = json.dumps([plain(config)["data"], config.optimizer.batch_size])
    if key not in opened:
        opened[key] = ImageData(config)
    data = opened[key]
    assert data.steps_per_epoch > 0, "raises ValueError if the images do not fill a batch"
    try:
        network = create_model(
            config.model.name,
            num_classes=len(data.classes),
            in_chans=data.input_size[0],
            device="meta",
            **network_options(config.model.options),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{sweep.name}, {file.name}: {error}") from error
    return Cell(
        file.name,
        config,
        config_hash(config),
        cost(network, data.input_size),
        len(data.classes),
        len(data.training),
        file.paper,
        file.series,
    )


def _check_free(given: Collection[str], cell: CellFile, sweep: str) -> None:
    """Reject arguments that the cell would override, including keys above and below its own."""
    for key in sorted(given):
        for varied in sorted(leaves(cell.config)):
            if key == varied:
                raise ValueError(f"--{key}: the cells of {sweep} vary it; leave it out")
            if varied.startswith(f"{key}."):
                raise ValueError(
                    f"--{key}: the cells of {sweep} vary --{varied}; leave it out, or give other keys one by "
                    f"one, such as --{key}.KEY VALUE"
                )
            if key.startswith(f"{varied}."):
                raise ValueError(f"--{key}: the cells of {sweep} vary --{varied} as a whole; leave it out")


def _check_one_process(runtime: RuntimeConfig) -> None:
    """Reject runs of several processes, since Lightning would start the whole command again for each."""
    for key, count in (("devices", runtime.devices), ("num_nodes", runtime.num_nodes)):
        require(
            count in (1, "auto"),
            f"runtime.{key}",
            "1, since each run of a sweep is one process",
            count,
            "for concurrent runs, use --jobs N, or torchrun -m -- sasa.cli ablate, which gives each a GPU",
        )


def _check_small(data: DataConfig) -> None:
    """Reject images that the default recipe is not suitable for."""
    size = input_size(data)
    require(
        is_small(size),
        "data.input_size",
        f"less than {SMALL} with the default recipe",
        size[1],
        "give another size (--data.input_size 32) or another recipe (--config)",
    )


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings in which those of change override those of base."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merge(base[key], value) if both else value
    return merged
