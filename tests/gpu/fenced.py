"""Runs every kernel on arrays beside which memory may not be touched: whoever reads or writes there dies of it.

    python fenced.py (before | behind) [OPERATION ...]

Arrays begin or end exactly at a stretch without any rights. A process of its own, see `test_fences.py`: it says what it
is about to run, so that its last line names the culprit. The canaries of `stand_in.memory` see writes alone.
"""

import ctypes
import mmap
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "kernels")]

from operations import SIZES, cases, chain_cases, on_device  # noqa: E402
from stand_in import device, make_cupy  # noqa: E402
from stand_in.memory import POISON, Memory  # noqa: E402
from test_fused_kernels import FULL_SIZE, MANY_COLUMNS, RAGGED  # noqa: E402

from fastmlp.kernels.cupy_fused import FusedKernels  # noqa: E402

FENCE = 64 * mmap.PAGESIZE          # wider than what a kernel that goes wrong steps over
NO_RIGHTS = 0                       # PROT_NONE
READ_BEYOND = 'extern "C" __global__ void read_beyond(const float* x, float* y, int place) { y[0] = x[place]; }'
_mprotect = ctypes.CDLL(None, use_errno=True).mprotect


class FencedMemory(Memory):
    """A stretch of device memory between two fences; it touches that on `side`."""

    side = "behind"

    def __init__(self, n_bytes, item_bytes):
        pages = -(-max(1, n_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = np.frombuffer(mmap.mmap(-1, pages + 2 * FENCE), np.uint8)
        start = FENCE if self.side == "before" else FENCE + pages - n_bytes
        self.bytes = whole[start:start + n_bytes]
        self.bytes[...] = POISON
        self.address = whole.ctypes.data + start
        self._before = self._behind = whole[:0]
        self._canary = b""
        for fence in (0, FENCE + pages):
            if _mprotect(ctypes.c_void_p(whole.ctypes.data + fence), ctypes.c_size_t(FENCE), NO_RIGHTS):
                raise OSError(ctypes.get_errno(), "mprotect failed")


def every_case():
    for sizes in (*SIZES[:4], RAGGED, MANY_COLUMNS):
        yield from cases(sizes)
        yield from chain_cases(sizes)
    yield from (case for case in cases(FULL_SIZE) if case.operation == "linear")


def main(side, *operations):
    FencedMemory.side = side
    sys.modules["stand_in.device"].Memory = FencedMemory        # the module, whose name its package gives the device
    cupy = make_cupy()
    if operations == ("read_beyond",):
        x, y = cupy.asarray(np.ones(5, np.float32)), cupy.zeros(1, np.float32)
        kernel = cupy.RawKernel(READ_BEYOND, "read_beyond")
        for place in (0, 4, 5 if side == "behind" else -1):
            print(f"x[{place}]", flush=True)
            kernel((1,), (1,), (x, y, np.int32(place)))
        return
    fused = FusedKernels(cupy)
    backend = SimpleNamespace(asarray=cupy.asarray, to_host=cupy.asnumpy, xp=cupy)
    for dtype in ("float32", "float64"):
        for case in every_case():
            if not operations or case.operation in operations:
                print(f"{case.operation} ({case.label}) in {dtype}", flush=True)
                case.call(on_device(backend, getattr(fused, case.operation)), dtype)
    device.raise_fault()


if __name__ == "__main__":
    main(*sys.argv[1:])
