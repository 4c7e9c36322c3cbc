"""The logic of the GPU check, without a GPU: it stops in time, and reports everything."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.deadline import deadline
from benchmarks.measure import Contender, Timings, measure
from benchmarks.shapes import Spatial


def check(tmp_path: Path, seconds: float = 100.0) -> gpu.Check:
    return gpu.Check(tmp_path, 2, seconds, gpu.new_gpu_record())


def written(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))


def test_it_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="expected a CUDA GPU"):
        gpu.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def section(name: str, run: Callable[[], Any], needed: float = 0, at_most: float = 100) -> gpu.Section:
    return gpu.Section(name, needed, at_most, run)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sections and tests that ran, as on a GPU; they do nothing else."""
    names: list[str] = []
    sections = gpu.sections

    def correctness(one: gpu.Check) -> None:
        names.append("tests")
        one.record["correct"] = True

    def named(one: gpu.Check) -> list[gpu.Section]:
        return [section(x.name, partial(names.append, x.name)) for x in sections(one)]

    monkeypatch.setattr(gpu, "sections", named)
    monkeypatch.setattr(gpu, "correctness", correctness)
    monkeypatch.setattr(gpu, "machine", lambda: {"gpu": "one"})
    monkeypatch.setattr("benchmarks.record.commit", lambda: "0123456789ab")
    monkeypatch.setattr(gpu.Check, "release", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return names


@pytest.mark.parametrize(
    ("correct", "message"), [(False, r"wrong on this device.*No speed"), (None, r"did not run.*No speed")]
)
def test_no_speed_unless_the_op_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[str], correct: bool | None, message: str
) -> None:
    monkeypatch.setattr(gpu, "correctness", lambda one: one.record.update(correct=correct))
    with pytest.raises(SystemExit, match=message):
        gpu.run(check(tmp_path))
    assert ran == []
    assert written(tmp_path)["timings"] == {}


def test_the_networks_targets_come_first(tmp_path: Path, ran: list[str]) -> None:
    gpu.main(["--out", str(tmp_path)])
    assert ran[:4] == ["tests", "ceilings", "networks, inference", "networks, training"]
    groups = list(dict.fromkeys(name.partition(",")[0] for name in ran[4:]))
    assert groups == ["op forward", "op forward + backward", "FlexAttention", "convstem", "hybrid", "NATTEN"]
    assert len(ran) == len(set(ran)) == 4 + 2 * 7 + 7 + 4 + 7


def test_only_finishes_what_was_left_out(tmp_path: Path, ran: list[str]) -> None:
    """It writes to the same file, without the tests, which passed there."""
    only = ["--out", str(tmp_path), "--only"]
    gpu.main([*only, "networks"])
    assert ran == ["tests", "networks, inference", "networks, training"]
    record = written(tmp_path)
    record["not measured"] = {"ceilings": "left out", "ceilings: copy": "no", "NATTEN, 64 @ 56": "left out"}
    record["timings"] = {"networks": {}}
    record["wrong"] = ["ceilings: copy"]
    (tmp_path / "gpu.json").write_text(json.dumps(record), encoding="utf-8")
    ran.clear()
    gpu.main([*only, "ceilings", "FlexAttention, 64"])
    assert ran == ["ceilings", "FlexAttention, 64 @ 56"]
    record = written(tmp_path)
    assert record["not measured"] == {"NATTEN, 64 @ 56": "left out"}
    assert record["timings"] == {"networks": {}}
    assert record["wrong"] == []
    with pytest.raises(SystemExit):
        gpu.main([*only, "FlexAttention", "nothing"])


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"correct": None}, "0123456789ab"),
        ({"machine": {"gpu": "another"}}, "0123456789ab"),
        ({"commit": "ba9876543210"}, "0123456789ab"),
        ({"commit": "0123456789ab+"}, "0123456789ab+"),
        ({"commit": "unknown"}, "unknown"),
    ],
)
def test_only_adds_to_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[str], then: dict[str, Any], now: str
) -> None:
    gpu.main(["--out", str(tmp_path), "--only", "ceilings"])
    text = json.dumps(written(tmp_path) | then)
    (tmp_path / "gpu.json").write_text(text, encoding="utf-8")
    ran.clear()
    monkeypatch.setattr("benchmarks.record.commit", lambda: now)
    with pytest.raises(SystemExit, match="choose another --out"):
        gpu.main(["--out", str(tmp_path), "--only", "ceilings"])
    assert ran == []
    assert (tmp_path / "gpu.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("code", "last", "correct"),
    [
        (0, "==== 61 passed, 40 deselected in 9.13s ====", True),
        (1, "==== 1 failed, 60 passed in 9.13s ====", False),
        (1, "==== 60 passed, 1 error in 9.13s ====", False),
        (1, "python: No module named pytest", None),
        (0, "==== 14 skipped in 1.02s ====", None),  # as without a GPU
        (5, "==== 40 deselected in 1.02s ====", None),
        (-9, "", None),
    ],
)
def test_what_proves_the_op_right(code: int, last: str, correct: bool | None) -> None:
    assert gpu.verdict(code, last) is correct


