"""The block kernels compile for every GPU generation from Turing on, without spilling registers."""

import re
import shutil
import subprocess

import pytest

from fastmlp.kernels.cupy_fused import cuda_source

GENERATIONS = (75, 80, 86, 89, 90, 100, 120)
MOST_REGISTERS = {"float": 64, "double": 80}        # a block has 128 or 256 threads; 65,536 registers are shared

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc, CUDA's compiler, is not there")


@pytest.mark.parametrize("real", sorted(MOST_REGISTERS))
@pytest.mark.parametrize("generation", GENERATIONS)
def test_block_kernels_compile_and_keep_to_their_registers(tmp_path, generation, real):
    for file, kernels in (("batch_norm.cu", 2), ("cross_entropy.cu", 1)):
        source = tmp_path / file
        source.write_text(f"#define REAL {real}\n" + cuda_source("activations.cuh") + cuda_source(file))
        compiled = subprocess.run(
            ["nvcc", "-cubin", f"-arch=sm_{generation}", "-std=c++17", "-ftz=true", "-Xptxas", "-v", "-o",
             str(tmp_path / "out.cubin"), str(source)], capture_output=True, text=True)
        assert compiled.returncode == 0, compiled.stderr
        registers = [int(number) for number in re.findall(r"Used (\d+) registers", compiled.stderr)]
        spills = [int(number) for number in re.findall(r"(\d+) bytes spill", compiled.stderr)]
        assert len(registers) == kernels
        assert max(registers) <= MOST_REGISTERS[real], registers
        assert not any(spills)
