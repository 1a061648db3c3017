"""What `fastmlp doctor` and environment.json say about the machine."""

import json
import subprocess

import numpy as np
import pytest

from fastmlp import backend, doctor


@pytest.fixture
def found(monkeypatch):
    """Let the search for a GPU find what a test says."""
    def pretend(**findings):
        report = backend.GpuReport(**{"usable": False, "problem": "", "remedy": "", "packages": []} | findings)
        monkeypatch.setattr(doctor, "probe_gpu", lambda: report)
    return pretend


@pytest.fixture
def without_gpu(found):
    found(problem="CuPy is not installed", remedy="install it")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    try:
        for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"], ["tag", "v1"]):
            subprocess.run(["git", *command], check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


def test_a_report_survives_json(without_gpu):
    report = doctor.report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_versions_cores_and_blas_are_those_of_this_process(without_gpu):
    report = doctor.report()
    assert report["packages"]["numpy"] == np.__version__
    assert report["cores"] >= 1
    assert report["cpu"]
    assert any("numpy" in pool["file"] or "blas" in pool["file"] for pool in report["blas"])
    assert all(pool["threads"] >= 1 for pool in report["blas"])


def test_a_missing_package_is_said_to_be_missing(without_gpu, monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package-of-fastmlp"))
    assert doctor.report()["packages"]["no-such-package-of-fastmlp"] == "not installed"


def test_thread_variables_are_reported_and_others_are_not(without_gpu, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    report = doctor.report()
    assert report["variables"]["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in report["variables"]
    assert "hush" not in json.dumps(report)


def test_the_commit_is_whole_and_tells_of_changes(without_gpu, repository, tmp_path):
    assert doctor.report()["git_commit"] == repository
    (tmp_path / "new").touch()
    assert doctor.report()["git_commit"] == repository  # an untracked file changes nothing that is tracked
    subprocess.run(["git", "add", "new"], check=True)
    assert doctor.report()["git_commit"] == f"{repository}-dirty"


def test_outside_a_repository_there_is_no_commit(without_gpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert doctor.report()["git_commit"] is None


def test_a_program_that_a_repository_names_for_git_is_not_run(without_gpu, repository, tmp_path):
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\nexit 1\n")
    helper.chmod(0o700)
    subprocess.run(["git", "config", "core.fsmonitor", str(helper)], check=True)
    assert doctor.report()["git_commit"] == repository
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_a_missing_or_stuck_git_does_not_matter(without_gpu, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert doctor.report()["git_commit"] is None


def test_the_last_line_says_what_auto_takes_and_why_without_a_gpu(without_gpu):
    text = doctor.text(doctor.report())
    assert text.splitlines()[-1] == "--device auto: cpu, because CuPy is not installed; install it"
    assert np.__version__ in text


def test_the_last_line_says_what_auto_takes_and_why_with_a_gpu(found):
    found(usable=True, packages=["cupy-cuda13x 14.2.0"], cupy="14.2.0", cuda_runtime="13.2", cuda_driver="13.0",
          devices=1, device="NVIDIA H200", compute_capability="9.0", memory_bytes=2**37)
    lines = doctor.text(doctor.report()).splitlines()
    assert lines[-1] == "--device auto: gpu, because NVIDIA H200 is usable"
    assert any(line.endswith("NVIDIA H200, 128 GiB, compute capability 9.0, 1 visible") for line in lines)
    assert any(line.endswith("cupy-cuda13x 14.2.0") for line in lines)


def test_findings_up_to_a_missing_driver_are_shown(found):
    found(problem="no NVIDIA driver is loaded", remedy="install one", packages=["cupy-cuda13x 14.2.0"], cupy="14.2.0",
          cuda_runtime="13.2")
    assert "CuPy's 13.2, the driver's missing" in doctor.text(doctor.report())


def test_a_run_on_the_cpu_leaves_the_gpu_alone(monkeypatch):
    def asked():
        raise AssertionError("the GPU was asked")

    monkeypatch.setattr(doctor, "probe_gpu", asked)
    report = doctor.report(gpu=False)
    assert report["gpu"] is None
    assert doctor.text(report).splitlines()[-1] == "--device auto: not asked"


def test_facts_are_aligned(without_gpu):
    lines = doctor.text(doctor.report()).splitlines()[:-2]
    width = max(line.index("  ") for line in lines)
    assert all(line[width:width + 2] == "  " and line[width + 2] != " " for line in lines)
