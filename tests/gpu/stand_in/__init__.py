"""A strict stand-in for the part of `cupy` that fastmlp uses, for machines without a GPU.

Array functions are NumPy's; kernels are the given CUDA source, run by the emulator. Where CuPy refuses, this refuses;
and it refuses some things that CuPy lets pass but a fast training must not do, such as host arrays as indices. `device`
counts launches, copies, synchronisations and allocations.

Not shown: anything that runs at the same time as something else, the rounding of cuBLAS, CuPy's own order of adding,
how it splits one array function into several kernels, its copies of transposed operands of batched products, and writes
outside a view that stay inside the array it looks at.

cuBLAS is there, too, for those who call the library itself: see `cublas`.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np

from .array import ndarray
from .cublas import make_pathfinder
from .cuda import make_cuda, make_random
from .device import Counts, device
from .fragments import ElementwiseKernel, ReductionKernel
from .functions import TABLE
from .memory import OutsideWriteError
from .raw import RawKernel, RawModule

__all__ = ["Counts", "OutsideWriteError", "device", "make_cupy", "make_pathfinder"]


def make_cupy() -> ModuleType:
    """A new module to put in the place of `cupy`, on a device that is as new."""
    device.reset()
    module = ModuleType("cupy", __doc__)
    vars(module).update(
        TABLE, __version__="14.2.0", ndarray=ndarray, cuda=make_cuda(), random=make_random(), RawKernel=RawKernel,
        RawModule=RawModule, ElementwiseKernel=ElementwiseKernel, ReductionKernel=ReductionKernel,
        get_array_module=lambda *arrays: module if any(isinstance(a, ndarray) for a in arrays) else np,
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0),
    )
    return module
