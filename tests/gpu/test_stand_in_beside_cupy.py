"""The stand-in beside the real CuPy, where that is installed: the same names, refusals and types. No GPU is needed."""

import inspect

import numpy as np
import pytest
from stand_in import make_cupy
from stand_in.functions import TABLE
from stand_in.parameters import dtype_of, types_of

pytestmark = pytest.mark.L3

real = pytest.importorskip("cupy")


@pytest.fixture
def stand_in():
    return make_cupy()


def public(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


def test_the_stand_in_offers_nothing_that_cupy_has_not(stand_in):
    own = {"content", "memory", "recording", "capture_is_invalid", "tasks"}
    for path in ("", "ndarray", "cuda.Stream", "cuda.Event", "cuda.Device", "cuda.Graph", "cuda.memory", "cuda.runtime",
                 "random", "RawKernel"):
        there, here = real, stand_in
        for part in path.split(".") if path else []:
            there, here = getattr(there, part), getattr(here, part)
        missing = [name for name in public(here) if not hasattr(there, name) and name not in own]
        assert not missing, path


@pytest.mark.parametrize("name", sorted(name for name, value in TABLE.items() if inspect.isfunction(value)))
def test_functions_have_no_keywords_that_cupys_have_not(name):
    try:
        theirs = inspect.signature(getattr(real, name)).parameters
    except ValueError:                                      # a ufunc
        return
    ours = inspect.signature(TABLE[name]).parameters.values()
    named = {p.name for p in ours if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        return
    assert named - {"n", "a"} <= theirs.keys()


def test_running_out_of_memory_is_told_alike(stand_in):
    theirs, ours = (cupy.cuda.memory.OutOfMemoryError for cupy in (real, stand_in))
    for sizes in ((10**6, 512, 2048), (1, 2)):
        assert str(ours(*sizes)) == str(theirs(*sizes))
    assert issubclass(theirs, MemoryError) == issubclass(ours, MemoryError)


CONSTRUCTIONS = [
    lambda cupy: cupy.ElementwiseKernel("T x", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("T i", "T y", "y = i"),
    lambda cupy: cupy.ElementwiseKernel("T n, raw T size", "T y", "y = n"),
    lambda cupy: cupy.ElementwiseKernel("T x", "T y", "y = x", "1k"),
    lambda cupy: cupy.ElementwiseKernel("T x", "T y", "y = x", ""),
    lambda cupy: cupy.ElementwiseKernel("TT x", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("const T x", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("long long x", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("size_t x", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("T", "T y", "y = x"),
    lambda cupy: cupy.ElementwiseKernel("", "raw T y", "y[i] = 0"),
    lambda cupy: cupy.ReductionKernel("T x", "T y", "x", "a + b", "y = a", "0", "a b"),
    lambda cupy: cupy.RawKernel("", "k", options=["-O"]),
    lambda cupy: cupy.RawModule(code="", options="-O"),
    lambda cupy: cupy.RawModule(),
    lambda cupy: cupy.RawModule(code="", path=""),
]


@pytest.mark.parametrize("number", range(len(CONSTRUCTIONS)))
def test_constructors_refuse_alike(stand_in, number):
    outcomes = []
    for cupy in (real, stand_in):
        try:
            CONSTRUCTIONS[number](cupy)
            outcomes.append(None)
        except Exception as error:      # noqa: BLE001 - whatever it is, it shall be the same
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("inputs", [
    ("float32", None, None), ("float32", "int8", None), ("float32", "int8", "int64"), ("float32", "int8", "int32"),
    (None, "int8", None),
])
@pytest.mark.parametrize("output", [None, "float32", "float64"])
def test_arguments_decide_types_alike(stand_in, inputs, output):
    text = ("T x, S y, int32 n", "T z", "z = x", "k")
    decide = pytest.importorskip("cupy._core._kernel")._decide_params_type
    theirs, ours = real.ElementwiseKernel(*text), stand_in.ElementwiseKernel(*text)
    dtypes = [None if name is None else np.dtype(name).type for name in inputs]
    outputs = [] if output is None else [np.dtype(output).type]

    def by_cupy():
        in_types, out_types, _ = decide(theirs.in_params, theirs.out_params, tuple(dtypes), tuple(outputs))
        return [np.dtype(dtype) for dtype in (*in_types, *out_types)]

    def by_stand_in():
        def argument(dtype):
            return 1 if dtype is None else stand_in.zeros(2, dtype)
        known = {}
        types_of(ours.outputs, [argument(dtype) for dtype in outputs], known)
        types_of(ours.inputs, [argument(dtype) for dtype in dtypes], known)
        return [dtype_of(parameter, known) for parameter in ours.parameters]

    outcomes = []
    for decided in (by_cupy, by_stand_in):
        try:
            outcomes.append(decided())
        except (TypeError, KeyError) as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["bool", "int32", "uint8", "int64", "f4", "double", "float", "int"])
def test_types_have_the_same_names_in_cuda(stand_in, name):
    (theirs,) = real.ElementwiseKernel(f"{name} x", "T y", "y = x").in_params
    (ours,) = stand_in.ElementwiseKernel(f"{name} x", "T y", "y = x").inputs
    assert (ours.dtype, ours.type) == (theirs.dtype, theirs.ctype)
