"""The same kernels and trainings on a real GPU. Skipped without one; under FASTMLP_REQUIRE_GPU=1 that is a failure."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp import schedules
from fastmlp.backend import probe_gpu, resolve
from fastmlp.evaluation import evaluate
from fastmlp.kernels import CONTRACT, reference
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import train

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from operations import SIZES, cases

pytestmark = pytest.mark.gpu

# A GPU adds in another order and its exp and tanh differ in the last bits.
KERNEL_ON_GPU = {"float64": 1e-12, "float32": 5e-5}       # sums of 300 products in float32
HISTORY_ON_GPU = {"float64": 1e-9, "float32": 1e-3}
LARGE = (2, 257, 300, 130, 11)


@pytest.fixture(scope="module")
def gpu():
    report = probe_gpu()
    if not report.usable:
        if os.environ.get("FASTMLP_REQUIRE_GPU") == "1":
            pytest.fail(f"a GPU is required here: {report.problem}; {report.remedy}")
        pytest.skip(f"no GPU: {report.problem}")
    return resolve("gpu")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [*SIZES, LARGE], ids=str)
def test_every_operation_computes_what_the_reference_computes_on_numpy(gpu, sizes, dtype):
    def on_device(operation):
        def call(*arguments, **keywords):
            sent = [gpu.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
            getattr(gpu.kernels, operation)(*sent, **keywords)
            for host, there in zip(arguments, sent, strict=True):
                if isinstance(host, np.ndarray):
                    host[...] = gpu.to_host(there)
        return call

    for case in cases(sizes):
        assert case.operation in CONTRACT
        expected = case.call(getattr(reference, case.operation), xp=np)
        for output, value in case.call(on_device(case.operation), dtype).items():
            what = f"{case.operation} ({case.label}): {output}"
            assert_close(value, expected[output], KERNEL_ON_GPU[dtype], what)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(("hidden", "batch_norm", "loss", "optimizer"), [
    ((50, 50), True, "cross-entropy", lambda: SGD()),
    ((20, 10), False, "hinge", lambda: SGD(momentum=0.9, nesterov=True)),
    ((12,), True, "cross-entropy", lambda: Adam()),
    ((), False, "cross-entropy", lambda: SGD(momentum=0.9)),
])
def test_training_has_the_history_of_the_cpu(gpu, cpu, make_examples, make_trainer, hidden, batch_norm, loss, optimizer,
                                             members, dtype):
    rows = []
    for backend in (cpu, gpu):
        examples = make_examples(n=33, backend=backend, dtype=dtype, standardize="feature")
        trainer = make_trainer(hidden, batch_norm=batch_norm, loss=loss, members=members, dtype=dtype, l2=0.01,
                               optimizer=optimizer(), backend=backend, examples=examples, batch_size=10,
                               schedule=lambda step: schedules.cyclical(step, lr_min=1e-4, lr_max=0.05, step_size=4))
        rows.append(train(trainer, 11, parts={"train": examples}).rows)
        assert np.isfinite(evaluate(trainer.network, examples).cost).all()
    for on_cpu, on_gpu in zip(*rows, strict=True):
        assert on_cpu.keys() == on_gpu.keys()
        for name, value in on_gpu.items():
            assert_close(value, on_cpu[name], HISTORY_ON_GPU[dtype], name)


def test_the_same_seed_gives_the_same_bits_twice(gpu, make_examples, make_trainer):
    bits = []
    for _ in range(2):
        trainer = make_trainer((50, 50), dtype="float32", backend=gpu,
                               examples=make_examples(backend=gpu, dtype="float32"))
        train(trainer, 9, parts={})
        bits.append(gpu.to_host(trainer.network.parameters))
    assert np.array_equal(*bits)