@pytest.mark.parametrize(
    ("failed", "correct"),
    [
        (["test_fullgraph_compile[cuda:0]", "test_cuda_graph"], True),
        (["test_fullgraph_compile[cuda:0]", "test_shapes[k = 3-dtype0-cuda:0]"], False),
        (["test_sweep[0]"], False),
    ],
)
def test_what_is_around_a_call_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failed: list[str], correct: bool
) -> None:
    lines = [f"FAILED tests/ops/local_attn/triton/test_cuda.py::{name} - RuntimeError: no" for name in failed]
    printed = "\n".join(
        ["[gw0] [ 9%] FAILED tests/x.py::test_sweep[1] ", *lines, "2 failed, 60 passed in 9.13s"]
    )
    program = f"import sys; print({printed!r}); sys.exit(1)"
    monkeypatch.setattr(gpu, "test_command", lambda: [sys.executable, "-c", program])
    one = check(tmp_path)
    gpu.correctness(one)
    assert one.record["correct"] is correct
    assert [name.partition("[")[0] for name in one.record["failed tests"]] == [
        name.partition("[")[0] for name in failed
    ]


def test_every_test_around_a_call_is_there() -> None:
    found = {
        name
        for file in gpu.TESTS
        for name in re.findall(r"^def (test_\w+)", (gpu.ROOT / "tests/ops" / file).read_text(), re.MULTILINE)
    }
    assert found >= gpu.AROUND


def test_the_tests_output_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = "import sys; print('...'); print('1 failed, 60 passed in 9.13s'); sys.exit(1)"
    monkeypatch.setattr(gpu, "test_command", lambda: [sys.executable, "-c", program])
    one = check(tmp_path)
    gpu.correctness(one)
    assert one.record["correct"] is False
    assert one.record["tests"] == "1 failed, 60 passed in 9.13s"
    assert (tmp_path / "tests.txt").read_text(encoding="utf-8") == "...\n1 failed, 60 passed in 9.13s\n"


def test_tests_that_do_not_finish_prove_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They end with all their workers, and their output is kept."""
    worker = [sys.executable, "-c", "import time; time.sleep(600)"]
    program = (
        f"import subprocess, time; print(subprocess.Popen({worker}).pid); print('a PASSED'); time.sleep(600)"
    )
    monkeypatch.setattr(gpu, "test_command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(gpu, "TESTS_AT_MOST", 3.0)
    one = check(tmp_path)
    with pytest.raises(SystemExit, match=r"The tests did not finish within 3 s.*No speed"):
        gpu.run(one)
    assert one.record["correct"] is None
    pid, rest = (tmp_path / "tests.txt").read_text(encoding="utf-8").splitlines()
    assert rest == "a PASSED"
    until = time.monotonic() + 10
    while alive(int(pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(int(pid))


def alive(pid: int) -> bool:
    """Whether the process runs and is not a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_part_that_would_end_too_late_is_left_out_and_named(tmp_path: Path) -> None:
    one = check(tmp_path, seconds=5)
    assert one.section(section("quick", lambda: 3)) == 3
    assert one.section(section("long", lambda: pytest.fail("run all the same"), needed=60)) is None
    assert "left out" in one.record["not measured"]["long"]


@pytest.mark.parametrize(("seconds", "at_most"), [(0.2, 100.0), (100.0, 0.2)])
def test_a_part_ends_at_its_deadline(tmp_path: Path, seconds: float, at_most: float) -> None:
    one, before = check(tmp_path, seconds), time.monotonic()
    assert one.section(section("slow", lambda: time.sleep(600), at_most=at_most)) is None
    assert time.monotonic() - before < 10
    assert written(tmp_path)["not measured"] == {"slow": "TimeoutError: not done after 0 s"}
    assert one.section(section("next", lambda: 3)) == (3 if seconds > 1 else None)


