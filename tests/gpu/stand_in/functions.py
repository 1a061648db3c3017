"""The array functions of `cupy` that a training can need, each NumPy's of the same name on device contents.

What is not listed here does not exist, so that a test fails where code reaches for something new; add it then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .array import compute, compute_from, content_of, ndarray, new, view_on, view_or_copy
from .device import device

ELEMENTWISE = (
    "absolute", "add", "ceil", "cos", "divide", "equal", "exp", "expm1", "floor", "greater", "greater_equal",
    "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "logical_and", "logical_not", "logical_or",
    "maximum", "minimum", "multiply", "negative", "not_equal", "power", "reciprocal", "remainder", "sign", "sin",
    "sqrt", "square", "subtract", "tanh", "true_divide",
)
#: Reductions with the options that CuPy's have, next to `axis`, `out` and `keepdims`.
REDUCTIONS: dict[str, set[str]] = {
    "all": set(), "any": set(), "argmax": set(), "argmin": set(), "max": set(), "mean": {"dtype"}, "min": set(),
    "prod": {"dtype"}, "std": {"dtype", "ddof"}, "sum": {"dtype"}, "var": {"dtype", "ddof"},
}
VIEWS = ("broadcast_to", "expand_dims", "matrix_transpose", "moveaxis", "permute_dims", "ravel", "reshape", "squeeze",
         "swapaxes", "transpose")
DTYPES = ("bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64")


def _elementwise(name: str) -> Callable[..., ndarray]:
    ufunc = getattr(np, name)

    def function(*arguments: Any, out: ndarray | None = None) -> ndarray:
        return compute(ufunc, *arguments, out=out)
    return function


def _reduction(name: str) -> Callable[..., ndarray]:
    reduce = getattr(np, name)

    def function(a: ndarray, axis: Any = None, *, out: ndarray | None = None, keepdims: bool = False,
                 **options: Any) -> ndarray:
        _require_arrays(a)
        unknown = sorted(options.keys() - REDUCTIONS[name])
        if unknown:
            raise TypeError(f"{name}() got unexpected keyword arguments {unknown}")
        return compute(reduce, a, out=out, axis=axis, keepdims=keepdims, **options)
    return function


def _view(name: str) -> Callable[..., ndarray]:
    look = getattr(np, name)

    def function(a: ndarray, *arguments: Any, **options: Any) -> ndarray:
        return view_or_copy(lambda content: look(content, *arguments, **options), a)
    return function


def _require_arrays(*arrays: Any) -> None:
    for array in arrays:
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)}: a device array is needed")


# ------------------------------------------------------------------------------------------------ new arrays

def array(obj: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    """A new array with the content of a host array, list or number (a copy to the device), or of a device array."""
    if isinstance(obj, ndarray):
        return astype(obj, dtype or obj.dtype)
    if isinstance(obj, (list, tuple)) and any(isinstance(part, ndarray) for part in obj):
        raise TypeError("a list of device arrays is no array: stack them")
    device.refuse_in_capture("a copy to the device")
    host = np.asarray(obj, dtype)
    if host.flags.fnc:                      # CuPy keeps the order
        columns = array(host.T)
        return view_on(columns.content.T, columns.memory)
    result = new(host.shape, host.dtype)
    result.set(host)
    return result


def asarray(a: Any, dtype: Any = None) -> ndarray:
    return a if isinstance(a, ndarray) and dtype in (None, a.dtype) else array(a, dtype)


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return new(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> ndarray:
    value = content_of(fill_value)
    result = new(shape, np.asarray(value).dtype if dtype is None else dtype)
    result[...] = fill_value
    return result


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = float) -> ndarray:
    return full(shape, 1, dtype)


def eye(n: int, dtype: Any = float) -> ndarray:
    return compute(lambda: np.eye(n, dtype=dtype))


def arange(*limits: Any, dtype: Any = None) -> ndarray:
    return compute(lambda: np.arange(*limits, dtype=dtype))


def empty_like(a: ndarray, dtype: Any = None) -> ndarray:
    return new(a.shape, dtype or a.dtype)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    return full(a.shape, fill_value, dtype or a.dtype)


def zeros_like(a: ndarray, dtype: Any = None) -> ndarray:
    return full_like(a, 0, dtype)


def ones_like(a: ndarray, dtype: Any = None) -> ndarray:
    return full_like(a, 1, dtype)


# ------------------------------------------------------------------------------------------------ from arrays

def astype(x: ndarray, dtype: Any, *, copy: bool = True) -> ndarray:
    _require_arrays(x)
    if not copy and x.dtype == dtype:
        return x
    return compute(lambda content: content.astype(dtype), x)


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
    _require_arrays(a)
    if not isinstance(indices, int):
        _require_arrays(indices)        # CuPy would copy them to the device, unseen
    return compute(lambda content, places: np.take(content, places, axis=axis), a, indices, out=out)


def where(condition: ndarray, x: Any, y: Any) -> ndarray:
    _require_arrays(condition)
    return compute(np.where, condition, x, y)


def clip(a: ndarray, a_min: Any, a_max: Any, out: ndarray | None = None) -> ndarray:
    return compute(np.clip, a, a_min, a_max, out=out)


def repeat(a: ndarray, repeats: int, axis: int | None = None) -> ndarray:
    if not isinstance(repeats, int):
        raise TypeError(f"Unsupported type {type(repeats)}: repeats is a number on the host")
    return compute(lambda content: np.repeat(content, repeats, axis=axis), a)


def stack(tup: Sequence[ndarray], axis: int = 0) -> ndarray:
    return _join(np.stack, tup, axis)


def concatenate(tup: Sequence[ndarray], axis: int = 0) -> ndarray:
    return _join(np.concatenate, tup, axis)


def _join(function: Callable[..., Any], arrays: Sequence[ndarray], axis: int) -> ndarray:
    _require_arrays(*arrays)
    return compute_from(lambda *contents: function(contents, axis=axis), [a.content for a in arrays], list(arrays),
                        None, {})


def matmul(x1: ndarray, x2: ndarray, /, out: ndarray | None = None) -> ndarray:
    """A product by cuBLAS."""
    _require_arrays(x1, x2)
    device.refuse_library_in_capture("cuBLAS")
    if out is not None and not out.flags.c_contiguous:
        raise ValueError("Output array must be C-contiguous")
    device.counts.products += 1
    return compute(np.matmul, x1, x2, out=out)


def dot(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    """A product by cuBLAS; of two dimensions, where it is the same as `matmul`."""
    _require_arrays(a, b)
    if max(a.ndim, b.ndim) > 2:
        raise NotImplementedError("the stand-in's dot takes vectors and matrices")
    return matmul(a, b, out=out)


TABLE: dict[str, Any] = {
    **{name: _elementwise(name) for name in ELEMENTWISE},
    **{name: _reduction(name) for name in REDUCTIONS},
    **{name: _view(name) for name in VIEWS},
    **{name: getattr(np, name) for name in DTYPES},
    **{function.__name__: function for function in (
        arange, array, asarray, asnumpy, astype, clip, concatenate, dot, empty, empty_like, eye, full, full_like,
        matmul, ones, ones_like, repeat, stack, take, where, zeros, zeros_like)},
    "abs": _elementwise("absolute"), "amax": _reduction("max"), "amin": _reduction("min"), "concat": concatenate,
    "dtype": np.dtype, "inf": np.inf, "nan": np.nan, "newaxis": None, "pi": np.pi,
}


def _add_methods() -> None:
    """The functions that are methods, too, with the array as their first argument."""
    for name in (*REDUCTIONS, "ravel", "squeeze", "swapaxes", "astype", "take", "dot", "repeat", "clip"):
        setattr(ndarray, name, TABLE[name])
    ndarray.__matmul__ = matmul
    ndarray.copy = lambda self, order="C": astype(self, self.dtype)
    ndarray.fill = lambda self, value: self.__setitem__(..., value)
    ndarray.reshape = lambda self, *shape, order="C": TABLE["reshape"](
        self, shape[0] if len(shape) == 1 else shape, order=order)
    ndarray.transpose = lambda self, *axes: TABLE["transpose"](self, axes or None)
    ndarray.view = lambda self, dtype=None: view_on(self.content.view(dtype or self.dtype), self.memory)
    ndarray.T = property(lambda self: TABLE["transpose"](self))
    ndarray.mT = property(lambda self: TABLE["matrix_transpose"](self))


_add_methods()
