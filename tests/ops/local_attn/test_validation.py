"""Wrong arguments: the right exception, naming the argument, what was expected and what came."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from sasa import local_attention
from sasa.ops import local_attention_maps, support

ones = torch.ones


def arguments(**changes: Any) -> dict[str, Any]:
    """Valid arguments (two heads of width 4, values of width 3, a window of 3 × 5) with changes."""
    valid = {
        "q": ones(2, 8, 4, 6),
        "k": ones(2, 8, 4, 6),
        "v": ones(2, 6, 4, 6),
        "rel_row": ones(2, 3, 2),
        "rel_col": ones(2, 5, 2),
        "num_heads": 2,
        "kernel_size": (3, 5),
    }
    return valid | changes


# What is changed; the exception; words of its message, the argument's name first.
WRONG: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "q_none": ({"q": None}, TypeError, ["q: ", "Tensor", "NoneType"]),
    "q_list": ({"q": [1.0]}, TypeError, ["q: ", "Tensor", "list"]),
    "q_array": ({"q": ones(2, 8, 4, 6).numpy()}, TypeError, ["q: ", "Tensor", "ndarray"]),
    "q_int": ({"q": ones(2, 8, 4, 6).long()}, TypeError, ["q: ", "floating", "int64"]),
    "q_complex": ({"q": ones(2, 8, 4, 6) * 1j}, TypeError, ["q: ", "floating", "complex64"]),
    "q_3d": ({"q": ones(8, 4, 6)}, ValueError, ["q: ", "(B, C, H, W)", "(8, 4, 6)"]),
    "q_5d": ({"q": ones(1, 2, 8, 4, 6)}, ValueError, ["q: ", "(B, C, H, W)", "(1, 2, 8, 4, 6)"]),
    "q_no_channels": ({"q": ones(2, 0, 4, 6)}, ValueError, ["q: ", "≥ 1", "(2, 0, 4, 6)"]),
    "q_no_rows": ({"q": ones(2, 8, 0, 6)}, ValueError, ["q: ", "≥ 1", "(2, 8, 0, 6)"]),
    "q_no_columns": ({"q": ones(2, 8, 4, 0)}, ValueError, ["q: ", "≥ 1", "(2, 8, 4, 0)"]),
    "k_float": ({"k": 1.0}, TypeError, ["k: ", "Tensor", "float"]),
    "k_bool": ({"k": ones(2, 8, 4, 6) > 0}, TypeError, ["k: ", "floating", "bool"]),
    "k_channels": ({"k": ones(2, 4, 4, 6)}, ValueError, ["k: ", "(2, 8, 4, 6)", "(2, 4, 4, 6)"]),
    "k_size": ({"k": ones(2, 8, 4, 7)}, ValueError, ["k: ", "(2, 8, 4, 6)", "(2, 8, 4, 7)"]),
    "k_batch": ({"k": ones(1, 8, 4, 6)}, ValueError, ["k: ", "(2, 8, 4, 6)", "(1, 8, 4, 6)"]),
    "k_and_embeddings_none": (
        {"k": None, "rel_row": None, "rel_col": None},
        ValueError,
        ["k: ", "None", "rel_row", "rel_col"],
    ),
    "v_none": ({"v": None}, TypeError, ["v: ", "Tensor", "NoneType"]),
    "v_int": ({"v": ones(2, 6, 4, 6).int()}, TypeError, ["v: ", "floating", "int32"]),
    "v_3d": ({"v": ones(6, 4, 6)}, ValueError, ["v: ", "(2, channels, 4, 6)", "(6, 4, 6)"]),
    "v_batch": ({"v": ones(1, 6, 4, 6)}, ValueError, ["v: ", "(2, channels, 4, 6)", "(1, 6, 4, 6)"]),
    "v_size": ({"v": ones(2, 6, 6, 4)}, ValueError, ["v: ", "(2, channels, 4, 6)", "(2, 6, 6, 4)"]),
    "v_no_channels": ({"v": ones(2, 0, 4, 6)}, ValueError, ["v: ", "channels", "(2, 0, 4, 6)"]),
    "v_device": (
        {"v": ones(2, 6, 4, 6, device="meta")},
        ValueError,
        ["v: ", "device", "cpu", "meta"],
    ),
    "row_device": (
        {"rel_row": ones(2, 3, 2, device="meta")},
        ValueError,
        ["rel_row: ", "device", "cpu", "meta"],
    ),
    "row_tuple": ({"rel_row": (1.0,)}, TypeError, ["rel_row: ", "Tensor", "tuple"]),
    "row_int": ({"rel_row": ones(2, 3, 2).long()}, TypeError, ["rel_row: ", "floating", "int64"]),
    "row_taps": ({"rel_row": ones(2, 5, 2)}, ValueError, ["rel_row: ", "(2, 3, 2)", "(2, 5, 2)"]),
    "row_heads": ({"rel_row": ones(1, 3, 2)}, ValueError, ["rel_row: ", "(2, 3, 2)", "(1, 3, 2)"]),
    "row_width": ({"rel_row": ones(2, 3, 4)}, ValueError, ["rel_row: ", "(2, 3, 2)", "(2, 3, 4)"]),
    "row_2d": ({"rel_row": ones(3, 2)}, ValueError, ["rel_row: ", "(2, 3, 2)", "(3, 2)"]),
    "col_taps": ({"rel_col": ones(2, 3, 2)}, ValueError, ["rel_col: ", "(2, 5, 2)", "(2, 3, 2)"]),
    "col_int": ({"rel_col": ones(2, 5, 2).char()}, TypeError, ["rel_col: ", "floating", "int8"]),
    "odd_width_rows": (
        {"q": ones(2, 6, 4, 6), "k": ones(2, 6, 4, 6), "rel_row": ones(2, 3, 1), "rel_col": None},
        ValueError,
        ["rel_row: ", "even", "3"],
    ),
    "odd_width_columns": (
        {"q": ones(2, 6, 4, 6), "k": ones(2, 6, 4, 6), "rel_row": None, "rel_col": ones(2, 5, 1)},
        ValueError,
        ["rel_col: ", "even", "3"],
    ),
    "heads_zero": ({"num_heads": 0}, ValueError, ["num_heads: ", "at least 1", "0"]),
    "heads_negative": ({"num_heads": -2}, ValueError, ["num_heads: ", "at least 1", "-2"]),
    "heads_float": ({"num_heads": 2.0}, TypeError, ["num_heads: ", "int", "float"]),
    "heads_bool": ({"num_heads": True}, TypeError, ["num_heads: ", "int", "bool"]),
    "heads_none": ({"num_heads": None}, TypeError, ["num_heads: ", "int", "NoneType"]),
    "heads_do_not_divide_q": ({"num_heads": 3}, ValueError, ["num_heads: ", "q", "8", "3"]),
    "heads_do_not_divide_v": ({"v": ones(2, 5, 4, 6)}, ValueError, ["num_heads: ", "v", "5", "2"]),
    "kernel_even": ({"kernel_size": 4}, ValueError, ["kernel_size: ", "odd", "4"]),
    "kernel_one_even": ({"kernel_size": (3, 4)}, ValueError, ["kernel_size: ", "odd", "(3, 4)"]),
    "kernel_zero": ({"kernel_size": 0}, ValueError, ["kernel_size: ", "at least 1", "0"]),
    "kernel_negative": ({"kernel_size": (3, -1)}, ValueError, ["kernel_size: ", "at least 1", "-1"]),
    "kernel_triple": ({"kernel_size": (3, 3, 3)}, ValueError, ["kernel_size: ", "pair", "(3, 3, 3)"]),
    "kernel_float": ({"kernel_size": 3.0}, TypeError, ["kernel_size: ", "int", "float"]),
    "kernel_pair_float": ({"kernel_size": (3, 5.0)}, TypeError, ["kernel_size: ", "int", "float"]),
    "kernel_str": ({"kernel_size": "3"}, TypeError, ["kernel_size: ", "int", "str"]),
    "dilation_zero": ({"dilation": 0}, ValueError, ["dilation: ", "at least 1", "0"]),
    "dilation_pair_zero": ({"dilation": (1, 0)}, ValueError, ["dilation: ", "at least 1", "0"]),
    "dilation_single": ({"dilation": (1,)}, ValueError, ["dilation: ", "pair", "(1,)"]),
    "dilation_float": ({"dilation": 1.5}, TypeError, ["dilation: ", "int", "float"]),
    "dilation_none": ({"dilation": None}, TypeError, ["dilation: ", "int", "NoneType"]),
    "scale_none": ({"scale": None}, TypeError, ["scale: ", "float", "NoneType"]),
    "scale_str": ({"scale": "1"}, TypeError, ["scale: ", "float", "str"]),
    "scale_bool": ({"scale": True}, TypeError, ["scale: ", "float", "bool"]),
    "scale_tensor": ({"scale": torch.tensor(1.0)}, TypeError, ["scale: ", "float", "Tensor"]),
    "scale_nan": ({"scale": float("nan")}, ValueError, ["scale: ", "finite", "nan"]),
    "scale_inf": ({"scale": float("-inf")}, ValueError, ["scale: ", "finite", "-inf"]),
    "pool_zero": ({"pool": 0}, ValueError, ["pool: ", "at least 1", "0"]),
    "pool_three": ({"pool": 3}, ValueError, ["pool: ", "1 or 2", "3"]),
    "pool_float": ({"pool": 2.0}, TypeError, ["pool: ", "int", "float"]),
    "pool_bool": ({"pool": True}, TypeError, ["pool: ", "int", "bool"]),
    "pool_pair": ({"pool": (2, 2)}, TypeError, ["pool: ", "int", "tuple"]),
    "relu_int": ({"relu": 1}, TypeError, ["relu: ", "bool", "int", "1"]),
    "relu_str": ({"relu": "relu"}, TypeError, ["relu: ", "bool", "str"]),
    "relu_none": ({"relu": None}, TypeError, ["relu: ", "bool", "NoneType"]),
    "relu_tensor": ({"relu": torch.tensor(True)}, TypeError, ["relu: ", "bool", "Tensor"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name: str) -> None:
    """For the op and for `support`, which reads arguments in the same way."""
    changes, exception, words = WRONG[name]
    for function in (local_attention, partial(support, local_attention)):
        with pytest.raises(exception) as caught:
            function(**arguments(**changes))
        message = str(caught.value)
        assert type(caught.value) is exception
        assert message.startswith(words[0]), message
        rest = message.removeprefix(words[0])
        assert all(word in rest for word in words[1:]), message


@pytest.mark.parametrize("name", [name for name in WRONG if not name.startswith(("v_", "relu_"))])
def test_wrong_argument_of_the_maps(name: str) -> None:
    changes, exception, words = WRONG[name]
    if "v" in changes:
        return  # it has no values
    given = {key: value for key, value in arguments(**changes).items() if key != "v"}
    with pytest.raises(exception) as caught:
        local_attention_maps(**given)
    assert str(caught.value).startswith(words[0])


def test_the_unchanged_arguments_are_right() -> None:
    assert local_attention(**arguments()).shape == (2, 6, 4, 6)


def test_options_are_named() -> None:
    """A misspelt or positional option is no option."""
    valid = arguments()
    with pytest.raises(TypeError, match="dilations"):
        local_attention(**valid, dilations=2)
    tensors = [valid.pop(name) for name in ("q", "k", "v", "rel_row", "rel_col")]
    with pytest.raises(TypeError, match="positional"):
        local_attention(*tensors, 2)  # type: ignore[misc]
    with pytest.raises(TypeError, match="num_heads"):
        local_attention(*tensors)  # type: ignore[call-arg]
