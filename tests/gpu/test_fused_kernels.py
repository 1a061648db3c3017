"""Every kernel of CuPy's maker, its own CUDA source executed on the CPU, against the reference."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator import check_races
from stand_in import device
from tolerances import KERNEL, assert_close

from fastmlp.kernels import CONTRACT, cupy_fused, reference
from fastmlp.kernels.activations import ACTIVATIONS

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from operations import SIZES, cases

RAGGED = (2, 45, 9, 71, 13)                 # more than one block of columns, rows that fill no block, ragged both ways
MANY_ROWS = (1, 300, 3, 5, 4)               # more rows than a block of cross_entropy has threads
FUSED = [name for name in CONTRACT if hasattr(cupy_fused.FusedKernels, name)]
# These read whole blocks and are given C-contiguous arrays; the others take any strides.
CONTIGUOUS = ("batch_norm_activation", "batch_norm_activation_backward")


@pytest.fixture
def fused(cupy):
    return cupy_fused.FusedKernels(cupy)


def on_device(cupy, function):
    """The same call with arrays on the device, and what it wrote brought back."""
    def call(*arguments, **keywords):
        sent = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        function(*sent, **keywords)
        for host, there in zip(arguments, sent, strict=True):
            if isinstance(host, np.ndarray):
                host[...] = there.get()
    return call


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [*SIZES[:4], RAGGED, MANY_ROWS], ids=str)
def test_a_kernel_computes_what_the_reference_computes(cupy, fused, sizes, dtype):
    for case in cases(sizes):
        if case.operation in FUSED:
            expected = case.call(getattr(reference, case.operation), xp=np)
            got = case.call(on_device(cupy, getattr(fused, case.operation)), dtype)
            assert got.keys() == expected.keys()
            for output, value in got.items():
                what = f"{case.operation} ({case.label}): {output}"
                assert value.dtype == dtype, what
                assert_close(value, expected[output], KERNEL[dtype], what)


@pytest.mark.parametrize("operation", CONTIGUOUS)
def test_block_kernels_do_not_depend_on_the_order_of_threads(cupy, fused, operation):
    for case in cases(RAGGED):
        if case.operation == operation and case.label.startswith("relu"):
            check_races(lambda: list(case.call(on_device(cupy, getattr(fused, operation))).values()))  # noqa: B023


def test_cross_entropy_does_not_depend_on_the_order_of_threads(cupy, fused):
    case = next(case for case in cases(MANY_ROWS) if case.operation == "cross_entropy")
    check_races(lambda: list(case.call(on_device(cupy, fused.cross_entropy)).values()))


def test_cross_entropy_takes_the_logits_of_a_wide_output_layer(cupy, fused):
    rng, (m, n, c) = np.random.default_rng(0), (3, 7, 4)
    wide, gradient = rng.normal(size=(n, m, c)), np.full((n, m, c), np.nan)
    targets, weights = np.eye(c)[rng.integers(c, size=n)], np.full(n, 1 / n)
    loss, expected, expected_gradient = np.empty(m), np.empty(m), np.empty((m, n, c))
    reference.cross_entropy(np.moveaxis(wide, 1, 0), targets, weights, expected, expected_gradient, xp=np)
    there = [cupy.asarray(a) for a in (wide, targets, weights, loss, gradient)]
    fused.cross_entropy(cupy.moveaxis(there[0], 1, 0), there[1], there[2], there[3], cupy.moveaxis(there[4], 1, 0))
    assert_close(there[3].get(), expected, KERNEL["float64"])
    assert_close(np.moveaxis(there[4].get(), 1, 0), expected_gradient, KERNEL["float64"])


def test_the_numbers_of_the_activations_are_those_of_the_source():
    enum = re.search(r"enum Activation {(.*?)}", cupy_fused.cuda_source("activations.cuh")).group(1)
    assert [name.strip().lower().replace("_", "-") for name in enum.split(",")] == list(ACTIVATIONS)


@pytest.mark.parametrize(("hidden", "batch_norm", "most"), [
    ((50, 50), True, 23), ((50, 50), False, 25), ((), False, 11)])
def test_a_step_takes_few_launches(gpu, make_examples, make_trainer, hidden, batch_norm, most):
    trainer = make_trainer(hidden, batch_norm=batch_norm, dtype="float32", backend=gpu, batch_size=20,
                           examples=make_examples(backend=gpu, dtype="float32"))
    trainer.run_epoch()
    before = device.counts.launches
    trainer.run_epoch(max_steps=2)
    two = device.counts.launches - before
    before = device.counts.launches
    trainer.run_epoch(max_steps=3)
    assert device.counts.launches - before - two <= most
