"""The ratios that continuous integration checks, and how time and memory grow."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import measuring
import ratios
import scaling
from problem import Problem


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS_BETWEEN", 0.0)


@pytest.mark.parametrize(("bound", "code", "tries"), [(1e9, 0, 1), (1e-9, 1, 3)])
def test_a_ratio_above_its_bound_is_measured_again_and_fails_in_the_end(tmp_path, monkeypatch, bound, code, tries):
    def with_bound(problem, backend, make=ratios.checks):
        found = make(problem, backend)
        for check in found:
            check.bound = bound
        return found

    monkeypatch.setattr(ratios, "checks", with_bound)
    monkeypatch.setattr(ratios, "ATTEMPTS", 3)
    monkeypatch.setattr(ratios, "STEPS", 16)            # what the ratios are does not matter
    monkeypatch.setattr(ratios, "ROUNDS", 1)
    assert ratios.main(["--n", "200", "--inputs", "12", "--out", str(tmp_path)]) == code
    facts = json.loads((tmp_path / "ratios.json").read_text(encoding="utf-8"))
    assert [len(row["measured"]) for row in facts["rows"]] == [tries] * 4
    assert ("BROKEN" in (tmp_path / "ratios.md").read_text(encoding="utf-8")) == bool(code)


def test_the_best_of_several_tries_counts():
    check = ratios.Check("some ratio", 0.5, {}, measured=(0.9, 0.4, 0.7))
    assert (check.best, check.holds) == (0.4, True)
    assert not ratios.Check("not measured yet", 0.5, {}).holds


def test_a_contender_that_fails_is_an_error():
    check = ratios.Check("some ratio", 0.5, {"a": lambda: 1 / 0, "b": lambda: int})
    with pytest.raises(RuntimeError, match="a: ZeroDivisionError"):
        ratios.try_again(check, Problem(100, 3))


def test_slopes_are_the_exponents():
    assert scaling.slope([(x, 3 * x ** 1.5) for x in (2, 4, 8)]) == pytest.approx(1.5)
    assert scaling.slope([(1, None), (2, None)]) is None
    rows = [{"quantity": "width", "value": 2 ** k, "us_per_step": {"median": max(8.0, 2.0 ** k)},
             "peak_bytes": 4 ** k} for k in range(8)]
    found = scaling.fit(rows)
    assert (found["from"], found["to"]) == (16, 128)
    assert found["time"] == pytest.approx(1.0)
    assert found["memory"] == pytest.approx(2.0)


def test_every_measurement_is_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "BASE", {"samples": 200, "inputs": 5, "width": 4, "depth": 1, "batch": 100,
                                          "members": 1})
    monkeypatch.setattr(scaling, "VALUES", {"width": (4, 8)})
    scaling.main(["--threads", "1", "--only", "width", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    assert [(row["quantity"], row["value"]) for row in facts["rows"]] == [("width", 4), ("width", 8)]
    assert all(row["us_per_step"]["median"] > 0 and row["peak_bytes"] > 0 for row in facts["rows"])
    assert "| width " in (tmp_path / "scaling.md").read_text(encoding="utf-8")
    assert (tmp_path / "scaling.png").exists()


def test_the_peak_of_memory_is_above_what_was_there_before():
    before = scaling.forget_peak()
    np.ones(8_000_000)          # more than what malloc may have kept of what was freed: 32 MiB
    assert 63e6 < scaling.peak() - before < 96e6
