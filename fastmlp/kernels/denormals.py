"""Numbers too small to have all their digits count as zero while NumPy computes a step.

Below 1.2e-38 in float32 (2.2e-308 in float64) a number is denormal, and on many processors whatever reads or makes one
takes a hundred times as long. Trainings come there: velocities and moments of dead units, and weights under a penalty,
shrink by a factor every step and then stay a few units above zero, because rounding takes them no further. Processors
have a mode that reads and writes zero instead; the compiled kernels set it themselves (`c/pool.c`).
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

#: Where C's `fenv_t` of Linux has the register that holds the mode, and the mode's bits: x86's "flush to zero" and
#: "denormals are zero", ARM's "flush to zero", which is both.
MODES = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
Environment = ctypes.c_char * 64        # an `fenv_t`, which takes 32 bytes on x86 and 8 on ARM


def _flushing_environment() -> tuple[ctypes.PyDLL, ctypes.Array[ctypes.c_char]] | None:
    """The functions of C's `fenv.h` and the usual environment with the mode set; None where it is not known how."""
    if sys.platform != "linux" or platform.machine() not in MODES:
        return None
    library, environment = ctypes.PyDLL(None), Environment()
    if not hasattr(library, "fesetenv") or library.fegetenv(environment):
        return None
    place, bits = MODES[platform.machine()]
    (word,) = struct.unpack_from("I", environment, place)
    struct.pack_into("I", environment, place, word | bits)
    return library, environment


_ENVIRONMENT = _flushing_environment()


def flushing(operation: Callable[P, None]) -> Callable[P, None]:
    """An operation that computes in that mode, in the thread that calls it; afterwards the mode is what it was.

    Elsewhere than on Linux with an x86 or ARM processor it is the operation itself.
    """
    if _ENVIRONMENT is None:
        return operation
    library, mode = _ENVIRONMENT
    get, put = library.fegetenv, library.fesetenv

    @functools.wraps(operation)
    def flushed(*arguments: P.args, **keywords: P.kwargs) -> None:
        before = Environment()
        get(before)
        put(mode)
        try:
            operation(*arguments, **keywords)
        finally:
            put(before)

    return flushed
