"""cuBLAS called by ctypes: the products of every layout, their place in graphs, and what is refused in which words."""

import itertools
import sys

import numpy as np
import pytest
from stand_in import device

from fastmlp.errors import ConfigError, DeviceError
from fastmlp.kernels import cublas
from fastmlp.kernels.cublas import Cublas

pytestmark = pytest.mark.L3

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
SIZES = [(1, 3, 5, 7), (3, 7, 5, 2), (2, 1, 4, 3), (2, 3, 1, 4), (2, 3, 4, 1), (4, 1, 1, 5), (3, 1, 6, 1), (2, 5, 1, 1),
         (1, 1, 1, 1), (1, 6, 9, 1), (3, 17, 33, 9)]                                 # members, rows, inner, columns


def _padded(cupy, host):
    members, rows, columns = host.shape
    whole = np.full((members + 1, rows + 2, columns + 3), np.nan, host.dtype)
    whole[1:, 1:-1, 2:-1] = host
    return cupy.asarray(whole)[1:, 1:-1, 2:-1]


#: Device arrays with the content of a host array (members, rows, columns), by how they lie in memory.
LAYOUTS = {
    "contiguous": lambda cupy, host: cupy.asarray(host),
    "transposed": lambda cupy, host: cupy.asarray(host.swapaxes(1, 2).copy()).swapaxes(1, 2),
    "members": lambda cupy, host: cupy.moveaxis(cupy.asarray(np.moveaxis(host, 0, 1).copy()), 1, 0),
    "members transposed": lambda cupy, host: cupy.transpose(cupy.asarray(host.transpose(2, 0, 1).copy()), (1, 2, 0)),
    "padded": _padded,
    "padded transposed": lambda cupy, host: _padded(cupy, host.swapaxes(1, 2)).swapaxes(1, 2),
    "reversed members": lambda cupy, host: cupy.asarray(host[::-1].copy())[::-1],
}
OUT_LAYOUTS = ("contiguous", "members", "padded", "reversed members")


@pytest.fixture
def make(cupy):
    """Seeded operands of a product, and the product in float64."""
    rng = np.random.default_rng(7)

    def operands(size, dtype="float64", layouts=("contiguous", "contiguous", "contiguous")):
        members, rows, inner, columns = size
        hosts = [rng.normal(size=(members, *shape)).astype(dtype) for shape in ((rows, inner), (inner, columns))]
        expected = np.matmul(*(host.astype(np.float64) for host in hosts))
        hosts.append(np.full(expected.shape, np.nan, dtype))
        return (*(LAYOUTS[name](cupy, host) for name, host in zip(layouts, hosts, strict=True)), expected)
    return operands


def _assert_product(out, expected):
    assert np.abs(out.get() - expected).max() <= TOLERANCE[str(out.dtype)] * max(1.0, np.abs(expected).max())


# ------------------------------------------------------------------------------------------------ numbers

@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("out_layout", OUT_LAYOUTS)
@pytest.mark.parametrize(("a_layout", "b_layout"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_every_layout_gives_numpys_product_without_a_copy(cupy, make, a_layout, b_layout, out_layout, dtype):
    product = Cublas(cupy).product
    product(*make((1, 1, 1, 1), dtype)[:3])
    for size in SIZES:
        a, b, out, expected = make(size, dtype, (a_layout, b_layout, out_layout))
        before = vars(device.counts).copy()
        product(a, b, out)
        changes = {name: count - before[name] for name, count in vars(device.counts).items() if count != before[name]}
        assert changes == {"launches": 1, "products": 1}
        _assert_product(out, expected)


@pytest.mark.parametrize("out_layout", OUT_LAYOUTS)
def test_nothing_beside_the_outputs_view_is_written(cupy, make, out_layout):
    a, b, out, expected = make((3, 4, 5, 6), layouts=("contiguous", "members", out_layout))
    Cublas(cupy).product(a, b, out)
    written = out.memory.bytes.view(out.dtype)
    assert np.isfinite(written).sum() == expected.size
    assert np.isnan(written).sum() == written.size - expected.size


def test_one_matrix_serves_all_members_as_a_broadcast_view(cupy, make):
    a, b, out, _ = make((3, 4, 5, 6))
    one = cupy.broadcast_to(b[:1], b.shape)
    Cublas(cupy).product(a, one, out)
    _assert_product(out, a.get() @ b.get()[:1])


@pytest.mark.parametrize("size", [size for size in SIZES if 1 in size])
def test_strides_of_axes_of_length_one_mean_nothing(cupy, make, size):
    def with_odd_strides(array, spread):
        """Negative strides for axes of length 1, a wide one for a single row's elements."""
        host = array.get()
        ones = [axis for axis in range(3) if host.shape[axis] == 1]
        for axis in ones:
            host = np.repeat(host, 3, axis)
        view = cupy.asarray(np.repeat(host, 2, 2) if spread else host)[..., ::2 if spread else 1]
        return view[tuple(slice(None, None, -3) if axis in ones else slice(None) for axis in range(3))]

    a, b, out, expected = make(size)
    for spread in (False, True):
        views = [with_odd_strides(x, spread and x.shape[1] == 1) for x in (a, b)] + [with_odd_strides(out, False)]
        assert any(min(view.strides) < 0 for view in views)
        Cublas(cupy).product(*views)
        _assert_product(views[2], expected)


def test_an_empty_product_is_left_alone_and_an_empty_sum_is_zero(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)           # cuBLAS is not asked
    product = Cublas(cupy).product
    for members, rows, inner, columns in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 4, 0), (2, 3, 0, 4)):
        out = cupy.empty((members, rows, columns))
        product(cupy.ones((members, rows, inner)), cupy.ones((members, inner, columns)), out)
        assert (out.get() == 0).all()
    assert device.counts.products == 0


