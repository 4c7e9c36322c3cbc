"""Run sweeps: what is finished is skipped, what is half done goes on, and one table holds the results."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path

from sasa.data import ImageDataset, create_dataset, is_stream
from sasa.models import attention_layers, create_model
from sasa.train.ablation.attention_arrays import ATTENTION, save_attention
from sasa.train.ablation.inference_time import Timed, inference_machine, inference_seconds
from sasa.train.ablation.plan import Cell, Sweep, check_seeds
from sasa.train.ablation.processes import LOG, Outcome, finished, run_all
from sasa.train.ablation.tables import INFERENCE, TABLE, first_runs, require_results_kept, write_tables
from sasa.train.ablation.workers import torchrun_workers
from sasa.train.config import TrainConfig
from sasa.train.fit import CONFIG_FILE, write_json
from sasa.train.loaders import input_size
from sasa.train.weights import WEIGHTS_FILE, load_weights


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
    and recipe share their runs. The tables are written anew after every run. At the end all networks of the
    folder are timed together (inference_time.METHOD), those of sweeps run there before included, unless all
    have been already, and what their attention looks at is kept for the report.

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
        ValueError: An argument is out of its range, or the folder holds finished runs of one of the sweeps by
            another recipe, which its tables would lose.
    """
    check_seeds(seeds)
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1, got {jobs}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    out = Path(out)
    require_results_kept(sweeps, out)
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
            write_tables(sweeps, out)
            _time_networks(out)
            for sweep in sweeps:
                _keep_attention(_trained(sweep, out, seeds))
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
        model, data = cell.config.model, cell.config.data
        if (folder / ATTENTION).exists() or is_stream(data.source):
            continue
        if not attention_layers(create_model(model.name, device="meta", **model.options)):
            continue
        if not (folder / WEIGHTS_FILE).exists():
            print(f"{folder}: its attention is not kept, its weights are gone", flush=True)
            continue
        channels = input_size(data)[0]
        key = f"{channels} {data.test_split} {data.source} {data.on_broken} {data.options}"
        if key not in opened:
            dataset = create_dataset(
                data.source, data.test_split, in_chans=channels, on_broken=data.on_broken, **data.options
            )
            assert isinstance(dataset, ImageDataset)
            opened[key] = dataset
        save_attention(folder, opened[key])


def _time_networks(out: Path) -> None:
    """Time every network of the tables in one session, unless all have times of one on this machine.

    Those of sweeps that were run here before are timed again with the new ones: the report compares them, and
    sweeps share networks.
    """
    runs = []
    for folder in first_runs(out):
        if (folder / WEIGHTS_FILE).exists():
            runs.append(folder)
        else:
            print(f"{folder}: not timed, its weights are gone", flush=True)
    machine = inference_machine()
    before = [folder.parent / INFERENCE for folder in runs]
    if all(path.exists() for path in before):
        known = [json.loads(path.read_text()) for path in before]
        here = all(machine.items() <= timing.items() for timing in known)
        if here and len({timing["session"] for timing in known}) <= 1:
            return
    session = datetime.now(timezone.utc).isoformat()
    networks = {}
    for folder in runs:
        network, metadata = load_weights(folder)
        assert metadata.recipe is not None, "it is a run's"
        channels, height, width = metadata.input_size
        networks[folder] = Timed(network, (channels, height, width), metadata.recipe["runtime"]["precision"])
    print(f"timing the {len(runs)} networks of {out} together", flush=True)
    for folder, seconds in inference_seconds(networks).items():
        content = {
            "seconds_per_image": seconds,
            "precision": networks[folder].precision,
            **machine,
            "session": session,
            "weights": folder.name,
        }
        write_json(content, folder.parent / INFERENCE)


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Refuse to work where another process does; the system lets go of the lock when that one ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"out: another process is running sweeps in {out}; wait for it") from error
        yield
