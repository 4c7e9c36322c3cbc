"""Correctness, then speed of the Triton kernels on one GPU; `make gpu-check`.

First the tests of the ops run on the GPU; if they fail, no speed is reported. Then, in bf16 at batch 128 and
224 × 224: inference and training of sasa_resnet50 against torchvision's ResNet-50, compiled, channels-last;
the op, forward and forward + backward, at the seven shapes of ResNet-50 against plain PyTorch (the reference
backend) and a 3 × 3 convolution, then against compiled FlexAttention; sasa_resnet50_convstem and
sasav2_resnet50_hybrid; and, if installed, NATTEN, which has no relative embeddings. The networks,
FlexAttention and our op (except next to NATTEN) are checked before they are timed. A section that cannot
run, computes wrong values, takes too long or has no time left within --minutes ends alone and is listed in
the report. OUT/gpu.json contains all results, and is written after each section; OUT/tests.txt contains the
output of the tests.

    python -m benchmarks.gpu [--out FOLDER] [--minutes 8.5] [--batch 128] [--only SECTION …]

--only runs the sections whose names begin with the given words ("networks", "op forward,",
"FlexAttention, 64") and adds them to OUT/gpu.json, without the tests if they passed there on the same
commit, versions and GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sasa
from benchmarks import network, op
from benchmarks.cuda_timing import graphed, measure_cuda, warm
from benchmarks.deadline import deadline
from benchmarks.flex_attention import FlexLocalAttention
from benchmarks.frozen import frozen
from benchmarks.measure import RESULTS, Contender, Timings, WrongOutputError, against, weighted_sum
from benchmarks.record import new_record, write_record
from benchmarks.shapes import RESNET50, Spatial

ROOT = Path(__file__).parents[1]
DEVICE, BACKEND = "cuda", "triton"
# Of the largest value: bf16 rounds outputs to 2⁻⁸, in FlexAttention the attention weights too.
TOLERANCE = 0.02
ROUNDS = 5
SWEEP_CASES = 48
# Seconds: for the tests at most; in a section, reserved to time what was built; after --minutes, until the
# process is ended whatever it does.
TESTS_AT_MOST, TIMING, SLACK = 200.0, 15.0, 15.0
TESTS = tuple(f"local_attn/test_{name}.py" for name in ("sweep", "nonfinite", "formats", "determinism"))
TESTS += ("local_attn/triton/test_cuda.py", "block_attn/test_cuda.py")
# Those about the surroundings of a call. If only these fail, they are reported, but the op is correct.
AROUND = {
    *("test_fullgraph_compile", "test_cuda_graph", "test_another_stream", "test_autocast"),
    *("test_distributed_data_parallel", "test_a_device_that_is_not_current_cuda"),
    *("test_a_device_that_is_not_current", "test_what_is_fastest_is_right_and_read_again"),
    *("test_the_op_keeps_its_promises", "test_the_ops_keep_their_promises"),
}


@dataclass(frozen=True)
class Section:
    """A part of the run.

    Attributes:
        name: Name in the report and for --only.
        needed: Seconds that must be left when it begins.
        at_most: Seconds after which it is ended.
        run: Function that does it.
    """

    name: str
    needed: float
    at_most: float
    run: Callable[[], Any]


@dataclass
class Check:
    """One run: its results so far, and the time that is left.

    Attributes:
        folder: Folder of the results.
        batch: Images per call.
        seconds: Duration of the run.
        record: Results so far, as gpu.json contains them.
        started: Time of `time.monotonic` when the run began.
        section_ends: Time of `time.monotonic` at which the present section is ended.
    """

    folder: Path
    batch: int
    seconds: float
    record: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    section_ends: float = field(init=False)

    def __post_init__(self) -> None:
        self.section_ends = self.started + self.seconds

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - (time.monotonic() - self.started)

    def section(self, one: Section) -> Any:
        """Run a section unless it would end too late; an error in it is reported and ends it alone."""
        missed, wrong = self.record["not measured"], self.record["wrong"]
        for name in [x for x in missed if x == one.name or x.startswith(f"{one.name}: ")]:
            del missed[name]  # from an earlier command
        wrong[:] = [x for x in wrong if not x.startswith(f"{one.name}: ")]
        if self.left() < one.needed:
            self.failed(one.name, f"left out: {self.left():.0f} s are left and it may take {one.needed:.0f}")
            return None
        missed[one.name] = "the process ended in it"
        self.write()
        before = time.monotonic()
        seconds = min(one.at_most, self.left())
        self.section_ends = before + seconds
        try:
            with deadline(seconds):
                result = one.run()
            del missed[one.name]
            return result
        except Exception as error:  # so that the other sections still run
            self.failed(one.name, _text(error))
            return None
        finally:
            self.record["seconds"][one.name] = round(time.monotonic() - before, 1)
            self.write()
            self.release(one.name)

    def release(self, section: str) -> None:
        """Release cached memory of the device; after some errors every call of CUDA fails, including this."""
        gc.collect()
        if torch.cuda.is_available():
            try:
                torch.cuda.empty_cache()
            except RuntimeError as error:
                self.failed(f"{section}: its memory was not released", _text(error))
                self.write()

    def compare(
        self,
        section: str,
        makers: Mapping[str, Callable[[], Contender]],
        *,
        name: str = "",
        images: int = 0,
        **options: Any,
    ) -> Timings:
        """Build, check and time contenders; one that fails is reported and left out.

        Args:
            section: Name of the present section.
            makers: Functions that build the contender of each name.
            name: Name of the timings (default: that of the section).
            images: Images per call, for networks.
            options: Options of `measure_cuda`.

        Raises:
            RuntimeError: No contender is left.
        """
        contenders = []
        for who, make in makers.items():
            try:
                with deadline(self.section_ends - TIMING - time.monotonic()):
                    one = make()
                    warm(one)
                contenders.append(one)
            except Exception as error:  # so that the others are still timed
                what = f"{section}: {name + ', ' if name else ''}{who}"
                self.failed(what, _text(error))
                if isinstance(error, WrongOutputError):
                    self.record["wrong"].append(what)
        if not contenders:
            raise RuntimeError("no contender is left")
        timings = measure_cuda(contenders, **{"rounds": ROUNDS} | options)
        self.timings(name or section, timings, images)
        return timings

    def failed(self, name: str, why: str) -> None:
        """Keep the name of something that was not measured, and the reason."""
        self.record["not measured"][name] = why
        print(f"{name}: not measured, {why}", flush=True)

    def timings(self, name: str, timings: Timings, images: int = 0) -> None:
        """Keep times in milliseconds, and images per second for networks."""
        rows = {}
        for one in timings.seconds:
            low, mid, high = (1e3 * timings.time(one)[i] for i in (1, 0, 2))
            rows[one] = {"ms": mid, "low": low, "high": high}
            if images:
                rows[one]["images/s"] = 1e3 * images / mid
            print(f"{name:40} {one:28} {mid:9.3f} ms  ({low:.3f} … {high:.3f})", flush=True)
        self.record["timings"][name] = rows

    def target(self, what: str, measured: float, sense: str, bound: float) -> None:
        """Keep a number with its target; `sense` is "<=" or ">="."""
        met = measured <= bound if sense == "<=" else measured >= bound
        others = [row for row in self.record["targets"] if row["what"] != what]
        row = {"what": what, "measured": measured, "target": f"{sense} {bound:g}", "met": met}
        self.record["targets"] = [*others, row]

    def write(self) -> None:
        """Write the results so far."""
        write_record(self.record, self.folder / "gpu.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu", help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8.5, help="duration of the run (default: 8.5)")
    parser.add_argument("--batch", type=int, default=128, help="images per call (default: 128)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SECTION", help="first words of sections to run"
    )
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit(
            f"gpu-check: expected a CUDA GPU, got none with torch {torch.__version__}; run `make test` to "
            "interpret and compile the kernels without one"
        )
    record = new_gpu_record() | {"batch": args.batch}
    record["machine"] |= machine()
    if args.only:
        record = extended(args.out, record)
    check = Check(args.out, args.batch, 60 * args.minutes, record)
    names = [section.name for section in sections(check)]
    for start in args.only:
        if not any(name.startswith(start) for name in names):
            parser.error(f"--only: expected the beginning of one of {'; '.join(names)}, got {start}")
    # A call into C that never returns receives no signal.
    faulthandler.dump_traceback_later(60 * args.minutes + SLACK, exit=True)
    try:
        run(check, tuple(args.only))
    finally:
        faulthandler.cancel_dump_traceback_later()


def extended(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record in the folder, to which this command adds, or the new record if there is none.

    The process exits if they differ in code or machine, or if the tests did not pass.
    """
    file = folder / "gpu.json"
    if not file.exists():
        return record
    earlier: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    same = all(earlier[key] == record[key] for key in ("commit", "versions", "machine", "batch"))
    known = record["commit"] != "unknown" and not record["commit"].endswith("+")
    if not (same and known and earlier["correct"]):
        sys.exit(
            f"--only: expected {file} of passed tests on the same, unchanged commit with the same versions, "
            "GPU and batch, got another; choose another --out, or leave out --only to begin again"
        )
    return earlier | {"command": f"{earlier['command']}; {record['command']}"}


