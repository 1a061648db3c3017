"""`RawKernel` and `RawModule`: kernels given as CUDA source."""

from __future__ import annotations

from typing import Any

import numpy as np
from emulator import CompiledKernel, packed
from emulator.emulator import DEFAULT_DYNAMIC_BYTES

from .array import ndarray
from .device import device


class RawKernel:
    """One function of a CUDA source; compiled at its first launch, or by `compile`."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", *,
                 translate_cucomplex: bool = False, enable_cooperative_groups: bool = False,
                 jitify: bool = False) -> None:
        require_options(options)
        if enable_cooperative_groups:
            raise NotImplementedError("the emulator has no cooperative groups")
        self.code, self.name, self.options = code, name, options
        self.max_dynamic_shared_size_bytes = DEFAULT_DYNAMIC_BYTES
        self._compiled: CompiledKernel | None = None

    def compile(self, log_stream: Any = None) -> None:
        if self._compiled is None:
            self._compiled = CompiledKernel(self.code, self.name, self.options)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0,
                 stream: Any = None) -> None:
        for sizes in (grid, block):
            if not isinstance(sizes, tuple):
                raise TypeError(f"Argument has incorrect type (expected tuple, got {type(sizes).__name__})")
        self.compile()
        kernel, most = self._compiled, self.max_dynamic_shared_size_bytes
        assert kernel is not None
        arrays = [value for value in args if isinstance(value, ndarray)]
        arguments = [_argument(value) for value in args]
        contents = [array.content for array in arrays]      # alive as long as the launch can be repeated

        def work(_: Any = contents) -> None:
            kernel.launch(grid, block, arguments, shared_mem, most)

        device.submit(self.name, work, [array.memory for array in arrays], check=True)


class RawModule:
    """Several functions of one CUDA source."""

    def __init__(self, *, code: str | None = None, path: str | None = None, options: tuple[str, ...] = (),
                 backend: str = "nvrtc", translate_cucomplex: bool = False, enable_cooperative_groups: bool = False,
                 name_expressions: Any = None, jitify: bool = False) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None or name_expressions is not None:
            raise NotImplementedError("the stand-in's RawModule takes source without templates")
        require_options(options)
        self.code, self.options = code, options
        self._functions: dict[str, RawKernel] = {}

    def get_function(self, name: str) -> RawKernel:
        if name not in self._functions:
            self._functions[name] = RawKernel(str(self.code), name, self.options)
        return self._functions[name]

    def compile(self, log_stream: Any = None) -> None:
        """Nothing: each function is compiled by itself."""


def require_options(options: Any) -> None:
    if not isinstance(options, tuple):
        raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")


def _argument(value: Any) -> tuple[str, bytes]:
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return packed(value.content if isinstance(value, ndarray) else value)
