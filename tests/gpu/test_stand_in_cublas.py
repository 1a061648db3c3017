"""The stand-in's cuBLAS, called as a C library: the statuses it returns, and what only the stand-in notices."""

import ctypes
import sys

import numpy as np
import pytest
from emulator import LaunchError
from stand_in import OutsideWriteError, device

pytestmark = pytest.mark.L3

SUCCESS, NOT_INITIALIZED, INVALID_VALUE, INTERNAL_ERROR, NOT_SUPPORTED = 0, 1, 7, 14, 15
N, T = 0, 1


class Library:
    """The library with a handle, and a product by columns of (2 x 4) and (4 x 3), a batch of 2, ready to be spoilt."""

    def __init__(self, cupy):
        self.cupy = cupy
        path = sys.modules["cuda.pathfinder"].load_nvidia_dynamic_lib("cublas").abs_path
        self.c = ctypes.CDLL(path)
        self.handle = ctypes.c_void_p()
        assert self.c.cublasCreate_v2(ctypes.byref(self.handle)) == SUCCESS
        rng = np.random.default_rng(5)
        self.a, self.b = (cupy.asarray(rng.normal(size=(2, *shape)).astype(np.float32)) for shape in ((4, 2), (3, 4)))
        self.out = cupy.asarray(np.zeros((2, 3, 2), np.float32))
        self.workspace = cupy.empty(1024, np.uint8)
        self.one, self.zero = ctypes.c_float(1), ctypes.c_float(0)

    def use_stream(self, stream=None, workspace=True):
        assert self.c.cublasSetStream_v2(self.handle, ctypes.c_void_p(stream.ptr if stream else 0)) == SUCCESS
        if workspace:
            pointer = ctypes.c_void_p(self.workspace.data.ptr)
            assert self.c.cublasSetWorkspace_v2(self.handle, pointer, ctypes.c_size_t(1024)) == SUCCESS

    def gemm(self, **spoilt):
        values = {
            "handle": self.handle, "transa": N, "transb": N, "m": 2, "n": 3, "k": 4,
            "alpha": ctypes.addressof(self.one), "a": self.a.data.ptr, "a_type": 0, "lda": 2, "stride_a": 8,
            "b": self.b.data.ptr, "b_type": 0, "ldb": 4, "stride_b": 12,
            "beta": ctypes.addressof(self.zero), "c": self.out.data.ptr, "c_type": 0, "ldc": 2, "stride_c": 6,
            "batch": 2, "compute": 68, "algo": -1,
        }
        assert spoilt.keys() <= values.keys()
        values.update(spoilt)
        for name in ("alpha", "beta", "a", "b", "c"):
            values[name] = ctypes.c_void_p(values[name])
        for name in ("stride_a", "stride_b", "stride_c"):
            values[name] = ctypes.c_longlong(values[name])
        return self.c.cublasGemmStridedBatchedEx(*values.values())

    def expected(self):
        return (self.a.get().swapaxes(1, 2) @ self.b.get().swapaxes(1, 2)).swapaxes(1, 2)


@pytest.fixture
def library(cupy):
    return Library(cupy)


def test_products_are_by_columns_with_factors(library):
    assert library.gemm() == SUCCESS
    assert np.allclose(library.out.get(), library.expected(), rtol=1e-5)
    library.one.value, library.zero.value = -2.0, 3.0
    assert library.gemm() == SUCCESS
    assert np.allclose(library.out.get(), library.expected(), rtol=1e-5)         # -2 + 3 of what was there
    assert (device.counts.products, device.counts.launches) == (2, 2)


def test_a_factor_of_zero_keeps_the_old_content_out(library):
    library.out.fill(np.nan)
    assert library.gemm() == SUCCESS
    assert np.isfinite(library.out.get()).all()
    assert library.gemm(k=0) == SUCCESS
    assert (library.out.get() == 0).all()