PASSES = (("forward", False), ("forward + backward", True))


def sections(check: Check) -> Iterator[Section]:
    """Yield all sections after the tests, the most important first."""
    yield Section("ceilings", 20, 30, partial(ceilings, check))
    yield from network_sections(check, "networks", "sasa_resnet50")
    for shape in RESNET50:
        for what, gradients in PASSES:
            name = f"op {what}, {shape}"
            yield Section(name, 40, 60, partial(op_against_plain, check, shape, gradients, name))
    for shape in RESNET50:
        name = f"FlexAttention, {shape}"
        yield Section(name, 60, 100, partial(op_against_flex, check, shape, name))
    yield from network_sections(check, "convstem", "sasa_resnet50_convstem")
    yield from network_sections(check, "hybrid", "sasav2_resnet50_hybrid")
    for shape in RESNET50:
        name = f"NATTEN, {shape}"
        yield Section(name, 40, 60, partial(op_against_natten, check, shape, name))


def network_sections(check: Check, group: str, ours: str) -> Iterator[Section]:
    """Yield inference and training, which take some minutes to compile without a cache on disk."""
    for what, at_most in (("inference", 180), ("training", 240)):
        name = f"{group}, {what}"
        yield Section(name, 120, at_most, partial(networks, check, what, ours, name))


