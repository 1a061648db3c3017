"""Runs the CUDA source of kernels on the CPU; see `emulator.emulator`."""

from .compiled import CompileError, compiler, shared_library
from .emulator import FORWARD, REVERSE, CompiledKernel, LaunchError, Order, check_races, packed, thread_order

__all__ = [
    "FORWARD", "REVERSE", "CompileError", "CompiledKernel", "LaunchError", "Order", "check_races", "compiler",
    "packed", "shared_library", "thread_order",
]
