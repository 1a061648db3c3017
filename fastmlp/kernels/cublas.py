"""cuBLAS's batched matrix product, called by ctypes.

CuPy refuses its own calls of cuBLAS while a stream is captured for a CUDA graph, although cuBLAS allows them, and it
copies transposed operands of batched products. So this calls the library that CuPy loads, too.

Numbers of enumerations are those of `library_types.h` and `cublas_api.h`, the same in CUDA 12.9 and 13.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

from fastmlp.errors import ConfigError, DeviceError

Array = Any

CUBLAS_OP_N, CUBLAS_OP_T = 0, 1                                     # cublasOperation_t
CUDA_R_32F, CUDA_R_64F = 0, 1                                       # cudaDataType
CUBLAS_COMPUTE_32F = 68                                             # cublasComputeType_t
CUBLAS_COMPUTE_64F = 70
CUBLAS_COMPUTE_32F_FAST_TF32 = 77
CUBLAS_GEMM_DEFAULT = -1                                            # cublasGemmAlgo_t
STATUS_NAMES = {                                                    # cublasStatus_t
    1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED", 7: "CUBLAS_STATUS_INVALID_VALUE",
    8: "CUBLAS_STATUS_ARCH_MISMATCH", 11: "CUBLAS_STATUS_MAPPING_ERROR", 13: "CUBLAS_STATUS_EXECUTION_FAILED",
    14: "CUBLAS_STATUS_INTERNAL_ERROR", 15: "CUBLAS_STATUS_NOT_SUPPORTED", 16: "CUBLAS_STATUS_LICENSE_ERROR",
}
LARGEST_INT = 2**31 - 1                 # sizes and leading dimensions are C ints
WORKSPACE_BYTES = 32 * 2**20            # what cuBLAS's documentation recommends for Hopper; older GPUs want less

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
_PROTOTYPES = {
    "cublasCreate_v2": [ctypes.POINTER(_POINTER)],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmStridedBatchedEx": [
        _POINTER, _INT, _INT, _INT, _INT, _INT,                     # handle, transa, transb, m, n, k
        _POINTER, _POINTER, _INT, _INT, _LONG,                      # alpha, A, Atype, lda, strideA
        _POINTER, _INT, _INT, _LONG,                                # B, Btype, ldb, strideB
        _POINTER, _POINTER, _INT, _INT, _LONG,                      # beta, C, Ctype, ldc, strideC
        _INT, _INT, _INT,                                           # batchCount, computeType, algo
    ],
}


class _Arithmetic(NamedTuple):
    """How arrays of one dtype are multiplied; the factors are read by cuBLAS during the call."""

    type: int
    compute: int
    one: Any
    zero: Any


_FLOAT32 = _Arithmetic(CUDA_R_32F, CUBLAS_COMPUTE_32F, ctypes.c_float(1), ctypes.c_float(0))
_ARITHMETIC = {
    "float32": {"float32": _FLOAT32,
                "float64": _Arithmetic(CUDA_R_64F, CUBLAS_COMPUTE_64F, ctypes.c_double(1), ctypes.c_double(0))},
    "tf32": {"float32": _FLOAT32._replace(compute=CUBLAS_COMPUTE_32F_FAST_TF32)},
}


class _Layout(NamedTuple):
    """Where cuBLAS finds the matrices of an array: see `_layout`."""

    operation: int
    leading: int
    member: int


class Cublas:
    """cuBLAS's batched matrix product, called directly so that it can be recorded in a CUDA graph.

    Nothing is loaded before the first product, which must not be one that is recorded. The handle and the workspace
    belong to the device that is current then, and stay until the end of the process. All products share the workspace:
    two streams, or a graph and a stream, must not compute products of one `Cublas` at the same time.

    Parameters
    ----------
    xp : module
        `cupy`, or a stand-in for it.
    precision : {"float32", "tf32"}, default "float32"
        What float32 arrays are multiplied in. "tf32" rounds the factors to 10 bits behind the point for the sake of
        tensor cores, and takes float32 arrays only. CuPy's `CUPY_TF32` has no say here.

    Raises
    ------
    ConfigError
        The precision is neither of the two.
    """

    def __init__(self, xp: Any, precision: str = "float32") -> None:
        if precision not in _ARITHMETIC:
            raise ConfigError(f"precision {precision!r} is unknown; take 'float32' or 'tf32'")
        self._xp = xp
        self._precision = precision
        self._library: ctypes.CDLL | None = None
        self._handle = _POINTER()
        self._workspace: Array = None
        self._stream: int | None = None         # the one that the handle works on
        self._lock = threading.Lock()

    def product(self, a: Array, b: Array, out: Array) -> None:
        """Multiply the members' matrices; nothing is copied, allocated (but at the first call) or waited for.

        Each of `a` and `b` may be a view in whose matrices the rows or the columns are contiguous: a transposed one, or
        the members of an array (N, M, H) by `moveaxis`. Members may lie anywhere. In `out` the rows are contiguous.

        Parameters
        ----------
        a : device array, (M, N, K)
        b : device array, (M, K, H)
        out : device array, (M, N, H)
            Overwritten; zeros where K is 0. All three are float32, or all are float64.

        Raises
        ------
        ValueError
            The shapes do not belong together, an array's elements lie as cuBLAS cannot read them, or arrays of float64
            shall be multiplied in "tf32".
        TypeError
            The dtypes differ, or are others.
        DeviceError
            cuBLAS is missing, or refuses.
        """
        arithmetic = self._arithmetic(a, b, out)
        if a.ndim != 3 or b.ndim != 3 or b.shape[:2] != a.shape[::2] or out.shape != (*a.shape[:2], b.shape[2]):
            raise ValueError(f"shapes {_shapes(a, b, out)} do not belong together: take (M, N, K) x (M, K, H) -> "
                             "(M, N, H)")
        if not out.size:
            return
        (members, rows, inner), columns = a.shape, b.shape[2]
        if inner == 0:
            out.fill(0)
            return
        left, right, target = _layout("a", a), _layout("b", b), _layout("out", out)
        if target.operation != CUBLAS_OP_N or (members > 1 and target.member == 0):
            raise ValueError(f"the rows of out (shape {out.shape}, strides {out.strides}) must be contiguous, and each "
                             "element its own")
        if max(members, rows, inner, columns, left.leading, right.leading, target.leading) > LARGEST_INT:
            raise ValueError(f"shapes {_shapes(a, b, out)} are too large for cuBLAS: its sizes and strides end at "
                             f"{LARGEST_INT}")
        with self._lock:            # the handle has one stream, each thread its own
            self._work_on_current_stream()
            # To cuBLAS, which reads columns, each matrix here is its transpose: it computes out^T = b^T a^T.
            self._call(
                "cublasGemmStridedBatchedEx", right.operation, left.operation, columns, rows, inner,
                ctypes.addressof(arithmetic.one), b.data.ptr, arithmetic.type, right.leading, right.member,
                a.data.ptr, arithmetic.type, left.leading, left.member,
                ctypes.addressof(arithmetic.zero), out.data.ptr, arithmetic.type, target.leading, target.member,
                members, arithmetic.compute, CUBLAS_GEMM_DEFAULT, arrays=(a, b, out))

    def _arithmetic(self, a: Array, b: Array, out: Array) -> _Arithmetic:
        dtypes = [str(array.dtype) for array in (a, b, out)]
        if len(set(dtypes)) > 1 or dtypes[0] not in _ARITHMETIC["float32"]:
            raise TypeError(f"arrays of {', '.join(dtypes)} cannot be multiplied: take three of float32 or of float64")
        if dtypes[0] not in _ARITHMETIC[self._precision]:
            raise ConfigError(f"precision {self._precision!r} is for float32 arrays, not {dtypes[0]}; take 'float32'")
        return _ARITHMETIC[self._precision][dtypes[0]]

    def _work_on_current_stream(self) -> None:
        if self._library is None:
            self._start()
        stream = self._xp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._stream = None
            self._call("cublasSetStream_v2", stream)
            # That made the handle forget its workspace, and cuBLAS's own is allocated anew for every recorded graph.
            self._call("cublasSetWorkspace_v2", self._workspace.data.ptr, self._workspace.nbytes)
            self._stream = stream

    def _start(self) -> None:
        """Load the library and make the handle and the workspace."""
        library = _load(self._xp)
        handle = _POINTER()
        _check(library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate_v2")
        self._workspace = self._xp.empty(WORKSPACE_BYTES, dtype=self._xp.uint8)
        self._handle, self._library = handle, library

    def _call(self, name: str, *arguments: int, arrays: tuple[Array, ...] = ()) -> None:
        """Call a function of the library with the handle; `arrays` are for the message if it fails."""
        _check(getattr(self._library, name)(self._handle, *arguments), name, arrays)


def _layout(name: str, array: Array) -> _Layout:
    """The layout of an array's matrices as cuBLAS wants it told, without a copy.

    Parameters
    ----------
    name : str
        For the message.
    array : device array, (members, rows, columns)

    Returns
    -------
    _Layout
        The operation that makes cuBLAS's matrix, read by columns, the transpose of ours: CUBLAS_OP_N where our rows are
        contiguous, CUBLAS_OP_T where our columns are. The elements from one contiguous stretch to the next; and from
        one member to the next.
    """
    members, rows, columns = array.shape
    item = array.itemsize
    member_step, row_step, column_step = array.strides
    member = member_step // item if members > 1 else 0         # strides of axes of length 1 mean nothing
    if columns == 1 or column_step == item:
        leading = row_step // item if rows > 1 else columns
        if leading >= columns:
            return _Layout(CUBLAS_OP_N, leading, member)
    if rows == 1 or row_step == item:
        leading = column_step // item          # there are several columns: a single one ended above
        if leading >= rows:
            return _Layout(CUBLAS_OP_T, leading, member)
    raise ValueError(f"{name} (shape {array.shape}, strides {array.strides}) has neither contiguous rows nor "
                     "contiguous columns; copy it first")


def _load(xp: Any) -> ctypes.CDLL:
    """The cuBLAS that CuPy uses, its functions declared."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        path = load_nvidia_dynamic_lib("cublas").abs_path
        if path is None:
            raise OSError("its path is unknown")
        library = ctypes.CDLL(path)
    except (ImportError, OSError, RuntimeError) as error:      # pathfinder's own errors are RuntimeErrors
        cuda = xp.cuda.runtime.runtimeGetVersion() // 1000
        quoted = " ".join(str(error).split())[:200]
        raise DeviceError(f"cuBLAS cannot be loaded ({type(error).__name__}: {quoted}); install it with "
                          f'pip install "fastmlp[cuda{cuda}]"') from error
    for name, parameters in _PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = parameters, _INT
    return library


def _check(status: int, name: str, arrays: tuple[Array, ...] = ()) -> None:
    """Raise DeviceError unless a call succeeded."""
    if status:
        shapes = f" for shapes {_shapes(*arrays)}" if arrays else ""
        raise DeviceError(f"cuBLAS's {name} failed with status {status} "
                          f"({STATUS_NAMES.get(status, 'an unknown status')}){shapes}")


def _shapes(a: Array, b: Array, out: Array) -> str:
    return f"{a.shape} x {b.shape} -> {out.shape}"
