"""Captures and graphs on the stand-in."""

import gc

import numpy as np
import pytest
from stand_in import OutsideWriteError, device

ADD_ONE = 'extern "C" __global__ void add_one(float* x, int n) { int t = threadIdx.x; if (t < n) x[t] += 1; }'


def test_a_captured_graph_runs_when_it_is_launched_and_reads_the_arrays_anew(cupy):
    add_one = cupy.RawKernel(ADD_ONE, "add_one")
    scale = cupy.ElementwiseKernel("raw T factor, T x", "T y", "y = factor[0] * x", "scale")
    x, factor, y, total = (cupy.ones(4, np.float32), cupy.ones(1, np.float32), cupy.zeros(4, np.float32),
                           cupy.zeros((), np.float32))
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        before = device.counts.launches
        add_one((1,), (32,), (x, np.int32(4)))
        scale(factor, x, y)
        y += 1.0
        cupy.sum(y, out=total)
        y[:1] = total
        graph = stream.end_capture()
    assert device.counts.launches == before
    assert device.counts.recorded == 5
    assert x.get().tolist() == [1, 1, 1, 1]
    graph.upload(stream)
    graph.launch(stream)
    assert (x.get().tolist(), y.get().tolist(), total.get()) == ([2] * 4, [12, 3, 3, 3], 12)
    factor[...] = 10.0
    graph.launch(stream)
    assert (y.get().tolist(), total.get()) == ([124, 31, 31, 31], 124)
    assert (device.counts.graph_launches, device.counts.allocations_in_capture) == (2, 0)


@pytest.mark.parametrize(("use", "error", "words"), [
    (lambda cupy, x: x @ x, NotImplementedError, "cuBLAS"),
    (lambda cupy, x: cupy.matmul(x, x, out=x), NotImplementedError, "cuBLAS"),
    (lambda cupy, x: cupy.dot(x, x), NotImplementedError, "cuBLAS"),
    (lambda cupy, x: cupy.random.random(3), NotImplementedError, "cuRAND"),
    (lambda cupy, x: x.get(), RuntimeError, "copy to the host"),
    (lambda cupy, x: float(x[0, 0]), RuntimeError, "copy to the host"),
    (lambda cupy, x: bool((x > 0)[0, 0]), RuntimeError, "copy to the host"),
    (lambda cupy, x: x[x > 0], RuntimeError, "mask"),
    (lambda cupy, x: cupy.asarray(np.ones(2)), RuntimeError, "copy to the device"),
    (lambda cupy, x: x.set(np.ones((2, 2), np.float32)), RuntimeError, "copy to the device"),
    (lambda cupy, x: cupy.cuda.Device().synchronize(), RuntimeError, "synchronize"),
    (lambda cupy, x: cupy.cuda.get_current_stream().synchronize(), RuntimeError, "synchronize"),
    (lambda cupy, x: cupy.cuda.get_current_stream().begin_capture(), RuntimeError, "captured already"),
])
def test_a_capture_refuses_libraries_copies_and_waiting(cupy, use, error, words):
    x = cupy.ones((2, 2), np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(error, match=words):
            use(cupy, x)
        stream.end_capture()
    if error is NotImplementedError:
        use(cupy, x)                                        # outside of a capture it is welcome


def test_the_default_stream_cannot_be_captured(cupy):
    with pytest.raises(RuntimeError, match="default stream"):
        cupy.cuda.Stream.null.begin_capture()


def test_allocations_in_a_capture_are_counted_or_refused_and_must_outlive_it(cupy):
    x = cupy.ones(3, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        kept = x + 1
        graph = stream.end_capture()
        stream.begin_capture()
        x[...] = x * 2
        broken = stream.end_capture()
        device.allocation_in_capture_allowed = False
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="made during stream capture"):
            _ = x + 1
        stream.end_capture()
    assert device.counts.allocations_in_capture == 2
    graph.launch()
    assert kept.get().tolist() == [2, 2, 2]
    gc.collect()
    with pytest.raises(RuntimeError, match="uses an array that is gone"):
        broken.launch()


def test_a_fault_in_a_captured_kernel_is_noticed_at_its_launch(cupy):
    x = cupy.zeros(4, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        cupy.RawKernel(ADD_ONE, "add_one")((1,), (32,), (x, np.int32(5)))
        graph = stream.end_capture()
    with pytest.raises(OutsideWriteError, match="add_one"):
        graph.launch()