def test_tf32_is_taken_only_when_it_is_asked_for(cupy, make, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    a, b, out, expected = make((2, 8, 64, 8), "float32")
    errors = {}
    for precision in ("float32", "tf32"):
        Cublas(cupy, precision).product(a, b, out)
        errors[precision] = np.abs(out.get() - expected).max()
    assert errors["float32"] < 1e-5
    assert 1e-4 < errors["tf32"] < 1e-1


# ------------------------------------------------------------------------------------------------ graphs

@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layouts", [("contiguous", "transposed", "members"), ("members", "contiguous", "padded")])
def test_a_recorded_product_is_computed_anew_from_changed_inputs(cupy, make, dtype, layouts):
    product = Cublas(cupy).product
    a, b, out, _ = make((3, 5, 4, 7), dtype, layouts)
    product(a, b, out)                                                  # on the default stream
    out.fill(np.nan)
    stream = cupy.cuda.Stream(non_blocking=True)
    before = vars(device.counts).copy()
    with stream:
        stream.begin_capture()
        product(a, b, out)
        graph = stream.end_capture()
    assert {name for name, count in vars(device.counts).items() if count != before[name]} == {"recorded"}
    assert np.isnan(out.get()).all()
    for factor in (1.0, -3.0):
        a *= factor
        b += factor
        graph.launch(stream)
        _assert_product(out, a.get().astype(np.float64) @ b.get().astype(np.float64))


def test_the_workspace_is_set_again_after_every_change_of_streams(cupy, make):
    product = Cublas(cupy).product
    a, b, out, expected = make((2, 3, 4, 5))
    product(a, b, out)
    streams, graphs = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)], []
    for stream in (*streams, streams[0]):
        with stream:
            stream.begin_capture()
            product(a, b, out)
            graphs.append(stream.end_capture())
        product(a, b, out)
    for graph in graphs:
        out.fill(0)
        graph.launch()
        _assert_product(out, expected)


def test_a_recorded_product_keeps_its_workspace_and_misses_an_operand_that_is_gone(cupy, make):
    multiply = Cublas(cupy)
    a, b, out, expected = make((2, 3, 4, 5))
    multiply.product(a, b, out)
    graphs, stream = [], cupy.cuda.Stream(non_blocking=True)
    with stream:
        for operand in (a.copy(), a):
            stream.begin_capture()
            multiply.product(operand, b, out)
            graphs.append(stream.end_capture())
    graphs[1].launch()
    _assert_product(out, expected)
    del operand
    with pytest.raises(RuntimeError, match="uses an array that is gone"):
        graphs[0].launch()
    multiply._workspace = None
    with pytest.raises(RuntimeError, match="uses an array that is gone"):
        graphs[1].launch()


# ------------------------------------------------------------------------------------------------ refusals

