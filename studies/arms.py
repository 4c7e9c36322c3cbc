"""Train the arms of a study, each with several seeds: options, progress, table and JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import new_record, write_record


def arguments(description: str | None, arms: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that all studies have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", type=int, nargs="+", metavar="N", help="numbers of the arms (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each arm (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file of the results (default: none)")
    parser.epilog = "arms:\n" + "\n".join(f"  {number}  {arm}" for number, arm in enumerate(arms))
    return parser


def run_arms(
    name: str, args: argparse.Namespace, arms: Iterable[str], train: Callable[[str], dict[str, Any]]
) -> None:
    """Train each arm with each seed, print the results as they come and a table of their means.

    Args:
        name: Name of the study's module.
        args: The parsed `arguments`; all further options are kept in the JSON.
        arms: Names of all arms of the study.
        train: Function that trains one arm, after the random seed is set, and returns its results.
    """
    arms = list(arms)
    arms = arms if args.arms is None else [arms[number] for number in args.arms]
    options = {key: value for key, value in vars(args).items() if isinstance(value, (int, float))}
    results: list[dict[str, Any]] = []
    record = new_record(f"studies.{name}") | options | {"results": results}
    for seed in range(args.seeds):
        for arm in arms:
            torch.manual_seed(seed)
            start = time.perf_counter()
            row = {"arm": arm, "seed": seed} | train(arm)
            results.append(row | {"seconds": round(time.perf_counter() - start, 1)})
            print(json.dumps(results[-1], ensure_ascii=False), flush=True)
            if args.out is not None:
                write_record(record, args.out)
    floats = {key for row in results for key, value in row.items() if isinstance(value, float)}
    columns = [key for key in results[0] if key in floats and key != "seconds"]
    width = max(map(len, arms))
    print(f"{'mean ± standard error':{width}}  " + "".join(f"{column:>20}" for column in columns))
    for arm in arms:
        rows = [row for row in results if row["arm"] == arm]
        cells = [_mean([row[column] for row in rows]) for column in columns]
        print(f"{arm:{width}}  " + "".join(f"{cell:>20}" for cell in cells))


@torch.inference_mode()
def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the top-1 accuracy of a classifier in percent; it is switched to eval mode."""
    model.eval()
    correct = sum(
        int((model(x).argmax(1) == y).sum())
        for x, y in zip(images.split(250), labels.split(250), strict=True)
    )
    return 100 * correct / len(images)


def _mean(values: list[float | None]) -> str:
    """Return mean and standard error, without the error if there is one value."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    mean = f"{statistics.mean(numbers):.3f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers) / len(numbers) ** 0.5:.3f}"