def test_a_deadline_that_a_compiler_caught_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def catching() -> None:
        with pytest.raises(TimeoutError):
            time.sleep(600)
        time.sleep(600)

    monkeypatch.setattr("benchmarks.deadline.AGAIN", 0.1)
    with pytest.raises(TimeoutError), deadline(0.1):
        catching()


def test_a_deadline_inside_another() -> None:
    def inner() -> None:
        with pytest.raises(TimeoutError, match="after 0 s"), deadline(0.1):
            time.sleep(600)
        with deadline(100):
            pass
        time.sleep(600)

    with pytest.raises(TimeoutError, match="after 1 s"), deadline(0.6):
        inner()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_process_ends_whatever_it_does(tmp_path: Path) -> None:
    """Also if no signal reaches Python, as when a kernel hangs; the results are written by then."""
    program = (
        "import signal, sys, time; from benchmarks import gpu; import torch\n"
        "def hang(check):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(600)\n"
        "torch.cuda.is_available = lambda: True\n"
        "gpu.machine, gpu.correctness, gpu.SLACK = dict, hang, 0.5\n"
        "gpu.main(['--out', sys.argv[1], '--minutes', '0.01'])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=gpu.ROOT, timeout=60, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "in hang" in result.stderr
    assert written(tmp_path)["not measured"] == {"correctness": "the process ended in it"}


def test_a_part_that_fails_is_named_and_ends_alone(tmp_path: Path) -> None:
    one = check(tmp_path)

    def fail() -> None:
        raise RuntimeError("no kernel for head_dim 8")

    assert one.section(section("baseline", fail)) is None
    assert written(tmp_path)["not measured"] == {"baseline": "RuntimeError: no kernel for head_dim 8"}


def test_an_error_that_cuda_keeps_costs_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After an illegal access every call fails, including the release of memory."""

    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    one = check(tmp_path)
    assert one.section(section("kernel", broken)) is None
    assert list(written(tmp_path)["not measured"]) == ["kernel", "kernel: its memory was not released"]


def test_what_is_written(tmp_path: Path) -> None:
    one = check(tmp_path)
    one.timings("op", Timings({"sasa": [0.001, 0.002, 0.003]}))
    one.target("faster", 1.5, ">=", 2.0)
    one.write()
    record = written(tmp_path)
    assert record["timings"] == {"op": {"sasa": {"ms": 2.0, "low": 1.5, "high": 2.5}}}
    assert record["targets"] == [{"what": "faster", "measured": 1.5, "target": ">= 2", "met": False}]
    assert {"versions", "commit", "date", "command"} <= set(record)
    one.timings("network", Timings({"sasa": [0.5]}), images=128)
    assert one.record["timings"]["network"]["sasa"]["images/s"] == 256


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls without a GPU: another device, backend and clock, no graphs, no compiler."""

    def timed(contenders: Sequence[Contender], **options: Any) -> Timings:
        return measure(contenders, rounds=1, turn=0)

    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "BACKEND", "reference")
    monkeypatch.setattr(gpu, "measure_cuda", timed)
    monkeypatch.setattr(gpu, "graphed", lambda run: run)
    monkeypatch.setattr(gpu, "frozen", lambda module, x: module)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


def ready(name: str, seconds: float = 0.0) -> Callable[[], Contender]:
    """Return a function that builds a correct contender in as many seconds."""

    def make() -> Contender:
        time.sleep(seconds)
        return Contender(name, lambda: torch.ones(1), lambda _: 0.0, 0.0)

    return make


def no_kernel() -> Contender:
    raise RuntimeError("no kernel for head_dim 8")


@pytest.mark.usefixtures("on_a_cpu")
def test_a_baseline_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    one = check(tmp_path)
    timings = one.compare("op", {"baseline": no_kernel, "sasa": ready("sasa")})
    assert set(timings.seconds) == {"sasa"}
    assert one.record["not measured"] == {"op: baseline": "RuntimeError: no kernel for head_dim 8"}
    assert one.record["wrong"] == []
    with pytest.raises(RuntimeError, match="no contender is left"):
        one.compare("op", {"baseline": no_kernel})


