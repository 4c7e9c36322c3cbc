"""Time contenders in turns, refuse wrong ones, and write down what was measured on what.

The machines are shared, so that times drift; ratios of turns that lie next to each other do not. Every round
gives each contender one turn (A, B, C, A, B, C, …), and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sasa
from sasa.ops import local_attention, support

RESULTS = Path(__file__).parent / "results"
Output = Tensor | Sequence[Tensor]


class WrongOutputError(RuntimeError):
    """A contender does not compute what it should; its speed means nothing."""


@dataclass(frozen=True)
class Contender:
    """One way to compute something.

    Args:
        name: For tables.
        run: Does it once and returns the output.
        error: How far an output is from the truth; see `against`.
        tolerance: The error from which it is refused.
        threads: Of torch during its turns; None leaves them.
    """

    name: str
    run: Callable[[], Output]
    error: Callable[[Output], float]
    tolerance: float
    threads: int | None = None


def against(expected: Output) -> Callable[[Output], float]:
    """The largest difference of an output from the expected one, over the largest expected value.

    Of several tensors (an output and its gradients) the worst counts, each measured on its own scale.
    """

    def error(output: Output) -> float:
        pairs = list(zip(_tensors(output), _tensors(expected), strict=True))
        if any(got.shape != want.shape for got, want in pairs):
            return math.inf
        errors = [float((got.double() - want.double()).abs().max() / want.abs().max()) for got, want in pairs]
        return max(math.inf if math.isnan(e) else e for e in errors)

    return error


class Spread(NamedTuple):
    """Median and quartiles of the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timings:
    """Seconds a call of each contender, one entry a round."""

    seconds: dict[str, list[float]]

    def time(self, name: str) -> Spread:
        """Seconds a call."""
        return _spread(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> Spread:
        """Time of `name` over time of `baseline`, taken round by round."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return _spread([a / b for a, b in pairs])


def weighted_sum(parts: Iterable[tuple[int, Timings]]) -> Timings:
    """The time of a whole from those of its parts and how often it has them, round by round."""
    parts = list(parts)
    names = [name for name in parts[0][1].seconds if all(name in part.seconds for _, part in parts)]
    return Timings(
        {
            name: [
                sum(count * s for (count, _), s in zip(parts, turns, strict=True))
                for turns in zip(*(part.seconds[name] for _, part in parts), strict=True)
            ]
            for name in names
        }
    )


def measure(contenders: Sequence[Contender], *, rounds: int, turn: float = 0.1) -> Timings:
    """Check every contender, warm it up, then time all of them in turns.

    Args:
        contenders: What to compare.
        rounds: Turns of each.
        turn: Seconds that a turn takes at least. A contender that needs less is called several times a turn,
            first once untimed, so that the caches hold its data and not its rival's; the median counts.

    Raises:
        WrongOutputError: A contender's error is above its tolerance; nothing is timed then.
    """
    threads = torch.get_num_threads()
    gc_was_enabled = gc.isenabled()
    try:
        for one in contenders:
            torch.set_num_threads(one.threads or threads)
            error = one.error(one.run())
            if not error <= one.tolerance:
                raise WrongOutputError(
                    f"{one.name}: wrong by {error:.2g} of the largest value, tolerance {one.tolerance:.2g}; "
                    "not timed"
                )
        calls = {}
        for one in contenders:
            torch.set_num_threads(one.threads or threads)
            calls[one.name] = max(1, math.ceil(turn / _clock(one.run)))
        seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
        gc.collect()
        gc.disable()
        for _ in range(rounds):
            for one in contenders:
                torch.set_num_threads(one.threads or threads)
                if calls[one.name] > 1:
                    one.run()
                seconds[one.name].append(statistics.median(_clock(one.run) for _ in range(calls[one.name])))
    finally:
        torch.set_num_threads(threads)
        if gc_was_enabled:
            gc.enable()
    return Timings(seconds)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: every core")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--backend", default="auto", help="of local attention; default: what auto takes")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs, measures nothing")
    parser.add_argument("--out", type=Path, help="the JSON; default: results/NAME.json, with --quick none")
    return parser


class Report:
    """What one benchmark found: printed as it comes, written as JSON at the end.

    Args:
        name: Of the script.
        args: The parsed `arguments`. Here their threads take effect.
        variant: Added to the name of the file in results/, "_" between.

    Attributes:
        backend: The backend of local attention that runs, by name.
    """

    def __init__(self, name: str, args: argparse.Namespace, variant: str = "") -> None:
        torch.set_num_threads(args.threads)
        self.out: Path | None = args.out
        if self.out is None and not args.quick:
            self.out = RESULTS / f"{name}{variant and '_' + variant}.json"
        self.record: dict[str, Any] = {
            "benchmark": name,
            "command": f"python -m benchmarks.{name} {' '.join(sys.argv[1:])}".strip(),
            "quick": args.quick,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "torchvision")},
                "sasa": sasa.__version__,
            },
            "commit": _commit(),
            "threads": args.threads,
            "load_average_before": os.getloadavg()[0],
            "notes": [],
            "timings": {},
            "targets": [],
        }
        machine, versions = self.record["machine"], self.record["versions"]
        print(
            f"{self.record['command']}\n{machine['cpu']}, {args.threads} of {machine['cores']} cores, ",
            end="",
        )
        print(f"torch {versions['torch']}, commit {self.record['commit']}")
        load = self.record["load_average_before"]
        if load > 0.3:
            self.note(
                f"load average {load:.2f}: something else runs here, or did a minute ago; where threads wait "
                "for one that has no core, even ratios mean little"
            )
        self.backend = self._choose(args.backend)
        self.record["backend"] = self.backend

    def note(self, text: str) -> None:
        """Something a reader of the numbers must know."""
        self.record["notes"].append(text)
        print(f"Note: {text}", flush=True)

    def keep_freed_memory(self) -> None:
        """Let glibc keep large blocks for the next call instead of giving them back to the system.

        Whether it gives them back depends on what lies behind them on the heap, and fresh pages cost
        time. jemalloc and tcmalloc, which servers use, keep them too.
        """
        if platform.libc_ver()[0] != "glibc":
            self.note("the allocator is not glibc's, and works as it was set")
            return
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # of malloc.h
        done = libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, 2**31 - 1)
        self.note("glibc keeps freed memory, for every contender" if done else "mallopt refused")

    def timings(self, title: str, timings: Timings, baseline: str) -> None:
        """A table of times, and of ratios to the baseline."""
        rows = {}
        width = max(len(name) for name in timings.seconds) + 2
        print(f"\n{title}\n  {'':{width}}{'ms':>10}  {'quartiles':^21}  {'times ' + baseline:>9}")
        for name in timings.seconds:
            ms, ratio = Spread(*(1e3 * s for s in timings.time(name))), timings.ratio(name, baseline)
            quartiles = f"{ms.low:9.3f} … {ms.high:9.3f}"
            print(f"  {name:{width}}{ms.median:10.3f}  {quartiles}  {ratio.median:9.3f}", flush=True)
            rows[name] = {
                "ms": ms._asdict(),
                f"times {baseline}": ratio._asdict(),
                "seconds_by_round": [float(f"{s:.4g}") for s in timings.seconds[name]],
            }
        self.record["timings"][title] = rows

    def target(self, what: str, measured: Spread | float, sense: str, bound: float) -> None:
        """A number with the bound it is to keep, sense being "<=" or ">="."""
        if isinstance(measured, float):
            measured = Spread(measured, measured, measured)
        met = measured.median <= bound if sense == "<=" else measured.median >= bound
        row = {"what": what, **measured._asdict(), "target": f"{sense} {bound:g}", "met": bool(met)}
        self.record["targets"].append(row)

    def finish(self) -> None:
        """Print the targets and write the JSON."""
        print()
        print_targets([self.record])
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(
                json.dumps(self.record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            print(f"Written to {self.out}")

    @property
    def layer_backend(self) -> str:
        """The backend of layers and networks: on a CPU "auto", which can project inside the kernel."""
        return "auto" if self.backend == "cpu" else self.backend

    def _choose(self, name: str) -> str:
        """The backend that `name` stands for; says so if the compiled one cannot run."""
        x = torch.zeros(1, 64, 14, 14)
        rel = torch.zeros(8, 7, 4)
        table = support(local_attention, x, x, x, rel, rel, num_heads=8)
        reasons = table.get("cpu", ["it is not built in this version"])
        if name != "reference" and reasons:
            self.note(f"backend cpu cannot run: {'; '.join(reasons)}")
        return next(b for b, against in table.items() if not against) if name == "auto" else name


def print_targets(records: Iterable[dict[str, Any]]) -> None:
    """What was measured, by which command, and the target beside it."""
    rows = [(row, record) for record in records for row in record["targets"]]
    if not rows:
        return
    what = max(len(row["what"]) for row, _ in rows)
    command = max(len(record["command"]) for _, record in rows)
    print(f"{'what':{what}}  {'command':{command}}  {'measured':>8}  {'quartiles':^15}  {'target':>7}  met")
    for row, record in rows:
        quartiles = f"{row['low']:6.4g} … {row['high']:6.4g}"
        met = ("yes" if row["met"] else "no") + (" (quick: means nothing)" if record["quick"] else "")
        print(
            f"{row['what']:{what}}  {record['command']:{command}}  {row['median']:8.4g}  {quartiles:15}  "
            f"{row['target']:>7}  {met}"
        )


def _clock(run: Callable[[], Output]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def _tensors(output: Output) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, with a + if tracked files differ from it; SASA_COMMIT says it where there is no git."""

    def git(*command: str) -> str:
        where = Path(__file__).parent
        return subprocess.run(
            ["git", *command], cwd=where, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SASA_COMMIT", "unknown")
