"""The report on a GPU keeps what its parts had written, whatever becomes of them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import gpu_report


def test_a_trial_writes_both_files(tmp_path, capsys):
    assert gpu_report.main(["--trial", "--device", "cpu", "--parts", "doctor", "kernels", "--minutes", "2", "--out",
                            str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    facts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts["machine"]["cores"] >= 1
    assert {row["operation"] for row in facts["kernels"]["rows"]} >= {"linear", "sgd"}
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    for words in ("CuPy", "numpy", "jax", "commit", "## Kernels: done"):
        assert words in text


def test_a_part_that_is_stopped_leaves_its_output():
    part = gpu_report.run(["-c", "import time; print('so far'); time.sleep(60)"], 2.0)
    assert part["stopped"]
    assert part["output"] == "so far\n"
    assert part["seconds"] < 20
    assert gpu_report.verdict(part) == "STOPPED at its limit of 2 s"


def test_outcomes_are_read_from_what_pytest_had_written(tmp_path):
    output = ("tests/on_gpu/test_on_a_gpu.py::test_one[batch norm-(1, 2)] PASSED   [ 33%]\n"
              "tests/on_gpu/test_on_a_gpu.py::test_two FAILED   [ 66%]\ntests/on_gpu/test_on_a_gpu.py::test_three ")
    facts = {"parts": {"tests": {"output": output, "code": -9, "stopped": True, "seconds": 80.0, "limit": 80.0}},
             "date": "today", "driver": "unknown", "versions": {"numpy": "2.5"}}
    text = gpu_report.markdown(gpu_report.gather(facts, tmp_path))
    assert facts["tests"]["counts"] == {"passed": 1, "failed": 1}
    assert facts["tests"]["failed"] == ["tests/on_gpu/test_on_a_gpu.py::test_two"]
    assert "1 failed, 1 passed" in text
    assert "## Tests: STOPPED at its limit of 80 s" in text


@pytest.mark.parametrize("kind", ["detached", "loose", "packed", "worktree", "none"])
def test_the_commit_is_found_without_git(tmp_path, kind):
    git, commit = tmp_path / ".git", "0123abcd" * 5
    if kind == "worktree":
        main, git = tmp_path / "main", tmp_path / "main" / "worktrees" / "w"
        git.mkdir(parents=True)
        (git / "commondir").write_text("../..\n")
        (tmp_path / ".git").write_text(f"gitdir: {git}\n")
        (main / "refs" / "heads").mkdir(parents=True)
        (main / "refs" / "heads" / "b").write_text(f"{commit}\n")
    elif kind != "none":
        (git / "refs" / "heads").mkdir(parents=True)
    if kind == "loose":
        (git / "refs" / "heads" / "b").write_text(f"{commit}\n")
    if kind == "packed":
        (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/b\n")
    if kind != "none":
        (git / "HEAD").write_text(f"{commit}\n" if kind == "detached" else "ref: refs/heads/b\n")
    assert gpu_report.commit_by_hand(tmp_path) == ("unknown" if kind == "none" else commit)
