"""The CUDA sources in `cuda/`: compiled for one CuPy and one dtype when that is first used, and launched by name."""

from __future__ import annotations

import contextlib
import re
from importlib.resources import files
from typing import Any

import numpy as np

from fastmlp.errors import DeviceError

Array = Any
NULL = np.uint64(0)     # CuPy makes 0xffffffff of None (its issue 9046)

HEADERS = ("activations.cuh", "sums.cuh", "tiles.cuh", "columns.cuh")
SOURCES = ("batch.cu", "linear.cu", "batch_norm.cu", "losses.cu", "elementwise.cu", "update.cu")
C_TYPES = {"float32": "float", "float64": "double"}


def cuda_source(name: str) -> str:
    """The text of a file in `cuda/`."""
    return files("fastmlp.kernels").joinpath("cuda", name).read_text(encoding="utf-8")


def program(source: str, dtype: str) -> str:
    """All that is compiled for a file of `SOURCES`: REAL, the headers, the file."""
    return "\n".join([f"#define REAL {C_TYPES[dtype]}", *map(cuda_source, HEADERS), cuda_source(source)])


def kernel_names(text: str) -> list[str]:
    """The kernels that a source defines.

    Examples
    --------
    >>> kernel_names('extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) linear(const REAL* x)')
    ['linear']
    """
    return re.findall(r"__global__\s+void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\s*\(", text)


class CudaModules:
    """The kernels of all sources.

    Parameters
    ----------
    xp : module
        `cupy`, or a stand-in with its `RawModule`. Nothing is compiled before the first launch.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._kernels: dict[str, dict[str, Any]] = {}       # by dtype, then by name

    def launch(self, name: str, dtype: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        """Start a kernel. Numbers are NumPy's, as wide as the kernel's parameters; None is the null pointer.

        Raises
        ------
        DeviceError
            The compiler refused a source; names the source and says what the compiler said.
        """
        kernels = self._kernels.get(str(dtype))
        if kernels is None:
            kernels = self._kernels[str(dtype)] = self._compile(str(dtype))
        kernels[name](grid, block, tuple(NULL if value is None else value for value in arguments))

    def _compile(self, dtype: str) -> dict[str, Any]:
        """All kernels for a dtype at once: a module must not be loaded while steps are recorded."""
        kernels = {}
        for source in SOURCES:
            text = program(source, dtype)
            module = self._xp.RawModule(code=text)
            with self._naming(source, dtype):
                module.compile()
                kernels.update({name: module.get_function(name) for name in kernel_names(text)})
        return kernels

    @contextlib.contextmanager
    def _naming(self, source: str, dtype: str) -> Any:
        """Turn the compiler's exception into a sentence of ours."""
        try:
            yield
        except self._xp.cuda.compiler.CompileException as error:
            words = " / ".join(line.strip() for line in str(error).splitlines() if "error" in line)[:500]
            names = ", ".join(kernel_names(cuda_source(source)))
            raise DeviceError(f"the GPU's kernels of {source} ({names}) could not be compiled for {dtype}: "
                              f"{words or str(error)[:500]}; compute with --device cpu, or reinstall CuPy with its "
                              f"CUDA libraries") from error


