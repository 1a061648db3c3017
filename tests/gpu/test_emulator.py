"""The emulator runs CUDA as a GPU would, and notices what it promises to notice."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator import (
    FORWARD,
    REVERSE,
    CompiledKernel,
    CompileError,
    LaunchError,
    Order,
    check_races,
    packed,
    thread_order,
)

pytestmark = pytest.mark.L2

COLUMN_SUMS = """
extern "C" __global__ void __launch_bounds__(256) column_sums(const float* __restrict__ x, float* sums, int n, int h) {
    __shared__ float parts[8];
    int column = blockIdx.x, warp = threadIdx.x / warpSize;
    float part = 0;
    for (int row = threadIdx.x; row < n; row += blockDim.x) part += x[row * h + column];
    for (int distance = 16; distance; distance /= 2) part += __shfl_xor_sync(0xffffffffu, part, distance);
    if (threadIdx.x % warpSize == 0) parts[warp] = part;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0;
        for (int k = 0; k < blockDim.x / warpSize; k++) sum += parts[k];
        sums[column] = sum;
    }
}
"""


def launch(code, name, grid, block, *arguments, shared=0, options=(), **others):
    """Compile and run a kernel on NumPy's arrays and numbers."""
    kernel = CompiledKernel(code, name, options)
    kernel.launch(grid, block, [packed(argument) for argument in arguments], shared, **others)


def body(text, parameters="float* y"):
    """A kernel `k` with this body."""
    return f'extern "C" __global__ void k({parameters}) {{ int t = threadIdx.x; {text} }}'


def run(text, threads=64, dtype=np.float32, n=None, blocks=1, **options):
    """What a kernel body writes into y, which begins as NaN."""
    types = {"float32": "float", "float64": "double", "int32": "int", "uint32": "unsigned"}
    y = np.full(n or threads, np.nan if np.dtype(dtype).kind == "f" else 99, dtype)
    launch(body(text, f"{types[np.dtype(dtype).name]}* y"), "k", (blocks,), (threads,), y, **options)
    return y


# ------------------------------------------------------------------------------------------------ the language

def test_a_kernel_with_shared_memory_barriers_and_shuffles_computes_in_every_order():
    x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)

    def sums():
        y = np.full(5, np.nan, np.float32)
        launch(COLUMN_SUMS, "column_sums", (5,), (256,), x, y, np.int32(100), np.int32(5))
        return [y]

    (y,) = check_races(sums)
    assert np.allclose(y, x.sum(axis=0), atol=1e-5)


def test_indices_of_three_dimensions():
    code = """extern "C" __global__ void k(int* y) {
        int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        int place = block * blockDim.x * blockDim.y * blockDim.z + thread;
        y[place] = place;
    }"""
    y = np.full(2 * 3 * 4 * 5 * 2 * 3, -1, np.int32)
    launch(code, "k", (2, 3, 4), (5, 2, 3), y)
    assert (y == np.arange(y.size)).all()


@pytest.mark.parametrize(("expression", "expected"), [
    ("__shfl_sync(~0u, t, 3)", [3, 3, 3, 3]),
    ("__shfl_sync(~0u, t, 1, 2)", [1, 1, 3, 3]),
    ("__shfl_up_sync(~0u, t, 1)", [0, 0, 1, 2]),
    ("__shfl_down_sync(~0u, t, 2, 4)", [2, 3, 2, 3]),
    ("__shfl_xor_sync(~0u, t, 1)", [1, 0, 3, 2]),
    ("__popc(__ballot_sync(~0u, t < 2))", [2, 2, 2, 2]),
    ("__any_sync(~0u, t == 2) + 2 * __all_sync(~0u, t < 4)", [3, 3, 3, 3]),
    ("(t < 2 ? __shfl_sync(3u, t, 1) : __shfl_sync(12u, t, 2))", [1, 1, 2, 2]),
])
def test_warp_operations(expression, expected):
    assert run(f"y[t] = {expression};", threads=4, dtype=np.int32).tolist() == expected


def test_a_shuffle_from_a_lane_that_takes_no_part_gives_poison():
    assert np.isnan(run("if (t < 16) y[t] = __shfl_sync(0xffffu, 1.0f, 20);", threads=32)).all()


