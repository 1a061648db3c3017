"""Which array library computes, and moving arrays to it and back.

Only this module and `gpu`, which finds out whether a GPU can be used, import CuPy or ask which library is in use.
Everything else receives a `Backend` and computes with its `xp` and `kernels`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.cpu import blas_pools, cpu_model, most_threads
from fastmlp.errors import ConfigError, DeviceError
from fastmlp.gpu import GpuReport, probe_gpu
from fastmlp.memory import free_memory

__all__ = [
    "Backend", "GpuReport", "host_array", "is_device_array", "probe_gpu", "resolve",
]

RECORDED_STEPS = 32         # one launch of a graph costs some ten microseconds, a step about as much
RECORDED_WORK = 5e9         # multiplications recorded together on a CPU: some 50 ms, in which nobody can interrupt
CACHED_CHUNK = 16 << 20     # bytes; measured on 45,000 images: 0.43 s with 4 MiB, 0.23 with 8, 0.20 with 16
DEVICE_CHUNK = 256 << 20    # enough rows that launches do not count
UPLOAD_BYTES = 64 << 20     # at a time
KERNELS = ("auto", "compiled", "numpy")


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

        It is C-contiguous. On the CPU an array that was so is not copied: the result shares its memory.
        """
        array = np.asarray(host, order="C")     # the kernels read rows
        if self.name != "gpu":
            return self.xp.asarray(array)
        with self.explaining_memory():
            if array.nbytes <= UPLOAD_BYTES or len(array) < 2:
                return self.xp.asarray(array)
            # In slices, because CuPy copies by way of as much pinned memory, which it keeps.
            result, rows = self.xp.empty(array.shape, array.dtype), max(1, UPLOAD_BYTES * len(array) // array.nbytes)
            for start in range(0, len(array), rows):
                result[start:start + rows] = self.xp.asarray(array[start:start + rows])
            return result

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """A new array of zeros of this backend, made where it lives."""
        with self.explaining_memory():
            return self.xp.zeros(shape, dtype=dtype)

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """The content of one of this backend's arrays as a NumPy array; waits until it is computed.

        On the CPU an array is not copied: the result shares its memory.
        """
        return np.asarray(host_array(array))

    @property
    def records(self) -> bool:
        """Whether `record` makes anything faster here."""
        return self.name == "gpu" or self.kernels.record is not None

    def steps_at_once(self, multiplications: float) -> int:
        """Training steps of so many multiplications each that are worth recording together; 1 where nothing is."""
        if self.name == "gpu":
            return RECORDED_STEPS
        return max(1, min(RECORDED_STEPS, int(RECORDED_WORK / multiplications))) if self.records else 1

    @property
    def chunk_bytes(self) -> int:
        """Memory that an evaluation may use at a time."""
        return DEVICE_CHUNK if self.name == "gpu" else CACHED_CHUNK

    def free_bytes(self) -> int | None:
        """Memory that is free on the device; None on the CPU, where the data are already."""
        if self.name != "gpu":
            return None
        return int(self.xp.cuda.runtime.memGetInfo()[0] + self.xp.get_default_memory_pool().free_bytes())

    def available_bytes(self) -> int:
        """Memory for new arrays where this backend computes."""
        free = self.free_bytes()
        return free_memory() if free is None else free

    def milestone(self) -> Callable[[], None]:
        """A function that waits until everything that was started before this call is done."""
        if self.name != "gpu":
            return lambda: None
        event = self.xp.cuda.Event(disable_timing=True)
        event.record()
        wait: Callable[[], None] = event.synchronize
        return wait

    @contextmanager
    def explaining_memory(self) -> Iterator[None]:
        """Turn the device's lack of memory into a sentence that says what was needed, what is free, and what helps.

        Raises
        ------
        DeviceError
            Memory ran out inside the with block.
        """
        if self.name != "gpu":
            yield
            return
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError as error:
            self.xp.get_default_memory_pool().free_all_blocks()
            free, whole = self.xp.cuda.runtime.memGetInfo()
            raise DeviceError(
                f"the GPU's memory does not suffice ({str(error).partition(' (')[0]}; {free:,} of {whole:,} bytes are "
                f"free): train fewer members at once, choose a smaller --batch-size or --hidden, or leave the data on "
                f"the host (--keep-data host, or Examples(keep='host'))") from error

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does what `work` does, on the same memory, in one launch (a CUDA graph) or call.

        `work` is called once, and nothing of it is executed then. It must not make arrays, wait, or copy to the host;
        the kernels that it uses must have run before, so that they are compiled. Where nothing can be recorded it is
        `work` itself.
        """
        if self.name != "gpu":
            return work if self.kernels.record is None else self.kernels.record(work)
        stream = _recording_stream(self.xp)
        with stream:
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):                   # the recording is broken; what broke it is raised
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        return lambda: graph.launch()                       # on the stream that is current then

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


def resolve(device: str = "auto", precision: str = "float32", *, kernels: str = "auto",
            threads: int | None = None) -> Backend:
    """Choose where and how to compute.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu"}, default "auto"
        "auto" takes the GPU where one is usable and the CPU elsewhere; `Backend.reason` then says why.
    precision : {"float32", "tf32"}, default "float32"
        "tf32" lets a GPU round the factors of large float32 products to 10 bits behind the point, for the sake of its
        tensor cores. It is never chosen by itself.
    kernels : {"auto", "compiled", "numpy"}, default "auto"
        On a CPU, who makes the operations: those in C, compiled for this processor when they are first used, or NumPy.
        "auto" takes NumPy where there is no C compiler. A GPU has its own.
    threads : int, optional
        How many the CPU computes with. By default the compiled kernels find out while they train, and NumPy's BLAS
        takes what it finds.

    Returns
    -------
    Backend
        Ready to use: for a GPU, CUDA is initialised and a first product has been computed.

    Raises
    ------
    DeviceError
        "gpu" or "compiled" was asked for and cannot be used; one sentence says what is missing and the way out.
    ConfigError
        An argument is none of those, or "tf32" was asked of a CPU.

    Examples
    --------
    >>> resolve("cpu").name
    'cpu'
    """
    from fastmlp.kernels import PRECISIONS

    for name, value, known in (("device", device, ("auto", "cpu", "gpu")), ("precision", precision, PRECISIONS),
                               ("kernels", kernels, KERNELS)):
        if value not in known:
            raise ConfigError(f"{name} {value!r} is unknown; take {', '.join(map(repr, known[:-1]))} or {known[-1]!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"{threads} threads cannot compute; take 1 or more")
    reason = ""
    if device != "cpu":
        gpu = probe_gpu()
        if gpu.usable:
            import cupy

            description = f"gpu: {gpu.device}, CuPy {gpu.cupy}, CUDA {gpu.cuda_runtime}" + (
                "" if precision == "float32" else f", {precision}")
            reason = f"{gpu.device} is usable" if device == "auto" else ""
            return Backend("gpu", cupy, _gpu_kernels(cupy, precision), description, reason)
        if device == "gpu":
            raise DeviceError(f"device 'gpu' cannot be used: {gpu.problem}; {gpu.remedy}")
        reason = gpu.problem
    if precision != "float32":
        raise ConfigError(f"precision {precision!r} needs a GPU"
                          + (f", and {reason}" if reason else "") + ": leave it out, the CPU computes in float32")
    made, how = _cpu_kernels(kernels, threads)
    return Backend("cpu", np, made, f"cpu: {cpu_model()}, NumPy {np.__version__}, {how}", reason)


@functools.lru_cache(maxsize=16)
def _cpu_kernels(kernels: str, threads: int | None) -> tuple[Any, str]:
    """The operations for NumPy's arrays and who makes them, in words; made once in a process."""
    from fastmlp.kernels import bind, numpy_inplace
    from fastmlp.kernels.compiled import CompiledKernels

    problem = "as asked"
    if kernels != "numpy":
        try:
            maker = CompiledKernels(threads)
            return bind(np, maker), f"compiled kernels, {_count(threads or most_threads(), 'thread')}" + (
                " at most" if threads is None else "")
        except DeviceError as error:
            if kernels == "compiled":
                raise DeviceError(f"kernels 'compiled' cannot be used: {error}; leave it out to compute with "
                                  f"NumPy") from error
            problem = str(error)
    blas = threads or max((pool["num_threads"] for pool in blas_pools()), default=1)
    return bind(np, numpy_inplace), f"{_count(blas, 'BLAS thread')} (NumPy's kernels: {problem})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@functools.lru_cache(maxsize=4)
def _recording_stream(cupy: Any) -> Any:
    """One for all recordings: the default stream cannot be recorded."""
    return cupy.cuda.Stream(non_blocking=True)


@functools.lru_cache(maxsize=4)
def _gpu_kernels(cupy: Any, precision: str) -> Any:
    """Made once in a process: they hold compiled modules, cuBLAS's handle and its workspace."""
    from fastmlp.kernels import bind
    from fastmlp.kernels.cupy_fused import FusedKernels

    return bind(cupy, FusedKernels(cupy, precision))


def is_device_array(x: Any) -> bool:
    """Whether `x` is a CuPy array. CuPy is not imported for it: where nobody has, there are none."""
    return isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ()))


def host_array(x: Any) -> Any:
    """Bring a CuPy array to NumPy; anything else, lists and data frames too, is returned as it is."""
    return x.get() if is_device_array(x) else x
