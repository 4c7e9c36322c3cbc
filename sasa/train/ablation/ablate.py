"""Run sweeps: what is finished is skipped, what is half done goes on, and one table holds the results."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sasa.data import ImageDataset, is_stream, open_dataset
from sasa.train.ablation.attention_arrays import ATTENTION, save_attention
from sasa.train.ablation.inference_time import inference_machine, inference_seconds
from sasa.train.ablation.plan import Cell, Sweep
from sasa.train.ablation.processes import LOG, Outcome, finished, run_all
from sasa.train.ablation.tables import INFERENCE, TABLE, write_tables
from sasa.train.ablation.workers import torchrun_workers
from sasa.train.config import TrainConfig
from sasa.train.fit import CONFIG_FILE, write_json
from sasa.train.loaders import input_size
from sasa.train.weights import load_weights


def ablate(
    sweeps: Sequence[Sweep],
    out: str | Path,
    *,
    seeds: int = 3,
    jobs: int = 1,
    minutes: float | None = None,
) -> Path:
    """Train every cell with every seed and write results.csv and results.json.

    The runs go seed by seed, so that an early stop leaves whole rounds. A run that is finished is skipped,
    one that was stopped goes on from its last epoch, and cells of several sweeps that are the same network
    and recipe share their runs. The tables are written anew after every run. At the end each cell's network
    is timed (inference_time.METHOD) and what its attention looks at is kept for the report.

    Under torchrun every process calls this with the same arguments and trains its share of the runs, each as
    if it were alone; the first does the rest, once all are done. They must see the same folder.

    Args:
        sweeps: From `plan_sweeps`.
        out: The folder; runs go to out/runs/HASH/seed-N.
        seeds: Runs of each cell, with seeds 0, 1, …
        jobs: Runs at a time, each in a process of its own; under torchrun of every process.
        minutes: Stop training after so long; the same call again goes on. None goes on to the end.

    Returns:
        The CSV.

    Raises:
        ChildProcessError: Runs failed; it names each and its error, and is raised after all others are done,
            under torchrun by the first process.
        BlockingIOError: Another process works in the folder.
        ValueError: An argument is out of its range.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    names: dict[Path, str] = {}
    configs: dict[Path, TrainConfig] = {}
    for seed in range(seeds):
        for sweep in sweeps:
            for cell in sweep.cells:
                folder = cell.folder(out, seed)
                names.setdefault(folder, f"{sweep.name}, {cell.name}, seed {seed}")
                if finished(folder) is None:
                    configs[folder] = cell.run(out, seed)
    failed: dict[Path, str] = {}
    done: list[Path] = []

    with torchrun_workers() as workers, _alone_in(out) if workers.rank == 0 else nullcontext():
        # Before anyone trains, all have seen what is left: their shares are of the same runs.
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
            print(f"{len(names)} runs in {out}, {finished_before} of them finished before", flush=True)
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        run_all(share, jobs=jobs, deadline=deadline, on_start=on_start, on_end=on_end)
        for failed_there in workers.gather(failed):
            failed |= failed_there
        if workers.rank == 0:
            for sweep in sweeps:
                trained = _trained(sweep, out, seeds)
                _time_cells(trained)
                _keep_attention(trained)
            write_tables(sweeps, out)
    if workers.rank == 0:
        _conclude(configs, names, failed)
    return out / TABLE


def _conclude(configs: Collection[Path], names: Mapping[Path, str], failed: Mapping[Path, str]) -> None:
    """Say what is left of the runs that were to do, and raise ChildProcessError where some failed."""
    left = [folder for folder in configs if finished(folder) is None and folder not in failed]
    if left:
        print(f"{len(left)} runs are left; the same command goes on with them", flush=True)
    if failed:
        errors = "; ".join(
            f"{names[folder]}: {error} (see {folder / LOG})" for folder, error in failed.items()
        )
        raise ChildProcessError(f"{len(failed)} of {len(names)} runs failed: {errors}")


def _trained(sweep: Sweep, out: Path, seeds: int) -> list[tuple[Cell, Path]]:
    """The cells that have a finished run, and their first."""
    trained: list[tuple[Cell, Path]] = []
    for cell in sweep.cells:
        folders = (cell.folder(out, seed) for seed in range(seeds))
        trained += [(cell, folder) for folder in folders if finished(folder) is not None][:1]
    return trained


def _keep_attention(trained: Sequence[tuple[Cell, Path]]) -> None:
    """Keep what the networks look at, for the report. Streams are left out: they have no first image."""
    opened: dict[str, ImageDataset] = {}
    for cell, folder in trained:
        data = cell.config.data
        if (folder / ATTENTION).exists() or is_stream(data.source):
            continue
        channels = input_size(data)[0]
        key = f"{channels} {data.test_split} {data.source} {data.options}"
        if key not in opened:
            dataset = open_dataset(data.source, data.test_split, in_chans=channels, **data.options)
            assert isinstance(dataset, ImageDataset)
            opened[key] = dataset
        save_attention(folder, opened[key])


def _time_cells(trained: Sequence[tuple[Cell, Path]]) -> None:
    """Time the networks together, unless all have times of this machine."""
    for precision in sorted({cell.config.runtime.precision for cell, _ in trained}):
        together = [pair for pair in trained if pair[0].config.runtime.precision == precision]
        machine = inference_machine(precision)
        if all(_has_time(folder, machine) for _, folder in together):
            continue
        networks = {
            cell.hash: (load_weights(folder)[0], input_size(cell.config.data)) for cell, folder in together
        }
        seconds = inference_seconds(networks, precision=precision)
        for cell, folder in together:
            content = {"seconds_per_image": seconds[cell.hash], **machine, "weights": folder.name}
            write_json(content, folder.parent / INFERENCE)


def _has_time(folder: Path, machine: dict[str, object]) -> bool:
    path = folder.parent / INFERENCE
    return path.exists() and machine.items() <= json.loads(path.read_text()).items()


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Refuse to work where another process does; the system lets go of the lock when that one ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"out: another process is running sweeps in {out}; wait for it") from error
        yield
