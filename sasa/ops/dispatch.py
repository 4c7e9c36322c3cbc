"""Which backend of an op runs: the one that was asked for, or the first that supports the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch

from sasa.ops import cpu_extension, standard_operations

InputsT = TypeVar("InputsT", contravariant=True)
OpT = TypeVar("OpT", bound=Callable[..., Any])


class Inputs(Protocol):
    """The valid arguments of one call of an op."""

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""


class Backend(Protocol[InputsT]):
    """One implementation of an op. How it is called is up to the op."""

    NAME: str

    def why_not(self, inputs: InputsT) -> list[str]:
        """Every reason why this backend cannot run valid inputs; empty if it can."""


BackendT = TypeVar("BackendT", bound=Backend[Any])

# By the op's function: its backends, and what makes their inputs from the arguments of a call.
_OPS: dict[Callable[..., Any], tuple[Sequence[Backend[Any]], Callable[..., Any]]] = {}


def dispatched(backends: Sequence[Backend[Any]], inputs: Callable[..., Any]) -> Callable[[OpT], OpT]:
    """Decorate an op's function, so that `support` and `backend_names` know it.

    Args:
        backends: In the order in which "auto" tries them.
        inputs: Takes the arguments of a call by name, without ``backend``, and returns the backends' inputs.
    """

    def register(op: OpT) -> OpT:
        _OPS[op] = backends, inputs
        return op

    return register


def choose(backends: Sequence[BackendT], name: str, inputs: Inputs, *, standard: BackendT) -> BackendT:
    """The backend of a name, or for "auto" the first that can run the inputs.

    Args:
        backends: In the order in which "auto" tries them.
        name: "auto" or the name of one of them.
        inputs: The arguments of the call.
        standard: The backend that is taken within `standard_operations`, whatever the name.

    Raises:
        TypeError: The name is no string.
        ValueError: No backend has the name, or the backend cannot run the inputs.
    """
    if standard_operations.active():
        return standard
    check_backend_name([backend.NAME for backend in backends], name)
    refusals = []
    for backend in backends:
        if name in ("auto", backend.NAME):
            reasons = backend.why_not(inputs)
            if not reasons:
                if name == "auto" and backend.NAME == "reference" and inputs.device.type == "cpu":
                    cpu_extension.warn_once_if_missing()
                return backend
            refusals.append(f"{backend.NAME}: {'; '.join(reasons)}")
    raise ValueError(
        f"backend: expected one that can run these arguments, got {name!r} ({'. '.join(refusals)})"
    )


def check_backend_name(known: Sequence[str], name: str) -> None:
    """Raise TypeError or ValueError unless the name is "auto" or that of a known backend."""
    if not isinstance(name, str):
        raise TypeError(f"backend: expected 'auto' or one of {list(known)}, got {type(name).__name__}")
    if name != "auto" and name not in known:
        raise ValueError(f"backend: expected 'auto' or one of {list(known)}, got {name!r}")


def backend_names(op: Callable[..., Any]) -> list[str]:
    """The names of an op's backends, in the order in which "auto" tries them."""
    return [backend.NAME for backend in _OPS[op][0]]


def support(op: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, list[str]]:
    """Which backends can run a call of an op, and why the others cannot.

    Args:
        op: One of `local_attention`, `local_self_attention`, `block_attention` and
            `block_attention_statistics`.
        *args: Arguments of the call.
        **kwargs: Keyword arguments of the call, without ``backend``.

    Returns:
        Each backend's name, in the order in which "auto" tries them, with every reason why it cannot run the
        call; an empty list means that it can.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the op is another function.
    """
    if op not in _OPS:
        names = ", ".join(known.__name__ for known in _OPS)
        raise ValueError(f"op: expected one of the functions {names}, got {op!r}")
    backends, inputs = _OPS[op]
    call = inspect.signature(op).bind(*args, **kwargs)
    call.apply_defaults()
    del call.arguments["backend"]
    made = inputs(**call.arguments)
    return {backend.NAME: backend.why_not(made) for backend in backends}
