"""Every kernel of CuPy's maker, its own CUDA source executed on the CPU, against the reference."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator import check_races
from stand_in import device
from tolerances import assert_close

from fastmlp.errors import DeviceError
from fastmlp.kernels import CHAINS, CONTRACT, bind, cupy_fused, reference
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.kernels.cuda_modules import cuda_source

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from operations import SIZES, cases, chain_cases, on_device, own_error

pytestmark = pytest.mark.L2

RAGGED = (2, 45, 9, 71, 13)                 # more than one block of columns, rows that fill no block, ragged both ways
MANY_ROWS = (1, 300, 3, 5, 4)               # more rows than a block has at a time
MANY_COLUMNS = (1, 3, 300, 2, 70)           # more features than a block has threads, more classes than a warp
FULL_TILES = (2, 64, 64, 32, 32)            # nothing is ragged: a bias gradient's row begins a tile of its own
BEYOND_A_BLOCK = (2, 1100, 2, 3, 2)         # a larger batch than any block: one kernel's loop, or cuBLAS's product
FUSED = [name for name in (*CONTRACT, *CHAINS) if hasattr(cupy_fused.FusedKernels, name)]
# float64 to 1e-12, float32 to 1e-5 of the reference, relative; see `tolerances.assert_close`.
ACCURACY = {"float64": 1e-12, "float32": 1e-5}
FULL_SIZE = (1, 100, 3072, 50, 10)          # the products of 50-50 on images: one is split along its contraction


@pytest.fixture
def fused(cupy):
    return cupy_fused.FusedKernels(cupy)


def compare(gpu, fused, case, dtype):
    """Against the reference in float64; a chain is its operations one after the other."""
    expected, inevitable = case.call(getattr(bind(np), case.operation)), own_error(case, dtype)
    got = case.call(on_device(gpu, getattr(fused, case.operation)), dtype)
    assert got.keys() == expected.keys()
    for output, value in got.items():
        what = f"{case.operation} ({case.label}): {output}"
        assert value.dtype == dtype, what
        # A batch of two examples loses digits in batch norm, whoever computes it.
        tolerance = max(ACCURACY[dtype], 2.0 * inevitable[output] if case.is_tiny else 0.0)
        assert_close(value, expected[output], tolerance, what)


def test_every_operation_and_chain_has_a_kernel():
    assert [*CONTRACT, *CHAINS] == FUSED


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [*SIZES[:4], RAGGED, MANY_ROWS, MANY_COLUMNS, FULL_TILES, BEYOND_A_BLOCK], ids=str)
def test_a_kernel_computes_what_the_reference_computes(gpu, fused, sizes, dtype):
    for case in cases(sizes):
        compare(gpu, fused, case, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [SIZES[1], SIZES[2], RAGGED, MANY_ROWS, FULL_TILES], ids=str)
def test_a_chain_computes_what_its_operations_compute_one_after_the_other(gpu, fused, sizes, dtype):
    fused._scratch(dtype)                               # made once
    before, n = device.counts.launches, 0
    for case in chain_cases(sizes):
        compare(gpu, fused, case, dtype)
        n += 1
    assert device.counts.launches - before == n         # and does so in one launch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_where_products_are_large_cublas_takes_over_and_the_numbers_stay(gpu, fused, monkeypatch, dtype):
    monkeypatch.setattr(cupy_fused, "SMALL_PRODUCT", 0)
    for case in (*cases(RAGGED), *chain_cases(RAGGED)):
        if "linear" in case.operation:
            before = device.counts.products
            compare(gpu, fused, case, dtype)
            assert device.counts.products > before


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_split_product_adds_its_parts_to_the_same_sum(gpu, fused, dtype):
    for case in cases(FULL_SIZE):
        if case.operation == "linear" and case.label == "bias":
            case.arguments["w"] /= np.sqrt(FULL_SIZE[2])        # sums of size 1, as a layer's are
            compare(gpu, fused, case, dtype)
    _, arrived = fused._scratch(dtype)
    assert not arrived.get().any()                      # ready for the next launch


@pytest.mark.parametrize("operation", FUSED)
def test_a_kernel_does_not_depend_on_the_order_of_threads(gpu, fused, operation):
    for case in (*cases(RAGGED), *chain_cases(RAGGED)):
        if case.operation == operation and not case.label.startswith(tuple(ACTIVATIONS)[1:]):
            check_races(lambda: list(case.call(on_device(gpu, getattr(fused, operation))).values()))  # noqa: B023


@pytest.mark.parametrize("members", [1, 2])
def test_a_split_product_does_not_depend_on_the_order_of_blocks(gpu, fused, members):
    case = next(case for case in cases((members, 40, 700, 35, 3)) if case.operation == "linear")
    check_races(lambda: list(case.call(on_device(gpu, fused.linear), "float32").values()))


@pytest.mark.parametrize("wide_x", [True, False], ids=["wide x", "x"])
@pytest.mark.parametrize("wide_gx", [True, False], ids=["wide gx", "gx"])
def test_layers_take_inputs_and_give_their_gradients_as_each_of_them_lies(cupy, fused, wide_x, wide_gx):
    def place(host, wide):
        """On the device, the members side by side or one after the other."""
        return cupy.moveaxis(cupy.asarray(np.moveaxis(host, 0, 1).copy()), 1, 0) if wide else cupy.asarray(host)

    rng, (m, n, d, h) = np.random.default_rng(0), (3, 40, 35, 6)
    x, w, gy = rng.normal(size=(m, n, d)), rng.normal(size=(m, d, h)), rng.normal(size=(m, n, h))
    gw, gb, gx, y = (np.full(shape, np.nan) for shape in ((m, d, h), (m, h), (m, n, d), (m, n, h)))
    there = [cupy.asarray(a) for a in (w, gy, gw, gb, y)]
    x_there, gx_there = place(x, wide_x), place(gx, wide_gx)
    fused.linear(x_there, there[0], None, there[4])
    fused.linear_backward(there[1], x_there, there[0], there[2], there[3], gx_there)
    reference.linear(x, w, None, y, xp=np)
    reference.linear_backward(gy, x, w, gw, gb, gx, xp=np)
    for got, expected in ((there[2], gw), (there[3], gb), (gx_there, gx), (there[4], y)):
        assert_close(got.get(), expected, ACCURACY["float64"])


@pytest.mark.parametrize("wide_y", [True, False], ids=["wide y", "y"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dropout_drops_the_same_bits_as_the_reference_however_its_arrays_lie(cupy, fused, dtype, wide_y):
    rng, (m, n, h) = np.random.default_rng(0), (3, 20, 35)
    x, keys = rng.normal(size=(n, m, h)).astype(dtype), rng.integers(2**32, size=m, dtype=np.uint32)
    expected = np.empty((m, n, h), dtype)
    reference.dropout(np.moveaxis(x, 1, 0), keys, expected, rate=0.3, xp=np)
    y = cupy.zeros((n, m, h) if wide_y else (m, n, h), dtype=dtype)
    y = cupy.moveaxis(y, 1, 0) if wide_y else y
    fused.dropout(cupy.moveaxis(cupy.asarray(x), 1, 0), cupy.asarray(keys), y, rate=0.3)
    assert np.array_equal(y.get(), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_of_logits_whose_exponentials_overflow_is_finite(cupy, fused, dtype):
    logits, targets = np.array([[[1e4, 9.9e3, -1e4], [-2e4, -1e4, -3e4]]]), np.eye(3)[[1, 0]]
    weights, loss, gradient = np.full(2, 0.5), np.empty(1), np.empty((1, 2, 3))
    reference.cross_entropy(logits, targets, weights, loss, gradient, xp=np)
    there = [cupy.asarray(a.astype(dtype)) for a in (logits, targets, weights, loss, gradient)]
    fused.cross_entropy(*there)
    assert_close(there[3].get(), loss, ACCURACY[dtype])
    assert_close(there[4].get(), gradient, ACCURACY[dtype])


@pytest.mark.parametrize(("x", "normalised"), [
    (np.full((1, 100, 3), 1234567.8), 0.25),
    (np.random.default_rng(0).normal(size=(1, 100, 3)) * 1e25, np.nan),
], ids=["constant", "beyond"])
def test_batch_norm_of_a_large_constant_is_exact_and_a_variance_beyond_the_dtype_is_not_hidden(cupy, fused, x,
                                                                                               normalised):
    x, share, units = (cupy.asarray(a.astype(np.float32)) for a in (x, np.full(100, 0.01), np.ones((5, 1, 3))))
    y, gamma, beta = cupy.zeros((1, 100, 3), dtype=np.float32), units[0], units[1] * 0.25
    fused.batch_norm_activation(x, share, gamma, beta, units[2], units[3], units[4], y, kind="identity", eps=1e-5)
    np.testing.assert_array_equal(y.get(), np.full((1, 100, 3), normalised, np.float32))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_what_is_not_a_number_stays_so(cupy, fused, kind):
    y = cupy.zeros((1, 1, 2))
    fused.activation(cupy.asarray(np.array([[[np.nan, 1.0]]])), y, kind=kind)
    assert np.isnan(y.get()).tolist() == [[[True, False]]]


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("wide_gradient", [True, False], ids=["wide gradient", "gradient"])
def test_losses_take_the_logits_of_a_wide_output_layer(cupy, fused, loss, wide_gradient):
    rng, (m, n, c) = np.random.default_rng(0), (3, 7, 4)
    wide, gradient = rng.normal(size=(n, m, c)), np.full((n, m, c) if wide_gradient else (m, n, c), np.nan)
    targets, weights = np.eye(c)[rng.integers(c, size=n)], np.full(n, 1 / n)
    value, expected, expected_gradient = np.empty(m), np.empty(m), np.empty((m, n, c))
    getattr(reference, loss)(np.moveaxis(wide, 1, 0), targets, weights, expected, expected_gradient, xp=np)
    there = [cupy.asarray(a) for a in (wide, targets, weights, value, gradient)]
    got = cupy.moveaxis(there[4], 1, 0) if wide_gradient else there[4]
    getattr(fused, loss)(cupy.moveaxis(there[0], 1, 0), *there[1:4], got)
    assert_close(there[3].get(), expected, ACCURACY["float64"])
    assert_close(got.get(), expected_gradient, ACCURACY["float64"])


def test_the_first_of_equal_logits_is_the_answer(cupy, fused):
    logits = cupy.asarray(np.array([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]]))
    correct = cupy.zeros((1,))
    fused.count_correct(logits, cupy.asarray(np.array([1, 1])), cupy.ones((2,)), correct)
    assert correct.get().tolist() == [1.0]


def test_data_of_another_dtype_are_refused_rather_than_misread(cupy, fused):
    case = next(case for case in cases(SIZES[1]) if case.operation == "gather")
    arguments = [cupy.asarray(a.astype(np.float32) if k == "data" else a) if isinstance(a, np.ndarray) else a
                 for k, a in case.arguments.items()]
    with pytest.raises(TypeError, match="data of float32 cannot be gathered into float64"):
        fused.gather(*arguments)


def test_the_constants_of_the_maker_are_those_of_the_sources():
    tiles = cuda_source("tiles.cuh")
    assert re.findall(r"#define (TILE|TILE_THREADS) (\d+)", tiles) == [
        ("TILE", str(cupy_fused.TILE)), ("TILE_THREADS", str(cupy_fused.TILE_THREADS))]
    assert "MOST_GROUPS (sizeof(REAL) == 4 ? 4 : 2)" in tiles
    assert cupy_fused.MOST_GROUPS == {"float32": 4, "float64": 2}
    assert "ROW_THREADS (sizeof(REAL) == 4 ? 1024 : 512)" in cuda_source("losses.cu")
    assert cupy_fused.ROW_THREADS == {"float32": 1024, "float64": 512}
    enum = re.search(r"enum Activation {(.*?)}", cuda_source("activations.cuh")).group(1)
    assert [name.strip().lower().replace("_", "-") for name in enum.split(",")] == list(ACTIVATIONS)


def test_a_kernel_that_cannot_be_compiled_is_named_with_the_compilers_words(cupy, fused, monkeypatch):
    def compile(module, log_stream=None):
        if "linear_backward(" in module.code:
            raise cupy.cuda.compiler.CompileException("linear.cu(7): error: identifier \"tyles\" is undefined\n1 error")

    monkeypatch.setattr(cupy.RawModule, "compile", compile)
    with pytest.raises(DeviceError, match=r"kernels of linear\.cu \(linear, .*\) could not be compiled for float32: "
                                          r'linear\.cu\(7\): error: identifier "tyles" is undefined .*--device cpu'):
        fused.activation(cupy.zeros((1, 2, 3), np.float32), cupy.zeros((1, 2, 3), np.float32), kind="relu")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("members", [1, 3])
def test_large_products_are_cublass_and_a_chain_of_them_takes_its_operations(gpu, fused, monkeypatch, members, bias):
    monkeypatch.setattr(cupy_fused, "SMALL_PRODUCT", 0)
    sizes = (members, *SIZES[1][1:])
    wanted = {"linear": 1, "linear_activation": 1, "linear_batch_norm_activation": 1, "linear_backward": 2,
              "linear_backward_activation_backward": 2, "linear_backward_batch_norm_activation_backward": 2}
    for case in (*cases(sizes), *chain_cases(sizes)):
        if case.operation in wanted and ("no bias" not in case.label) == bias:
            before = device.counts.products
            compare(gpu, fused, case, "float64")
            products = wanted[case.operation] - ("no gx" in case.label)
            assert device.counts.products - before == products, (case.operation, case.label)
