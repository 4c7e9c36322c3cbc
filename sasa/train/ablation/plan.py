"""From the names of sweeps to the configuration of every cell, checked before the first run starts."""

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
from sasa.models import Cost, cost, create_model, list_models
from sasa.models.sasa_resnet import resolved_arguments
from sasa.train.ablation.sweep_files import RECIPE, CellFile, SweepFile, read_sweep
from sasa.train.config import DataConfig, RuntimeConfig, TrainConfig
from sasa.train.config_files import config_from, leaves, parse_config, plain, read_yaml
from sasa.train.loaders import ImageData, input_size


@dataclass(frozen=True)
class Cell:
    """A network and recipe to train once for every seed.

    Attributes:
        name: In its sweep.
        config: Everything but the seed and the run folder.
        hash: Of config; cells of several sweeps with the same one share their runs.
        cost: Parameters and FLOPs of the forward pass of one image.
        training_images: Images of an epoch.
        paper: Top-1 that the paper prints, in %, or None.
        series: The line that the cell belongs to in plots, or None.
    """

    name: str
    config: TrainConfig
    hash: str
    cost: Cost
    training_images: int
    paper: float | None
    series: str | None

    @property
    def training_flops(self) -> int:
        """FLOPs of one run: forward and, by the usual count, twice as much backward."""
        return 3 * self.cost.flops * self.training_images * self.config.optimizer.epochs

    def run(self, out: Path, seed: int) -> TrainConfig:
        """The configuration of one run."""
        return dataclasses.replace(self.config, seed=seed, run_folder=str(self.folder(out, seed)))

    def folder(self, out: Path, seed: int) -> Path:
        """The run's folder."""
        return out / "runs" / self.hash / f"seed-{seed}"


@dataclass(frozen=True)
class Sweep:
    """A sweep whose cells are ready to run; the texts are those of SweepFile."""

    name: str
    title: str
    paper: str
    note: str
    cells: tuple[Cell, ...]
    claims: tuple[tuple[str, str], ...]


def plan_sweeps(
    sweeps: Sequence[str], arguments: Sequence[str] = (), recipe: str | Path = RECIPE
) -> list[Sweep]:
    """Read sweeps, configure their cells and see what each costs.

    A cell's configuration is the recipe's, changed by the sweep, then by the arguments, then by the cell. The
    data are opened, and every network is built without memory, so that what is wrong is said now.

    Args:
        sweeps: Names from sweep_names, or YAML files.
        arguments: Overrides as of `sasa train`, such as ["--optimizer.epochs", "1"].
        recipe: YAML file of `sasa train`.

    Raises:
        ValueError: A sweep or key is not known, two sweeps have the same name, an argument sets what cells
            vary, or a network or the data are at fault.
        FileNotFoundError: There is no such recipe, or no such data.
    """
    given = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument[:2] == "--"}
    for key in ("seed", "run_folder", "config"):
        if key in given:
            raise ValueError(f"--{key}: a sweep sets it itself; leave it out")
    opened: dict[str, ImageData] = {}
    planned: list[Sweep] = []
    for name in dict.fromkeys(sweeps):
        sweep = read_sweep(name)
        if sweep.name in {other.name for other in planned}:
            raise ValueError(
                f"sweeps: two are called {sweep.name!r}, and rows are told apart by that name, which is the "
                f"file's; rename {name!r}, or leave it out"
            )
        merged = _merge(read_yaml(recipe), sweep.config)
        merged = {key: value for key, value in merged.items() if key not in ("seed", "run_folder")}
        start = config_from(merged, f"{recipe} with sweep {sweep.name}")
        base = plain(parse_config(arguments, base=start, command="sasa ablate"))
        for file in sweep.cells:
            _check_free(given, file, sweep.name)
        cells = []
        for index, file in enumerate(sweep.cells):
            config = config_from(_merge(base, file.config), f"{sweep.name}, {file.name}")
            _check_one_process(config.runtime)
            if Path(recipe) == RECIPE:
                _check_small(config.data)
            cells.append(_cell(sweep, index, config, opened))
        hashes = [cell.hash for cell in cells]
        for index, cell in enumerate(cells):
            if cell.hash in hashes[:index]:
                twin = cells[hashes.index(cell.hash)].name
                raise ValueError(f"{sweep.name}: {cell.name!r} and {twin!r} are the same network and recipe")
        planned.append(Sweep(sweep.name, sweep.title, sweep.paper, sweep.note, tuple(cells), sweep.claims))
    return planned


def check_seeds(seeds: int) -> None:
    """Raise ValueError unless there is a run of each cell."""
    if seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds}")


def config_hash(config: TrainConfig) -> str:
    """Twelve hexadecimal digits that change with anything in a configuration but seed and run folder.

    Two ways to say the same one of our networks count as the same, and so do two spellings of the path of the
    data, such as cifar10 and ./cifar10/, and null and the input size that it stands for. The machine and
    data.workers count, since bits depend on them: each loader process draws random numbers of its own. A
    change of what is hashed, a new key with a default included, has all finished runs trained again.
    """
    content = plain(config)
    del content["seed"], content["run_folder"]
    content["data"]["source"] = _spelled_alike(config.data.source)
    content["data"]["input_size"] = input_size(config.data)[1]
    name, options = config.model.name, config.model.options
    if name in list_models():
        content["model"] = {"arguments": resolved_arguments(name, **options), "weights": config.model.weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _spelled_alike(source: str) -> str:
    """The source without what does not change which folder or archive a path leads to."""
    # Not normpath, which takes away link/.. too. A folder that is called like a name keeps its ./ before it.
    path = Path(source).as_posix()
    return path if is_path(source) and is_path(path) else source


def _cell(sweep: SweepFile, index: int, config: TrainConfig, opened: dict[str, ImageData]) -> Cell:
    file = sweep.cells[index]
    # Which images there are depends on nothing else; one opening serves all cells.
    key = json.dumps([plain(config)["data"], config.optimizer.batch_size])
    if key not in opened:
        opened[key] = ImageData(config)
    data = opened[key]
    assert data.steps_per_epoch > 0, "it raises where the images do not fill a batch"
    try:
        network = create_model(
            config.model.name,
            num_classes=len(data.classes),
            in_chans=data.input_size[0],
            device="meta",
            **config.model.options,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{sweep.name}, {file.name}: {error}") from error
    return Cell(
        file.name,
        config,
        config_hash(config),
        cost(network, data.input_size),
        len(data.training),
        file.paper,
        file.series,
    )


def _check_free(given: Collection[str], cell: CellFile, sweep: str) -> None:
    """Refuse arguments that the cell would overrule, those above and below its keys too."""
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
    """Refuse runs of several processes: Lightning would start the whole command again for each."""
    for key, count in (("devices", runtime.devices), ("num_nodes", runtime.num_nodes)):
        if count not in (1, "auto"):
            raise ValueError(
                f"runtime.{key}: each run of a sweep is one process, expected 1, got {count}; for several "
                "runs at a time give --jobs N, or start torchrun -m sasa.cli ablate …, which gives each a GPU"
            )


def _check_small(data: DataConfig) -> None:
    """Refuse images that the recipe which nobody chose is not for."""
    size = input_size(data)
    if not is_small(size):
        given = "the default for other images than the built-in" if data.input_size is None else "as given"
        raise ValueError(
            f"data.input_size: the recipe without --config is for images under {SMALL} pixels, got "
            f"{size[1]}, {given}; give --data.input_size 32, say, or a recipe by --config"
        )


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, those of change over those of base."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merge(base[key], value) if both else value
    return merged
