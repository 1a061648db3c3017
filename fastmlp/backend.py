"""Which array library computes, and moving arrays to it and back.

Only this module and `gpu`, which finds out whether a GPU can be used, import CuPy or ask which library is in use.
Everything else receives a `Backend` and computes with its `xp` and `kernels`.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError, DeviceError
from fastmlp.gpu import GpuReport, probe_gpu

__all__ = [
    "Backend", "GpuReport", "blas_pools", "blas_threads", "cpu_model", "host_array", "is_device_array", "probe_gpu",
    "resolve",
]


@dataclass(frozen=True)
class Backend:
    """An array library, ready to compute.

    Attributes
    ----------
    name : {"cpu", "gpu"}
        Where it computes.
    xp : module
        `numpy` or `cupy`.
    kernels : object
        The operations of a training step, bound to this library; see `fastmlp.kernels`.
    description : str
        One line for people: "cpu: AMD EPYC 9B45, NumPy 2.4.6, 2 BLAS threads" or "gpu: NVIDIA H200, CuPy 14.2.0, CUDA
        13.2".
    reason : str
        Why "auto" took this device: "CuPy is not installed"; empty where the device was asked for by name.

    Examples
    --------
    >>> backend = resolve("cpu")
    >>> x = backend.asarray([[1.0, 2.0]])
    >>> backend.to_host(backend.xp.sum(x, axis=1)).tolist()
    [3.0]
    """

    name: str
    xp: Any
    kernels: Any
    description: str
    reason: str = ""

    def asarray(self, host: npt.ArrayLike) -> Any:
        """An array of this backend with the content of a host array, of the same shape and type.

        On the CPU an array is not copied: the result shares its memory.
        """
        return self.xp.asarray(host)

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """A new array of zeros of this backend, made where it lives."""
        return self.xp.zeros(shape, dtype=dtype)

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """The content of one of this backend's arrays as a NumPy array; waits until it is computed.

        On the CPU an array is not copied: the result shares its memory.
        """
        return np.asarray(host_array(array))

    def synchronize(self) -> None:
        """Wait until everything that was started is done. On the CPU that is always so."""
        if self.name == "gpu":
            self.xp.cuda.Device().synchronize()

    def check(self, *arrays: Any) -> None:
        """Refuse arrays that do not live where this backend computes; for public entrances, not for inner loops.

        Raises
        ------
        TypeError
            An array lives on the other side; the message names both kinds.
        """
        for position, array in enumerate(arrays, start=1):
            if is_device_array(array) != (self.name == "gpu"):
                raise TypeError(
                    f"host and device arrays are mixed: the {self.name} backend computes on {self.xp.__name__} arrays, "
                    f"but array {position} of {len(arrays)} is a {type(array).__module__}.{type(array).__qualname__}; "
                    "move it with Backend.asarray or host_array"
                )


def resolve(device: str = "auto") -> Backend:
    """Choose where to compute.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu"}, default "auto"
        "auto" takes the GPU where one is usable and the CPU elsewhere; `Backend.reason` then says why.

    Returns
    -------
    Backend
        Ready to use: for a GPU, CUDA is initialised and a first product has been computed.

    Raises
    ------
    DeviceError
        "gpu" was asked for and cannot be used; one sentence says what is missing and the way out.
    ConfigError
        The device is none of the three.

    Examples
    --------
    >>> resolve("cpu").name
    'cpu'
    """
    from fastmlp.kernels import bind

    if device not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"device {device!r} is unknown; take 'auto', 'cpu' or 'gpu'")
    reason = ""
    if device != "cpu":
        gpu = probe_gpu()
        if gpu.usable:
            import cupy

            description = f"gpu: {gpu.device}, CuPy {gpu.cupy}, CUDA {gpu.cuda_runtime}"
            reason = f"{gpu.device} is usable" if device == "auto" else ""
            return Backend("gpu", cupy, bind("gpu", cupy), description, reason)
        if device == "gpu":
            raise DeviceError(f"device 'gpu' cannot be used: {gpu.problem}; {gpu.remedy}")
        reason = gpu.problem
    threads = max((pool["num_threads"] for pool in blas_pools()), default=1)
    description = f"cpu: {cpu_model()}, NumPy {np.__version__}, {threads} BLAS thread{'s' if threads > 1 else ''}"
    return Backend("cpu", np, bind("cpu", np), description, reason)


def is_device_array(x: Any) -> bool:
    """Whether `x` is a CuPy array. CuPy is not imported for it: where nobody has, there are none."""
    return isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ()))


def host_array(x: Any) -> Any:
    """Bring a CuPy array to NumPy; anything else, lists and data frames too, is returned as it is."""
    return x.get() if is_device_array(x) else x


def blas_pools() -> list[dict[str, Any]]:
    """The BLAS libraries loaded so far, each with its threads, as `threadpoolctl.threadpool_info` describes them."""
    from threadpoolctl import threadpool_info

    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


@contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Limit the threads of every BLAS library in the process, and restore them on the way out.

    NumPy's and SciPy's wheels each bring an OpenBLAS with threads of its own that spin while they wait for work;
    limiting one of the two would leave the other in its way.

    Parameters
    ----------
    limit : int or None
        Threads of each library, at least 1; None leaves all as they are. Libraries loaded later are not limited.

    Raises
    ------
    ConfigError
        The limit is below 1.

    Examples
    --------
    >>> with blas_threads(1):
    ...     max(pool["num_threads"] for pool in blas_pools())
    1
    """
    if limit is None:
        yield
        return
    if limit < 1:
        raise ConfigError(f"{limit} BLAS threads cannot compute; take 1 or more")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limit, user_api="blas"):
        yield


@functools.cache
def cpu_model() -> str:
    """The processor's name, as "AMD EPYC 9B45", or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown processor"
