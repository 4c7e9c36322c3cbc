"""What whole networks should take on an H100, counted on paper, roughly; nothing here is measured.

sasa_resnet50 and sasa_resnet50_convstem against torchvision's ResNet-50, batch 128 at 224 × 224, bf16,
channels-last. Each network is traced once, forward and backward, without computing anything. An op takes the
larger of its bytes and its products at the rates of `benchmarks.gpu_model`; attention takes what that
predicts, the attention stem the time to issue its instructions. Nothing is launched, stalls or is slower than
its rate, in any network.

What is fused is the same for all. Inference: norms are in the weights, and ReLUs and casts in the ops before
them; a residual addition costs the reading of its second operand. Training: a norm with the ReLU that follows
passes twice over its input, forward and backward, and writes once; a convolution's two gradients are two
passes. SGD with momentum reads three float32 numbers of each parameter and writes two.

    python -m benchmarks.gpu_network_model [--batch 128]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import sasa
from benchmarks.gpu_model import (
    BF16,
    BYTES_PER_S,
    SLOTS_PER_S,
    floor_seconds,
    instructions,
    predict,
    with_dot,
)
from benchmarks.shapes import Spatial
from sasa.ops.block_attn.backends.triton import launch

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: torchvision.models.resnet50(),
    "sasa_resnet50": lambda: sasa.create_model("sasa_resnet50"),
    "sasa_resnet50_convstem": lambda: sasa.create_model("sasa_resnet50_convstem"),
}
SIDE = 224
# What `python -m tests.ops.block_attn.offline 90 bfloat16` prints.
STEM = instructions("gpu_instructions_stem.json")

# How often an op of a training step reads its inputs and writes its outputs; those left out of inference.
TRAFFIC = {
    "aten::convolution": (1, 1),
    "aten::native_batch_norm": (2, 1),
    "aten::relu_": (0, 0),
    "aten::add": (0.5, 0),  # one of two; its sum is the next op's to write
    "aten::add_": (0.5, 0),
    "aten::addcmul": (1, 1),  # the norm after the attention stem
    "aten::max_pool2d_with_indices": (1, 1),
    "aten::mean": (1, 1),
    "aten::addmm": (1, 1),
    "aten::mm": (1, 1),
    "aten::mul": (1, 1),
    "aten::div": (1, 1),
    "aten::sum": (1, 0),
    "aten::cat": (1, 1),  # gradients of q, k and v
    "aten::max_pool2d_with_indices_backward": (1, 1),
    "aten::native_batch_norm_backward": (2, 1),
    "aten::threshold_backward": (1, 0),  # of two inputs it is what was kept that is read, in both passes
    "aten::_to_copy": (0, 0),
}
FOLDED = {"aten::native_batch_norm"}
SMALL = 2**20  # elements; ops on less, such as those on parameters, are left out


@dataclass(frozen=True)
class Call:
    """An op with what it was called with."""

    op: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Without its overload."""
        name: str = self.op.name().partition(".")[0]
        return name

    @property
    def flops(self) -> int:
        """As torch counts them: of convolutions and products of matrices."""
        formula = flop_registry.get(self.op.overloadpacket)
        return formula(*self.arguments, **self.options, out_val=self.result) if formula else 0


@dataclass(frozen=True)
class Trace:
    """A network's calls, the maps that it keeps for its backward pass, and its parameters.

    Args:
        forward: In training; without what `FOLDED` names it is inference too.
        backward: Of all parameters, not of the images.
        kept: Bytes.
        parameters: Their number.
    """

    forward: list[Call]
    backward: list[Call]
    kept: int
    parameters: int


