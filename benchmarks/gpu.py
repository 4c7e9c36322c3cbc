"""The Triton kernels on one GPU: correctness first, then speed; `make gpu-check`.

bf16, batch 128, 224 × 224, each against its rival in the same run: the op, forward and forward +
backward, at ResNet-50's seven shapes against plain PyTorch (the reference backend), compiled
FlexAttention, a 3 × 3 convolution and, where it is installed, NATTEN, which has no relative embeddings;
then inference and training of sasa_resnet50 and sasa_resnet50_convstem against torchvision's ResNet-50,
compiled, channels-last. Every contender but NATTEN is checked before it is timed, and no speed is
reported unless the op's tests pass on the device. What there is no time for within --minutes is left out,
and the report names it. OUT/gpu.json holds all of it, OUT/tests.txt the tests' output.

    python -m benchmarks.gpu [--out FOLDER] [--minutes 8.5] [--batch 128]
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sasa
from benchmarks import network, op
from benchmarks.cuda_timing import graphed, measure_cuda
from benchmarks.flex_attention import FlexLocalAttention
from benchmarks.frozen import frozen
from benchmarks.measure import RESULTS, Contender, Timings, _commit, against, weighted_sum
from benchmarks.shapes import RESNET50, Spatial

ROOT = Path(__file__).parents[1]
DEVICE, BACKEND = "cuda", "triton"
# Of the largest value: bf16 rounds results to 2⁻⁸, and FlexAttention its weights too.
TOLERANCE = 0.02
SWEEP_CASES = 48
TESTS = tuple(f"test_{name}.py" for name in ("sweep", "nonfinite", "formats", "determinism"))
TESTS += ("triton/test_cuda.py", "square_attention/test_cuda.py")


@dataclass
class Check:
    """One run: what was found so far, and how much time is left."""

    folder: Path
    batch: int
    seconds: float
    record: dict[str, Any]
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.started)

    def section(self, name: str, wants: float, run: Callable[[], Any]) -> Any:
        """Run a part unless it would end too late; what goes wrong in it is reported and ends it alone.

        Args:
            name: Of the part.
            wants: Seconds that it takes at most, as far as is known.
            run: Does it; what it returns is returned.
        """
        if self.left() < wants:
            self.failed(name, f"left out: {self.left():.0f} s are left and it may take {wants:.0f}")
            return None
        before = time.monotonic()
        try:
            return run()
        except Exception as error:  # a rival that cannot run must not cost the other results
            self.failed(name, f"{type(error).__name__}: {str(error)[:2000]}")
            return None
        finally:
            self.record["seconds"][name] = round(time.monotonic() - before, 1)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.write()

    def failed(self, name: str, why: str) -> None:
        """Keep what was not measured, and why."""
        self.record["not measured"][name] = why
        print(f"{name}: not measured, {why}", flush=True)

    def timings(self, name: str, timings: Timings) -> None:
        """Keep times, in milliseconds."""
        rows = {}
        for one in timings.seconds:
            low, mid, high = (1e3 * timings.time(one)[i] for i in (1, 0, 2))
            rows[one] = {"ms": mid, "low": low, "high": high}
            print(f"{name:40} {one:28} {mid:9.3f} ms  ({low:.3f} … {high:.3f})", flush=True)
        self.record["timings"][name] = rows

    def target(self, what: str, measured: float, sense: str, bound: float) -> None:
        """A number with the bound it is to keep, sense being "<=" or ">="."""
        met = measured <= bound if sense == "<=" else measured >= bound
        self.record["targets"].append(
            {"what": what, "measured": measured, "target": f"{sense} {bound:g}", "met": met}
        )

    def write(self) -> None:
        """The JSON, as far as it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record, indent=1, ensure_ascii=False)
        (self.folder / "gpu.json").write_text(text + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu", help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8.5, help="to end within")
    parser.add_argument("--batch", type=int, default=128, help="images")
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit(
            "gpu-check needs a CUDA GPU, and this torch "
            f"({torch.__version__}) sees none. Without one, `make test` interprets and compiles the kernels."
        )
    check = Check(args.out, args.batch, 60 * args.minutes, new_record())
    check.record["machine"] = machine()
    run(check)


def run(check: Check) -> None:
    """All sections, those first that others need or that matter most."""
    if not check.section("correctness", 0, partial(correctness, check)):
        check.write()
        sys.exit(f"The op is wrong on this device: see {check.folder}/tests.txt. No speed is reported.")
    check.section("ceilings", 10, partial(ceilings, check))
    parts: dict[str, list[tuple[int, Timings]]] = {"forward": [], "forward + backward": []}
    for shape in RESNET50:
        for what, gradients in (("forward", False), ("forward + backward", True)):
            name = f"op {what}, {shape}"
            timings = check.section(name, 20, partial(op_against_plain, check, shape, gradients, name))
            if timings is not None:
                parts[what].append((shape.count, timings))
    for what, timed in parts.items():
        if len(timed) == len(RESNET50):
            check.timings(f"op {what}, all sixteen layers", weighted_sum(timed))
    for training in (False, True):
        check.section(
            f"networks, {'training' if training else 'inference'}",
            60,
            partial(networks, check, training),
        )
    for shape in RESNET50:
        check.section(f"FlexAttention, {shape}", 60, partial(op_against_flex, check, shape))
    for shape in RESNET50:
        check.section(f"NATTEN, {shape}", 20, partial(op_against_natten, check, shape))
    check.write()
    for row in check.record["targets"]:
        print(f"{row['what']}: {row['measured']:.3g}, target {row['target']}, met: {row['met']}")
    print(f"Written to {check.folder}/gpu.json")


def new_record() -> dict[str, Any]:
    """Of a run that has not begun."""
    packages = [name for name in ("torch", "torchvision", "triton") if importlib.util.find_spec(name)]
    return {
        "benchmark": "gpu",
        "command": f"python -m benchmarks.gpu {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            "cuda": torch.version.cuda,
            "sasa": sasa.__version__,
        },
        "commit": _commit(),
        "correct": None,
        "timings": {},
        "memory": {},
        "targets": [],
        "not measured": {},
        "seconds": {},
    }


