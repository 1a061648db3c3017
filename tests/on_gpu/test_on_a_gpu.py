"""The same kernels and trainings on a real GPU. Skipped without one; under FASTMLP_REQUIRE_GPU=1 that is a failure."""

import itertools
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from recipes import OPTIMIZERS
from tolerances import assert_close

from fastmlp import schedules
from fastmlp.backend import probe_gpu, resolve
from fastmlp.checkpoints import Keeper
from fastmlp.data.standardize import Standardizer
from fastmlp.estimator import MLPClassifier
from fastmlp.evaluation import evaluate
from fastmlp.examples import Examples
from fastmlp.history import History
from fastmlp.intervals import Interval
from fastmlp.kernels import bind
from fastmlp.training import train

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from operations import SIZES, cases, chain_cases, on_device, own_error

pytestmark = [pytest.mark.gpu, pytest.mark.L6]

# A GPU adds in another order and its exp and tanh differ in the last bits.
KERNEL_ON_GPU = {"float64": 1e-12, "float32": 1e-5}       # or a few times what the reference is off in that dtype
HISTORY_ON_GPU = {"float64": 1e-9, "float32": 1e-3}
LARGE = (2, 257, 300, 130, 11)
REPORTED = (1, 100, 3072, 50, 10)           # the first layer of 50-50 on images: a split product
WIDE = (1, 100, 600, 700, 10)               # cuBLAS's


@pytest.fixture(scope="module")
def gpu():
    with warnings.catch_warnings():         # of CuPy's import, which are errors elsewhere
        warnings.simplefilter("ignore")
        report = probe_gpu()
    if not report.usable:
        if os.environ.get("FASTMLP_REQUIRE_GPU") == "1":
            pytest.fail(f"a GPU is required here: {report.problem}; {report.remedy}")
        pytest.skip(f"no GPU: {report.problem}")
    return resolve("gpu")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [*SIZES, LARGE, REPORTED, WIDE], ids=str)
def test_every_operation_and_chain_computes_what_the_reference_computes_on_numpy(gpu, sizes, dtype):
    for case in (*cases(sizes), *chain_cases(sizes)):
        expected, inevitable = case.call(getattr(bind(np), case.operation)), own_error(case, dtype)
        got = case.call(on_device(gpu, getattr(gpu.kernels, case.operation)), dtype)
        for output, value in got.items():
            what = f"{case.operation} ({case.label}): {output}"
            assert_close(value, expected[output], max(KERNEL_ON_GPU[dtype], 4.0 * inevitable[output]), what)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(("hidden", "batch_norm", "activation", "loss", "optimizer", "weighted"), [
    ((50, 50), True, "relu", "cross-entropy", "sgd", False),
    ((50, 30, 20, 20, 10, 10, 10, 10), True, "relu", "cross-entropy", "momentum", False),
    ((20, 10), False, "leaky-relu", "hinge", "nesterov", True),
    ((12,), True, "gelu", "cross-entropy", "adam", True),
    ((12, 7), False, "tanh", "cross-entropy", "adamw", False),
    ((12,), True, "logistic", "hinge", "adamw", True),
    ((700,), True, "identity", "cross-entropy", "sgd", False),
    ((), False, "relu", "cross-entropy", "momentum", True),
])
def test_training_has_the_history_of_the_cpu(gpu, cpu, make_examples, make_trainer, hidden, batch_norm, activation,
                                             loss, optimizer, weighted, members, dtype):
    rows = []
    for backend in (cpu, gpu):
        weights = np.arange(133) % 3 + 0.5 if weighted else None
        examples = make_examples(n=133, d=40, backend=backend, dtype=dtype, standardize="feature",
                                 sample_weight=weights)
        trainer = make_trainer(hidden, batch_norm=batch_norm, activation=activation, loss=loss, members=members,
                               dtype=dtype, l2=0.01, optimizer=OPTIMIZERS[optimizer](), backend=backend,
                               examples=examples, batch_size=40, schedule=lambda step: schedules.cyclical(
                                   step, lr_min=1e-4, lr_max=0.05, step_size=4))
        rows.append(train(trainer, 15, parts={"train": examples}).rows)        # three batches of 40, one of 13
        assert np.isfinite(evaluate(trainer.network, examples).cost).all()
    for on_cpu, on_gpu in zip(*rows, strict=True):
        assert on_cpu.keys() == on_gpu.keys()
        for name, value in on_gpu.items():
            assert_close(value, on_cpu[name], HISTORY_ON_GPU[dtype], name)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_classifier_trains_and_predicts_as_on_the_cpu(gpu, batch_norm):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(300, 12)), np.arange(300) % 3
    x[:, 0] += 3.0 * labels
    probabilities = [
        MLPClassifier((16, 8), batch_norm=batch_norm, solver="sgd", learning_rate_init=0.05, max_iter=20, device=device,
                      random_state=0, n_iter_no_change=100).fit(x, labels).predict_proba(x)
        for device in ("cpu", gpu.name)]
    assert_close(*probabilities, 1e-6)