class Recorder(TorchDispatchMode):
    """Every call on large tensors that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, result)) if isinstance(x, Tensor)]
        if not func.is_view and any(x.numel() >= SMALL for x in tensors) and func.namespace != "prim":
            self.calls.append(Call(func, args, kwargs or {}, result))
        return result


def trace(network: nn.Module, batch: int, side: int = SIDE) -> Trace:
    """Of a training step in bf16, on tensors without storage; the network is converted.

    They are said to be on the CPU, whose compiled kernels are behind the same schemas as those for GPUs.
    """
    network = network.to(torch.bfloat16).to(memory_format=torch.channels_last).train()
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if isinstance(x, FakeTensor):  # not a parameter
            kept[x.untyped_storage()._cdata] = x
        return x

    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(batch, 3, side, side, dtype=torch.bfloat16)
        images = images.to(memory_format=torch.channels_last)
        with (
            Recorder() as forward,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        ):
            logits = network(images)
        loss = logits.sum()
        with Recorder() as backward:
            torch.autograd.grad(loss, list(network.parameters()))
    bytes_kept = sum(x.untyped_storage().nbytes() for x in kept.values())
    parameters = sum(x.numel() for x in network.parameters())
    return Trace(forward.calls, backward.calls, bytes_kept, parameters)


@dataclass(frozen=True)
class Seconds:
    """Of a pass, by what takes them."""

    attention: float = 0.0
    attention_floor: float = 0.0  # what perfect kernels would take in the place of ours
    stem: float = 0.0
    others: float = 0.0

    @property
    def total(self) -> float:
        return self.attention + self.stem + self.others

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def inference(traced: Trace) -> Seconds:
    """Of the forward pass, without what is folded into its neighbors."""
    return sum((seconds(one, training=False) for one in traced.forward if one.name not in FOLDED), Seconds())


def training_step(traced: Trace) -> Seconds:
    """Of forward pass, backward pass and optimizer."""
    optimizer = Seconds(others=5 * 4 * traced.parameters / BYTES_PER_S)
    return sum((seconds(one, training=True) for one in traced.forward + traced.backward), optimizer)


def seconds(one: Call, *, training: bool) -> Seconds:
    """Of one call.

    Raises:
        ValueError: It is none that was counted on, as where the compiled kernels are missing.
    """
    if one.name in ("sasa::local_attention", "sasa::local_attention_backward"):
        return attention(one)
    if one.name.startswith("sasa::block_attention"):
        return Seconds(stem=stem(one, training=training))
    if one.name == "aten::convolution_backward":
        return Seconds(others=gradients_of_convolution(one))
    if one.name not in TRAFFIC:
        raise ValueError(
            f"network: expected the ops in TRAFFIC and those of sasa's compiled kernels, got {one.name}; add "
            "how often it reads and writes its maps, or build the kernels"
        )
    read, written = TRAFFIC[one.name]
    moved = read * size(one.arguments) + written * size(one.result)
    return Seconds(others=slower(moved, one.flops))


def size(of: Any) -> int:
    """Bytes of tensors of floating point, in bf16."""
    return 2 * sum(x.numel() for x in tree_leaves(of) if isinstance(x, Tensor) and x.is_floating_point())


def slower(moved: float, flops: float) -> float:
    """Seconds for as many bytes or FLOPs."""
    return max(moved / BYTES_PER_S, flops / BF16.flops_per_s)


def gradients_of_convolution(one: Call) -> float:
    """Of each that is wanted: two of the three maps are read, the third is written."""
    grad, x, weight = one.arguments[:3]
    wanted = sum(one.arguments[-1][:2])
    return wanted * slower(size((grad, x, weight)), one.flops / wanted)


def attention(one: Call) -> Seconds:
    """As `benchmarks.gpu_model` predicts it."""
    direction = "backward" if one.name.endswith("backward") else "forward"
    q = one.arguments[1 if direction == "backward" else 0]
    # num_heads, the window and so on follow the tensors; the pooling is the last of them.
    pool = [x for x in one.arguments if type(x) is int][-1]
    shape, batch = Spatial(q.shape[1], q.shape[2], pool, 1), len(q)
    ours = predict(shape, batch, direction, dot=with_dot(shape, direction))
    return Seconds(attention=ours.seconds, attention_floor=floor_seconds(shape, batch, direction))


def stem(one: Call, *, training: bool) -> float:
    """The time to issue the instructions of the attention stem's kernel, or to move its bytes."""
    tensors = [x for x in tree_leaves(one.arguments) if isinstance(x, Tensor)]
    block = next(x for x in one.arguments if type(x) is int)
    images, *learned = tensors[-4:]
    problem = launch.Problem(images, *learned, block, max_pool=True)
    if one.name.endswith("backward"):
        name = "backward, statistics"
        launched = launch.backward(problem, tensors[0], tensors[1], learned)
        programs = launch.backward_programs(problem)
    else:
        name = "forward, statistics" if training else "forward, pooled"
        out = tree_leaves(one.result)[0]
        launched = launch.forward(problem, out, learned[0] if training else None)
        programs = launch.forward_programs(problem)
    around, (loop,) = STEM[name]["ONCE"], STEM[name]["LOOPS"]
    issued = launched.warps * problem.num_heads * (programs * around + problem.blocks * loop)
    return max(issued / SLOTS_PER_S, slower(size((one.arguments, one.result)), 0))


def main() -> None:
    """Print the tables of docs/gpu.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images")
    batch = parser.parse_args().batch
    traces = {name: trace(create(), batch) for name, create in NETWORKS.items()}
    for what, of in (("inference", inference), ("training step", training_step)):
        columns = f"{what}, attention ms, stem ms, others ms, all ms, images/s, of ResNet-50"
        columns += ", with perfect attention, with others twice as slow"
        print(f"| {columns.replace(', ', ' | ')} |\n| :--- |" + " ---: |" * 8)
        found = {name: of(traced) for name, traced in traces.items()}
        for name, one in found.items():
            ms = [f"{1e3 * x:.2f}" for x in (one.attention, one.stem, one.others, one.total)]
            rival = found["ResNet-50"]
            ratios = [
                rival.total / one.total,
                rival.total / (one.total - one.attention + one.attention_floor),
                (rival.total + rival.others) / (one.total + one.others),
            ]
            cells = [name, *ms, f"{batch / one.total:.0f}", *(f"{ratio:.2f}" for ratio in ratios)]
            print(f"| {' | '.join(cells)} |")
        print()
    print("| memory of a training step | kept maps GB | with weights GB | of ResNet-50 |")
    print("| :--- |" + " ---: |" * 3)
    memory = {name: (one.kept, one.kept + 3 * 4 * one.parameters) for name, one in traces.items()}
    for name, (kept, together) in memory.items():
        ratio = together / memory["ResNet-50"][1]
        print(f"| {name} | {kept / 1e9:.2f} | {together / 1e9:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
