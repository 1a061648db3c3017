"""Whether a GPU can be used here and, if not, what stands in the way."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_OLDEST_CUPY = 14  # the first with NumPy 2's promotion rules: float32 * 0.5 stays float32
_OLDEST_COMPUTE_CAPABILITY = (7, 5)
_EXTRAS = 'pip install "fastmlp[cuda13]" (or "fastmlp[cuda12]" for a CUDA 12 driver)'


@dataclass(frozen=True)
class GpuReport:
    """What was found on the way to a GPU; what lies behind the first obstacle stays None.

    Attributes
    ----------
    usable : bool
        Whether fastmlp can compute on a GPU here.
    problem, remedy : str
        What stands in the way and the way out, as the halves of one sentence; empty when usable.
    packages : list of str
        The installed CuPy packages with their versions, as "cupy-cuda13x 14.2.0".
    cupy, cuda_runtime, cuda_driver : str or None
        Versions: CuPy's, that of the CUDA it was built with, and the newest CUDA that the driver supports.
    devices : int or None
        How many GPUs are visible. fastmlp takes CUDA's current one, the first unless set otherwise, which the rest
        describes.
    device, compute_capability : str or None
        Its name and its generation, as "9.0".
    memory_bytes : int or None
        Its whole memory.
    """

    usable: bool
    problem: str
    remedy: str
    packages: list[str]
    cupy: str | None = None
    cuda_runtime: str | None = None
    cuda_driver: str | None = None
    devices: int | None = None
    device: str | None = None
    compute_capability: str | None = None
    memory_bytes: int | None = None


@functools.cache
def probe_gpu() -> GpuReport:
    """Find out whether a GPU can be used and, if not, what stands in the way; never raises.

    Asked once per process: CUDA, too, reads its environment only once. Where a GPU is usable, this initialises CUDA.

    Examples
    --------
    >>> report = probe_gpu()
    >>> report.usable or bool(report.problem and report.remedy)
    True
    """
    found: dict[str, Any] = {"packages": _cupy_packages()}
    try:
        _walk_to_gpu(found)
    except _ObstacleError as obstacle:
        return GpuReport(False, *obstacle.args, **found)
    return GpuReport(True, "", "", **found)


class _ObstacleError(Exception):
    """Its two arguments are a report's problem and remedy."""


def _walk_to_gpu(found: dict[str, Any]) -> None:
    """Check one thing after another, each needed by the next; note in `found` what is seen on the way."""
    packages = found["packages"]
    names = " ".join(package.split()[0] for package in packages) or "cupy"
    if len(packages) > 1:
        # They share one folder: removing one of two breaks the other.
        raise _ObstacleError(f"several CuPy packages are installed side by side ({', '.join(packages)})",
                             f"remove them all with pip uninstall {names}, then {_EXTRAS}")
    with _quoting("CuPy cannot be imported", f"try pip install --force-reinstall {names}"):
        try:
            import cupy
        except ModuleNotFoundError as error:
            if error.name != "cupy":
                raise
            raise _ObstacleError("CuPy is not installed", f"install it with {_EXTRAS}") from None
        found["cupy"] = str(cupy.__version__)
        runtime = cupy.cuda.runtime
        if runtime.is_hip:
            raise _ObstacleError("this CuPy was built for ROCm, not for CUDA",
                                 f"remove it with pip uninstall {names}, then {_EXTRAS}")
        if int(found["cupy"].partition(".")[0]) < _OLDEST_CUPY:
            raise _ObstacleError(f"CuPy {found['cupy']} is too old, {_OLDEST_CUPY} or newer is needed",
                                 f"update it with pip install --upgrade {names}")

    nvidia_smi = "see what nvidia-smi says"
    with _quoting("CUDA does not start", nvidia_smi):
        built_with, supported = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        found["cuda_runtime"] = _cuda_version(built_with)
        if supported == 0:
            raise _ObstacleError("no NVIDIA driver is loaded",
                                 "install one, or start the container with docker run --gpus all")
        found["cuda_driver"] = _cuda_version(supported)
        # Within one major version an older driver runs newer programs, so only the major version counts.
        if supported // 1000 < built_with // 1000:
            older_cupy = f", or take the older CUDA with pip uninstall {names}, then {_extra(12)}"
            raise _ObstacleError(f"the NVIDIA driver supports CUDA {found['cuda_driver']} at most, but CuPy was built "
                                 f"with CUDA {found['cuda_runtime']}",
                                 "update the driver" + (older_cupy if supported // 1000 == 12 else ""))
        found["devices"] = _visible_devices(runtime)
        number = runtime.getDevice()
        properties = runtime.getDeviceProperties(number)
        found["device"] = properties["name"].decode()
        found["memory_bytes"] = int(properties["totalGlobalMem"])
        capability = (int(properties["major"]), int(properties["minor"]))
        found["compute_capability"] = "{}.{}".format(*capability)
    if capability < _OLDEST_COMPUTE_CAPABILITY:
        raise _ObstacleError(
            f"{found['device']} has compute capability {found['compute_capability']}, "
            f"{'.'.join(map(str, _OLDEST_COMPUTE_CAPABILITY))} or newer is needed",
            "compute on the CPU, or choose another GPU with CUDA_VISIBLE_DEVICES",
        )
    # Asked by name, because CuPy keeps compiled kernels on disk: the product below may do without the compiler.
    with _quoting("CuPy cannot load CUDA's libraries", f"install them with {_extra(built_with // 1000)}"):
        cupy.cuda.nvrtc.getVersion()
        _ = cupy.cuda.cublas
    with _quoting(f"a first product on {found['device']} failed", nvidia_smi):
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        cupy.asnumpy(ones @ ones)


def _visible_devices(runtime: Any) -> int:
    """The number of GPUs that CUDA shows, at least 1."""
    try:
        count = int(runtime.getDeviceCount())
    except Exception as error:
        if "cudaErrorNoDevice" not in str(error):
            raise
        count = 0
    if count == 0:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise _ObstacleError(*(
            ("there is an NVIDIA driver but no GPU is visible", "see whether nvidia-smi lists one") if chosen is None
            else (f"CUDA_VISIBLE_DEVICES={chosen!r} hides every GPU", "unset it or name a GPU, as 0")
        ))
    return count


@contextlib.contextmanager
def _quoting(problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever CuPy raises into an obstacle that quotes it."""
    try:
        yield
    except _ObstacleError:
        raise
    except Exception as error:
        # CuPy wraps a failing import in a page of advice; its cause is the one line that matters.
        cause = error.__cause__ or error
        quoted = " ".join(str(cause).split())[:200]
        raise _ObstacleError(f"{problem} ({type(cause).__name__}: {quoted})", remedy) from error


def _cupy_packages() -> list[str]:
    """The installed distributions of CuPy, each with its version; one when all is well."""
    packages = []
    for name in ("cupy", *(f"cupy-cuda{major}x" for major in range(11, 20))):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages.append(f"{name} {importlib.metadata.version(name)}")
    return packages


def _extra(cuda_major: int) -> str:
    return f'pip install "fastmlp[cuda{cuda_major}]"'


def _cuda_version(number: int) -> str:
    """13020 -> "13.2"."""
    return f"{number // 1000}.{number % 1000 // 10}"
