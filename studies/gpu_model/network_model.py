"""Rough predicted time of whole networks on an H100; nothing is measured.

sasa_resnet50 and sasa_resnet50_convstem against torchvision's ResNet-50, batch 128 at 224 × 224, bf16,
channels-last. Each network is traced once, forward and backward, on fake tensors. An op takes the larger of
the times for its bytes and its products at the rates of `studies.gpu_model.model`; attention takes the time
predicted there, and the attention stem the time to issue its instructions. Launches, stalls and lower rates
are left out for all networks.

Fusion is the same for all networks. In inference, norms are part of the weights, ReLUs and casts part of the
ops before them, and a residual addition takes the reading of its second operand. In training, a norm and the
ReLU after it read their input twice, forward and backward, and write once; the two gradients of a convolution
are two passes. SGD with momentum reads three float32 numbers per parameter and writes two.

    python -m studies.gpu_model.network_model [--batch 128]
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
from benchmarks.shapes import Spatial
from sasa.ops.block_attn.backends.triton import launch
from studies.gpu_model.model import (
    BF16,
    BYTES_PER_S,
    SLOTS_PER_S,
    floor_seconds,
    instructions,
    predict,
    with_dot,
)

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: torchvision.models.resnet50(),
    "sasa_resnet50": lambda: sasa.create_model("sasa_resnet50"),
    "sasa_resnet50_convstem": lambda: sasa.create_model("sasa_resnet50_convstem"),
}
SIDE = 224
# What `python -m tests.ops.block_attn.offline 90 bfloat16` prints.
STEM = instructions("instructions_stem.json")

# How often an op of a training step reads its inputs and writes its outputs.
TRAFFIC = {
    "aten::convolution": (1, 1),
    "aten::native_batch_norm": (2, 1),
    "aten::relu_": (0, 0),
    "aten::add": (0.5, 0),  # reads one of two; the next op writes the sum
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
    "aten::threshold_backward": (1, 0),  # reads the kept input of two, in both passes
    "aten::_to_copy": (0, 0),
}
FOLDED = {"aten::native_batch_norm"}  # not part of inference
SMALL = 2**20  # elements; ops on smaller tensors, such as parameters, are left out


@dataclass(frozen=True)
class Call:
    """One call of an op, with its arguments and its result."""

    op: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """The op's name without its overload."""
        name: str = self.op.name().partition(".")[0]
        return name

    @property
    def flops(self) -> int:
        """FLOPs of convolutions and matrix products, as torch counts them."""
        formula = flop_registry.get(self.op.overloadpacket)
        return formula(*self.arguments, **self.options, out_val=self.result) if formula else 0


@dataclass(frozen=True)
class Trace:
    """The calls and the memory of one training step of a network.

    Attributes:
        forward: Calls of the forward pass; without those in `FOLDED` they are inference too.
        backward: Calls for the gradients of all parameters, without those of the images.
        kept: Bytes of the maps that are kept for the backward pass.
        parameters: Number of parameters.
    """

    forward: list[Call]
    backward: list[Call]
    kept: int
    parameters: int


class Recorder(TorchDispatchMode):
    """A mode that keeps all calls on large tensors except views."""

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
    """Trace a training step in bf16 on fake tensors; the network is converted.

    Their device is the CPU, because its compiled kernels have the same schemas as those for GPUs.
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
    """The time of a pass by its parts.

    Attributes:
        attention: Time of the op.
        attention_floor: Time of the op with perfect kernels.
        stem: Time of the attention stem.
        others: Time of everything else.
    """

    attention: float = 0.0
    attention_floor: float = 0.0
    stem: float = 0.0
    others: float = 0.0

    @property
    def total(self) -> float:
        """Time of the whole pass."""
        return self.attention + self.stem + self.others

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def inference(traced: Trace) -> Seconds:
    """Return the time of the forward pass without the norms, which are folded into other layers."""
    return sum((seconds(one, training=False) for one in traced.forward if one.name not in FOLDED), Seconds())


def training_step(traced: Trace) -> Seconds:
    """Return the time of forward pass, backward pass and optimizer."""
    optimizer = Seconds(others=5 * 4 * traced.parameters / BYTES_PER_S)
    return sum((seconds(one, training=True) for one in traced.forward + traced.backward), optimizer)


def seconds(one: Call, *, training: bool) -> Seconds:
    """Return the time of one call.

    Raises:
        ValueError: The op is unknown to this model, for example because the compiled kernels are missing.
    """
    if one.name in ("sasa::local_attention", "sasa::local_attention_backward"):
        return attention(one)
    if one.name.startswith("sasa::block_attention"):
        return Seconds(stem=stem(one, training=training))
    if one.name == "aten::convolution_backward":
        return Seconds(others=gradients_of_convolution(one))
    if one.name not in TRAFFIC:
        raise ValueError(
            f"network: expected the ops in TRAFFIC and the compiled ops of sasa, got {one.name}; add its "
            "reads and writes to TRAFFIC, or build the kernels"
        )
    read, written = TRAFFIC[one.name]
    moved = read * size(one.arguments) + written * size(one.result)
    return Seconds(others=slower(moved, one.flops))


def size(of: Any) -> int:
    """Return the bytes of all floating-point tensors in bf16."""
    return 2 * sum(x.numel() for x in tree_leaves(of) if isinstance(x, Tensor) and x.is_floating_point())


def slower(moved: float, flops: float) -> float:
    """Return the larger of the times for bytes and FLOPs."""
    return max(moved / BYTES_PER_S, flops / BF16.flops_per_s)


def gradients_of_convolution(one: Call) -> float:
    """Return the time of the computed gradients: each reads two of three tensors and writes the third."""
    grad, x, weight = one.arguments[:3]
    wanted = sum(one.arguments[-1][:2])
    return wanted * slower(size((grad, x, weight)), one.flops / wanted)


def attention(one: Call) -> Seconds:
    """Return the time that `studies.gpu_model.model` predicts."""
    direction = "backward" if one.name.endswith("backward") else "forward"
    q = one.arguments[1 if direction == "backward" else 0]
    # num_heads, the window and so on follow the tensors; pool is the last integer.
    pool = [x for x in one.arguments if type(x) is int][-1]
    shape, batch = Spatial(q.shape[1], q.shape[2], pool, 1), len(q)
    ours = predict(shape, batch, direction, dot=with_dot(shape, direction))
    return Seconds(attention=ours.seconds, attention_floor=floor_seconds(shape, batch, direction))


def stem(one: Call, *, training: bool) -> float:
    """Return the time to issue the instructions of the attention stem's kernel, or to move its bytes."""
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
    """Print the tables of README.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images (default: 128)")
    batch = parser.parse_args().batch
    traces = {name: trace(create(), batch) for name, create in NETWORKS.items()}
    for what, of in (("inference", inference), ("training step", training_step)):
        columns = f"{what}, attention ms, stem ms, others ms, all ms, images/s, of ResNet-50"
        columns += ", with perfect attention, with others twice as slow"
        print(f"| {columns.replace(', ', ' | ')} |\n| :--- |" + " ---: |" * 8)
        times = {name: of(traced) for name, traced in traces.items()}
        conv = times["ResNet-50"]
        for name, one in times.items():
            ms = [f"{1e3 * x:.2f}" for x in (one.attention, one.stem, one.others, one.total)]
            ratios = [
                conv.total / one.total,
                conv.total / (one.total - one.attention + one.attention_floor),
                (conv.total + conv.others) / (one.total + one.others),
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
