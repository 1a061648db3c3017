"""Captures and graphs on the stand-in."""

import gc

import numpy as np
import pytest
from stand_in import OutsideWriteError, device

pytestmark = pytest.mark.L3

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
    (lambda cupy, x: bool(x[0, 0]), RuntimeError, "copy to the host"),
    (lambda cupy, x: x + 1, RuntimeError, "made during stream capture"),
    (lambda cupy, x: cupy.empty(3), RuntimeError, "made during stream capture"),
    (lambda cupy, x: cupy.asarray(np.ones(2)), RuntimeError, "copy to the device"),
    (lambda cupy, x: x.set(np.ones((2, 2), np.float32)), RuntimeError, "copy to the device"),
    (lambda cupy, x: cupy.cuda.get_current_stream().begin_capture(), RuntimeError, "captured already"),
])
def test_a_capture_refuses_libraries_copies_and_new_arrays_and_ends_well_nevertheless(cupy, use, error, words):
    x = cupy.ones((2, 2), np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        x += 1
        with pytest.raises(error, match=words):
            use(cupy, x)
        graph = stream.end_capture()
        assert not stream.is_capturing()
    graph.launch()
    assert x.get().tolist() == [[2, 2], [2, 2]]
    if error is NotImplementedError:
        use(cupy, x)                                        # outside of a capture it is welcome


@pytest.mark.parametrize("wait", [
    lambda cupy, x, mask: cupy.cuda.Device().synchronize(),
    lambda cupy, x, mask: cupy.cuda.get_current_stream().synchronize(),
    lambda cupy, x, mask: cupy.cuda.runtime.deviceSynchronize(),
    lambda cupy, x, mask: cupy.cuda.Event().synchronize(),
    lambda cupy, x, mask: x[mask],
])
def test_waiting_makes_a_capture_invalid_until_it_is_ended(cupy, wait):
    x = cupy.ones(3, np.float32)
    mask, stream = x > 0, cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        x += 1
        with pytest.raises(RuntimeError, match=r"is capturing, so .* is not allowed"):
            wait(cupy, x, mask)
        with pytest.raises(RuntimeError, match="StreamCaptureInvalidated"):
            x += 1
        with pytest.raises(RuntimeError, match="has invalidated the capture"):
            stream.is_capturing()
        with pytest.raises(RuntimeError, match="StreamCaptureInvalidated"):
            stream.end_capture()
        assert not stream.is_capturing()
        wait(cupy, x, mask)                                 # outside of a capture it is welcome
        stream.begin_capture()
        x += 1
        stream.end_capture().launch()
    assert x.get().tolist() == [2, 2, 2]


def test_an_abandoned_capture_can_be_ended_and_begun_again(cupy):
    x = cupy.zeros(2, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        x += 1
        with pytest.raises(TypeError):
            x += np.ones(2)
    assert stream.is_capturing()
    stream.end_capture()
    with pytest.raises(RuntimeError, match="not being captured"):
        stream.end_capture()
    with stream:
        stream.begin_capture()
        x += 2
        graph = stream.end_capture()
    graph.launch()
    assert x.get().tolist() == [2, 2]


def test_graphs_are_launched_into_the_null_stream_and_their_kernels_counted(cupy):
    x = cupy.zeros(2, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeThreadLocal)
        x += 1
        x *= 2.0
        graph = stream.end_capture()
    graph.launch(cupy.cuda.Stream.null)
    graph.launch(stream=None)
    graph.launch(stream)
    assert x.get().tolist() == [14, 14]
    assert (device.counts.graph_launches, device.counts.replayed, device.counts.recorded) == (3, 6, 2)
    with stream:
        stream.begin_capture()
        for target in (None, stream):
            with pytest.raises(RuntimeError, match=r"Graph\.launch"):
                graph.launch(target)
        graph.launch(cupy.cuda.Stream.null)                 # that one is not captured
        stream.end_capture()


def test_the_default_stream_cannot_be_captured(cupy):
    with pytest.raises(RuntimeError, match=r"default \(legacy\) stream"):
        cupy.cuda.Stream.null.begin_capture()


def test_allocations_in_a_capture_are_refused_or_counted_and_must_outlive_it(cupy):
    x = cupy.ones(3, np.float32)
    device.allocation_in_capture_allowed = True
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