def run(check: Check, only: tuple[str, ...] = ()) -> None:
    """Run the tests, unless they passed in an earlier command, and all sections or those in `only`."""
    if not check.record["correct"]:
        check.section(Section("correctness", 0, TESTS_AT_MOST + 10, partial(correctness, check)))
    if not check.record["correct"]:
        check.write()
        why = "The op is wrong on this device" if check.record["correct"] is False else check.record["tests"]
        sys.exit(f"{why}: see {check.folder}/tests.txt. No speed is reported.")
    results = {}
    for section in sections(check):
        if not only or section.name.startswith(only):
            results[section.name] = check.section(section)
    for what, _ in PASSES:
        layers = [(shape.count, results.get(f"op {what}, {shape}")) for shape in RESNET50]
        timed = [(count, timings) for count, timings in layers if timings is not None]
        if len(timed) == len(RESNET50):
            check.timings(f"op {what}, all sixteen layers", weighted_sum(timed))
    check.write()
    for row in check.record["targets"]:
        print(f"{row['what']}: {row['measured']:.3g}, target {row['target']}, met: {row['met']}")
    print(f"Written to {check.folder}/gpu.json")
    if check.record["wrong"]:
        sys.exit(f"Wrong, and not timed: {'; '.join(check.record['wrong'])}")


def new_gpu_record() -> dict[str, Any]:
    """Return the record of a run that has not begun."""
    record = new_record("benchmarks.gpu")
    triton = importlib.import_module("triton").__version__ if importlib.util.find_spec("triton") else None
    record["versions"] |= {"triton": triton, "cuda": torch.version.cuda}
    return record | {
        "benchmark": "gpu",
        "correct": None,  # not known
        "tests": "The tests did not run",
        "failed tests": [],
        "wrong": [],
        "ceilings": {},
        "timings": {},
        "memory": {},
        "targets": [],
        "not measured": {},
        "seconds": {},
    }


