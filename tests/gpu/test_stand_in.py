"""The stand-in computes as CuPy does, refuses what CuPy refuses, and counts."""

import numpy as np
import pytest
from stand_in import device

pytestmark = pytest.mark.L3

ADD_ONE = 'extern "C" __global__ void add_one(float* x, int n) { int t = threadIdx.x; if (t < n) x[t] += 1; }'


# ------------------------------------------------------------------------------------------------ arrays

EXPRESSIONS = [
    lambda xp, x: x + 1,
    lambda xp, x: 2.0 - x * x / 3,
    lambda xp, x: np.float32(2) * x,
    lambda xp, x: x > 0,
    lambda xp, x: -x[:, None, 1:, ::2],
    lambda xp, x: x[1, 2, 3],
    lambda xp, x: xp.sum(x, axis=(-2, -1)),
    lambda xp, x: xp.mean(x),
    lambda xp, x: xp.max(x, axis=-1, keepdims=True),
    lambda xp, x: xp.argmax(x, axis=1),
    lambda xp, x: xp.exp(x) + xp.log(xp.maximum(x, 0.5)) + xp.tanh(xp.sqrt(xp.square(x))),
    lambda xp, x: xp.matmul(x, xp.matrix_transpose(x)),
    lambda xp, x: x[0] @ x[1].T,
    lambda xp, x: xp.where(x > 0, xp.ones_like(x), xp.full_like(x, 0.01)),
    lambda xp, x: xp.stack([x, x + 1], axis=-1),
    lambda xp, x: xp.concat([x, x], axis=1),
    lambda xp, x: xp.repeat(x[0, 0], 3),
    lambda xp, x: xp.reshape(xp.moveaxis(x, 0, 1), (3, -1)),
    lambda xp, x: x.swapaxes(-1, -2).reshape(2, 12),
    lambda xp, x: xp.astype(x > 0, xp.int64).sum(),
    lambda xp, x: xp.zeros((2, 3), dtype=np.dtype("float64")) + xp.arange(3),
    lambda xp, x: xp.take(x, xp.asarray(np.array([2, 0])), axis=1),
    lambda xp, x: x[xp.asarray(np.array([1, 0])), :, 2],
    lambda xp, x: x[x > 0],
    lambda xp, x: x.astype(np.float64) * x,
]


@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_operations_give_device_arrays_with_numpys_numbers_and_types(cupy, pair, number):
    host, on_device = pair
    expected, got = EXPRESSIONS[number](np, host), EXPRESSIONS[number](cupy, on_device)
    assert isinstance(got, cupy.ndarray)            # also where NumPy gives a number
    assert (got.shape, got.dtype) == (np.shape(expected), expected.dtype)
    assert np.array_equal(got.get(), expected)


def test_operations_in_place_write_through_views(cupy, pair):
    host, x = pair
    x += 1
    x[0, ...] *= 2.0
    x[1, :, cupy.asarray(np.array([0, 3]))] = 7.0
    cupy.add(x[0, 0], 1.0, out=x[0, 1])
    cupy.sum(x[0], axis=0, out=x[0, 2])
    expected = host + 1
    expected[0] *= 2
    expected[1][:, [0, 3]] = 7
    expected[0, 1] = expected[0, 0] + 1
    expected[0, 2] = expected[0].sum(axis=0)
    assert np.array_equal(x.get(), expected)
    with pytest.raises(ValueError, match="Out shape is mismatched"):
        cupy.add(x, 1, out=x[0])
    with pytest.raises(ValueError, match="C-contiguous"):
        cupy.matmul(x, x.mT, out=cupy.empty((3, 3, 2), np.float32).T)


