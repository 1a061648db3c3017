"""The stand-in for CuPy, and fastmlp's backend on it, as fixtures."""

import sys

import numpy as np
import pytest
from emulator import compiler
from stand_in import device, make_cupy, make_pathfinder

from fastmlp.backend import probe_gpu, resolve


@pytest.fixture(autouse=True)
def _needs_compiler():
    if compiler() is None:
        pytest.skip("g++ is not there, and without it (on Linux) CUDA kernels cannot run on the CPU")


@pytest.fixture
def cupy(monkeypatch):
    """A new stand-in, which `import cupy` gives until the end of the test; no kernel may have written outside."""
    module = make_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", make_pathfinder())
    probe_gpu.cache_clear()
    yield module
    probe_gpu.cache_clear()
    device.raise_fault()
    device.check_memory("by the end of the test")
    device.reset()


@pytest.fixture
def gpu(cupy):
    """What `resolve("gpu")` gives on the stand-in."""
    backend = resolve("gpu")
    assert backend.xp is cupy
    return backend


@pytest.fixture
def pair(cupy):
    """The same numbers on the host and on the device."""
    host = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    return host, cupy.asarray(host)
