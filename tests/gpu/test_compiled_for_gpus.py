"""Every kernel, compiled for every generation of GPUs from Turing on: it spills nothing, and its largest block fits."""

import os

import nvrtc
import pytest

from fastmlp.kernels import cupy_fused
from fastmlp.kernels.cuda_modules import SOURCES, kernel_names, program

# nvcc takes a second where NVRTC takes a quarter of one: there the oldest, Hopper and the newest have to do.
GENERATIONS = (75, 90, 120) if nvrtc.is_nvcc() else (75, 80, 86, 89, 90, 100, 120)
REGISTERS = 65536               # of a multiprocessor
REGISTER_UNIT = 8               # a thread's registers are handed out by so many
SHARED_BYTES = 48 * 1024        # static shared memory of a block

#: The most threads that the maker gives a block of each kernel.
LARGEST_BLOCK = {
    dtype: {
        **dict.fromkeys(("linear", "linear_backward"), cupy_fused.TILE_THREADS),
        **dict.fromkeys(("batch_norm_activation", "batch_norm_activation_backward", "linear_batch_norm_activation",
                         "linear_backward_batch_norm_activation_backward"),
                        cupy_fused.TILE_THREADS * cupy_fused.MOST_GROUPS[dtype]),
        **dict.fromkeys(("cross_entropy", "hinge", "count_correct"), cupy_fused.ROW_THREADS[dtype]),
        "batch_weights": cupy_fused.MOST_THREADS,
        **dict.fromkeys(("gather_bytes", "gather_numbers", "gather_moved_bytes", "gather_moved_numbers", "activation",
                         "activation_backward", "dropout", "add_bias", "bias_gradient", "moving_average", "sgd",
                         "adam"), cupy_fused.THREADS),
    } for dtype in ("float32", "float64")
}

pytestmark = [
    pytest.mark.L4,
    pytest.mark.skipif(nvrtc.compiler() is None and os.environ.get("FASTMLP_REQUIRE_NVRTC") != "1",
                       reason=nvrtc.NOT_THERE),
]


@pytest.fixture(autouse=True)
def _needs_compiler():
    """No g++, which the folder's other tests need."""


def fits(taken, threads):
    """What is wrong with a kernel in blocks of so many threads; nothing if it can run and is not slowed."""
    wrong = []
    if taken.spilled or taken.stack:
        wrong.append(f"spills {taken.spilled} bytes, keeps {taken.stack} bytes on the stack")
    each = -(-taken.registers // REGISTER_UNIT) * REGISTER_UNIT
    if each * threads > REGISTERS:
        wrong.append(f"{each} registers in {threads} threads are more than {REGISTERS}: the launch would fail")
    if taken.shared > SHARED_BYTES:
        wrong.append(f"{taken.shared} bytes of shared memory are more than {SHARED_BYTES}")
    return wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("file", SOURCES)
def test_kernels_spill_nothing_and_their_largest_blocks_fit(file, generation, dtype):
    taken = nvrtc.resources(program(file, dtype), generation)
    assert taken.keys() == set(kernel_names(program(file, dtype)))
    wrong = {name: fits(of_one, LARGEST_BLOCK[dtype][name]) for name, of_one in taken.items()}
    assert not {name: words for name, words in wrong.items() if words}


def test_every_kernel_has_a_largest_block():
    names = [name for file in SOURCES for name in kernel_names(program(file, "float32"))]
    for blocks in LARGEST_BLOCK.values():
        assert sorted(blocks) == sorted(names)


def test_a_stack_frame_is_noticed():
    source = ('extern "C" __global__ void greedy(float* x) {'
              "float kept[100]; for (int k = 0; k < 100; k++) kept[k] = x[k]; x[0] = kept[int(x[1])]; }")
    assert "keeps 400 bytes on the stack" in fits(nvrtc.resources(source, 90)["greedy"], 32)[0]


def test_too_many_registers_for_a_block_are_noticed():
    assert fits(nvrtc.Resources(stack=0, spilled=0, registers=64, shared=48 * 1024), 1024) == []
    assert "the launch would fail" in fits(nvrtc.Resources(stack=0, spilled=0, registers=65, shared=0), 1024)[0]
    assert "shared memory" in fits(nvrtc.Resources(stack=0, spilled=0, registers=8, shared=48 * 1024 + 1), 32)[0]


def test_a_source_that_does_not_compile_is_refused_in_the_compilers_words():
    with pytest.raises(nvrtc.CompileError, match="nonsense"):
        nvrtc.resources('extern "C" __global__ void wrong(float* x) { nonsense }', 75)