@pytest.mark.usefixtures("on_a_cpu")
def test_ours_is_reported_if_it_is_wrong(tmp_path: Path, ran: list[str]) -> None:
    one = check(tmp_path)
    makers = {
        "sasa": lambda: Contender("sasa", lambda: torch.ones(1), lambda _: 0.5, 0.02),
        "baseline": ready("baseline"),
    }
    assert set(one.compare("FlexAttention", makers, name="forward").seconds) == {"baseline"}
    name = "FlexAttention: forward, sasa"
    assert "wrong by 0.5" in one.record["not measured"][name]
    assert one.record["wrong"] == [name]
    one.record["correct"] = True
    with pytest.raises(SystemExit, match=f"Wrong, and not timed: {name}"):
        gpu.run(one, ("ceilings",))


@pytest.mark.usefixtures("on_a_cpu")
def test_a_baseline_that_compiles_too_long_leaves_time_for_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "TIMING", 9.0)
    one = check(tmp_path)
    makers = {"sasa": ready("sasa"), "baseline": ready("baseline", 600.0), "next": ready("next")}
    timings = one.section(section("op", partial(one.compare, "op", makers), at_most=9.5))
    assert set(timings.seconds) == {"sasa"}
    assert list(one.record["not measured"]) == ["op: baseline", "op: next"]


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("gradients", [False, True])
def test_op_is_checked_and_timed(tmp_path: Path, gradients: bool) -> None:
    one = check(tmp_path)
    timings = gpu.op_against_plain(one, Spatial(64, 6, 2, 1), gradients, "op")
    assert set(timings.seconds) == {"sasa", "plain PyTorch", "3×3 convolution"}


@pytest.mark.usefixtures("on_a_cpu")
def test_natten_is_timed_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, shape = check(tmp_path, seconds=60), Spatial(64, 6, 2, 1)
    one.section(section("NATTEN", partial(gpu.op_against_natten, one, shape, "NATTEN")))
    assert "natten is not installed" in one.record["not measured"]["NATTEN"]

    def na2d(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
        assert q.shape == k.shape == v.shape == (one.batch, 6, 6, 8, 8)
        assert options == {"kernel_size": 7, "scale": 1.0}
        return q + k + v

    natten = ModuleType("natten")
    natten.__spec__ = ModuleSpec("natten", None)
    natten.na2d = na2d  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "natten", natten)
    gpu.op_against_natten(one, shape, "NATTEN")
    assert [set(rows) for rows in one.record["timings"].values()] == 2 * [{"sasa", "NATTEN"}]


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_and_ours_agree(tmp_path: Path) -> None:
    """Forward; backward FlexAttention does not run on a CPU, and ours is still timed."""
    one, shape = check(tmp_path), Spatial(64, 6, 2, 1)
    gpu.op_against_flex(one, shape, "FlexAttention")
    assert [set(rows) for rows in one.record["timings"].values()] == [{"sasa", "FlexAttention"}, {"sasa"}]
    assert [row["what"] for row in one.record["targets"]] == ["op forward, 64 @ 6: FlexAttention / sasa"]
    assert list(one.record["not measured"]) == [
        "FlexAttention: op forward + backward, 64 @ 6, not pooled, FlexAttention"
    ]


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("what", ["inference", "training"])
def test_networks_keep_time_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str) -> None:
    create = partial(gpu.sasa.create_model, "sasa_resnet26", width_mult=0.25)
    stabilized = gpu.network.stabilized
    stand_ins = {"ResNet-50": lambda _: stabilized(create()), "ours": lambda _: stabilized(create())}
    images = gpu.network.smooth_images(8, 32)
    monkeypatch.setattr(gpu, "NETWORKS", stand_ins)
    monkeypatch.setattr(gpu.network, "smooth_images", lambda *_: images)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 10)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 40)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    one = check(tmp_path)
    gpu.networks(one, what, "ours", "networks")
    assert one.record["not measured"] == {}
    assert one.record["memory"] == {"networks": {"ResNet-50": 30, "ours": 30}}
    assert [row["what"].partition(":")[0] for row in one.record["targets"]] == [
        f"{what}, throughput",
        f"{what}, peak memory",
    ][: 1 + (what == "training")]


@pytest.mark.usefixtures("on_a_cpu")
def test_networks_are_checked_and_called() -> None:
    images = gpu.network.smooth_images(8, 32)
    create = partial(gpu.sasa.create_model, "sasa_resnet26_convstem", width_mult=0.25)
    for make in (gpu.inference_call, gpu.training_call):
        call, error = make(gpu.network.stabilized(create()), images)
        assert error(call()) < 0.15
