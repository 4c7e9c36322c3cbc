"""Time contenders in turns, refuse those with wrong outputs, and report the results.

The machines are shared, so times drift; ratios of neighboring turns do not. Each contender has one turn per
round (A, B, C, A, B, C, …), and a ratio is the median of the ratios of all rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.record import new_record, write_record
from sasa.ops import local_attention, support

RESULTS = Path(__file__).parent / "results"
Output = Tensor | Sequence[Tensor]


class WrongOutputError(RuntimeError):
    """The output of a contender is wrong, so it is not timed."""


@dataclass(frozen=True)
class Contender:
    """One of the implementations that are compared.

    Attributes:
        name: Name in the tables.
        run: Function that computes the output once.
        error: Function that returns the error of an output; see `against`.
        tolerance: Largest accepted error.
        threads: Threads of torch during its turns; None leaves them unchanged.
    """

    name: str
    run: Callable[[], Output]
    error: Callable[[Output], float]
    tolerance: float
    threads: int | None = None

    def check(self) -> None:
        """Run once and check the output.

        Raises:
            WrongOutputError: The error exceeds the tolerance.
        """
        error = self.error(self.run())
        if not error <= self.tolerance:
            raise WrongOutputError(
                f"{self.name}: wrong by {error:.2g} of the largest value, tolerance {self.tolerance:.2g}; "
                "not timed"
            )


def against(expected: Output) -> Callable[[Output], float]:
    """Return a function for the largest difference from the expected output, over its largest value.

    Of several tensors (an output and its gradients) the worst counts, each relative to its own largest value.
    """

    def error(output: Output) -> float:
        pairs = list(zip(_tensors(output), _tensors(expected), strict=True))
        if any(got.shape != want.shape for got, want in pairs):
            return math.inf
        errors = [float((got.double() - want.double()).abs().max() / want.abs().max()) for got, want in pairs]
        return max(math.inf if math.isnan(e) else e for e in errors)

    return error


class Spread(NamedTuple):
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timings:
    """Seconds per call of each contender, one entry per round."""

    seconds: dict[str, list[float]]

    def time(self, name: str) -> Spread:
        """Return the seconds per call."""
        return _spread(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> Spread:
        """Return the time of `name` over that of `baseline`, taken round by round."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return _spread([a / b for a, b in pairs])


def weighted_sum(parts: Iterable[tuple[int, Timings]]) -> Timings:
    """Return the time of a whole from the counts and times of its parts, round by round."""
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
    """Check all contenders, warm them up, and time them in turns.

    Args:
        contenders: Implementations to compare.
        rounds: Turns of each contender.
        turn: Shortest duration of a turn in seconds. A faster contender is called several times per turn,
            first once untimed, so that the caches hold its own data, and the median counts.

    Raises:
        WrongOutputError: The error of a contender exceeds its tolerance; nothing is timed.
    """
    threads = torch.get_num_threads()
    gc_was_enabled = gc.isenabled()
    try:
        for one in contenders:
            torch.set_num_threads(one.threads or threads)
            one.check()
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


def arguments(description: str | None, *, batch: bool = False) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have, and --batch if wanted."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--backend", default="auto", help="backend of local attention (default: auto)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs, to test the script; times mean nothing"
    )
    parser.add_argument("--out", type=Path, help="JSON file (default: results/NAME.json; with --quick none)")
    if batch:
        parser.add_argument("--batch", type=int, help="images per call (default: 8; with --quick 1)")
    return parser


class Report:
    """The results of one benchmark: printed as they come, written as JSON at the end.

    Args:
        name: Name of the script.
        args: The parsed `arguments`; their number of threads takes effect here.
        variant: Added to the name of the file in results/ after "_".

    Attributes:
        backend: Name of the backend that local attention uses.
        batch: Images per call.
    """

    def __init__(self, name: str, args: argparse.Namespace, variant: str = "") -> None:
        torch.set_num_threads(args.threads)
        self.args = args
        self.batch: int = getattr(args, "batch", None) or (1 if args.quick else 8)
        self.out: Path | None = args.out
        if self.out is None and not args.quick:
            self.out = RESULTS / f"{name}{variant and '_' + variant}.json"
        self.record = new_record(f"benchmarks.{name}") | {
            "benchmark": name,
            "quick": args.quick,
            "load_average_before": os.getloadavg()[0],
            "notes": [],
            "timings": {},
            "targets": [],
        }
        machine = self.record["machine"]
        print(self.record["command"])
        print(f"{machine['cpu']}, {args.threads} of {machine['cores']} cores, ", end="")
        print(f"torch {self.record['versions']['torch']}, commit {self.record['commit']}")
        load = self.record["load_average_before"]
        if load > 0.3:
            self.note(
                f"load average {load:.2f}: something else runs here, or did a minute ago; if a thread "
                "waits for a core, even ratios mean little"
            )
        self.backend = self._choose(args.backend)
        self.record["backend"] = self.backend

    def note(self, text: str) -> None:
        """Keep and print something that readers of the numbers must know."""
        self.record["notes"].append(text)
        print(f"Note: {text}", flush=True)

    def keep_freed_memory(self) -> None:
        """Let glibc keep freed memory for the next call instead of returning it to the system.

        By default this depends on what lies behind a block on the heap, and fresh pages take time. jemalloc
        and tcmalloc, which are common on servers, keep freed memory too.
        """
        if platform.libc_ver()[0] != "glibc":
            self.note("the allocator is not glibc's; its settings are unchanged")
            return
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # of malloc.h
        done = libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, 2**31 - 1)
        self.note("glibc keeps freed memory, for every contender" if done else "mallopt refused")

    def measure(
        self, title: str, contenders: Sequence[Contender], baseline: str, *, rounds: int, turn: float = 0.1
    ) -> Timings:
        """Time contenders in turns, then keep and print their table.

        Args:
            title: Title of the table.
            contenders: Implementations to compare.
            baseline: Name of the contender that the others are divided by.
            rounds: Turns of each contender, unless --rounds or --quick is given.
            turn: Shortest duration of a turn in seconds; with --quick 0.01.
        """
        rounds = self.args.rounds or (2 if self.args.quick else rounds)
        timings = measure(contenders, rounds=rounds, turn=min(turn, 0.01) if self.args.quick else turn)
        self.timings(title, timings, baseline)
        return timings

    def timings(self, title: str, timings: Timings, baseline: str) -> None:
        """Keep and print a table of times and of ratios to the baseline."""
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
        """Keep a number with its target; `sense` is "<=" or ">="."""
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
            write_record(self.record, self.out)
            print(f"Written to {self.out}")

    @property
    def layer_backend(self) -> str:
        """The backend of layers and networks: on a CPU "auto", which can project inside the kernel."""
        return "auto" if self.backend == "cpu" else self.backend

    def _choose(self, name: str) -> str:
        """Return the backend that `name` selects; note why if the compiled one cannot run."""
        x = torch.zeros(1, 64, 14, 14)
        rel = torch.zeros(8, 7, 4)
        table = support(local_attention, x, x, x, rel, rel, num_heads=8)
        reasons = table.get("cpu", ["it is not built in this version"])
        if name != "reference" and reasons:
            self.note(f"backend cpu cannot run: {'; '.join(reasons)}")
        return next(b for b, against in table.items() if not against) if name == "auto" else name


def print_targets(records: Iterable[dict[str, Any]]) -> None:
    """Print each measured number with its command and its target."""
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