def test_shared_memory_begins_as_poison_in_every_block():
    static = run("__shared__ float s[64]; y[blockIdx.x * 64 + t] = s[t]; s[t] = 1;", n=128, blocks=2)
    dynamic = run("extern __shared__ float s[]; y[blockIdx.x * 64 + t] = s[t]; s[t] = 1;", n=128, blocks=2, shared=256)
    assert np.isnan(static).all()
    assert np.isnan(dynamic).all()


@pytest.mark.parametrize("kind", ["bool", "int", "float"])
def test_shared_memory_that_nobody_wrote_is_another_in_reverse_order(kind):
    with pytest.raises(AssertionError, match="data race"):
        check_races(lambda: [run(f"__shared__ {kind} unknown; y[t] = unknown ? 1 : 2;")])


def test_vector_types_and_mathematics_in_float_and_double():
    x = np.arange(1, 9, dtype=np.float32)
    y = np.full(8, np.nan, np.float32)
    launch(body("float4 v = __ldg((const float4*)x + t); ((float4*)y)[t] = make_float4(v.w, rsqrtf(v.x), exp(v.y), "
                "max(v.z, 4)); static_assert(sizeof(double2) == 16, \"\");", "const float* x, float* y"),
           "k", (1,), (2,), x, y)
    four = x.reshape(2, 4)
    expected = np.stack([four[:, 3], 1 / np.sqrt(four[:, 0]), np.exp(four[:, 1]), np.maximum(four[:, 2], 4)], axis=1)
    assert np.allclose(y.reshape(2, 4), expected, rtol=1e-6)
    assert run("y[t] = tanh(0.5) + rsqrt(4.0) + min(t, 2);", 1, np.float64)[0] == np.tanh(0.5) + 0.5


def test_atomics():
    assert run("atomicAdd(&y[0], 1); atomicMax(&y[1], t); atomicMin(&y[2], t); atomicCAS(&y[3], 99, t);",
               threads=100, n=4, dtype=np.int32, blocks=2).tolist() == [299, 99, 0, 0]


def test_definitions_are_options_and_other_kernels_of_the_source_do_not_count():
    wide = 'extern "C" __global__ void wide(float* y) { __shared__ float s[12000]; y[0] = s[9]; }'
    y = np.zeros(1, np.float32)
    launch(body("y[t] = VALUE;") + wide, "k", (1,), (1,), y, shared=200_000, most_shared_bytes=200_000,
           options=("-DVALUE=7", "--use_fast_math"))
    assert y[0] == 7


def test_a_source_may_include_headers_and_have_its_functions_in_one_extern_block():
    y = np.zeros(1, np.uint8)
    launch("#include <cstdint>\n" + 'extern "C" { __global__ void k(std::uint8_t* y) { *y = 3; } }', "k", (1,), (1,), y)
    assert y[0] == 3


def test_a_source_that_does_not_compile_is_quoted_with_its_line():
    with pytest.raises(CompileError, match=r"k\.cu:2.*undeclared"):
        run("\n y[t] = undeclared;")


# ------------------------------------------------------------------------------------------------ planted faults

def test_a_missing_barrier_is_a_race_that_some_order_shows():
    broken = COLUMN_SUMS.replace("__syncthreads();", "")
    x = np.ones((100, 5), np.float32)

    def sums():
        y = np.full(5, np.nan, np.float32)
        launch(broken, "column_sums", (5,), (256,), x, y, np.int32(100), np.int32(5))
        return [y]

    with pytest.raises(AssertionError, match="data race"):
        check_races(sums)


def test_a_missing_barrier_between_reading_and_writing_again_is_a_race():
    text = """__shared__ float s[64];
        s[t] = t;
        __syncthreads();
        float neighbour = s[(t + 32) % 64];
        BARRIER
        s[t] = -1;
        __syncthreads();
        y[t] = neighbour + s[t];"""
    assert np.isfinite(check_races(lambda: [run(text.replace("BARRIER", "__syncthreads();"))])[0]).all()
    with pytest.raises(AssertionError, match="data race"):
        check_races(lambda: [run(text.replace("BARRIER", ""))])


