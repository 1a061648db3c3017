"""The benchmarks run, write what a reader needs, survive what fails, and compare trainings that are the same."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp.backend import resolve
from fastmlp.cpu import blas_pools
from fastmlp.errors import DeviceError, FastMLPError
from fastmlp.kernels import CONTRACT

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import contenders
import epoch
import kernels
import measuring
import memory
import peers_sklearn
import peers_torch
import population
import race
from plain_numpy import PlainNetwork, StackedProductsOnly
from problem import Case, Problem

TINY = ["--device", "cpu", "--n", "250", "--inputs", "12", "--rounds", "1", "--few-rounds"]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS_BETWEEN", 0.0)


@pytest.fixture
def run_epoch(tmp_path):
    def run(*arguments):
        epoch.main([*TINY, *arguments, "--out", str(tmp_path / "out")])
        facts = json.loads((tmp_path / "out" / "epoch.json").read_text(encoding="utf-8"))
        return facts, (tmp_path / "out" / "epoch.md").read_text(encoding="utf-8")
    return run


def test_every_section_writes_numbers_a_table_and_a_picture(run_epoch, tmp_path):
    facts, text = run_epoch("--section", "networks", "populations", "widths", "--only", "50-50", "1", "8", "128-128")
    assert {(row["section"], row["case"]) for row in facts["rows"]} == {
        ("networks", "50-50"), ("networks", "50-50 BN"), ("populations", "1 member"), ("populations", "8 members"),
        ("widths", "50-50 BN"), ("widths", "128-128 BN")}
    ours, floor = {"fastmlp", "fastmlp, NumPy's kernels"}, {"products alone, NumPy"}
    for section, there in (("networks", {*ours, *floor, "plain NumPy"}), ("widths", {*ours, *floor}),
                           ("populations", {*ours, "stacked products alone, NumPy"})):
        assert {row["contender"] for row in facts["rows"] if row["section"] == section} == there
    assert (facts["steps"], facts["failed"], facts["skipped"]) == (3, [], [])
    assert {"date", "backends", "driver", "peers", "load_before", "load_after", "busy", "machine"} <= facts.keys()
    for row in facts["rows"]:
        assert len(row["seconds"]) == row["rounds"] == 1
        assert row["us_per_step"]["median"] == pytest.approx(row["seconds"][0] / 3 * 1e6)
        assert row["us_per_member_step"]["median"] == row["us_per_step"]["median"] / row["members"]
        assert row["compared_with"] == "fastmlp"
        assert (row["ratio"] == 1.0) == (row["contender"] == "fastmlp")
        assert row["gflops"] > 0
        assert f"| {row['case']} " in text
    assert "load average" in text
    assert "epoch.png" in text
    assert (tmp_path / "out" / "epoch.png").read_bytes().startswith(b"\x89PNG")


def test_a_contender_that_fails_is_reported_and_the_others_go_on(run_epoch, monkeypatch):
    def broken():
        raise ImportError("no such library")

    def fails_later():
        runs = iter([None, None])       # the two runs before the rounds
        return lambda: next(runs)

    monkeypatch.setattr(race, "makers", lambda *_: {"broken": broken, "later": fails_later, "fine": lambda: int})
    facts, text = run_epoch("--only", "50-50 BN")
    assert [row["contender"] for row in facts["rows"]] == ["fine"]
    assert [(entry["contender"], entry["error"]) for entry in facts["failed"]] == [
        ("broken", "ImportError: no such library"), ("later", "StopIteration: ")]
    assert "## Failed" in text
    assert "- broken: ImportError: no such library (50-50 BN)" in text


def test_what_a_spent_budget_leaves_out_is_listed(run_epoch):
    facts, text = run_epoch("--only", "50-50", "--budget", "0")
    assert facts["rows"] == []
    assert {(entry["case"], entry["contender"]) for entry in facts["skipped"]} == {
        (case, contender) for case in ("50-50", "50-50 BN")
        for contender in ("fastmlp", "fastmlp, NumPy's kernels", "plain NumPy", "products alone, NumPy")}
    assert "## Skipped" in text


def test_a_contender_whose_rounds_would_not_fit_is_not_begun():
    results, case = measuring.Results(), Case("networks", "case", (2,), False)
    makers = {"slow": lambda: lambda: time.sleep(0.02), "late": lambda: pytest.fail("begun")}
    seconds = measuring.measure(case, makers, 10, time.perf_counter() + 0.2, results)
    assert 1 <= len(seconds["slow"]) <= 10
    assert [entry["contender"] for entry in results.skipped] == ["late"]


def test_contenders_take_turns_after_three_runs_each():
    calls, results = [], measuring.Results()
    makers = {name: lambda name=name: lambda: calls.append(name) for name in "ab"}
    measuring.measure(Case("networks", "case", (2,), False), makers, 3, float("inf"), results)
    assert "".join(calls) == "aaabbb" + "ab" + "ba" + "ab"


def test_a_few_members_stand_for_all():
    def run():
        time.sleep(0.01)

    run.scale = 100.0
    seconds = measuring.measure(Case("populations", "case", (2,), True, 200), {"few": lambda: run}, 1, float("inf"),
                                measuring.Results())
    assert 1.0 <= seconds["few"][0] < 10.0


def test_without_a_compiler_numpys_kernels_come_first(run_epoch, monkeypatch):
    def without(device, kernels="auto", **rest):
        if kernels == "compiled":
            raise DeviceError("no C compiler was found")
        return resolve(device, kernels=kernels, **rest)

    monkeypatch.setattr(race, "resolve", without)
    facts, text = run_epoch("--only", "50-50 BN")
    assert facts["rows"][0]["contender"] == facts["rows"][-1]["compared_with"] == "fastmlp, NumPy's kernels"
    assert "- fastmlp: no C compiler was found (all cases)" in text


def test_all_are_given_the_same_threads(run_epoch, monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "7")       # so that it is put back
    seen = []
    monkeypatch.setattr(race, "makers", lambda *_: {"fine": lambda: lambda: seen.append(
        (max(pool["num_threads"] for pool in blas_pools()), os.environ["PJRT_NPROC"]))})
    facts, text = run_epoch("--only", "50-50 BN", "--threads", "1")
    assert set(seen) == {(1, "1")}
    assert "1 thread" in facts["backends"][0]
    assert "Threads of each on the CPU: 1." in text


def test_populations_have_fewer_steps_the_more_members(tmp_path, monkeypatch):
    monkeypatch.setattr(population, "MEMBER_STEPS", 3)
    monkeypatch.setattr(population, "FEWEST_STEPS", 1)
    population.main([*TINY, "--members", "4", "1", "2", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "population.json").read_text(encoding="utf-8"))
    assert [row["steps"] for row in facts["rows"] if row["contender"] == "fastmlp"] == [3, 1, 1]
    assert "1 to 3 steps a round" in (tmp_path / "population.md").read_text(encoding="utf-8")
    assert (tmp_path / "population.png").exists()


def test_few_rounds_need_a_flag(capsys):
    with pytest.raises(SystemExit):
        epoch.main(["--rounds", "4"])
    assert "at least 5" in capsys.readouterr().err


def losses(make, epochs=6):
    run = make()
    return np.array([run() for _ in range(epochs)])


def full_batches():
    """With all examples in every batch their order does not matter; rate and penalty are large, so that all show."""
    return Problem(100, 12, l2=0.05, lr=(0.01, 0.5), half_cycle=3)


@pytest.mark.parametrize("case", [
    Case("networks", "plain", (9, 7), False), Case("networks", "batch norm", (9, 7), True),
    Case("populations", "population", (9, 7), True, 3)], ids=lambda case: case.name)
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_peers_train_what_fastmlp_trains(cpu, case, library):
    pytest.importorskip(library)
    problem = full_batches()
    found = contenders.makers(case, problem, {contenders.COMPILED: cpu}, peers=True)
    name = {"torch": ("PyTorch eager", "PyTorch vmap"), "jax": ("JAX scan", "JAX vmap of the scan")}[library]
    expected = losses(found["fastmlp"])
    assert expected.shape == (6, 1, case.members)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(losses(found[name[case.section == "populations"]]), expected, rtol=2e-4)


def test_pytorchs_networks_one_by_one_are_the_first_members(cpu):
    pytest.importorskip("torch")
    problem = full_batches()
    case = Case("populations", "population", (9, 7), True, 5)
    made = contenders.makers(case, problem, {contenders.COMPILED: cpu}, peers=True)
    few = made["PyTorch one by one"]()
    assert few.scale == 2.5
    expected = losses(made["fastmlp"])[:, :, :2]
    np.testing.assert_allclose(np.array([few() for _ in range(6)]), expected, rtol=2e-4)


def test_scikit_learn_trains_what_plain_numpy_trains():
    case, problem = Case("networks", "case", (9, 7), False), Problem(100, 12, l2=0.05, lr=(0.1, 0.1))
    theirs, plain = peers_sklearn.make(case, problem), PlainNetwork(problem.weights(case)[0], False)
    for _ in range(6):
        theirs()
        plain.step(problem.standardised, np.eye(10, dtype=np.float32)[problem.labels], 0.1, problem.l2)
    assert theirs.model.coefs_[0].dtype == np.float32
    for ours, w in zip(plain.weights, theirs.model.coefs_, strict=True):
        np.testing.assert_allclose(w, ours, atol=2e-5)


@pytest.mark.parametrize("members", [1, 3])
def test_the_stacked_products_are_those_of_each_member(members):
    products = StackedProductsOnly((6, 4, 3, 2), 5, members)
    products.step()
    for k, (x, g, gradient) in enumerate(zip(products.values, products.slopes[1:], products.gradients, strict=False)):
        np.testing.assert_allclose(gradient, x.swapaxes(1, 2) @ g, rtol=1e-4, err_msg=f"layer {k}")
        np.testing.assert_allclose(products.values[k + 1], x @ products.deep[k], rtol=1e-4)
    for member in range(members):
        columns = slice(4 * member, 4 * member + 4)
        first = products.x @ products.wide[:, columns]
        np.testing.assert_allclose(products.values[0][member], first, rtol=1e-4)
        np.testing.assert_allclose(products.wide_gradient[:, columns], products.x.T @ products.slopes[0][member],
                                   rtol=1e-4)


@pytest.mark.parametrize("section", ["networks", "populations"])
def test_pytorchs_recorded_steps_see_every_row_once(monkeypatch, section):
    """Without a GPU: a graph that is replayed by running its work again."""
    pytest.importorskip("torch")

    class Again:
        def __init__(self, warm_up, work):
            warm_up()
            self.replay = work

    monkeypatch.setattr(peers_torch, "_graph", Again)
    case, problem = Case(section, "case", (9, 7), True, 1), Problem(250, 12)
    kind = peers_torch._Population if section == "populations" else peers_torch._OneNetwork
    recorded = peers_torch._Recorded(kind(case, problem, "cpu"))
    seen = []
    loss_of = recorded.training.backward
    recorded.training.backward = lambda rows: (seen.append(rows.clone()), loss_of(rows))[1]
    assert recorded().shape == (3, 1)
    assert [len(rows) for rows in seen] == [100, 100, 50]
    assert sorted(row for rows in seen for row in rows.tolist()) == list(range(250))


def test_plain_numpy_trains_what_fastmlp_trains(cpu, monkeypatch):
    case, problem, made = Case("networks", "case", (9, 7), True), full_batches(), []

    def remember(make):
        return lambda *arguments, **options: made.append(make(*arguments, **options)) or made[-1]

    monkeypatch.setattr(contenders, "PlainNetwork", remember(contenders.PlainNetwork))
    monkeypatch.setattr(contenders, "Network", remember(contenders.Network))
    runs = [contenders.plain_numpy(case, problem), contenders.fastmlp(case, problem, cpu)]
    for run in 6 * runs:
        run()
    plain, ours = made
    for layer, w in enumerate(plain.weights):
        np.testing.assert_allclose(ours.views()[f"w{layer}"][0], w, atol=2e-5)


def test_the_kernels_are_timed_at_every_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", {"small": (2, 5, 4, 3, 3)})
    kernels.main(["--device", "cpu", "--rounds", "2", "--calls", "2", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert facts["failed"] == []
    assert {row["operation"] for row in facts["rows"]} == set(CONTRACT)
    assert all(row["host_us"]["median"] > 0 for row in facts["rows"])
    assert "| small " in (tmp_path / "kernels.md").read_text(encoding="utf-8")


def test_the_peak_of_a_limited_run_is_measured_and_written(tmp_path, capsys):
    assert memory.main(["--quick", "--only", "npy", "--folder", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    facts = json.loads((tmp_path / "out" / "memory.json").read_text(encoding="utf-8"))
    (row,) = facts["rows"]
    assert row["bytes"] == row["rows"] * row["columns"]
    assert row["data_memory"] < row["bytes"]
    assert 30e6 < row["peak"] < row["bar"]
    assert row["accuracy"] > 0.3            # of ten classes, sorted in the file
    assert "| .npy, 10 times the limit " in (tmp_path / "out" / "memory.md").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_peak_or_ratio_beyond_its_bar_is_told_by_the_exit_code(tmp_path, monkeypatch):
    runs = iter([100, 100, 400e6, 400e6 + 1])
    seconds = iter([1.0, 1.6, 1.0, 1.0])
    monkeypatch.setattr(memory, "run", lambda *_: {"peak": next(runs), "seconds": next(seconds), "wall": 2.0,
                                                   "accuracy": 0.5})
    monkeypatch.setattr(memory, "random_cifar10", lambda *_: tmp_path)
    monkeypatch.setattr(memory, "write_rows", lambda *_: [])
    assert [memory.main(["--only", name, "--rounds", "1"]) for name in ("ratio", "cifar10", "cifar10")] == [1, 0, 1]


def test_a_disk_without_room_for_the_files_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8}))
    with pytest.raises(FastMLPError, match=r"3,072 MB are needed in .* and 100 are free: name another --folder"):
        memory.main(["--only", "npy", "--folder", str(tmp_path)])