def machine() -> dict[str, Any]:
    """The GPU."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "capability": list(torch.cuda.get_device_capability(0)),
        "cpu_cores": os.cpu_count(),
    }


def correctness(check: Check) -> bool:
    """Run the op's tests on the device, in parallel where pytest-xdist is there."""
    workers = ["-n", str(min(12, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "default",
        *workers,
        "-k",
        "cuda and not reference",
    ]
    command += [f"tests/ops/{name}" for name in TESTS]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ
        | {
            "SASA_SWEEP_CASES": str(SWEEP_CASES),
            "PYTHONPATH": str(ROOT),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # torch.use_deterministic_algorithms asks for it
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=max(60.0, check.left()),
        check=False,
    )
    check.folder.mkdir(parents=True, exist_ok=True)
    (check.folder / "tests.txt").write_text(result.stdout, encoding="utf-8")
    last = result.stdout.strip().splitlines()[-1] if result.stdout.strip() else ""
    print(f"correctness: {last}", flush=True)
    passed = result.returncode == 0 and " passed" in last
    check.record["correct"] = passed
    check.record["tests"] = last
    return passed


def ceilings(check: Check) -> None:
    """What this device moves and multiplies: a large copy and a large matrix product."""
    source = torch.randn(2**30, device=DEVICE).to(torch.bfloat16)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    contenders = [
        Contender("copy", lambda: target.copy_(source), lambda _: 0.0, 0.0),
        Contender("matrix product", lambda: a @ b, lambda _: 0.0, 0.0),
    ]
    timings = measure_cuda(contenders, rounds=5)
    check.record["machine"]["copy_bytes_per_s"] = 2 * 2 * 2**30 / timings.time("copy").median
    check.record["machine"]["bf16_flops"] = 2 * 8192**3 / timings.time("matrix product").median


def op_inputs(shape: Spatial, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `benchmarks.op` has them, on the device in bf16; the embeddings float32, as under autocast."""
    qkv, rel_row, rel_col = op.inputs(shape, batch)
    qkv = (qkv * 0.5).to(DEVICE, torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return qkv, rel_row.to(DEVICE), rel_col.to(DEVICE)


def op_call(attend: Callable[..., Tensor], shape: Spatial, gradients: bool, batch: int) -> Callable[[], Any]:
    """A function that runs it once: the output, or output and gradients of qkv and the embeddings."""
    leaves = [x.requires_grad_(gradients) for x in op_inputs(shape, batch)]
    side = -(-shape.side // shape.stride)
    torch.manual_seed(1)
    grad = torch.randn(batch, shape.channels, side, side, device=DEVICE).to(torch.bfloat16)
    grad = grad.contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        qkv, rel_row, rel_col = leaves
        with torch.set_grad_enabled(gradients):
            out = attend(*qkv.split(shape.channels, 1), rel_row, rel_col)
            if not gradients:
                return out
            # NATTEN does not use the embeddings.
            found = torch.autograd.grad(
                out, leaves, grad.to(out.dtype), allow_unused=True, materialize_grads=True
            )
            return [out.detach(), *found]

    return call


def convolution_call(shape: Spatial, gradients: bool, batch: int) -> Callable[[], Any]:
    """The 3 × 3 convolution in the same place."""
    leaves = [x.to(DEVICE, torch.bfloat16) for x in op.convolution_inputs(shape, batch)]
    x, weight = (y.contiguous(memory_format=torch.channels_last).requires_grad_(gradients) for y in leaves)

    def call() -> Any:
        with torch.set_grad_enabled(gradients):
            out = F.conv2d(x, weight, stride=shape.stride, padding=1)
            return (
                [out.detach(), *torch.autograd.grad(out, (x, weight), torch.ones_like(out))]
                if gradients
                else out
            )

    return call


def op_against_plain(check: Check, shape: Spatial, gradients: bool, name: str) -> Timings:
    """Ours, the reference and the convolution."""
    plain = op_call(op.attention("reference", shape.stride), shape, gradients, check.batch)
    truth = against(plain())
    ours = graphed(op_call(op.attention(BACKEND, shape.stride), shape, gradients, check.batch))
    convolution = graphed(convolution_call(shape, gradients, check.batch))
    contenders = [
        Contender("sasa", ours, truth, TOLERANCE),
        Contender("plain PyTorch", plain, lambda _: 0.0, 0.0),
        Contender("3×3 convolution", convolution, lambda _: 0.0, 0.0),
    ]
    timings = measure_cuda(contenders, rounds=7)
    check.timings(name, timings)
    return timings


def op_against_flex(check: Check, shape: Spatial) -> None:
    """Ours and compiled FlexAttention, at full resolution as it does not pool."""
    flex = FlexLocalAttention(shape.side, shape.side, op.KERNEL, device=DEVICE)

    def attend(q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        return flex(q, k, v, rel_row.to(q.dtype), rel_col.to(q.dtype))

    for what, gradients in (("forward", False), ("forward + backward", True)):
        full = Spatial(shape.channels, shape.side, 1, shape.count)
        plain = op_call(op.attention("reference", 1), full, gradients, check.batch)
        truth = against(plain())
        contenders = [
            Contender(name, graphed(op_call(call, full, gradients, check.batch)), truth, 2 * TOLERANCE)
            for name, call in (("sasa", op.attention(BACKEND, 1)), ("FlexAttention", attend))
        ]
        timings = measure_cuda(contenders, rounds=7)
        check.timings(f"op {what}, {full}, not pooled", timings)
        ratio = timings.ratio("FlexAttention", "sasa").median
        check.target(f"op {what}, {full}: FlexAttention / sasa", ratio, ">=", 2.0)


def op_against_natten(check: Check, shape: Spatial) -> None:
    """Ours without embeddings and NATTEN, at full resolution; at a border its windows move, ours shrink.

    So their results differ there, and NATTEN's are not checked.
    """
    if importlib.util.find_spec("natten") is None:
        raise ModuleNotFoundError("natten is not installed", name="natten")
    from natten import na2d

    def theirs(q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        heads_last = [x.permute(0, 2, 3, 1).unflatten(-1, (op.HEADS, -1)) for x in (q, k, v)]
        return na2d(*heads_last, kernel_size=op.KERNEL, scale=1.0).flatten(-2).permute(0, 3, 1, 2)

    def ours(q: Tensor, k: Tensor, v: Tensor, rel_row: Tensor, rel_col: Tensor) -> Tensor:
        return sasa.local_attention(q, k, v, num_heads=op.HEADS, kernel_size=op.KERNEL, backend=BACKEND)

    full = Spatial(shape.channels, shape.side, 1, shape.count)
    for what, gradients in (("forward", False), ("forward + backward", True)):
        contenders = [
            Contender(name, graphed(op_call(call, full, gradients, check.batch)), lambda _: 0.0, 0.0)
            for name, call in (("sasa", ours), ("NATTEN", theirs))
        ]
        timings = measure_cuda(contenders, rounds=7)
        check.timings(f"op {what}, {full}, not pooled, no embeddings", timings)


NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    "ResNet-50": lambda backend: network.resnet50(),
    "sasa_resnet50": network.sasa_resnet50,
    "sasa_resnet50_convstem": lambda backend: network.steady(
        sasa.create_model("sasa_resnet50_convstem", backend=backend)
    ),
}


def networks(check: Check, training: bool) -> None:
    """Throughput, peak memory and the targets."""
    what = "training" if training else "inference"
    images = network.smooth_images(check.batch, 224).to(DEVICE)
    contenders = []
    for name, create in NETWORKS.items():
        before, held = time.monotonic(), torch.cuda.memory_allocated()  # by those before it, and the images
        call, error = (training_call if training else inference_call)(create("auto").to(DEVICE), images)
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        check.record["memory"][f"{what}, {name}"] = torch.cuda.max_memory_allocated() - held
        contenders.append(Contender(name, call, error, 0.15))
        check.record["seconds"][f"compiling {name}, {what}"] = round(time.monotonic() - before, 1)
        if len(contenders) > 1 and check.left() < 60:
            check.failed(f"networks, {what}, those after {name}", "no time was left to compile them")
            break
    timings = measure_cuda(contenders, rounds=7, calls=1, flush=0)
    check.timings(f"{what}, batch {check.batch}", timings)
    for one in contenders[1:]:
        ratio = timings.ratio("ResNet-50", one.name).median
        bound = 0.9 if training else 1.0
        check.target(f"{what}, throughput: {one.name} / ResNet-50", ratio, ">=", bound)
        if training:
            memory = check.record["memory"]
            share = memory[f"{what}, {one.name}"] / memory[f"{what}, ResNet-50"]
            check.target(f"{what}, peak memory: {one.name} / ResNet-50", share, "<=", 1.2)


def inference_call(model: nn.Module, images: Tensor) -> tuple[Callable[[], Tensor], Callable[[Any], float]]:
    """The compiled and frozen network in bf16, ours fused; the logits of eight images are compared."""
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
    """A compiled SGD step under autocast; its first loss is compared with plain PyTorch's on eight images."""
    plain = copy.deepcopy(network.with_reference(model)).train()
    ours = copy.deepcopy(model).train()
    labels = torch.arange(len(images), device=DEVICE) % 1000

    def loss_of(model: nn.Module, count: int) -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return F.cross_entropy(model(images[:count]), labels[:count])

    with torch.no_grad():
        error = float((loss_of(ours, 8) / loss_of(plain, 8) - 1).abs())
    del plain, ours
    compiled = torch.compile(model.train(), dynamic=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(compiled, len(images))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, lambda loss: error if bool(loss.isfinite()) else float("inf")


if __name__ == "__main__":
    main()
