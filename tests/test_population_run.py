"""`fastmlp train` with --members, --sweep and --folds, as a user runs it: files, honesty, refusals, Ctrl-C."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLPClassifier, load_dataset
from fastmlp.cli import main

ROOT = Path(__file__).resolve().parents[1]
FILES = {"config.json", "environment.json", "members.csv", "summary.csv", "history.csv", "curves.png",
         "model.safetensors", "result.json"}
SHORT = ["--hidden", "9", "--cycles", "1", "--step-size", "20", "--device", "cpu"]


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def run(tmp_path, *options, code=0):
    out = tmp_path / "run"
    assert main(["train", *SHORT, *options, "--out", str(out)]) == code
    return out, json.loads((out / "result.json").read_text())


def test_members_are_seeds_and_leave_every_promised_file(tmp_path, capsys):
    out, result = run(tmp_path, "--members", "3", "--seed", "5")
    assert {path.name for path in out.iterdir()} == FILES
    members = rows_of(out / "members.csv")
    assert [row["seed"] for row in members] == ["5", "6", "7"]
    assert {row["status"] for row in members} == {"finished"}
    accuracies = [float(row["test_accuracy"]) for row in members]
    (summary,) = rows_of(out / "summary.csv")
    assert float(summary["test_accuracy_mean"]) == pytest.approx(np.mean(accuracies))
    assert float(summary["test_accuracy_std"]) == pytest.approx(np.std(accuracies, ddof=1))
    assert float(summary["test_accuracy_low"]) <= np.mean(accuracies) <= float(summary["test_accuracy_high"])
    assert (result["status"], result["members"], result["ensemble_members"]) == ("finished", 3, 3)
    history = rows_of(out / "history.csv")
    assert [row["step"] for row in history if row["member"] == "2"] == ["0", "13", "26", "39", "40"]
    config = json.loads((out / "config.json").read_text())
    assert (config["members"], config["seed"], config["step_size"]) == (3, 5, 20)
    said = capsys.readouterr().out
    assert f"ensemble of 3: {result['ensemble_test_accuracy']:.4f}" in said
    assert main(["predict", str(out / "model.safetensors"), "digits", "--out", str(tmp_path / "p.csv")]) == 0
    assert f"accuracy {result['ensemble_test_accuracy']:.4f}" in capsys.readouterr().out
    classifier = MLPClassifier.load(out / "model.safetensors")
    digits = load_dataset("digits")
    assert classifier.n_members == 3
    assert classifier.score(digits.x_test, digits.classes[digits.y_test]) == result["ensemble_test_accuracy"]


def test_the_first_member_is_what_a_single_run_of_the_seed_is(tmp_path):
    out, _ = run(tmp_path, "--members", "2", "--quiet", "--dtype", "float64")
    assert main(["train", *SHORT, "--quiet", "--dtype", "float64", "--out", str(tmp_path / "single")]) == 0
    single = json.loads((tmp_path / "single" / "result.json").read_text())
    for name in ("train_loss", "val_loss", "test_loss", "test_accuracy"):
        assert float(rows_of(out / "members.csv")[0][name]) == pytest.approx(single[name], rel=1e-9)


def test_of_a_sweep_only_the_chosen_setting_is_tested_and_becomes_the_model(tmp_path, capsys):
    out, result = run(tmp_path, "--members", "2", "--sweep", "lr_max=1e-4,0.2", "--sweep", "init=he,xavier")
    members, summary = rows_of(out / "members.csv"), rows_of(out / "summary.csv")
    assert [(row["lr_max"], row["init"]) for row in summary] == [
        ("0.0001", "he"), ("0.0001", "xavier"), ("0.2", "he"), ("0.2", "xavier")]
    best = max(summary, key=lambda row: float(row["val_accuracy_mean"]))
    chosen = result["chosen"]
    assert (str(chosen["lr_max"]), chosen["init"]) == (best["lr_max"], best["init"])
    for row in members:
        assert bool(row["test_accuracy"]) == ((row["lr_max"], row["init"]) == (best["lr_max"], best["init"]))
    assert result["ensemble_members"] == 2
    assert "the best by validation" in capsys.readouterr().out


def test_folds_validate_each_member_on_its_own_and_all_have_the_same_steps(tmp_path):
    assert main(["train", "--hidden", "9", "--cycles", "1", "--device", "cpu", "--folds", "3", "--quiet", "--out",
                 str(tmp_path / "run")]) == 0
    out = tmp_path / "run"
    members, config = rows_of(out / "members.csv"), json.loads((out / "config.json").read_text())
    assert [row["fold"] for row in members] == ["0", "1", "2"]
    assert len({row["val_loss"] for row in members}) == 3
    assert json.loads((out / "result.json").read_text())["ensemble_members"] == 3
    assert (config["validation"], config["step_size"]) == (0, 5 * 9)            # 958 or 959 of 1438 train a member
    assert {row["steps"] for row in members} == {"90"}


def test_diverged_members_are_named_and_the_others_tested(tmp_path, capsys):
    out, result = run(tmp_path, "--members", "2", "--sweep", "lr_max=0.1,1e20", "--no-batch-norm")
    status = [row["status"] for row in rows_of(out / "members.csv")]
    assert status[:2] == ["finished"] * 2
    assert all(text.startswith("diverged at step ") for text in status[2:])
    assert (result["diverged"], result["chosen"]) == (2, {"lr_max": 0.1})


def test_when_all_diverge_the_exit_code_is_3_and_the_tables_are_there(tmp_path, capsys):
    out, result = run(tmp_path, "--members", "2", "--lr-max", "1e20", "--no-batch-norm", "--quiet", code=3)
    assert result["status"] == "diverged"
    assert {path.name for path in out.iterdir()} == FILES - {"model.safetensors"}
    message = capsys.readouterr().err
    assert "every member" in message
    assert str(out) in message


def test_a_toml_file_gives_members_sweeps_and_folds(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('members = 2\nsweep = ["l2=0.001,0.01", "init=he,xavier"]\nfolds = 2\norder = "own"\n')
    out, _ = run(tmp_path, "--config", str(config), "--quiet")
    assert len(rows_of(out / "members.csv")) == 16
    sweeps = json.loads((out / "config.json").read_text())["sweep"]
    assert sweeps == ["l2=0.001,0.01", "init=he,xavier"]


@pytest.mark.parametrize(("options", "words"), [
    (["--sweep", "hidden=5,6"], ["hidden", "one of l2, lr, lr_min, lr_max, init, init_std"]),
    (["--sweep", "l2"], ["NAME=VALUE"]),
    (["--sweep", "l2=0.1,-1"], ["l2=-1", "at least 0"]),
    (["--sweep", "lr=0.1,0.2"], ["lr=0.1", "no meaning for --schedule cyclical"]),
    (["--sweep", "lr_max=1e-9,0.1"], ["lr_max=1e-09", "--lr-min 1e-05 is above"]),
    (["--sweep", "init=he,magic"], ["init=magic", "choose one of"]),
    (["--sweep", "l2=0.1,0.2", "--sweep", "l2=0.3,0.4"], ["l2 is there twice"]),
    (["--sweep", "l2=0.1,0.2", "--l2", "0.3"], ["--l2 0.3", "leave one out"]),
    (["--sweep", "l2=0.1,0.2", "--validation", "0"], ["2 settings", "--validation"]),
    (["--sweep", "l2=0.1"], ["single value"]),
    (["--sweep", "init_std=0.1,0.2"], ["no meaning for --init he"]),
    (["--folds", "3", "--validation", "100"], ["--folds 3", "--validation"]),
    (["--folds", "1"], ["--folds", "at least 2"]),
    (["--folds", "5000"], ["5000 folds", "1438"]),
    (["--order", "own"], ["--order own", "--members"]),
    (["--members", "0"], ["--members", "at least 1"]),
    (["--members", "5000", "--folds", "3"], ["15000 members"]),
    (["--members", "2", "--batch-size", "1293"], ["1293", "one row"]),
])
def test_what_makes_no_sense_ends_with_one_sentence_and_no_folder(tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["train", *options])
    except SystemExit as stop:          # argparse's own way to end
        code = stop.code
    message = capsys.readouterr().err
    assert code == 2
    assert all(word in message for word in words), message
    assert message.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ["shared", "own"])
def test_ctrl_c_keeps_the_state_of_all_members_and_ends_with_exit_code_130(tmp_path, order):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "train", "--cycles", "100000", "--hidden", "20", "--members", "2", "--order",
         order, "--out", str(out)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (out / "environment.json").exists():
            assert time.monotonic() < deadline, "training did not begin"
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["ensemble_test_accuracy"]) == ("interrupted", None)
    assert {path.name for path in out.iterdir()} == FILES | {"checkpoint-000.safetensors"}
    steps = [int(row["steps"]) for row in rows_of(out / "members.csv")]
    assert steps[0] > 0
    assert (steps[1] > 0) == (order == "shared")


def test_of_many_settings_the_best_are_shown_and_the_others_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastmlp.population_run.MOST_LINES", 2)
    run(tmp_path, "--sweep", "l2=0,0.001,0.01")
    assert "... and 1 more settings: see summary.csv" in capsys.readouterr().out
