"""The source that the stand-in generates around the fragments of elementwise and reduction kernels.

CuPy generates other source to the same effect. Here every index into a `raw` array is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .array import ndarray
from .parameters import KernelParameter, c_name

HEADER = """
#define CUPY_STAND_IN 1
// An array seen as one row of elements in C order, whatever its strides (in bytes) are.
template <class T, int N> struct Elements {
    T* data;
    ptrdiff_t count, lengths[N ? N : 1], steps[N ? N : 1];
    static const int ndim = N;
    ptrdiff_t size() const { return count; }
    const ptrdiff_t* shape() const { return lengths; }
    const ptrdiff_t* strides() const { return steps; }
    T& operator[](ptrdiff_t place) const {
        if (place < 0 || place >= count)
            on_cpu::fail("index %lld lies outside an array of %lld", (long long)place, (long long)count);
        char* address = (char*)data;
        for (int axis = N - 1; axis >= 0; axis--) {
            address += place % lengths[axis] * steps[axis];
            place /= lengths[axis];
        }
        return *(T*)address;
    }
};
struct Loop {
    ptrdiff_t count, place;
    ptrdiff_t size() const { return count; }
    ptrdiff_t get() const { return place; }
};
"""

ELEMENTWISE = """{header}
{types}
{preamble}
extern "C" __global__ void {name}({signature}) {{
    {before};
    for (ptrdiff_t i = ptrdiff_t(blockIdx.x) * blockDim.x + threadIdx.x; i < _count; i += blockDim.x * gridDim.x) {{
        const Loop _ind = {{_count, i}};
{elements}
        {operation};
    }}
    {after};
}}
"""

# One block an output element: every thread folds its share in order, then halves of the block are folded together.
REDUCTION = """{header}
{types}
{preamble}
#define MAP ({mapped})
#define REDUCE(a, b) ({reduced})
extern "C" __global__ void {name}({signature}) {{
    typedef {accumulator} Accumulator;
    __shared__ Accumulator _parts[{threads}];
    const ptrdiff_t _o = blockIdx.x;
    Accumulator _sum = Accumulator({identity});
    for (ptrdiff_t _r = threadIdx.x; _r < _count; _r += {threads}) {{
        const ptrdiff_t i = _o * _count + _r;
{inputs}
        Accumulator _value = Accumulator(MAP);
        _sum = REDUCE(_sum, _value);
    }}
    _parts[threadIdx.x] = _sum;
    __syncthreads();
    for (int _half = {threads} / 2; _half > 0; _half /= 2) {{
        if (threadIdx.x < _half) _parts[threadIdx.x] = REDUCE(_parts[threadIdx.x], _parts[threadIdx.x + _half]);
        __syncthreads();
    }}
    if (threadIdx.x == 0) {{
        const ptrdiff_t i = _o;
        Accumulator a = _parts[0];
{outputs}
        {after};
    }}
}}
"""


def type_names(known: dict[str, np.dtype[Any]]) -> str:
    """A typedef for every type letter."""
    return "\n".join(f"typedef {c_name(dtype)} {letter};" for letter, dtype in sorted(known.items()))


def signature(parameters: Sequence[KernelParameter], arguments: Sequence[Any]) -> str:
    """The kernel's parameters: arrays as `Elements`, numbers by value, and the count of the loop."""
    parts = []
    for parameter, argument in zip(parameters, arguments, strict=True):
        constant = "const " if parameter.constant else ""
        if isinstance(argument, ndarray):
            name = parameter.name if parameter.raw else f"_all_{parameter.name}"
            parts.append(f"const Elements<{constant}{c_name(argument.dtype)}, {argument.ndim}> {name}")
        else:
            parts.append(f"const {parameter.type} {parameter.name}")
    return ", ".join([*parts, "const ptrdiff_t _count"])


def elements(parameters: Sequence[KernelParameter], arguments: Sequence[Any]) -> str:
    """The names of the elements at the loop's place, for arrays that are not raw."""
    return "\n".join(
        f"        {'const ' if parameter.constant else ''}{parameter.type}& {parameter.name} = "
        f"_all_{parameter.name}[i];"
        for parameter, argument in zip(parameters, arguments, strict=True)
        if isinstance(argument, ndarray) and not parameter.raw)


def image(argument: Any, dtype: np.dtype[Any]) -> tuple[str, bytes]:
    """What the kernel receives for an argument: the bytes of an `Elements`, or of a number of the parameter's type."""
    if isinstance(argument, ndarray):
        content = argument.content
        shape, strides = content.shape or (1,), content.strides or (0,)
        return "s", np.array([content.ctypes.data, content.size, *shape, *strides], np.int64).tobytes()
    return "f" if dtype.kind == "f" else "i", np.asarray(argument).astype(dtype).tobytes()


def count_image(count: int) -> tuple[str, bytes]:
    """The last argument of every generated kernel."""
    return "i", np.int64(count).tobytes()
