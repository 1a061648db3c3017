"""The processor's name and cores, and the threads of the libraries that multiply matrices on it."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmlp.errors import ConfigError


def usable_cores() -> int:
    """The cores that this process may use, which in a container or under taskset are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    return _cpu_fact("model name") or platform.processor() or platform.machine() or "unknown processor"


@functools.cache
def cpu_flags() -> str:
    """The processor's abilities, in the words of the system; empty where it does not tell."""
    return _cpu_fact("flags") or _cpu_fact("Features")


def _cpu_fact(name: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return ""