HOST_USES = [
    lambda cupy, x, host: np.asarray(x),
    lambda cupy, x, host: np.exp(x),
    lambda cupy, x, host: np.sum(x),
    lambda cupy, x, host: np.stack([x]),
    lambda cupy, x, host: x + host,
    lambda cupy, x, host: host + x,
    lambda cupy, x, host: x * np.array(2.0),
    lambda cupy, x, host: x.__iadd__(host),
    lambda cupy, x, host: x.__setitem__(..., host),
    lambda cupy, x, host: x[np.array([0, 1])],
    lambda cupy, x, host: x[[0, 1]],
    lambda cupy, x, host: cupy.take(x, np.array([0, 1]), axis=0),
    lambda cupy, x, host: cupy.maximum(x, host),
    lambda cupy, x, host: cupy.sum(host),
    lambda cupy, x, host: cupy.matmul(x, host),
    lambda cupy, x, host: cupy.where(x > 0, host, x),
    lambda cupy, x, host: cupy.stack([x, host]),
    lambda cupy, x, host: cupy.exp(x, out=host),
    lambda cupy, x, host: cupy.asarray([x, x]),
    lambda cupy, x, host: cupy.repeat(x, host),
    lambda cupy, x, host: x.set(x),
    lambda cupy, x, host: cupy.ElementwiseKernel("T x", "T y", "y = x", "k")(host),
    lambda cupy, x, host: cupy.ElementwiseKernel("T x", "T y", "y = x", "k")(x, host),
    lambda cupy, x, host: cupy.RawKernel(ADD_ONE, "add_one")((1,), (32,), (host, np.int32(1))),
]


@pytest.mark.parametrize("number", range(len(HOST_USES)))
def test_host_and_device_do_not_mix(cupy, pair, number):
    host, x = pair
    with pytest.raises(TypeError):
        HOST_USES[number](cupy, x, host)


def test_a_function_that_is_not_there_is_missed(cupy):
    with pytest.raises(AttributeError, match="einsum"):
        _ = cupy.einsum


def test_new_arrays_hold_nan_until_they_are_written(cupy):
    assert np.isnan(cupy.empty((2, 3), np.float32).get()).all()
    unwritten = cupy.ElementwiseKernel("T x", "T y", "if (i != 2) y = x", "k")(cupy.ones(4))
    assert np.isnan(unwritten.get()).tolist() == [False, False, True, False]


# ------------------------------------------------------------------------------------------------ counts

def test_launches_copies_waits_and_allocations_are_counted(cupy):
    x = cupy.asarray(np.ones((2, 2), np.float32))
    y = cupy.empty((2, 2), np.float32)
    assert vars(device.counts) == {**dict.fromkeys(vars(device.counts), 0), "host_to_device": 1, "allocations": 2}
    cupy.matmul(x, x.T, out=y)
    y += 1
    y.reshape(4)[1:] = 0.0
    cupy.RawKernel(ADD_ONE, "add_one")((1,), (32,), (y, np.int32(4)))
    counts = device.counts
    assert (counts.launches, counts.products, counts.allocations) == (4, 1, 2)
    y.get()
    float(y[0, 0])
    if y[0, 1] > 0:
        cupy.asnumpy(y)
    cupy.cuda.Device().synchronize()
    y.set(np.zeros((2, 2), np.float32))
    assert (counts.device_to_host, counts.host_to_device, counts.synchronisations) == (4, 2, 1)


def test_memory_ends_at_its_limit_in_cupys_words(cupy):
    free, whole = cupy.cuda.runtime.memGetInfo()
    assert free == whole == cupy.cuda.runtime.getDeviceProperties(0)["totalGlobalMem"]
    x = cupy.zeros(128, np.float32)
    assert cupy.cuda.Device().mem_info == (whole - 512, whole)
    device.memory_limit = 2048
    assert cupy.cuda.runtime.memGetInfo() == cupy.cuda.Device().mem_info == (1536, 2048)
    allocations = device.counts.allocations
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError,
                       match=r"^Out of memory allocating 1,540 bytes \(allocated so far: 512 bytes, "
                             r"limit set to: 2,048 bytes\)\.$"):
        cupy.empty(385, np.float32)
    assert device.counts.allocations == allocations
    for _ in range(3):                                      # each is gone before the next
        cupy.empty(384, np.float32)
    with pytest.raises(MemoryError):
        _ = cupy.repeat(x, 5)
    device.memory_limit = None
    assert cupy.repeat(x, 5).size == 640


def test_arrays_are_aligned_as_cupys(cupy):
    for n in (1, 3, 1000):
        assert cupy.zeros(n, np.uint8).data.ptr % 512 == 0


def test_it_is_a_usable_gpu_for_fastmlp(gpu):
    assert gpu.description == "gpu: stand-in for a GPU, CuPy 14.2.0, CUDA 13.0"
    gpu.synchronize()
    assert gpu.to_host(gpu.asarray([1.0])).tolist() == [1.0]
