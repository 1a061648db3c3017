"""The benchmarks on the stand-in for CuPy: not how fast, but that they run where a GPU is."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import epoch
import kernels
import measuring

pytestmark = pytest.mark.L3


@pytest.mark.usefixtures("cupy")
def test_an_epoch_is_timed_on_both_backends(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS_BETWEEN", 0.0)
    epoch.main(["--n", "200", "--inputs", "5", "--rounds", "1", "--few-rounds", "--only", "50 BN", "--out",
                str(tmp_path)])
    facts = json.loads((tmp_path / "epoch.json").read_text(encoding="utf-8"))
    done = {row["contender"] for row in facts["rows"]}
    assert {"fastmlp CuPy", "fastmlp CuPy recorded", "fastmlp", "products alone, CuPy"} <= done
    assert facts["failed"] == []
    assert len(facts["backends"]) == 3


@pytest.mark.usefixtures("cupy")
def test_the_kernels_are_timed_on_the_device_and_on_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", {"small": (2, 5, 4, 3, 3)})
    monkeypatch.setattr(kernels, "BLOCKER", 8)
    kernels.main(["--device", "gpu", "--rounds", "1", "--calls", "1", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert facts["failed"] == []
    assert all({"device_us", "host_us"} <= row.keys() for row in facts["rows"])
