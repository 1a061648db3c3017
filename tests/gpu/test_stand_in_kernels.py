"""Kernels on the stand-in: CuPy's classes, their refusals, and what they notice."""

import numpy as np
import pytest
from emulator import CompileError, LaunchError, check_races
from stand_in import OutsideWriteError

pytestmark = pytest.mark.L3

ADD_ONE = 'extern "C" __global__ void add_one(float* x, int n) { int t = threadIdx.x; if (t < n) x[t] += 1; }'


def test_raw_kernels_and_modules(cupy):
    code = "#define REAL VALUE\n" + ADD_ONE.replace("float", "REAL")
    for real, dtype in (("float", np.float32), ("double", np.float64)):
        x = cupy.zeros(5, dtype)
        module = cupy.RawModule(code=code, options=("--std=c++17", f"-DVALUE={real}"))
        module.get_function("add_one")((1,), (32,), (x, np.int32(4)))
        assert x.get().tolist() == [1, 1, 1, 1, 0]
    code = 'extern "C" __global__ void k(double* x) { extern __shared__ double s[]; s[0] = 1; x[0] = s[0]; }'
    shared = cupy.RawKernel(code, "k")
    with pytest.raises(LaunchError, match="max_dynamic_shared_size_bytes"):
        shared((1,), (1,), (x,), shared_mem=100_000)
    shared.max_dynamic_shared_size_bytes = 100_000
    shared((1,), (1,), (x,), shared_mem=100_000)


def test_raw_kernels_are_given_arguments_of_the_right_width(cupy):
    kernel, x = cupy.RawKernel(ADD_ONE, "add_one"), cupy.zeros(4, np.float32)
    for wrong in (4, 4.0, np.int64(4), np.float64(4)):
        with pytest.raises(TypeError, match=r"argument 1 is .* the kernel reads an integer of 4 bytes"):
            kernel((1,), (32,), (x, wrong))
    with pytest.raises(TypeError, match="takes 2 arguments"):
        kernel((1,), (32,), (x,))
    with pytest.raises(TypeError, match="expected tuple"):
        kernel(1, 32, (x, np.int32(4)))
    assert (x.get() == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("statement", ["x[t] = 1", "x[t] += 1", "x[t] *= 2"])
@pytest.mark.parametrize(("place", "words"), [(" + n", "behind"), (" - 1 - t", "before")])
def test_a_write_outside_an_array_is_noticed(cupy, dtype, statement, place, words):
    real = {"float32": "float", "float64": "double", "int32": "int", "uint8": "unsigned char"}[dtype]
    code = ADD_ONE.replace("float", real).replace("x[t] += 1", statement).replace("[t]", f"[t{place}]")
    x = cupy.zeros(4, dtype)
    with pytest.raises(OutsideWriteError, match=f"add_one: wrote {words} an array of {x.nbytes} bytes"):
        cupy.RawKernel(code, "add_one")((1,), (1,), (x, np.int32(4)))
    assert x.get().tolist() == [0, 0, 0, 0]


def test_elementwise_kernels_broadcast_and_take_views_and_numbers(cupy, pair):
    host, x = pair
    kernel = cupy.ElementwiseKernel("T x, T m, int32 k, bool negative", "T y, int64 place",
                                    "y = twice(x) + m * k; if (negative) y = -y; place = i + _ind.size()", "k",
                                    preamble="__device__ inline T twice(T value) { return 2 * value; }")
    for view in (lambda a: a, lambda a: a.swapaxes(0, 2), lambda a: a[:, ::2, 1:]):
        y, place = kernel(view(x), view(x)[:1], 3, True)
        assert np.allclose(y.get(), -(2 * view(host) + 3 * view(host)[:1]), rtol=1e-6)
        assert place.get().ravel().tolist() == list(range(y.size, 2 * y.size))
    z = cupy.zeros((2, 3, 4), np.float32)
    same = cupy.ElementwiseKernel("T x", "T y", "y += x", "k")
    assert same(x, z.swapaxes(0, 0)) is not None
    same(x, z)
    assert np.array_equal(z.get(), 2 * host)


def test_elementwise_kernels_with_raw_arrays(cupy):
    rows = cupy.asarray(np.array([2, 0]))
    table = cupy.asarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    gather = cupy.ElementwiseKernel("raw S data, raw I rows, int64 width", "T x",
                                    "x = T(data[rows[i / width] * width + i % width])", "gather")
    x = cupy.empty((2, 4), np.float64)
    gather(table, rows, 4, x)
    assert x.get().tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    gather(table[:, ::-1], rows, 4, x)                              # raw arrays, too, may be strided
    assert x.get().tolist() == [[11, 10, 9, 8], [3, 2, 1, 0]]
    with pytest.raises(LaunchError, match="index 12 lies outside an array of 12"):
        gather(table, cupy.asarray(np.array([3, 0])), 4, x)
    counting = cupy.ElementwiseKernel("", "raw int32 y", "y[i] = i", "k", no_return=True)
    y = cupy.empty(3, np.int32)
    assert counting(y, size=3) is None
    assert y.get().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="Loop size is undecided"):
        counting(y)
    with pytest.raises(ValueError, match="Output array size is Undecided"):
        cupy.ElementwiseKernel("T x", "raw T y", "y[i] = x", "k")(cupy.ones(3))
    with pytest.raises(ValueError, match="Loop size is undecided"):
        cupy.ElementwiseKernel("float32 x", "float32 y", "y = x", "k")(1.0)
    with pytest.raises(ValueError, match="'size' can be used only if all of the ndarray are 'raw'"):
        gather(table, rows, 4, x, size=8)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    (("T i", "T y", "y = i"), ValueError, "Can not use 'i' as a parameter name"),
    (("T x", "T y", "y = x", "1k"), ValueError, "Invalid kernel name"),
    (("T x", "T y", "y = x", ""), ValueError, "Invalid kernel name"),
    (("TT x", "T y", "y = x"), TypeError, "data type 'TT' not understood"),
    (("const T x", "T y", "y = x"), Exception, 'Unknown keyword "const"'),
    (("T", "T y", "y = x"), Exception, "Syntax error: T"),
])
def test_constructors_refuse_what_cupy_refuses(cupy, arguments, error, words):
    with pytest.raises(error, match=words):
        cupy.ElementwiseKernel(*arguments)