@pytest.mark.parametrize(("status", "spoilt"), [
    (NOT_INITIALIZED, {"handle": None}),
    *((INVALID_VALUE, {name: None}) for name in ("alpha", "beta", "a", "b", "c")),
    *((INVALID_VALUE, {name: -1}) for name in ("m", "n", "k", "batch")),
    *((INVALID_VALUE, {name: 3}) for name in ("transa", "transb")),
    (INVALID_VALUE, {"lda": 1}), (INVALID_VALUE, {"ldb": 3}), (INVALID_VALUE, {"ldc": 1}),
    (INVALID_VALUE, {"lda": 3, "transa": T}), (INVALID_VALUE, {"ldb": 2, "transb": T}),
    (INVALID_VALUE, {"lda": 0, "m": 0}), (INVALID_VALUE, {"ldc": 0, "m": 0}),
    (INVALID_VALUE, {"algo": 24}), (INVALID_VALUE, {"algo": -2}), (INVALID_VALUE, {"algo": 116}),
    *((NOT_SUPPORTED, {name: 1}) for name in ("a_type", "b_type", "c_type")),
    (NOT_SUPPORTED, {"compute": 70}), (NOT_SUPPORTED, {"compute": 64}), (NOT_SUPPORTED, {"compute": 0}),
    (SUCCESS, {"m": 0}), (SUCCESS, {"n": 0}), (SUCCESS, {"batch": 0}),
])
def test_wrong_arguments_give_cublass_status_and_compute_nothing(library, status, spoilt):
    assert library.gemm(**spoilt) == status
    assert (device.counts.products, device.counts.launches) == (0, 0)
    assert (library.out.get() == 0).all()


def test_handles_and_workspaces_are_checked(library):
    assert library.c.cublasCreate_v2(None) == INVALID_VALUE
    wrong, size = ctypes.c_void_p(64), ctypes.c_size_t(256)
    assert library.c.cublasSetStream_v2(wrong, None) == NOT_INITIALIZED
    assert library.c.cublasSetWorkspace_v2(wrong, None, size) == NOT_INITIALIZED
    for step, status in ((0, SUCCESS), (128, INVALID_VALUE), (256, SUCCESS)):
        pointer = ctypes.c_void_p(library.workspace.data.ptr + step)
        assert library.c.cublasSetWorkspace_v2(library.handle, pointer, size) == status


def test_a_recorded_product_without_a_workspace_is_noticed(cupy, library):
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        library.use_stream(stream)
        stream.begin_capture()
        assert library.gemm() == SUCCESS
        library.use_stream(stream, workspace=False)             # the same stream, but the workspace is forgotten
        assert library.gemm() == INTERNAL_ERROR
        with pytest.raises(LaunchError, match="recorded without a workspace"):
            device.raise_fault()
        graph = stream.end_capture()
        assert library.gemm() == SUCCESS                        # not recorded: cuBLAS's own workspace will do
    assert (device.counts.recorded, device.counts.products) == (1, 1)
    library.out.fill(0)
    graph.launch()
    assert np.allclose(library.out.get(), library.expected(), rtol=1e-5)
    assert (device.counts.replayed, device.counts.products) == (1, 1)


@pytest.mark.parametrize("spoilt", [
    {"a": 1 << 40}, {"b": 1 << 40}, {"c": 1 << 40}, {"lda": 3}, {"ldb": 5}, {"ldc": 3}, {"batch": 3}, {"stride_a": 9},
    {"stride_b": 13}, {"stride_c": 7}, {"stride_c": -6}, {"transa": T, "lda": 5}, {"n": 4},
])
def test_elements_outside_of_device_memory_are_noticed_before_they_are_touched(library, spoilt):
    assert library.gemm(**spoilt) == INTERNAL_ERROR
    with pytest.raises(OutsideWriteError, match=r"operand . of a product reaches outside of device memory"):
        device.raise_fault()
    assert device.counts.products == 0
    device.raise_fault()                                        # told once


def test_other_streams_and_host_workspaces_are_noticed(cupy, library):
    library.use_stream(cupy.cuda.Stream(non_blocking=True))
    assert library.gemm() == INTERNAL_ERROR
    with pytest.raises(LaunchError, match="another stream than the current one"):
        device.raise_fault()
    library.use_stream()
    host = np.zeros(4096, np.uint8)
    pointer = ctypes.c_void_p(host.ctypes.data + -host.ctypes.data % 256)
    assert library.c.cublasSetWorkspace_v2(library.handle, pointer, ctypes.c_size_t(1024)) == SUCCESS
    assert library.gemm() == INTERNAL_ERROR
    with pytest.raises(LaunchError, match="workspace is no device memory"):
        device.raise_fault()


def test_canaries_are_looked_at_after_a_product(library):
    ctypes.memset(library.out.data.ptr + library.out.nbytes, 1, 1)
    assert library.gemm() == INTERNAL_ERROR
    with pytest.raises(OutsideWriteError, match="cublasGemmStridedBatchedEx: wrote behind an array of 48 bytes"):
        device.raise_fault()


def test_other_libraries_are_not_found(cupy):
    pathfinder = sys.modules["cuda.pathfinder"]
    with pytest.raises(pathfinder.DynamicLibNotFoundError, match="cufft"):
        pathfinder.load_nvidia_dynamic_lib("cufft")
