"""The compiled part: which instructions it uses, and that nobody misses it in silence."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from sasa import local_attention
from sasa.ops import cpu_extension

from .kernels import needs_kernels

X = torch.ones(1, 4, 3, 3)


def run(code: str) -> str:
    """What the code prints and warns of in a fresh interpreter that finds no compiled part."""
    setup = """
        import pathlib, sys
        exists = pathlib.Path.exists
        pathlib.Path.exists = lambda self: self.name != "_cpu.so" and exists(self)
        import torch
        import sasa
        from sasa.ops import cpu_extension, local_attention, support
        x = torch.ones(1, 4, 3, 3)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(setup) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout + result.stderr


@pytest.mark.skipif(not shutil.which("g++"), reason="an install without a C++ compiler has no kernels")
def test_built_where_a_compiler_is() -> None:
    """Or every test of the kernels would be left out in silence."""
    assert cpu_extension.is_available()


@needs_kernels
def test_the_best_comes_first_and_portable_is_always_there() -> None:
    best_first = [name for name in ("avx512", "avx2", "portable") if name in cpu_extension.capabilities()]
    assert list(cpu_extension.capabilities()) == best_first
    assert best_first[-1] == "portable"


@needs_kernels
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the processor's features")
def test_the_processor_is_asked_for_what_it_has() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    avx2 = {"avx2", "fma"} <= set(flags)
    avx512 = avx2 and {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(flags)
    assert ("avx2" in cpu_extension.capabilities()) == avx2
    assert ("avx512" in cpu_extension.capabilities()) == avx512
    assert cpu_extension.multiplies_bfloat16() == (avx512 and "avx512_bf16" in flags)


@needs_kernels
def test_unknown_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at every call; the error names those that can be had, and no other is taken instead."""
    local_attention(X, X, X, num_heads=2, kernel_size=3, backend="cpu")
    monkeypatch.setenv("SASA_CPU_CAPABILITY", "mmx")
    with pytest.raises(RuntimeError, match="SASA_CPU_CAPABILITY") as caught:
        local_attention(X, X, X, num_heads=2, kernel_size=3)
    assert f"({' '.join(cpu_extension.capabilities())}), got mmx" in str(caught.value)


@needs_kernels
def test_an_empty_capability_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shell leaves one behind."""
    want = local_attention(X, X, X, num_heads=2, kernel_size=3, backend="cpu")
    monkeypatch.setenv("SASA_CPU_CAPABILITY", "")
    assert torch.equal(local_attention(X, X, X, num_heads=2, kernel_size=3, backend="cpu"), want)


@needs_kernels
def test_the_name_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portable code for x86 has no fused multiply-add, so its rounding differs from that of the best."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 64, 12, 40, generator=generator)
    results = []
    for name in (cpu_extension.capabilities()[0], "portable"):
        monkeypatch.setenv("SASA_CPU_CAPABILITY", name)
        results.append(local_attention(q, q, q, num_heads=2, backend="cpu"))
    torch.testing.assert_close(*results)
    assert torch.equal(*results) == (len(cpu_extension.capabilities()) == 1)


def test_one_warning_where_it_is_missing() -> None:
    """At the first call that is meant to be fast, not at the import, nor where plain PyTorch is asked for."""
    printed = run(
        """
        import warnings
        assert not cpu_extension.is_available() and cpu_extension.capabilities() == ()
        options = {"num_heads": 2, "kernel_size": 3}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            local_attention(x, x, x, **options, backend="reference")
            [reason] = support(local_attention, x, x, x, **options)["cpu"]
            assert "installed without its compiled part" in reason
            assert not caught
            for _ in range(3):
                local_attention(x, x, x, **options)
                sasa.LocalSelfAttention2d(4, 16)(x)
            [warning] = caught
        assert reason in str(warning.message) and "sasa version" in str(warning.message)
        assert warning.filename == "<string>", "it points at the user's line"
        """
    )
    assert printed == ""


def test_compiled_in_one_graph_where_it_is_missing() -> None:
    """The first call may be a traced one: the warning is no part of the graph, and comes once."""
    printed = run(
        """
        import warnings
        layer = sasa.LocalSelfAttention2d(4, 16)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
            torch.testing.assert_close(got, layer(x))
        [warning] = caught
        assert "installed without its compiled part" in str(warning.message)
        """
    )
    assert printed == ""


def test_version_says_that_it_is_missing() -> None:
    lines = run("from sasa.cli import main; main(['version'])").splitlines()
    assert lines[2] == f"CPU kernels: none; {cpu_extension.MISSING}"
    for cause in ("no C++17 compiler", "failed", "no torch", "pip install -v"):
        assert cause in lines[2]
