"""No kernel touches memory outside its arrays, not even to read what it then ignores."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.L2

FENCED = Path(__file__).with_name("fenced.py")


def run(*arguments):
    return subprocess.run([sys.executable, str(FENCED), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("side", ["before", "behind"])
def test_no_kernel_touches_memory_outside_its_arrays(side):
    done = run(side)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{last} touched memory {side} an array\n{done.stderr[-1000:]}"
    assert len(done.stdout.splitlines()) > 500


@pytest.mark.parametrize(("side", "place"), [("before", -1), ("behind", 5)])
def test_reading_one_number_outside_ends_the_process(side, place):
    done = run(side, "read_beyond")
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout.splitlines() == ["x[0]", "x[4]", f"x[{place}]"]
