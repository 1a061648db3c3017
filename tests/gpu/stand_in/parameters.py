"""Parameters of `ElementwiseKernel` and `ReductionKernel`: how they are written, which types arguments give them.

The refusals, and most of their words, are CuPy's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .array import ndarray

C_NAMES = {
    "bool": "bool", "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int", "uint64": "unsigned long long",
    "float32": "float", "float64": "double",
}


def c_name(dtype: Any) -> str:
    """The name of a dtype in CUDA C++."""
    return C_NAMES[np.dtype(dtype).name]


@dataclass(frozen=True)
class KernelParameter:
    """One parameter: `raw T x`, `float32 y`, `S z`.

    `dtype` is None for a type letter, whose type the arguments give; `type` is what the kernel's source calls it.
    """

    name: str
    type: str
    dtype: np.dtype[Any] | None
    raw: bool
    constant: bool


def parse(text: str, *, constant: bool) -> list[KernelParameter]:
    """The parameters of a list like "T x, raw S y, int32 n"."""
    return [_parse_one(part, constant) for part in text.split(",") if part.strip()]


def _parse_one(text: str, constant: bool) -> KernelParameter:
    words = text.split()
    if len(words) < 2:
        raise Exception(f"Syntax error: {text}")
    *keywords, type_name, name = words
    for keyword in keywords:
        if keyword not in ("raw", "_non_const"):
            raise Exception(f'Unknown keyword "{keyword}"')
    constant = constant and "_non_const" not in keywords
    if len(type_name) == 1:
        return KernelParameter(name, type_name, None, "raw" in keywords, constant)
    dtype = np.dtype(type_name)
    return KernelParameter(name, c_name(dtype), dtype, "raw" in keywords, constant)


def check_kernel(name: str, parameters: Sequence[KernelParameter], reserved: Sequence[str]) -> None:
    """Refuse names that would clash with the generated source."""
    if not re.fullmatch(r"[a-zA-Z_]\w*", name):
        raise ValueError(f'Invalid kernel name: "{name}"')
    for parameter in parameters:
        if parameter.name in reserved:
            raise ValueError(f"Can not use '{parameter.name}' as a parameter name")


def check_arguments(arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Refuse whatever is neither a device array nor a number."""
    for argument in arguments:
        if not isinstance(argument, (ndarray, bool, int, float, np.generic)):
            raise TypeError(f"Unsupported type {type(argument)}")
    if not all(isinstance(output, ndarray) for output in outputs):
        raise TypeError("Output arguments must be cupy.ndarray")


def types_of(parameters: Sequence[KernelParameter], arguments: Sequence[Any],
             known: dict[str, np.dtype[Any]]) -> None:
    """Find the type letters that arrays decide, into `known`; refuse arrays of other types. Numbers decide nothing."""
    for parameter, argument in zip(parameters, arguments, strict=False):
        if not isinstance(argument, ndarray):
            continue
        wanted = parameter.dtype or known.setdefault(parameter.type, argument.dtype)
        if argument.dtype != wanted:
            raise TypeError(f"Type is mismatched. {parameter.name} {argument.dtype} {wanted}")


def dtype_of(parameter: KernelParameter, known: dict[str, np.dtype[Any]]) -> np.dtype[Any]:
    """A parameter's type once the letters are known; KeyError where no array decided one."""
    return parameter.dtype if parameter.dtype is not None else known[parameter.type]
