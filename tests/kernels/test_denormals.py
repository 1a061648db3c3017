"""Denormal numbers count as zero while a step is computed, and nowhere else: late epochs are as fast as early ones."""

import threading

import numpy as np
import pytest
from operations import SIZES, cases
from recipes import OPTIMIZERS

from fastmlp import schedules
from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DeviceError
from fastmlp.examples import Examples
from fastmlp.kernels import bind, denormals, numpy_inplace
from fastmlp.kernels.compiled import CompiledKernels
from fastmlp.layout import Layout, NetworkSpec

pytestmark = [pytest.mark.L0,
              pytest.mark.skipif(denormals._ENVIRONMENT is None, reason="how to set the mode is not known here")]


@pytest.fixture(scope="module", params=["numpy", "compiled, 1 thread", "compiled, 3 threads"])
def kernels(request):
    if request.param == "numpy":
        return bind(np, numpy_inplace)
    try:
        return bind(np, CompiledKernels(int(request.param.split()[1])))
    except DeviceError as reason:
        pytest.skip(str(reason))


def n_denormal(array):
    return int(((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)).sum())


def almost_denormal(shape, dtype):
    return (np.random.default_rng(0).uniform(1.0, 10.0, shape) * float(np.finfo(dtype).tiny)).astype(dtype)


def forget(kernels, optimizer, dtype, steps=60):
    """What is left of parameters and optimizer's state where the gradients of a penalised layer stay 0."""
    layout = Layout(NetworkSpec(40, (30,), 4), 2, np)
    rates, penalties = np.full(2, 0.05, dtype), np.full(2, 1.0, dtype)          # of a weight 0.9 is left by each step
    p, a, b = (almost_denormal(layout.size, dtype) for _ in range(3))
    for _ in range(steps):
        if optimizer.startswith("adam"):
            kernels.adam(np.zeros_like(p), rates, penalties, np.ones(2, dtype), a, b, p, blocks=layout.blocks,
                         beta1=0.9, beta2=0.8, eps=1e-8, decoupled=optimizer == "adamw")
        else:
            kernels.sgd(np.zeros_like(p), rates, penalties, None if optimizer == "sgd" else a, p, blocks=layout.blocks,
                        momentum=0.0 if optimizer == "sgd" else 0.9, nesterov=optimizer == "nesterov")
    return [p, a, b][:{"sgd": 1, "adam": 3, "adamw": 3}.get(optimizer, 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_an_update_leaves_no_denormal_numbers(kernels, optimizer, dtype):
    assert sum(map(n_denormal, forget(kernels, optimizer, dtype))) == 0


def test_without_the_mode_they_stay_for_ever():
    for steps in (60, 600):
        assert n_denormal(forget(bind(np), "sgd", "float32", steps)[0]) > 1000


@pytest.mark.parametrize("maker", ["compiled", "numpy"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("members", [1, 3])
def test_a_training_comes_to_hold_none(make_trainer, maker, optimizer, members):
    try:
        backend = resolve("cpu", kernels=maker)
    except DeviceError as reason:
        pytest.skip(str(reason))
    x = np.zeros((50, 30), np.float32)
    examples = Examples(x, np.arange(50) % 4, 4, Standardizer.fit(x, "none"), backend)
    trainer = make_trainer((20,), batch_norm=False, members=members, dtype="float32", l2=1.0, batch_size=10,
                           examples=examples, backend=backend, optimizer=OPTIMIZERS[optimizer](),
                           schedule=lambda step: schedules.constant(step, lr=0.05))
    weights = trainer.network.views()["w0"]
    weights[...] = almost_denormal(weights.shape, "float32")
    for _ in range(15):         # of five steps, all but the first recorded
        trainer.run_epoch()
    for array in (trainer.network.parameters, *trainer.optimizer.state.values()):
        assert n_denormal(array) == 0


def test_all_threads_read_denormal_numbers_as_zero(kernels):
    x, w = np.full((1, 40, 30), 1e30, np.float32), np.full((1, 30, 20), 1e-40, np.float32)      # exactly: 3e-9
    y = np.full((1, 40, 20), np.nan, np.float32)
    kernels.linear(x, w, None, y)
    assert (y == 0).all()


def usual():
    return np.float32(1e-40) * np.float32(1) != 0


def test_afterwards_all_is_as_usual_also_after_an_error(kernels):
    y = np.empty((1, 2, 2), np.float32)
    kernels.linear(np.ones_like(y), np.ones_like(y), None, y)
    assert usual()
    with pytest.raises((TypeError, ValueError)):
        numpy_inplace.linear(np.ones((1, 2, 3), np.float32), np.ones_like(y), None, y)
    assert usual()


def test_other_threads_of_the_program_are_left_alone():
    inside, done, seen = threading.Event(), threading.Event(), []

    @denormals.flushing
    def operation():
        inside.set()
        done.wait(60)
        seen.append(usual())

    worker = threading.Thread(target=operation)
    worker.start()
    inside.wait(60)
    assert usual()
    done.set()
    worker.join()
    assert seen == [False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_all_other_numbers_no_bit_changes(dtype):
    for case in cases(SIZES[4]):
        operation = getattr(numpy_inplace, case.operation, None)
        if hasattr(operation, "__wrapped__"):
            flushed, plain = case.call(operation, dtype), case.call(operation.__wrapped__, dtype)
            assert all(np.array_equal(value, plain[name]) for name, value in flushed.items()), case.operation
