"""The compiled maker beyond single results: threads, recording, memory, precision, bad arguments."""

import multiprocessing
import threading

import numpy as np
import pytest
from operations import SIZES, cases, chain_cases
from tolerances import KERNEL, assert_close

from fastmlp.errors import DeviceError
from fastmlp.kernels import bind, c_calls, c_library, numpy_inplace, reference
from fastmlp.kernels.compiled import CompiledKernels
from fastmlp.layout import Layout, NetworkSpec

pytestmark = pytest.mark.L0


@pytest.fixture(scope="module")
def compiled():
    try:
        return CompiledKernels(2)
    except DeviceError as reason:
        pytest.skip(str(reason))


def product(kernels, x, w):
    y = np.full((x.shape[0], x.shape[1], w.shape[2]), np.nan, x.dtype)
    kernels.linear(x, w, None, y)
    return y


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_chains_of_compiled_operations_compute_what_the_reference_computes(compiled, sizes):
    kernels, plain = bind(np, compiled), bind(np)
    for case in chain_cases(sizes):
        expected = case.call(getattr(plain, case.operation))
        for output, value in case.call(getattr(kernels, case.operation)).items():
            assert_close(value, expected[output], KERNEL["float64"], f"{case.operation} ({case.label}): {output}")


def test_results_are_the_same_bits_with_any_number_of_threads(compiled):
    for case in cases(SIZES[4]):
        one = case.call(getattr(CompiledKernels(1), case.operation), "float32")
        for threads in (2, 3, 7):
            many = case.call(getattr(CompiledKernels(threads), case.operation), "float32")
            for output, value in one.items():
                assert np.array_equal(value, many[output]), f"{case.operation} ({case.label}): {output}, {threads}"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_of_any_shape_and_strides_are_right_and_leave_their_surroundings_alone(compiled, dtype):
    rng = np.random.default_rng(0)
    for trial in range(150):
        m, n, k, h = (int(rng.integers(1, top)) for top in (4, 30, 230, 150))
        if trial % 10 == 0:
            n = 250                             # more rows than are copied at a time
        x = rng.standard_normal((m, k, n)).swapaxes(1, 2) if trial % 2 else rng.standard_normal((m, n, k))
        w = rng.standard_normal((m, h, k)).swapaxes(1, 2) if trial % 3 else rng.standard_normal((m, k, h))
        x, w = x.astype(dtype, order="K"), w.astype(dtype, order="K")
        room = np.full((m, n + 2, h + 20), 7.0, dtype)
        y = room[:, 1:-1, 9:9 + h]
        compiled.linear(x, w, None, y)
        assert_close(y, np.matmul(x.astype(np.float64), w), KERNEL[dtype] * k**0.5, f"{(m, n, k, h)}")
        y[...] = 7.0
        assert (room == 7.0).all(), f"{(m, n, k, h)}: written beside the result"


def test_what_is_recorded_is_not_run_and_then_does_the_same_again_and_again(compiled):
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 9, 5), (1, 5, 4), (1, 4)))
    s, y = (np.full((1, 9, 4), 7.0, np.float32) for _ in range(2))

    def work():
        compiled.linear(x, w, b, s)
        compiled.activation(s, y, kind="relu")

    replay = compiled.record(work)
    assert (s == 7.0).all()
    assert (y == 7.0).all()
    for _ in range(3):
        x[...] = rng.standard_normal(x.shape)
        replay()
        recorded = s.copy(), y.copy()
        work()
        assert np.array_equal(recorded[0], s)
        assert np.array_equal(recorded[1], y)
        assert_close(y, np.maximum(x @ w + b[:, None, :], 0), KERNEL["float32"], "y")


def test_a_recording_keeps_its_arrays_alive(compiled):
    y = np.zeros((1, 100, 8), np.float32)

    def work():
        compiled.activation(np.full((1, 100, 8), -3.0, np.float32), y, kind="identity")     # nobody else has this one

    replay = compiled.record(work)
    others = [np.ones((1, 100, 8), np.float32) for _ in range(50)]      # would take its place
    replay()
    assert (y == -3.0).all()
    assert all((other == 1).all() for other in others)


@pytest.mark.parametrize("batch", [50, 130])         # the latter is deeper than what is joined
@pytest.mark.parametrize("members", [1, 3, 20])      # 20 are so wide that the threads share the columns
def test_in_a_recording_a_first_layer_learns_as_it_does_call_by_call(members, batch):
    rng = np.random.default_rng(4)
    layout = Layout(NetworkSpec(40, (30,), 4), members, np)
    start = rng.standard_normal((2, layout.size)).astype(np.float32)
    x, gs = (rng.standard_normal((1, batch, width)).astype(np.float32) for width in (40, 30 * members))
    lr, l2 = (rng.uniform(0.1, 0.5, members).astype(np.float32) for _ in range(2))

    def train(kernels, parameters, gradients):
        w, gw = (layout.computing_views(buffer)["w0"] for buffer in (parameters, gradients))
        kernels.linear_backward(gs, x, w, gw, None, None)
        kernels.sgd(gradients, lr, l2, None, parameters, blocks=layout.blocks, momentum=0.0, nesterov=False)

    expected = start.copy()
    train(CompiledKernels(1), *expected)
    for threads in (1, 2, 3):
        recorded, kernels = start.copy(), CompiledKernels(threads)
        kernels.record(lambda kernels=kernels, recorded=recorded: train(kernels, *recorded))()
        assert np.array_equal(recorded[0], expected[0]), threads
    joins = not np.array_equal(recorded[1], expected[1])        # the gradient was not written
    assert joins == (batch == 50)


def test_what_is_joined_is_as_deep_as_the_product_takes_at_once():
    assert f"#define K_BLOCK {c_calls.LONGEST_JOINED} " in c_library.source()