def machine() -> dict[str, Any]:
    """Return the properties of the GPU and its driver."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "driver": driver(),
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "capability": list(torch.cuda.get_device_capability(0)),
    }


def driver() -> str:
    """Return the version of NVIDIA's driver from nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return "unknown: there is no nvidia-smi"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip().partition("\n")[0] or f"unknown: {result.stderr.strip()}"


def test_command() -> list[str]:
    """Return the command of the tests on the device, in parallel if pytest-xdist is installed."""
    workers = ["-n", str(min(12, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
    pytest = [sys.executable, "-m", "pytest", "-v", "-W", "default", *workers]
    return [*pytest, "-k", "cuda and not reference", *(f"tests/ops/{name}" for name in TESTS)]


def correctness(check: Check) -> None:
    """Run the tests of the ops; their output is written to a file as it comes."""
    check.folder.mkdir(parents=True, exist_ok=True)
    file = check.folder / "tests.txt"
    seconds = min(TESTS_AT_MOST, check.left())
    variables = {
        "SASA_SWEEP_CASES": str(SWEEP_CASES),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # needed for torch.use_deterministic_algorithms
    }
    with file.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            test_command(),
            cwd=ROOT,
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            finished = True
        except subprocess.TimeoutExpired:
            finished = False
        finally:  # also the workers of pytest-xdist, which are in its process group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    printed = file.read_text(encoding="utf-8", errors="replace").strip()
    last = ["", *printed.splitlines()][-1]
    if finished:
        failed = re.findall(r"^(?:FAILED|ERROR) (?:\S+::)?(\S+)", printed, re.MULTILINE)
        check.record["correct"] = verdict(process.returncode, last, failed)
        check.record["tests"] = last
        check.record["failed tests"] = failed
    else:
        check.record["tests"] = f"The tests did not finish within {seconds:.0f} s"
    print("correctness:", check.record["tests"], *check.record["failed tests"], flush=True)


def verdict(code: int, last: str, failed: Sequence[str] = ()) -> bool | None:
    """Return whether the op is correct, or None if the tests do not show it.

    Args:
        code: Exit status of pytest.
        last: Last line of its output.
        failed: Names of the tests that failed.
    """
    around = bool(failed) and {name.partition("[")[0] for name in failed} <= AROUND
    if " passed" in last and (code == 0 or (code == 1 and around)):
        return True
    return False if code == 1 and (" failed" in last or " error" in last) else None


def ceilings(check: Check) -> None:
    """Time a large copy and a large matrix product, the limits of this device."""
    source = torch.randn(2**30, device=DEVICE).to(torch.bfloat16)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    makers = {
        "copy": lambda: Contender("copy", lambda: target.copy_(source), lambda _: 0.0, 0.0),
        "matrix product": lambda: Contender("matrix product", lambda: a @ b, lambda _: 0.0, 0.0),
    }
    timings = check.compare("ceilings", makers)
    check.record["ceilings"] = {
        "copy_bytes_per_s": 2 * 2 * 2**30 / timings.time("copy").median,
        "bf16_flops": 2 * 8192**3 / timings.time("matrix product").median,
    }


def op_inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs of `benchmarks.op` on the device: bf16, and float32 embeddings as under autocast."""
    qkv, rel_row, rel_col = op.inputs(shape, batch)
    qkv = (qkv * 0.5).to(DEVICE, torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return qkv, rel_row.to(DEVICE), rel_col.to(DEVICE)


def op_call(attend: Callable[..., Tensor], shape: Spatial, gradients: bool, batch: int) -> Callable[[], Any]:
    """Return a function for the output, or for output and gradients of qkv and the embeddings."""
    leaves = [x.requires_grad_(gradients) for x in op_inputs(shape, batch)]
    torch.manual_seed(1)
    grad = torch.randn(batch, shape.channels, shape.out_side, shape.out_side, device=DEVICE).to(
        torch.bfloat16
    )
    grad = grad.contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        qkv, rel_row, rel_col = leaves
        with torch.set_grad_enabled(gradients):
            out = attend(*qkv.split(shape.channels, 1), rel_row, rel_col)
            if not gradients:
                return out
            # NATTEN does not use the embeddings.
            grads = torch.autograd.grad(
                out, leaves, grad.to(out.dtype), allow_unused=True, materialize_grads=True
            )
            return [out.detach(), *grads]

    return call


def convolution_call(shape: Spatial, gradients: bool, batch: int) -> Callable[[], Any]:
    """Return the same function of the 3 × 3 convolution."""
    leaves = [x.to(DEVICE, torch.bfloat16) for x in op.convolution_inputs(shape, batch)]
    x, weight = (y.contiguous(memory_format=torch.channels_last).requires_grad_(gradients) for y in leaves)
    grad = torch.ones(batch, len(weight), shape.out_side, shape.out_side, dtype=x.dtype, device=DEVICE)
    grad = grad.contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        with torch.set_grad_enabled(gradients):
            out = F.conv2d(x, weight, stride=shape.stride, padding=1)
            return [out.detach(), *torch.autograd.grad(out, (x, weight), grad)] if gradients else out

    return call


def op_against_plain(check: Check, shape: Spatial, gradients: bool, name: str) -> Timings:
    """Time our op, the reference backend and the convolution."""
    plain = op_call(op.attention("reference", shape.stride), shape, gradients, check.batch)
    truth = against(plain())

    def ours() -> Contender:
        call = op_call(op.attention(BACKEND, shape.stride), shape, gradients, check.batch)
        return Contender("sasa", graphed(call), truth, TOLERANCE)

    def convolution() -> Contender:
        call = convolution_call(shape, gradients, check.batch)
        return Contender("3×3 convolution", graphed(call), lambda _: 0.0, 0.0)

    makers = {
        "sasa": ours,
        "plain PyTorch": lambda: Contender("plain PyTorch", plain, lambda _: 0.0, 0.0),
        "3×3 convolution": convolution,
    }
    return check.compare(name, makers)


def op_against_flex(check: Check, shape: Spatial, section: str) -> None:
    """Time our op and compiled FlexAttention at full resolution, because FlexAttention does not pool."""
    torch.compiler.reset()  # so that dynamo's limit of compilations applies to this shape alone
    full = Spatial(shape.channels, shape.side, 1, shape.count)

    def flex() -> Callable[..., Tensor]:
        compiled = FlexLocalAttention(shape.side, shape.side, op.KERNEL, device=DEVICE)
        return lambda q, k, v, row, col: compiled(q, k, v, row.to(q.dtype), col.to(q.dtype))

    for what, gradients in PASSES:
        truth = against(op_call(op.attention("reference", 1), full, gradients, check.batch)())

        def contender(
            name: str,
            create: Callable[[], Callable[..., Tensor]],
            gradients: bool = gradients,
            truth: Callable[[Any], float] = truth,
        ) -> Contender:
            call = op_call(create(), full, gradients, check.batch)
            return Contender(name, graphed(call), truth, 2 * TOLERANCE)

        makers = {
            "sasa": partial(contender, "sasa", partial(op.attention, BACKEND, 1)),
            "FlexAttention": partial(contender, "FlexAttention", flex),
        }
        timings = check.compare(section, makers, name=f"op {what}, {full}, not pooled")
        if len(timings.seconds) == len(makers):
            ratio = timings.ratio("FlexAttention", "sasa").median
            check.target(f"op {what}, {full}: FlexAttention / sasa", ratio, ">=", 2.0)


def op_against_natten(check: Check, shape: Spatial, section: str) -> None:
    """Time our op without embeddings and NATTEN at full resolution.

    The outputs are not compared: at a border the windows of NATTEN are shifted, and ours are truncated.
    """
    if importlib.util.find_spec("natten") is None:
        raise ModuleNotFoundError("natten is not installed", name="natten")
    from natten import na2d

    def natten(q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        heads_last = [x.permute(0, 2, 3, 1).unflatten(-1, (op.HEADS, -1)) for x in (q, k, v)]
        return na2d(*heads_last, kernel_size=op.KERNEL, scale=1.0).flatten(-2).permute(0, 3, 1, 2)

    def ours(q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        return sasa.local_attention(q, k, v, num_heads=op.HEADS, kernel_size=op.KERNEL, backend=BACKEND)

    full = Spatial(shape.channels, shape.side, 1, shape.count)
    for what, gradients in PASSES:

        def contender(name: str, attend: Callable[..., Tensor], gradients: bool = gradients) -> Contender:
            call = op_call(attend, full, gradients, check.batch)
            return Contender(name, graphed(call), lambda _: 0.0, 0.0)

        makers = {"sasa": partial(contender, "sasa", ours), "NATTEN": partial(contender, "NATTEN", natten)}
        check.compare(section, makers, name=f"op {what}, {full}, not pooled, no embeddings")


NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    "ResNet-50": lambda backend: network.resnet50(),
    **{
        name: partial(network.create, name)
        for name in ("sasa_resnet50", "sasa_resnet50_convstem", "sasav2_resnet50_hybrid")
    },
}


def networks(check: Check, what: str, ours: str, section: str) -> None:
    """Measure throughput and peak memory of one of our networks and of ResNet-50.

    Args:
        check: The run.
        what: "inference" or "training".
        ours: Name of our network.
        section: Name of the section.
    """
    torch.compiler.reset()  # so that dynamo's limit of compilations applies to these alone
    training = what == "training"
    images = network.smooth_images(check.batch, 224).to(DEVICE)
    memory: dict[str, int] = {}

    def contender(name: str) -> Contender:
        gc.collect()
        before, held = time.monotonic(), torch.cuda.memory_allocated()  # earlier networks, images
        model = NETWORKS[name]("auto").to(DEVICE)
        call, error = (training_call if training else inference_call)(model, images)
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        memory[name] = torch.cuda.max_memory_allocated() - held
        check.record["seconds"][f"{section}: compiling {name}"] = round(time.monotonic() - before, 1)
        return Contender(name, call, error, 0.15)

    makers = {name: partial(contender, name) for name in ("ResNet-50", ours)}
    timings = check.compare(section, makers, images=len(images), calls=1, flush=0)
    memory = {name: memory[name] for name in timings.seconds}
    check.record["memory"][section] = memory
    if len(timings.seconds) == len(makers):
        ratio = timings.ratio("ResNet-50", ours).median
        check.target(f"{what}, throughput: {ours} / ResNet-50", ratio, ">=", 0.9 if training else 1.0)
        if training:
            share = memory[ours] / memory["ResNet-50"]
            check.target(f"{what}, peak memory: {ours} / ResNet-50", share, "<=", 1.2)


def inference_call(model: nn.Module, images: Tensor) -> tuple[Callable[[], Tensor], Callable[[Any], float]]:
    """Return the frozen network in bf16, ours fused, and the error of the logits of eight images."""
    model = network.calibrated(model, images[:8])
    truth = against(network.plain_logits(model, images[:8]))
    fused = sasa.fuse(model) if any("Attention" in type(m).__name__ for m in model.modules()) else model
    fused = fused.to(torch.bfloat16).to(memory_format=torch.channels_last)
    x = images.to(torch.bfloat16)
    with torch.no_grad():
        compiled = frozen(fused, x)

    def call() -> Tensor:
        with torch.no_grad():
            return compiled(x)

    return call, lambda logits: truth(logits[:8])


def training_call(model: nn.Module, images: Tensor) -> tuple[Callable[[], Tensor], Callable[[Any], float]]:
    """Return a compiled SGD step under autocast, and its error.

    The loss of eight images is compared with that in plain PyTorch, and the norm of the gradient of all
    images with that of the network before compilation.
    """
    plain = copy.deepcopy(network.with_reference(model)).train()
    ours = copy.deepcopy(model).train()
    labels = torch.arange(len(images), device=DEVICE) % 1000

    def loss_of(model: nn.Module, count: int) -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return F.cross_entropy(model(images[:count]), labels[:count])

    with torch.no_grad():
        error = float((loss_of(ours, 8) / loss_of(plain, 8) - 1).abs())
    del plain, ours
    compiled = torch.compile(model.train(), dynamic=False, fullgraph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def gradient(module: nn.Module) -> Tensor:
        loss_of(module, len(images)).backward()
        length = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        optimizer.zero_grad()
        return length

    error = max(error, float((gradient(compiled) / gradient(model) - 1).abs()))

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(compiled, len(images))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, lambda loss: error if bool(loss.isfinite()) else float("inf")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:2000]}"


if __name__ == "__main__":
    main()