def test_a_race_between_blocks_is_seen():
    with pytest.raises(AssertionError, match="data race"):
        check_races(lambda: [run("y[0] = blockIdx.x;", threads=1, blocks=4)])


@pytest.mark.parametrize(("text", "words"), [
    ("if (t < 32) { __syncthreads(); } else { __syncthreads(); }", "divergent __syncthreads: threads of one block"),
    ("if (t < 32) __syncthreads();", r"divergent __syncthreads: a thread waits .* \(32, 0, 0\) has returned"),
    ("if (t % 2) __syncwarp(); else __syncthreads();", "divergent warp operation"),
    ("if (t % 2) __shfl_sync(~0u, t, 0); else __syncwarp();", "divergent warp operation"),
    ("if (t == 5) __syncwarp(1u);", "k: lane 5 calls a warp operation whose mask 0x00000001 lacks it"),
    ("assert(t < 3);", r"assert\(t < 3\) failed"),
    ("extern __shared__ float s[]; s[t] += 1;", "wrote behind the 4 bytes of dynamic shared memory"),
    ("__shared__ float s[16]; s[t + blockDim.x] = 1; y[t] = s[t];", "bytes of static shared memory"),
])
def test_faults_end_the_launch_with_an_error_and_leave_the_emulator_usable(text, words):
    for order in (FORWARD, REVERSE, Order("shuffled", 1)):
        with thread_order(order), pytest.raises(LaunchError, match=words):
            run(text, shared=4)
        assert (run("__syncthreads(); y[t] = 1;") == 1).all()


@pytest.mark.parametrize(("grid", "block", "words"), [
    ((1,), (1025,), "bad block size"), ((1,), (1, 1, 65), "bad block size"), ((1,), (0,), "bad block size"),
    ((0,), (1,), "bad grid size"), ((1, 65536), (1,), "bad grid size"),
])
def test_sizes_that_a_device_refuses(grid, block, words):
    with pytest.raises(LaunchError, match=words):
        launch(body("y[0] = 1;"), "k", grid, block, np.zeros(1, np.float32))


def test_shared_memory_is_limited():
    with pytest.raises(LaunchError, match="too much static shared memory: 60000 bytes"):
        run("__shared__ float s[15000]; s[t] = t; __syncthreads(); y[t] = s[63 - t];")
    with pytest.raises(LaunchError, match="60000 dynamic bytes without max_dynamic_shared_size_bytes"):
        run("y[t] = 1;", shared=60_000)
    assert (run("y[t] = 1;", shared=60_000, most_shared_bytes=60_000) == 1).all()
    with pytest.raises(LaunchError, match="too much shared memory"):
        run("y[t] = 1;", shared=240_000, most_shared_bytes=240_000)


@pytest.mark.parametrize(("arguments", "words"), [
    ((np.int32(1),), "takes 2 arguments, 1 were given"),
    ((np.zeros(1, np.float32), 1), "argument 1 is an integer of 8 bytes, the kernel reads an integer of 4 bytes"),
    ((np.zeros(1, np.float32), 1.0), "argument 1 is a floating-point number of 8 bytes"),
    ((np.zeros(1, np.float32), np.float32(1)), "argument 1 is a floating-point number of 4 bytes"),
    ((np.int64(1), np.int32(1)), "argument 0 is an integer of 8 bytes, the kernel reads a pointer"),
    (([1.0], np.int32(1)), "Unsupported type <class 'list'>"),
])
def test_the_count_kind_and_width_of_arguments_are_checked(arguments, words):
    with pytest.raises(TypeError, match=words):
        launch(body("y[0] = n;", "float* y, int n"), "k", (1,), (1,), *arguments)


# ------------------------------------------------------------------------------------------------ the cache

COMPILE = """from emulator import CompiledKernel
CompiledKernel('extern "C" __global__ void k(int* y) { *y = 1; }', "k")
"""


def test_compiled_kernels_are_kept_and_processes_do_not_disturb_each_other(tmp_path):
    environment = {**os.environ, "FASTMLP_TEST_CACHE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    processes = [subprocess.Popen([sys.executable, "-c", COMPILE], env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(name.partition("-")[2] for name in kept) == ["k.so", "scheduler.o"]
    subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
