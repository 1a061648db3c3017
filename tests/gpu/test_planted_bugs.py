"""The planted bugs can still be planted, and one that is planted is caught."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import planted_bugs

pytestmark = pytest.mark.L5

BUGS = {bug.name: bug for bug in planted_bugs.read_bugs()}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_what_a_bug_replaces_is_there_as_often_as_its_table_says(bug):
    assert bug.occurrences() == bug.count
    assert bug.new != bug.old
    assert bug.breaks


def test_no_name_is_given_twice():
    names = [line[1:-2] for path in planted_bugs.TABLES.glob("*.toml")
             for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("[")]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(names) == BUGS.keys()


def test_every_file_of_kernels_has_bugs():
    kernels = planted_bugs.TREE / planted_bugs.KERNELS
    files = {f"{folder}/{path.name}" for folder in ("c", "cuda") for path in (kernels / folder).iterdir()}
    files |= {"c_calls.py", "cupy_fused.py", "cublas.py"}
    assert {bug.file for bug in BUGS.values()} == files


def test_the_documentation_names_every_bug():
    texts = [(planted_bugs.TOP / "docs" / name).read_text(encoding="utf-8") for name in ("gpu.md", "cpu.md")]
    documented = [line.split("|")[1].strip() for text in texts
                  for line in text.partition("<!-- planted bugs -->")[2].splitlines()
                  if line.startswith("| ") and not line.startswith("| bug |")]
    assert sorted(documented) == sorted(BUGS)


def test_a_planted_bug_is_caught_and_its_rung_named():
    verdict = planted_bugs.try_bug(BUGS["hinge-sign"])
    assert (verdict.rung, verdict.test) == ("L2", "test_a_kernel_computes_what_the_reference_computes")
    assert verdict.caught


def test_a_bug_that_no_test_looks_for_is_reported_as_not_caught():
    bug = planted_bugs.Bug("idle", "cublas.py", "nothing", "WORKSPACE_BYTES = 32", "WORKSPACE_BYTES = 64",
                           tests=("tests/kernels/test_thread_choice.py",))
    assert not planted_bugs.try_bug(bug).caught


def test_a_text_that_is_not_there_cannot_be_planted(tmp_path):
    bug = planted_bugs.Bug("gone", "cublas.py", "nothing", "a text that is not there", "")
    with pytest.raises(planted_bugs.PlantingError, match="occurs 0 times"):
        bug.plant(planted_bugs.TREE)


def test_a_bug_that_does_not_compile_is_no_bug():
    bug = planted_bugs.Bug("typo", "cuda/update.cu", "nothing", "velocity[i] = v;", "velocity[i] = nonsense;",
                           tests=("tests/gpu/test_fused_kernels.py",))
    with pytest.raises(planted_bugs.PlantingError, match="typo is no bug"):
        planted_bugs.try_bug(bug)