@pytest.mark.parametrize("hidden", [(50, 50), (600, 600)])
def test_recorded_and_not_the_numbers_are_the_same_bit_for_bit(gpu, make_examples, make_trainer, hidden):
    bits = []
    for record in (True, False):
        examples = make_examples(n=1030, d=300, backend=gpu, dtype="float32", standardize="feature")
        trainer = make_trainer(hidden, dtype="float32", backend=gpu, examples=examples, batch_size=20, record=record)
        train(trainer, 3 * trainer.steps_per_epoch - 5, parts={"train": examples})
        bits.append(gpu.to_host(trainer.network.parameters).tobytes())
    assert bits[0] == bits[1]


def test_streamed_examples_train_like_kept_ones(gpu, make_trainer, monkeypatch):
    rng, bits = np.random.default_rng(0), []
    x, labels = rng.integers(256, size=(1000, 300), dtype=np.uint8), rng.integers(4, size=1000)
    monkeypatch.setattr("fastmlp.examples.STAGE_BYTES", 300 * 170)
    for keep in ("device", "host"):
        examples = Examples(x, labels, 4, Standardizer.fit(x, "feature"), gpu, keep=keep)
        trainer = make_trainer(dtype="float32", backend=gpu, examples=examples, batch_size=20)
        train(trainer, 120, parts={"train": examples})
        bits.append(gpu.to_host(trainer.network.parameters).tobytes())
    assert bits[0] == bits[1]


def test_tf32_rounds_large_products_and_float32_does_not(gpu):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 512, 1024)).astype(np.float32), rng.normal(size=(1, 1024, 512)).astype(np.float32)
    exact, errors = x.astype(np.float64) @ w.astype(np.float64), {}
    for precision in ("float32", "tf32"):
        backend = resolve("gpu", precision)
        y = backend.zeros((1, 512, 512), np.float32)
        backend.kernels.linear(backend.asarray(x), backend.asarray(w), None, y)
        errors[precision] = np.max(np.abs(backend.to_host(y) - exact)) / np.max(np.abs(exact))
    assert errors["float32"] < 1e-5 < errors["tf32"] < 1e-2


def test_the_same_seed_gives_the_same_bits_twice(gpu, make_examples, make_trainer):
    bits = []
    for _ in range(2):
        trainer = make_trainer((50, 50), dtype="float32", backend=gpu,
                               examples=make_examples(backend=gpu, dtype="float32"))
        train(trainer, 9, parts={})
        bits.append(gpu.to_host(trainer.network.parameters))
    assert np.array_equal(*bits)


@pytest.mark.parametrize("members", [1, 3])
def test_a_training_on_a_gpu_goes_on_from_a_checkpoint_with_the_same_bits(gpu, make_trainer, make_examples, tmp_path,
                                                                          members):
    def make():
        return make_trainer(backend=gpu, examples=make_examples(n=330, dtype="float32", backend=gpu), batch_size=5,
                            dtype="float32", members=members, optimizer=OPTIMIZERS["adamw"]())

    def state(trainer):
        return [gpu.to_host(array).tobytes() for array in (trainer.network.parameters, trainer.network.running,
                                                           *trainer.optimizer.state.values())]

    whole = make()
    train(whole, 200, parts={})
    keeper, asked = Keeper(tmp_path, Interval(seconds=3600.0), dict), itertools.count()
    stopped, resumed, history = make(), make(), History()
    train(stopped, 200, parts={}, keeper=keeper, should_stop=lambda: next(asked) >= 4)
    assert 0 < stopped.position < 66
    keeper.begin(0, resumed, history)
    train(resumed, 200, parts={}, history=history)
    assert state(resumed) == state(whole) != state(stopped)
