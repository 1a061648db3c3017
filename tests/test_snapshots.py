"""Snapshots at the ends of cycles, and the ensembles that they and a population's members make."""

import json
import sys

import numpy as np
import pytest

from fastmlp import fit_population, load_dataset
from fastmlp.backend import resolve
from fastmlp.building import make_schedule
from fastmlp.cli import main
from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError
from fastmlp.model import load_model
from fastmlp.parameters import tensors_of
from fastmlp.training import train

FLAGS = ["--hidden", "9", "--cycles", "3", "--step-size", "20", "--device", "cpu"]      # 13 steps an epoch, 40 a cycle
QUICK = {"hidden": (9,), "cycles": 3, "step_size": 20, "device": "cpu"}


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_snapshots_amid_epochs_are_the_networks_of_these_steps_and_leave_training_as_it_is(make_trainer):
    steps = (1, 5, 7, 12)                               # epochs of 3 steps
    watched, alone = make_trainer(members=2, snapshot_steps=steps), make_trainer(members=2)
    for trainer in (watched, alone):
        train(trainer, 14, parts={})
    assert (watched.network.parameters == alone.network.parameters).all()
    assert (watched.network.running == alone.network.running).all()
    assert tuple(watched.snapshots) == steps
    assert alone.snapshots == {}
    for step in steps:
        short = make_trainer(members=2)
        train(short, step, parts={})
        for name, array in tensors_of(short.network).items():
            assert (watched.snapshots[step][name] == array).all(), (step, name)


def test_they_are_due_where_the_rate_is_lowest_again():
    options = TrainOptions(snapshots=True, cycles=4)
    steps = options.snapshot_steps(1294)
    assert list(steps) == [120, 240, 360]
    assert (make_schedule([options], 1294)(np.array(steps)[:, None]) == 1e-5).all()
    assert TrainOptions(cycles=4).snapshot_steps(1294) == ()


def test_a_run_measures_the_last_network_and_the_ensemble_and_saves_the_latter(tmp_path, digits, capsys):
    for name, more in (("plain", []), ("kept", ["--snapshots"])):
        assert main(["train", *FLAGS, *more, "--out", str(tmp_path / name)]) == 0
    plain, kept = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("plain", "kept"))
    assert {key: kept[key] for key in plain if "second" not in key} == {
        key: value for key, value in plain.items() if "second" not in key}
    assert kept["ensemble_members"] == 3
    assert "ensemble of 3 cycles' ends" in capsys.readouterr().out
    model, last = (load_model(tmp_path / name / "model.safetensors", resolve("cpu")) for name in ("kept", "plain"))
    assert (model.network.views()["w0"][2] == last.network.views()["w0"][0]).all()
    for part, x, y in (("test", digits.x_test, digits.y_test), ("val", digits.x_val, digits.y_val)):
        for word, vote in (("", False), ("vote_", True)):
            right = np.mean(model.predict(x, vote=vote) == digits.classes[y])
            assert kept[f"ensemble_{word}{part}_accuracy"] == pytest.approx(right)


def test_a_populations_ensemble_holds_the_snapshots_of_all_chosen_members(tmp_path, digits):
    population = fit_population(digits, members=2, snapshots=True, **QUICK)
    assert [len(outcome.snapshots) for outcome in population.outcomes] == [2, 2]
    model = population.model()
    assert model.network.members == 6
    assert population.model(1).network.members == 3
    assert population.network(0, 1).members == 2
    for got, vote in ((population.ensemble_accuracy, False), (population.ensemble_vote_accuracy, True)):
        assert got == pytest.approx(np.mean(model.predict(digits.x_test, vote=vote) == digits.classes[digits.y_test]))
    of_label = model.predict_proba(digits.x_test)[np.arange(len(digits.y_test)), digits.y_test]
    assert population.ensemble_log_loss == pytest.approx(-np.log(of_label).mean())
    assert main(["train", *FLAGS, "--members", "2", "--snapshots", "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["ensemble_members"] == 6
    assert result["ensemble_vote_test_accuracy"] == population.ensemble_vote_accuracy


def test_snapshots_without_several_cycles_are_refused():
    with pytest.raises(ConfigError, match="--cycles 1 has one: ask for more cycles"):
        TrainOptions(snapshots=True, cycles=1)
    with pytest.raises(ConfigError, match="--snapshots True has no meaning for --schedule cosine, only for cyclical"):
        TrainOptions(snapshots=True, schedule="cosine")


def test_predictions_by_vote_are_for_ensembles(tmp_path, capsys):
    for name, more in (("one", []), ("many", ["--snapshots"])):
        assert main(["train", *FLAGS, *more, "--quiet", "--out", str(tmp_path / name)]) == 0
    path = {name: str(tmp_path / name / "model.safetensors") for name in ("one", "many")}
    vote = ["digits", "--vote", "--out", str(tmp_path / "p.csv")]
    assert main(["predict", path["one"], *vote]) == 2
    assert "holds one network: leave it out" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    assert main(["predict", path["many"], *vote]) == 0
    result = json.loads((tmp_path / "many" / "result.json").read_text())
    assert f"accuracy {result['ensemble_vote_test_accuracy']:.4f}" in capsys.readouterr().out


def test_many_cycles_take_no_memory_for_their_ends(make_trainer):
    steps = TrainOptions(snapshots=True, cycles=10**6).snapshot_steps(1294)
    assert sys.getsizeof(make_trainer(snapshot_steps=steps).snapshot_steps) < 1000