def test_nothing_is_loaded_before_the_first_product(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    Cublas(cupy)
    assert device.counts.allocations == 0


@pytest.mark.parametrize(("a", "b", "out"), [
    ((2, 3, 4), (2, 5, 6), (2, 3, 6)), ((2, 3, 4), (1, 4, 6), (2, 3, 6)), ((2, 3, 4), (2, 4, 6), (2, 6, 3)),
    ((3, 4), (4, 6), (3, 6)), ((2, 3, 4), (2, 4), (2, 3)), ((2, 3, 4), (2, 4, 6), (1, 3, 6)),
])
def test_shapes_that_do_not_belong_together_are_refused(cupy, a, b, out):
    with pytest.raises(ValueError, match=r"do not belong together: take \(M, N, K\)"):
        Cublas(cupy).product(*(cupy.ones(shape) for shape in (a, b, out)))


@pytest.mark.parametrize("dtypes", [("float32", "float64", "float64"), ("float32", "float32", "float64"),
                                    ("int64", "int64", "int64"), ("float16", "float16", "float16")])
def test_dtypes_that_cublas_would_misread_are_refused(cupy, dtypes):
    with pytest.raises(TypeError, match=f"arrays of {', '.join(dtypes)} cannot be multiplied"):
        Cublas(cupy).product(*(cupy.ones((1, 2, 2), dtype) for dtype in dtypes))


def test_precisions_that_cannot_be_are_refused(cupy):
    with pytest.raises(ConfigError, match="precision 'half' is unknown; take 'float32' or 'tf32'"):
        Cublas(cupy, "half")
    x = cupy.ones((1, 2, 2), np.float64)
    with pytest.raises(ValueError, match="'tf32' is for float32 arrays, not float64"):
        Cublas(cupy, "tf32").product(x, x, cupy.empty((1, 2, 2)))


def test_operands_that_are_contiguous_in_no_direction_are_refused(cupy):
    product, x, out = Cublas(cupy).product, cupy.ones((2, 3, 3)), cupy.empty((2, 3, 3))
    scattered = (cupy.ones((2, 6, 6))[:, ::2, ::2], cupy.ones((2, 3, 3))[:, ::-1], cupy.ones((2, 3, 3))[:, :, ::-1],
                 cupy.broadcast_to(cupy.ones((1, 1, 3)), (2, 3, 3)), cupy.broadcast_to(cupy.ones((1, 3, 1)), (2, 3, 3)))
    words = r" \(shape .*, strides .*\) has neither contiguous rows nor contiguous columns; copy it first$"
    for wrong in scattered:
        for name, arrays in (("a", (wrong, x, out)), ("b", (x, wrong, out)), ("out", (x, x, wrong))):
            with pytest.raises(ValueError, match=f"^{name}{words}"):
                product(*arrays)
    for wrong in (cupy.ones((2, 3, 3)).swapaxes(1, 2), cupy.broadcast_to(cupy.ones((1, 3, 3)), (2, 3, 3))):
        with pytest.raises(ValueError, match=r"the rows of out .* must be contiguous, and each element its own"):
            product(x, x, wrong)


def test_sizes_beyond_a_c_int_are_refused(cupy, monkeypatch):
    monkeypatch.setattr(cublas, "LARGEST_INT", 6)
    product = Cublas(cupy).product
    x = cupy.ones((2, 3, 3))
    product(x, cupy.ones((2, 3, 6))[:, :, :3], cupy.empty((2, 3, 3)))
    for arrays in ((x, cupy.ones((2, 3, 7))[:, :, :3], cupy.empty((2, 3, 3))),
                   (x, cupy.ones((2, 3, 7)), cupy.empty((2, 3, 7))),
                   (cupy.ones((1, 7, 2)), cupy.ones((1, 2, 2)), cupy.empty((1, 7, 2))),
                   (cupy.ones((7, 1, 1)), cupy.ones((7, 1, 1)), cupy.empty((7, 1, 1)))):
        with pytest.raises(ValueError, match="are too large for cuBLAS"):
            product(*arrays)


def test_a_missing_library_is_a_sentence_with_the_way_out(cupy, make, monkeypatch):
    arrays = make((1, 2, 2, 2))[:3]
    product = Cublas(cupy).product
    pathfinder = sys.modules["cuda.pathfinder"]
    found = pathfinder.load_nvidia_dynamic_lib

    def missing(name):
        raise pathfinder.DynamicLibNotFoundError(f"no {name}\nanywhere")

    def at(path):
        def elsewhere(name):
            loaded = found(name)
            loaded.abs_path = path
            return loaded
        return elsewhere

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", missing)
    with pytest.raises(DeviceError, match=r"^cuBLAS cannot be loaded \(DynamicLibNotFoundError: no cublas anywhere\); "
                                          r'install it with pip install "fastmlp\[cuda13\]"$'):
        product(*arrays)
    for path, words in (("/nowhere/libcublas.so", "cannot open shared object"), (None, "its path is unknown")):
        monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", at(path))
        with pytest.raises(DeviceError, match=words):
            product(*arrays)
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: 12090)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(DeviceError, match=r"ModuleNotFoundError: .*fastmlp\[cuda12\]"):
        product(*arrays)


def test_what_cublas_refuses_is_a_sentence_with_status_and_shapes(cupy, make, monkeypatch):
    product = Cublas(cupy).product
    a, b, out, expected = make((2, 3, 4, 5))
    with monkeypatch.context() as broken:
        broken.setattr(cublas, "CUBLAS_GEMM_DEFAULT", 50)
        with pytest.raises(DeviceError, match=r"^cuBLAS's cublasGemmStridedBatchedEx failed with status 7 "
                                              r"\(CUBLAS_STATUS_INVALID_VALUE\) for shapes "
                                              r"\(2, 3, 4\) x \(2, 4, 5\) -> \(2, 3, 5\)$"):
            product(a, b, out)
    product(a, b, out)
    _assert_product(out, expected)