def test_other_refusals_of_constructors(cupy):
    with pytest.raises(TypeError, match="expected tuple, got list"):
        cupy.RawKernel("", "k", options=["-O"])
    with pytest.raises(TypeError, match="Exactly one of `code` and `path`"):
        cupy.RawModule()
    with pytest.raises(ValueError, match="Invalid kernel name"):
        cupy.ReductionKernel("T x", "T y", "x", "a + b", "y = a", "0", "a b")
    cupy.ElementwiseKernel("T x", "T y", "no C++ at all", "k")      # compiled at its first call only
    with pytest.raises(CompileError, match="no"):
        cupy.ElementwiseKernel("T x", "T y", "no C++ at all", "k")(cupy.ones(1))


def test_elementwise_kernels_refuse_wrong_types_counts_and_shapes(cupy):
    kernel = cupy.ElementwiseKernel("T x, T y, float32 z", "T out", "out = x + y + z", "k")
    single, double = cupy.ones(3, np.float32), cupy.ones(3)
    for arguments, words in (((single, double, single), "Type is mismatched. y float64 float32"),
                             ((double, double, double), "Type is mismatched. z float64 float32"),
                             ((double, double, 1, single), "Type is mismatched. x float64 float32"),
                             ((single, single, 1, 2.0), "Output arguments must be cupy.ndarray"),
                             ((single, [1.0], 1), "Unsupported type <class 'list'>"),
                             ((single, single), "It must be either 3 or 4")):
        with pytest.raises(TypeError, match=words):
            kernel(*arguments)
    with pytest.raises(KeyError, match="T"):
        kernel(1.0, 2.0, single)
    with pytest.raises(ValueError, match="Out shape is mismatched"):
        kernel(single, cupy.ones((2, 3), np.float32), 1, cupy.ones((1, 3), np.float32))
    with pytest.raises(CompileError, match="read-only"):
        cupy.ElementwiseKernel("T x", "T y", "x = y", "k")(single)


def test_reduction_kernels(cupy, pair):
    host, x = pair
    kernel = cupy.ReductionKernel("T x, T w", "T y", "x * w", "a + b", "y = 2 * a", "0", "k")
    for axis in (None, 0, -1, (0, 2)):
        for keepdims in (False, True):
            (got,) = check_races(lambda axis=axis, keepdims=keepdims: [kernel(x, x, axis=axis, keepdims=keepdims)])
            assert np.allclose(got, 2 * np.sum(host * host, axis=axis, keepdims=keepdims), rtol=1e-5)
    y = cupy.empty((3, 4), np.float32)
    assert kernel(x, 1.5, out=y, axis=0) is y
    assert np.allclose(y.get(), 3 * host.sum(axis=0), rtol=1e-5, atol=1e-6)
    long = cupy.arange(1000, dtype=np.float64)
    highest = cupy.ReductionKernel("T x", "T y", "x", "a > b ? a : b", "y = a", "-1", "k", reduce_type="double")
    assert highest(long).get() == 999


def test_the_null_pointer_is_a_zero_of_eight_bytes_and_none_is_refused(cupy):
    is_null = cupy.RawKernel('extern "C" __global__ void is_null(const float* p, int* out) { *out = p == nullptr; }',
                             "is_null")
    out = cupy.zeros((1,), np.int32)
    is_null((1,), (1,), (np.uint64(0), out))
    assert out.get().tolist() == [1]
    with pytest.raises(TypeError, match="None is not the null pointer for CuPy"):
        is_null((1,), (1,), (None, out))
    with pytest.raises(TypeError, match="the kernel reads a pointer"):
        is_null((1,), (1,), (np.uint64(8), out))