def test_after_an_error_amid_a_recording_operations_run_again(compiled):
    y = np.zeros((1, 2, 2), np.float32)

    def work():
        compiled.activation(np.ones_like(y), y, kind="identity")
        raise KeyError

    with pytest.raises(KeyError):
        compiled.record(work)
    assert (y == 0).all()
    compiled.activation(np.ones_like(y), y, kind="identity")
    assert (y == 1).all()


@pytest.mark.parametrize("maker", ["compiled", "numpy_inplace"])
def test_sums_over_a_large_batch_are_as_exact_in_float32_as_their_result(compiled, maker):
    kernels = {"compiled": compiled, "numpy_inplace": numpy_inplace}[maker]
    rng = np.random.default_rng(2)
    n = 100_000
    x = (rng.standard_normal((1, n, 3)) + 10.0).astype(np.float32)
    weights = np.full(n, 1.0 / n, np.float32)
    mean, var, inv_std, gb = (np.empty((1, 3), np.float32) for _ in range(4))
    ones = np.ones((1, 3), np.float32)
    kernels.batch_norm_activation(x, weights, ones, ones, mean, var, inv_std, np.empty_like(x), kind="relu", eps=1e-5)
    kernels.linear_backward(x, np.zeros((1, n, 1), np.float32), np.zeros((1, 1, 3), np.float32),
                            np.empty((1, 1, 3), np.float32), gb, None)
    exact = x[0].astype(np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(axis=0), rtol=3e-6)
    np.testing.assert_allclose(var[0], exact.var(axis=0), rtol=1e-5)
    np.testing.assert_allclose(gb[0], exact.sum(axis=0), rtol=3e-6)


def test_nan_and_infinity_are_never_hidden(compiled):
    bad = np.array([[[np.nan, np.inf, -np.inf, 1.0]]], np.float32)
    y = np.zeros_like(bad)
    for kind in ("relu", "leaky-relu", "tanh"):
        compiled.activation(bad, y, kind=kind)
        assert np.isnan(y[0, 0, 0]), kind
        expected = np.empty_like(bad)
        reference.activation(bad, expected, kind=kind, xp=np)
        np.testing.assert_array_equal(y, expected)
    loss, g = np.zeros(1, np.float32), np.zeros_like(bad)
    targets, weights = np.eye(4, dtype=np.float32)[[3]], np.ones(1, np.float32)
    for name in ("cross_entropy", "hinge"):
        getattr(compiled, name)(bad, targets, weights, loss, g)
        assert np.isnan(loss[0]), name


@pytest.mark.parametrize(("change", "words"), [
    (lambda p: p.update(running=p["running"].astype(np.float64)), "float32"),
    (lambda p: p.update(new=np.zeros(20, np.float32)[::2]), "contiguous"),
])
def test_an_array_that_would_be_misread_is_refused_and_nothing_is_written(compiled, change, words):
    arrays = {"new": np.ones(10, np.float32), "running": np.zeros(10, np.float32)}
    change(arrays)
    with pytest.raises(TypeError, match=words):
        compiled.moving_average(arrays["new"], 0.5, arrays["running"])
    assert (arrays["running"] == 0).all()
    with pytest.raises(TypeError, match="last axis"):
        compiled.activation(np.ones((1, 4, 3), np.float32).swapaxes(1, 2), np.ones((1, 3, 4), np.float32), kind="relu")


def test_data_of_another_kind_than_bytes_or_the_inputs_are_refused(compiled):
    x, targets = np.empty((2, 3), np.float32), np.empty((2, 2), np.float32)
    with pytest.raises(TypeError, match="data of float64 cannot be gathered into float32: keep bytes or float32"):
        compiled.gather(np.ones((4, 3)), np.zeros(4, np.int64), np.arange(2), np.arange(2), None, None, x, targets)


def test_several_python_threads_may_compute_at_once(compiled):
    rng = np.random.default_rng(3)
    jobs = [(rng.standard_normal((1, 60, depth)), rng.standard_normal((1, depth, 50)))
            for depth in (70, 1536, 1536, 1536)]            # deep ones are made in parts, by way of scratch
    wrong = []

    def repeat(x, w):
        expected = x @ w
        wrong.extend(1 for _ in range(50) if not np.allclose(product(compiled, x, w), expected))

    workers = [threading.Thread(target=repeat, args=job) for job in jobs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_what_one_python_thread_records_another_can_go_on_computing(compiled):
    y, z = np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 3), np.float32)
    ones = np.ones_like(y)

    def work():
        other = threading.Thread(target=lambda: compiled.activation(ones, z, kind="relu"))
        other.start()
        other.join()
        compiled.activation(ones, y, kind="relu")

    replay = compiled.record(work)
    assert (y == 0).all()
    assert (z == 1).all()
    z[...] = 0
    replay()
    assert (y == 1).all()
    assert (z == 0).all()


def _product_in_a_child(x, w, queue):
    queue.put(product(CompiledKernels(2), x, w))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_makes_threads_of_its_own(compiled):
    x, w = np.ones((1, 50, 40)), np.ones((1, 40, 30))
    assert (product(compiled, x, w) == 40).all()        # so that this process has threads
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    stop, single = threading.Event(), CompiledKernels(1)

    def compute():      # so that the process is forked amid a call
        while not stop.is_set():
            product(single, x, w)

    other = threading.Thread(target=compute)
    other.start()
    child = context.Process(target=_product_in_a_child, args=(x, w, queue), daemon=True)
    child.start()
    stop.set()
    assert (queue.get(timeout=60) == 40).all()
    other.join(60)
    child.join(60)
    assert child.exitcode == 0
    assert (product(compiled, x, w) == 40).all()
