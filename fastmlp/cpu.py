"""The processor's name and cores, and the threads of the libraries that multiply matrices on it."""

from __future__ import annotations

import functools
import os
import platform
import threading
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


def most_threads() -> int:
    """The most threads that one computation takes unquestioned: the usable cores, or $OMP_NUM_THREADS if that is less.

    Whoever starts several processes, as joblib does, sets the variable so that together they have a thread a core.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()    # "4,2" is 4, in each of which 2
    return min(usable_cores(), int(wanted)) if wanted.isdecimal() and int(wanted) else usable_cores()


def blas_pools() -> list[dict[str, Any]]:
    """The BLAS libraries loaded so far, each with its threads, as `threadpoolctl.threadpool_info` describes them."""
    from threadpoolctl import threadpool_info

    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


_limiting = threading.RLock()       # held by the thread whose limits are in force


@contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Limit the threads of every BLAS library in the process, and restore them on the way out.

    NumPy's and SciPy's wheels each bring an OpenBLAS with threads of its own that spin while they wait for work;
    limiting one of the two would leave the other in its way.

    They are the whole process's: while one thread's limit is in force, others change nothing.

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

    if not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(limit, user_api="blas"):
            yield
    finally:
        _limiting.release()


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
