"""Every maker answers to the reference: the same signatures, the same numbers, nothing else touched."""

import inspect

import numpy as np
import pytest
from operations import SIZES, any_moves, cases, chain_cases
from tolerances import KERNEL, assert_close

from fastmlp.errors import DeviceError
from fastmlp.kernels import CHAINS, CONTRACT, bind, chains, compiled, cupy_fused, numpy_inplace, reference

pytestmark = pytest.mark.L0

#: The texts of the makers; the GPU's is executed in tests/gpu.
MAKERS = {"numpy": numpy_inplace, "compiled": compiled.CompiledKernels, "gpu": cupy_fused.FusedKernels}


@pytest.fixture(scope="module", params=["numpy", "compiled, 1 thread", "compiled, 3 threads"])
def maker(request):
    """Those that compute here."""
    if request.param == "numpy":
        return numpy_inplace
    try:
        return compiled.CompiledKernels(int(request.param.split()[1]))
    except DeviceError as reason:
        pytest.skip(str(reason))


def offered(maker):
    return [name for name in (*CONTRACT, *CHAINS) if hasattr(maker, name)]


def test_the_reference_has_every_operation_of_the_contract_and_no_other():
    public = {name for name, value in vars(reference).items() if inspect.isfunction(value) and name[0] != "_"}
    assert public == set(CONTRACT)
    assert len(CONTRACT) == len(set(CONTRACT))


def test_the_chains_are_all_there_are():
    public = {name for name, value in vars(chains).items() if inspect.isfunction(value) and name[0] != "_"}
    assert public == set(CHAINS)


def test_the_cases_cover_the_whole_contract():
    assert {case.operation for case in cases(SIZES[1])} == set(CONTRACT)
    assert {case.operation for case in chain_cases(SIZES[1])} == set(CHAINS)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_maker_takes_the_arguments_of_the_reference_less_xp(name):
    assert offered(MAKERS[name])
    for operation in offered(MAKERS[name]):
        def shape_of(function):
            parameters = inspect.signature(function).parameters.values()
            return [(p.name, p.kind, p.default) for p in parameters if p.name not in ("xp", "self", "kernels")]
        plain = getattr(reference if operation in CONTRACT else chains, operation)
        assert shape_of(getattr(MAKERS[name], operation)) == shape_of(plain), operation


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_maker_offers_nothing_that_is_not_in_the_contract(name):
    public = {key for key, value in vars(MAKERS[name]).items()
              if inspect.isfunction(value) and key[0] != "_"
              and value.__module__ in (numpy_inplace.__name__, compiled.__name__, cupy_fused.__name__)}
    assert public <= {*CONTRACT, *CHAINS}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_makers_for_numpy_compute_what_the_reference_computes(maker, sizes, strided, dtype):
    for case in cases(sizes):
        if not hasattr(maker, case.operation):
            continue
        expected = case.call(getattr(reference, case.operation), xp=np)
        got = case.call(getattr(maker, case.operation), dtype, strided)
        assert got.keys() == expected.keys()
        for output, value in got.items():
            what = f"{case.operation} ({case.label}): {output}"
            assert value.dtype == dtype, what
            assert_close(value, expected[output], KERNEL[dtype], what)


@pytest.mark.parametrize("sizes", SIZES[1:3], ids=str)
def test_the_old_content_of_outputs_does_not_matter(maker, sizes):
    for source in (reference, maker):
        extra = {"xp": np} if source is reference else {}
        for case in cases(sizes):
            if hasattr(source, case.operation):
                over_nan = case.call(getattr(source, case.operation), **extra)
                over_seven = case.call(getattr(source, case.operation), poison=7.0, **extra)
                for output, value in over_nan.items():
                    assert np.isfinite(value).all(), f"{case.operation} ({case.label}): {output} was not written"
                    assert np.array_equal(value, over_seven[output]), f"{case.operation}: {output} depends on what was"


@pytest.mark.parametrize("sizes", SIZES[1:3], ids=str)
def test_the_reference_computes_in_the_dtype_of_its_arrays(sizes):
    for case in cases(sizes):
        expected = case.call(getattr(reference, case.operation), xp=np)
        for output, value in case.call(getattr(reference, case.operation), "float32", xp=np).items():
            assert value.dtype == np.float32
            assert_close(value, expected[output], KERNEL["float32"], f"{case.operation} ({case.label}): {output}")


def test_bind_takes_the_maker_where_there_is_one_and_the_reference_elsewhere():
    fast, plain = bind(np, numpy_inplace), bind(np)
    assert all(hasattr(fast, operation) and hasattr(plain, operation) for operation in CONTRACT)
    assert fast.linear is numpy_inplace.linear
    assert fast.linear_activation.args == (fast,)       # a chain of the same maker's operations
    y = np.empty((1, 1, 1))
    plain.linear(np.ones((1, 1, 2)), np.ones((1, 2, 1)), np.ones((1, 1)), y)
    assert y.item() == 3.0


