"""Running sweeps: finished runs are skipped, interrupted ones continue, and one table has the results."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path

from sasa.data import ImageDataset, create_dataset, is_stream
from sasa.errors import require
from sasa.models import attention_layers, create_model
from sasa.models.options import network_options
from sasa.train.ablation.attention_arrays import ATTENTION, save_attention
from sasa.train.ablation.inference_time import Timed, inference_machine, inference_seconds
from sasa.train.ablation.plan import Cell, Sweep, check_seeds
from sasa.train.ablation.processes import LOG, Outcome, finished, run_all
from sasa.train.ablation.tables import INFERENCE, TABLE, recorded_runs, require_results_kept, write_tables
from sasa.train.ablation.workers import torchrun_workers
from sasa.train.atomic import write_json
from sasa.train.classification.config import TrainConfig
from sasa.train.classification.data import input_size
from sasa.train.classification.weights import load_weights
from sasa.train.run_folder import CONFIG_FILE, WEIGHTS_FILE


def ablate(
    sweeps: Sequence[Sweep],
    out: str | Path,
    *,
    seeds: int = 3,
    jobs: int = 1,
    minutes: float | None = None,
) -> Path:
    """Train every cell with every seed and write results.csv and results.json.

    Runs are ordered by seed, so every cell is trained with one seed before the next seed starts. Finished
    runs are skipped, an interrupted run continues from its last epoch, and cells with the same network and
    recipe share their runs. A run with a row in the folder's results.json is finished even if its folder is
    missing, so a copy of that file continues the sweeps on another machine. The tables are rewritten after
    every run. At the end, all networks in the folder, including those of earlier sweeps, are timed together
    (inference_time.METHOD), unless this has been done, and their attention maps are saved for the report.

    Under torchrun, every process calls this function with the same arguments and trains its share of the
    runs, each as a single process. The first process does the rest when all are done. All processes must
    share the folder.

    Args:
        sweeps: The sweeps, from `plan_sweeps`.
        out: The folder; the runs are in out/runs/HASH/seed-N.
        seeds: Number of runs per cell, with seeds 0, 1, …
        jobs: Number of concurrent runs, each in its own process; per process under torchrun.
        minutes: Stop training after this time; the same call continues. None means no limit.

    Returns:
        The path of results.csv.

    Raises:
        BlockingIOError: Another process is running sweeps in the folder.
        ChildProcessError: Runs failed. It is raised after all others are done, under torchrun by the first
            process, and names each failed run and its error.
        ValueError: An argument is out of range, or the folder has finished runs of one of the sweeps by
            another recipe, which the tables would lose.
    """
    check_seeds(seeds)
    require(jobs >= 1, "jobs", "at least 1", jobs)
    require(minutes is None or minutes > 0, "minutes", "a positive number", minutes)
    out = Path(out)
    require_results_kept(sweeps, out)
    out.mkdir(parents=True, exist_ok=True)
    recorded = recorded_runs(out)
    names: dict[Path, str] = {}
    configs: dict[Path, TrainConfig] = {}
    for seed in range(seeds):
        for sweep in sweeps:
            for cell in sweep.cells:
                folder = cell.folder(out, seed)
                names.setdefault(folder, f"{sweep.name}, {cell.name}, seed {seed}")
                if folder not in recorded and finished(folder) is None:
                    configs[folder] = cell.run(out, seed)
    failed: dict[Path, str] = {}
    done: list[Path] = []

    with torchrun_workers() as workers, _locked(out) if workers.rank == 0 else nullcontext():
        # All workers list the remaining runs before any of them trains, so they share the same list.
        workers.gather(None)
        share = workers.share(list(configs.values()))

        def on_start(folder: Path) -> None:
            what = "resumes" if (folder / CONFIG_FILE).exists() else "starts"
            print(f"{names[folder]}: {what}; see {folder / LOG}", flush=True)

        def on_end(outcome: Outcome) -> None:
            done.append(outcome.folder)
            head = f"[{len(done)}/{len(share)}] {names[outcome.folder]}:"
            if outcome.results is not None:
                print(f"{head} top-1 {outcome.results['top1']:.2%}", flush=True)
            elif outcome.error is not None:
                failed[outcome.folder] = outcome.error
                print(f"{head} failed: {outcome.error}", flush=True)
            else:
                print(f"{head} stopped", flush=True)
            if workers.rank == 0:
                write_tables(sweeps, out)

        if workers.rank == 0:
            write_tables(sweeps, out)
            finished_before = len(names) - len(configs)
            print(f"{len(names)} runs in {out}, {finished_before} of them already finished", flush=True)
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        run_all(share, jobs=jobs, deadline=deadline, on_start=on_start, on_end=on_end)
        for failed_there in workers.gather(failed):
            failed |= failed_there
        if workers.rank == 0:
            write_tables(sweeps, out)
            _time_networks(sweeps, out)
            for sweep in sweeps:
                _save_attention_maps(_trained(sweep, out, seeds))
            write_tables(sweeps, out)
    if workers.rank == 0:
        _conclude(configs, names, failed)
    return out / TABLE


def _conclude(configs: Collection[Path], names: Mapping[Path, str], failed: Mapping[Path, str]) -> None:
    """Print how many runs remain, and raise ChildProcessError if some failed."""
    remaining = [folder for folder in configs if finished(folder) is None and folder not in failed]
    if remaining:
        print(f"{len(remaining)} runs remain; the same command continues with them", flush=True)
    if failed:
        errors = "; ".join(
            f"{names[folder]}: {error} (see {folder / LOG})" for folder, error in failed.items()
        )
        raise ChildProcessError(f"{len(failed)} of {len(names)} runs failed: {errors}")


def _trained(sweep: Sweep, out: Path, seeds: int) -> list[tuple[Cell, Path]]:
    """The cells that have a finished run, each with the first of them."""
    trained: list[tuple[Cell, Path]] = []
    for cell in sweep.cells:
        folders = (cell.folder(out, seed) for seed in range(seeds))
        trained += [(cell, folder) for folder in folders if finished(folder) is not None][:1]
    return trained


def _save_attention_maps(trained: Sequence[tuple[Cell, Path]]) -> None:
    """Save attention maps for the report, except for streams, which have no first image per class."""
    opened: dict[str, ImageDataset] = {}
    for cell, folder in trained:
        model, data = cell.config.model, cell.config.data
        if (folder / ATTENTION).exists() or is_stream(data.source):
            continue
        if not attention_layers(create_model(model.name, device="meta", **network_options(model.options))):
            continue
        if not (folder / WEIGHTS_FILE).exists():
            print(f"{folder}: no attention maps, since the weights are missing", flush=True)
            continue
        channels = input_size(data)[0]
        key = f"{channels} {data.test_split} {data.source} {data.on_broken} {data.dataset_options}"
        if key not in opened:
            dataset = create_dataset(
                data.source,
                data.test_split,
                in_chans=channels,
                on_broken=data.on_broken,
                **data.dataset_options,
            )
            assert isinstance(dataset, ImageDataset)
            opened[key] = dataset
        save_attention(folder, opened[key])


def _time_networks(sweeps: Sequence[Sweep], out: Path) -> None:
    """Time all networks of the tables in one session, unless all have times of one session on this machine.

    Networks of earlier sweeps are timed again together with new ones, since the report compares them. Without
    the weights of a run, the network of a cell is timed as it is initialized.
    """
    cells = {cell.folder(out, 0).parent: cell for sweep in sweeps for cell in sweep.cells}
    runs: dict[Path, Path | None] = {}
    for folder in recorded_runs(out):
        if (folder / WEIGHTS_FILE).exists():
            runs[folder.parent] = runs.get(folder.parent) or folder
        elif folder.parent in cells:
            runs.setdefault(folder.parent, None)
        else:
            print(f"{folder}: no inference time, since the weights are missing", flush=True)
    machine = inference_machine()
    before = [folder / INFERENCE for folder in runs]
    if all(path.exists() for path in before):
        known = [json.loads(path.read_text()) for path in before]
        here = all(machine.items() <= timing.items() for timing in known)
        if here and len({timing["session"] for timing in known}) <= 1:
            return
    session = datetime.now(timezone.utc).isoformat()
    networks = {parent: _timed(run, cells.get(parent)) for parent, run in runs.items()}
    print(f"timing the {len(runs)} networks of {out} together", flush=True)
    for parent, seconds in inference_seconds(networks).items():
        run = runs[parent]
        content = {
            "seconds_per_image": seconds,
            "precision": networks[parent].precision,
            **machine,
            "session": session,
            "weights": None if run is None else run.name,
        }
        parent.mkdir(parents=True, exist_ok=True)
        write_json(content, parent / INFERENCE)


def _timed(run: Path | None, cell: Cell | None) -> Timed:
    """The network of a run, or of a cell without weights."""
    if run is not None:
        network, metadata = load_weights(run)
        assert metadata.recipe is not None, "weights of a run have a recipe"
        channels, height, width = metadata.input_size
        return Timed(network, (channels, height, width), metadata.recipe["runtime"]["precision"])
    assert cell is not None
    size = input_size(cell.config.data)
    model = cell.config.model
    options = network_options(model.options)
    network = create_model(model.name, num_classes=cell.num_classes, in_chans=size[0], **options)
    return Timed(network, size, cell.config.runtime.precision)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of the folder; the system releases it when the process ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"out: another process is running sweeps in {out}; wait until it ends"
            ) from error
        yield
