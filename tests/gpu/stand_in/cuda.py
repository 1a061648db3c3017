"""`cupy.cuda` and `cupy.random`, as far as a training and fastmlp's search for a GPU need them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from emulator import CompileError

from .array import ndarray
from .device import MEMORY_BYTES, Event, Graph, Stream, device
from .functions import asarray
from .memory import OutOfMemoryError

PROPERTIES = {
    "name": b"stand-in for a GPU", "major": 9, "minor": 0, "totalGlobalMem": MEMORY_BYTES, "multiProcessorCount": 4,
    "sharedMemPerBlock": 48 * 1024, "sharedMemPerBlockOptin": 227 * 1024, "maxThreadsPerBlock": 1024, "warpSize": 32,
}


class Device:
    """`cupy.cuda.Device`: there is one."""

    compute_capability = "90"

    def __init__(self, device: int | None = None) -> None:
        if device not in (None, 0):
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = 0

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": 4, "MaxSharedMemoryPerBlockOptin": 227 * 1024, "WarpSize": 32}

    @property
    def mem_info(self) -> tuple[int, int]:
        return device.memory_info()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: there is no other device to go back to."""

    def use(self) -> None:
        """Nothing: it is in use."""

    def synchronize(self) -> None:
        device.wait("synchronize")


def _current_stream() -> Stream:
    return device.stream


def make_cuda() -> SimpleNamespace:
    """A new `cupy.cuda`, which tests may change."""
    runtime = SimpleNamespace(
        is_hip=False, runtimeGetVersion=lambda: 13000, driverGetVersion=lambda: 13000, getDeviceCount=lambda: 1,
        getDevice=lambda: 0, getDeviceProperties=lambda number: dict(PROPERTIES), memGetInfo=device.memory_info,
        deviceSynchronize=lambda: device.wait("synchronize"), streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1, streamCaptureModeRelaxed=2,
    )
    return SimpleNamespace(
        Device=Device, Event=Event, Graph=Graph, Stream=Stream, runtime=runtime, is_available=lambda: True,
        get_current_stream=_current_stream, get_elapsed_time=lambda start, end: 0.0, cublas=SimpleNamespace(),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)), compiler=SimpleNamespace(CompileException=CompileError),
    )


def make_random() -> SimpleNamespace:
    """A new `cupy.random`: the functions that call cuRAND."""
    generator = np.random.default_rng(0)

    def drawing(name: str) -> Any:
        def draw(*arguments: Any, dtype: Any = np.float64, **options: Any) -> ndarray:
            device.refuse_library_in_capture("cuRAND")
            return asarray(np.asarray(getattr(generator, name)(*arguments, **options)), dtype)
        return draw

    return SimpleNamespace(**{name: drawing(name) for name in ("normal", "permutation", "random", "standard_normal",
                                                              "uniform")})
