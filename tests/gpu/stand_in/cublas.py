"""A cuBLAS for callers that load the library by ctypes, and a `cuda.pathfinder` that leads to it.

`cublas.cpp` checks a call as cuBLAS does and hands its products to `_submit` here, which refuses what cuBLAS would not
notice: memory that is no device array's, and a workspace that was not set although the product is recorded in a graph.
A library can only return a number: then it is CUBLAS_STATUS_INTERNAL_ERROR, and `device.raise_fault` tells the reason.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from emulator import LaunchError, shared_library

from .device import device
from .memory import Memory, OutsideWriteError

SOURCE = Path(__file__).with_name("cublas.cpp")


class Product(ctypes.Structure):
    """The structure of this name in `cublas.cpp`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b", "c", "stream", "workspace")),
        *((name, ctypes.c_longlong) for name in ("stride_a", "stride_b", "stride_c", "workspace_bytes")),
        *((name, ctypes.c_double) for name in ("alpha", "beta")),
        *((name, ctypes.c_int) for name in ("trans_a", "trans_b", "m", "n", "k", "lda", "ldb", "ldc", "batch",
                                            "is_double", "is_tf32")),
    )


class DynamicLibNotFoundError(RuntimeError):
    """`cuda.pathfinder.DynamicLibNotFoundError`."""


def make_pathfinder() -> ModuleType:
    """A new module to put in the place of `cuda.pathfinder`."""
    module = ModuleType("cuda.pathfinder", __doc__)
    vars(module).update(load_nvidia_dynamic_lib=_load_nvidia_dynamic_lib,
                        DynamicLibNotFoundError=DynamicLibNotFoundError)
    return module


def _load_nvidia_dynamic_lib(libname: str) -> SimpleNamespace:
    if libname != "cublas":
        raise DynamicLibNotFoundError(f"the stand-in has no {libname}")
    path = shared_library("cublas.so", SOURCE.read_text(encoding="utf-8"))
    _loaded(path)
    return SimpleNamespace(abs_path=str(path), was_already_loaded_from_elsewhere=False, found_via="stand-in")


@functools.cache
def _loaded(path: Path) -> ctypes.CDLL:
    """The library, once in a process, told where its products go."""
    library = ctypes.CDLL(str(path))
    library.stand_in_submit_to.argtypes = [ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Product))]
    library.stand_in_submit_to.restype = None
    library.stand_in_compute.argtypes, library.stand_in_compute.restype = [ctypes.POINTER(Product)], None

    def submit(pointer: Any) -> int:
        try:
            _submit(library, Product.from_buffer_copy(pointer.contents))
        except Exception as error:      # noqa: BLE001 - nothing passes through C
            device.fault = error
            return 1
        return 0

    library.callback = library.stand_in_submit_to.argtypes[0](submit)      # must live as long as the library
    library.stand_in_submit_to(library.callback)
    return library


def _submit(library: ctypes.CDLL, product: Product) -> None:
    """Run a product, or write it down if the stream is being captured."""
    if (product.stream or 0) != device.stream.ptr:
        raise LaunchError("a product was launched on another stream than the current one")
    memory = [_memory_of(name, product) for name in ("abc" if product.k else "c")]
    if product.workspace is not None:
        workspace = device.memory_at(product.workspace, product.workspace_bytes)
        if workspace is None:
            raise LaunchError("cuBLAS's workspace is no device memory")
        memory.append(workspace)
    elif device.capturing:
        raise LaunchError("a product is recorded without a workspace: cublasSetStream forgot the one that was set, and "
                          "cuBLAS allocates one for every graph")

    def work() -> None:
        library.stand_in_compute(ctypes.byref(product))

    device.counts.products += not device.capturing
    device.submit("cublasGemmStridedBatchedEx", work, memory, check=True)


def _memory_of(name: str, product: Product) -> Memory:
    """The memory that an operand of a product lies in with all its elements."""
    rows, columns = {"a": (product.m, product.k), "b": (product.k, product.n), "c": (product.m, product.n)}[name]
    if getattr(product, f"trans_{name}", False):
        rows, columns = columns, rows
    item = 8 if product.is_double else 4
    per_matrix = (columns - 1) * getattr(product, f"ld{name}") + rows
    reach = (product.batch - 1) * getattr(product, f"stride_{name}")
    first, end = min(0, reach), max(0, reach) + per_matrix
    memory = device.memory_at(getattr(product, name) + first * item, (end - first) * item)
    if memory is None:
        raise OutsideWriteError(f"operand {name} of a product reaches outside of device memory: {rows} x {columns} by "
                                f"columns, leading dimension {getattr(product, f'ld{name}')}, stride "
                                f"{getattr(product, f'stride_{name}')}, {product.batch} in the batch")
    return memory