IMAGE = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)     # 1 2 3 4, 5 6 7 8, 9 10 11 12


@pytest.mark.parametrize("kernels", ["reference", "maker"])
@pytest.mark.parametrize(("move", "expected"), [
    ((0, 0, 0), IMAGE),
    ((1, 0, 0), [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]),
    ((0, 1, 0), [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]),
    ((0, -2, 0), [[9, 10, 11, 12], [9, 10, 11, 12], [9, 10, 11, 12]]),
    ((0, 0, 1), [[1, 1, 2, 3], [5, 5, 6, 7], [9, 9, 10, 11]]),
    ((0, 0, -3), [[4, 4, 4, 4], [8, 8, 8, 8], [12, 12, 12, 12]]),
    ((1, 0, 2), [[4, 4, 4, 3], [8, 8, 8, 7], [12, 12, 12, 11]]),
    ((1, -1, -1), [[7, 6, 5, 5], [11, 10, 9, 9], [11, 10, 9, 9]]),
], ids=str)
def test_an_image_is_mirrored_and_then_moved_in_each_channel_by_itself(maker, kernels, move, expected):
    data = np.stack([IMAGE + 100, IMAGE, IMAGE + 20]).reshape(1, -1)            # one image of three channels
    x, targets = np.full((2, 36), np.nan, np.float32), np.zeros((2, 2), np.float32)
    gather_moved = bind(np, maker if kernels == "maker" else None).gather_moved
    gather_moved(np.repeat(data, 3, axis=0), np.array([0, 0, 1]), np.arange(2), np.array([2, 0]),
                 np.stack([move, (0, 0, 0)], axis=1), None, None, x, targets, image_shape=(3, 3, 4))
    assert x[0].reshape(3, 3, 4).tolist() == [(np.array(expected) + more).tolist() for more in (100, 0, 20)]
    assert np.array_equal(x[1], data[0])
    assert targets.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("image_shape", [(3, 32, 32), (2, 1, 700), (1, 40, 3)], ids=str)
def test_moved_images_are_bit_for_bit_those_that_are_gathered_from_moved_data(maker, image_shape, dtype):
    rng, n, d = np.random.default_rng(0), 50, int(np.prod(image_shape))
    moves, (_, height, width) = any_moves(image_shape, n), image_shape
    mean, inv_std = rng.normal(size=d).astype(dtype), rng.uniform(0.5, 2.0, size=d).astype(dtype)
    kernels, labels, classes = bind(np, maker), rng.integers(4, size=n), np.arange(4)
    for data in (rng.integers(256, size=(n, d), dtype=np.uint8), rng.normal(size=(n, d)).astype(dtype)):
        moved = np.empty_like(data)
        for k, (mirror, down, right) in enumerate(moves.T):
            image = data[k].reshape(image_shape)
            padded = np.pad(image[:, :, ::-1] if mirror else image, ((0, 0), (height, height), (width, width)), "edge")
            moved[k] = padded[:, height - down:2 * height - down, width - right:2 * width - right].reshape(-1)
        for statistics in ((mean, inv_std), (None, None)):
            x, expected, targets = (np.full((n, columns), np.nan, dtype) for columns in (d, d, 4))
            kernels.gather(moved, labels, classes, np.arange(n), *statistics, expected, targets)
            kernels.gather_moved(data, labels, classes, np.arange(n), moves, *statistics, x, targets,
                                 image_shape=image_shape)
            assert np.array_equal(x, expected)


def test_large_logits_neither_overflow_nor_lose_the_loss(maker):
    logits = np.array([[[1e4, 0.0, -1e4], [0.0, 1e4, 1e4]]], np.float32)
    targets, weights = np.eye(3, dtype=np.float32)[[1, 2]], np.full(2, 0.5, np.float32)
    loss, glogits = np.zeros(1, np.float32), np.zeros_like(logits)
    maker.cross_entropy(logits, targets, weights, loss, glogits)
    np.testing.assert_allclose(loss, 0.5 * (1e4 + np.log(2.0)), rtol=1e-6)
    np.testing.assert_allclose(glogits[0], [[0.5, -0.5, 0.0], [0.0, 0.25, -0.25]], atol=1e-6)


def test_of_equal_logits_the_first_one_counts(maker):
    logits, correct = np.ones((1, 3, 4), np.float32), np.zeros(1, np.float32)
    bind(np, maker).count_correct(logits, np.array([0, 1, 1]), np.ones(3, np.float32), correct)
    assert correct.tolist() == [1.0]
