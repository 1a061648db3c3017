"""`fastmlp train` and `predict`, as a user runs them: files, exit codes, errors, and nothing half-written."""

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

from fastmlp.backend import resolve
from fastmlp.cli import main
from fastmlp.cpu import blas_threads
from fastmlp.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
FILES = {"config.json", "environment.json", "history.csv", "result.json", "model.safetensors", "curves.png"}
QUICK = ["--hidden", "20", "--cycles", "1", "--device", "cpu"]


@pytest.fixture
def blobs(tmp_path):
    """A small separable problem with three classes, as an .npz file."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    x = rng.normal(size=(120, 4)) + 3 * np.eye(3, 4)[y]
    path = tmp_path / "blobs.npz"
    np.savez(path, X=x.astype(np.float32), y=y)
    return path


def read_history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_main_job_reaches_96_percent_on_digits_within_5_seconds_of_training(tmp_path, capsys):
    with blas_threads(1):               # a second thread is of no use on a machine that is busy with other tests
        assert main(["train", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test_accuracy"] >= 0.96
    assert result["seconds_training"] < 5
    assert str(tmp_path / "run") in capsys.readouterr().out


def test_a_run_leaves_every_promised_file_and_field(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *QUICK, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES | {"weights.png"}
    result = json.loads((out / "result.json").read_text())
    assert {"test_accuracy", "test_loss", "val_accuracy", "train_accuracy", "n_parameters", "seconds_training",
            "seconds_per_epoch", "samples_per_second", "device", "status"} <= result.keys()
    assert result["n_parameters"] == 64 * 20 + 2 * 20 + 20 * 10 + 10
    rows = read_history(out)
    assert list(rows[0]) == ["step", "epoch", "lr", "train_loss", "train_cost", "train_accuracy",
                             "val_loss", "val_cost", "val_accuracy"]
    assert [row["step"] for row in rows[:2]] == ["0", "13"]
    assert int(rows[-1]["step"]) == 120
    assert all(float(row["train_cost"]) > float(row["train_loss"]) for row in rows)
    config = json.loads((out / "config.json").read_text())
    assert (config["step_size"], config["hidden"], config["device"]) == (60, [20], "cpu")
    assert (config["validation"], config["out"]) == (144, str(out))
    assert json.loads((out / "environment.json").read_text())["packages"]["numpy"] == np.__version__


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["train", *QUICK, "--quiet", "--seed", seed, "--out", str(tmp_path / name)]) == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert models[0] == models[1]
    assert models[0] != models[2]
    assert read_history(tmp_path / "a") == read_history(tmp_path / "b")


def test_a_toml_file_gives_options_and_the_command_line_wins(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('hidden = [7]\nl2 = 0.5\ncycles = 1\nquiet = true\n')
    assert main(["train", "--config", str(config), "--l2", "0.25", "--out", str(tmp_path / "run")]) == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["hidden"], written["l2"], written["cycles"]) == ([7], 0.25, 1)


@pytest.mark.parametrize("options", [
    ["--hidden"], ["--hidden", "8", "--no-batch-norm", "--activation", "gelu"], ["--loss", "hinge", "--lr-max", "0.05"],
    ["--optimizer", "adamw", "--lr-max", "0.02"], ["--momentum", "0.9", "--lr-max", "0.01"], ["--dtype", "float64"],
    ["--schedule", "one-cycle", "--epochs", "20"], ["--schedule", "cosine", "--epochs", "20"],
    ["--schedule", "constant", "--epochs", "20", "--lr", "0.1"],
    ["--schedule", "step", "--epochs", "20", "--lr", "0.1"],
    ["--init", "xavier"], ["--init", "normal", "--init-std", "0.1"], ["--standardize", "scale"],
    ["--validation", "0"], ["--evaluate-every", "5"],
], ids=lambda options: " ".join(options))
def test_every_option_trains_and_learns(tmp_path, blobs, options):
    arguments = ["train", "--data", str(blobs), "--batch-size", "16", "--hidden", "12", "--quiet", *options]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"] > 0.7


@pytest.mark.parametrize(("options", "words"), [
    (["--batch-size", "100000"], ["100000", "1294"]),
    (["--batch-size", "1"], ["batch norm", "1"]),
    (["--batch-size", "1293"], ["1293", "one row"]),
    (["--l2", "-1"], ["--l2"]),
    (["--lr-max", "nan"], ["--lr-max"]),
    (["--lr", "fast"], ["--lr", "fast"]),
    (["--hiden", "3"], ["--hiden"]),
    (["--data", "cifar11"], ["cifar11"]),
    (["--data", "absent.npz"], ["absent.npz"]),
    (["--config", "absent.toml"], ["absent.toml"]),
    (["--epochs", "3"], ["--epochs", "--schedule"]),
    (["--validation", "inf"], ["--validation", "whole number"]),
    (["--validation", "nan"], ["--validation", "whole number"]),
    (["--hidden", "1000000000"], ["--hidden", "at most"]),
    (["--train-batches", "1-99999999999"], ["--train-batches"]),
    (["--out", ""], ["--out"]),
    (["--batch", "50"], ["--batch"]),
    (["--data-memory", "much"], ["--data-memory", "'much'", "a size such as 500MB"]),
    (["--data-memory", "2GB"], ["data_memory", "digits", ".npy and .parquet"]),
])
def test_bad_options_end_with_one_sentence_exit_code_2_and_no_folder(tmp_path, capsys, monkeypatch, options, words):
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


def test_a_missing_gpu_is_said_at_once_with_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)      # as if it were not installed
    assert main(["train", "--device", "gpu", "--out", str(tmp_path / "run")]) == 2
    assert "CuPy" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_never_overwritten(tmp_path, capsys):
    arguments = ["train", *QUICK, "--quiet", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert main(arguments) == 2
    assert "finished run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    (tmp_path / "run" / "checkpoint-000.safetensors").touch()       # one that could not be removed
    assert main(arguments) == 2
    assert "finished run" in capsys.readouterr().err


def test_an_unwritable_folder_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", *QUICK, "--out", str(tmp_path / "file" / "run")]) == 2
    assert str(tmp_path / "file" / "run") in capsys.readouterr().err


def test_a_diverging_loss_ends_with_exit_code_3_step_rate_and_the_last_good_state(tmp_path, capsys):
    out = tmp_path / "run"
    code = main(["train", "--no-batch-norm", "--hidden", "20", "--schedule", "constant", "--lr", "1e9", "--quiet",
                 "--out", str(out)])
    message = capsys.readouterr().err
    assert code == 3
    assert "step" in message
    assert "1e+09" in message
    assert json.loads((out / "result.json").read_text())["status"] == "diverged"
    assert main(["predict", str(out / "model.safetensors"), "digits", "--out", str(tmp_path / "p.csv")]) == 0


def test_ctrl_c_keeps_the_state_and_ends_with_exit_code_130(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "train", "--cycles", "100000", "--hidden", "20", "--out", str(out)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True)
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
    assert result["status"] == "interrupted"
    assert result["test_accuracy"] is None
    assert result["steps"] > 0
    assert {path.name for path in out.iterdir()} >= FILES


def interrupt_when(out, ready, times=1):
    """Start a long training, send Ctrl-C when `ready(out)`; exit code and output."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "train", "--cycles", "1", "--step-size", "3", "--hidden", "20", "--out",
         str(out)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 60
        while not ready(out):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stdout.read()
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


@pytest.mark.parametrize("file", ["config.json", "history.csv", "model.safetensors"])
def test_ctrl_c_while_files_are_written_still_leaves_a_whole_folder(tmp_path, file):
    out = tmp_path / "run"
    code, output = interrupt_when(out, lambda out: (out / file).exists())
    assert code in (0, 130), output
    assert "Traceback" not in output
    assert {path.name for path in out.iterdir()} >= FILES
    assert json.loads((out / "result.json").read_text())["status"] == ("finished" if code == 0 else "interrupted")


def test_a_second_ctrl_c_amid_training_still_saves_the_last_whole_epoch(tmp_path, monkeypatch):
    def interrupted_in_epoch_three(self, *arguments):
        original(self, *arguments)
        if self.epoch == 2:
            raise KeyboardInterrupt

    original = Trainer._run
    monkeypatch.setattr(Trainer, "_run", interrupted_in_epoch_three)
    out = tmp_path / "run"
    assert main(["train", *QUICK, "--validation", "0", "--evaluate-every", "100", "--quiet", "--out", str(out)]) == 130
    assert json.loads((out / "result.json").read_text())["status"] == "interrupted"
    assert {path.name for path in out.iterdir()} >= FILES


def test_names_with_signs_of_mathematics_and_of_no_script_are_drawn_as_they_are(tmp_path, capsys):
    lines = ["a,b,kind"] + [f"{k % 2 + 0.01 * k},{k},{('x_{$x_{$', '犬')[k % 2]}" for k in range(40)]
    (tmp_path / "$x_{$.csv").write_text("\n".join(lines), encoding="utf-8")
    assert main(["train", "--data", str(tmp_path / "$x_{$.csv"), "--target", "kind", "--batch-size", "8", "--hidden",
                 "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_a_broken_pipe_behind_the_output_does_not_end_training(tmp_path):
    command = f"{sys.executable} -m fastmlp train --hidden 20 --cycles 1 --out {tmp_path / 'run'} | true"
    subprocess.run(["bash", "-c", command], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
                   stderr=subprocess.DEVNULL)
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(("options", "wanted"), [
    (["--seed", "5"], {"order": 5}), (["--bn-decay", "0.5"], {"bn_decay": 0.5}),
    (["--init", "normal", "--init-std", "3"], {"deviation": 3.0}), (["--momentum", "0.75"], {"momentum": 0.75}),
    (["--schedule", "step", "--lr", "1", "--lr-drop", "0.25", "--lr-drop-every", "2"], {"rates": [1, 1, 0.25, 0.25]}),
    (["--schedule", "constant", "--lr", "0.25"], {"rates": [0.25, 0.25]}),
    (["--lr-min", "0.1", "--lr-max", "0.3", "--step-size", "26"], {"rates": [0.1, 0.2, 0.3, 0.2, 0.1]}),
])
def test_options_reach_what_they_are_about(options, wanted):
    from fastmlp.backend import resolve
    from fastmlp.cli import _parser
    from fastmlp.config import TrainOptions
    from fastmlp.data import load_dataset
    from fastmlp.options import build
    from fastmlp.run import prepare
    from fastmlp.seeds import Stream, generator

    parsed = vars(_parser().parse_args(["train", "--hidden", "200", *options]))
    options = build(TrainOptions, {k: v for k, v in parsed.items() if k not in ("command", "config", "resume")})
    trainer, _, _ = prepare(options, load_dataset("digits", seed=options.seed), resolve("cpu"))
    per_epoch = trainer.steps_per_epoch
    found = {
        "order": trainer.rng.random() == generator(wanted.get("order", 0), Stream.ORDER).random() and options.seed,
        "bn_decay": trainer.bn_decay,
        "deviation": pytest.approx(trainer.network.views()["w0"].std(), rel=0.05),
        "momentum": getattr(trainer.optimizer, "momentum", None),
        "rates": [pytest.approx(trainer.rates(per_epoch * k, 1)[0, 0]) for k in range(len(wanted.get("rates", ())))],
    }
    assert {name: found[name] for name in wanted} == wanted


def test_accuracy_compares_labels_by_value_and_refuses_labels_that_were_not_learned(tmp_path, blobs, capsys):
    assert main(["train", "--data", str(blobs), "--batch-size", "16", "--hidden", "8", "--quiet", "--out",
                 str(tmp_path / "run")]) == 0
    model = str(tmp_path / "run" / "model.safetensors")
    with np.load(blobs) as arrays:
        np.savez(tmp_path / "floats.npz", X=arrays["X"], y=arrays["y"].astype(float))
        np.savez(tmp_path / "others.npz", X=arrays["X"], y=arrays["y"] + 7)
    said = []
    for data in (blobs, tmp_path / "floats.npz"):
        assert main(["predict", model, str(data), "--out", str(tmp_path / f"{data.stem}.csv")]) == 0
        said.append(capsys.readouterr().out.split("accuracy ")[1])
    assert said[0] == said[1]
    assert main(["predict", model, str(tmp_path / "others.npz"), "--out", str(tmp_path / "o.csv")]) == 2
    assert "7" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_predictions_and_probabilities_are_written_and_never_overwritten(tmp_path, blobs, capsys):
    assert main(["train", "--data", str(blobs), "--batch-size", "16", "--hidden", "8", "--quiet", "--out",
                 str(tmp_path / "run")]) == 0
    arguments = ["predict", str(tmp_path / "run" / "model.safetensors"), str(blobs), "--out", str(tmp_path / "p.csv")]
    assert main(arguments) == 0
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "prediction", "p_0", "p_1", "p_2"]
    assert len(rows) == 120
    for row in rows:
        p = [float(row[f"p_{k}"]) for k in range(3)]
        assert sum(p) == pytest.approx(1.0)
        assert int(row["prediction"]) == int(np.argmax(p))
    accuracy = float(capsys.readouterr().out.split("accuracy ")[1])
    with np.load(blobs) as arrays:
        assert accuracy == pytest.approx(np.mean(arrays["y"] == [int(row["prediction"]) for row in rows]), abs=1e-4)
    assert main(arguments) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_a_csv_file_with_names_and_text_labels_goes_through_training_and_prediction(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = ["height,kind,weight"]
    for k in range(60):
        kind = ("cat", "dog")[k % 2]
        lines.append(f"{rng.normal() + 4 * (k % 2):.4f},{kind},{rng.normal():.4f}")
    (tmp_path / "pets.csv").write_text("\n".join(lines))
    assert main(["train", "--data", str(tmp_path / "pets.csv"), "--target", "kind", "--batch-size", "8", "--quiet",
                 "--hidden", "8", "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "new.csv").write_text("weight,name,height\n0.0,ann,5.0\n0.0,bob,-1.0\n")   # other order, and more
    assert main(["predict", str(tmp_path / "run" / "model.safetensors"), str(tmp_path / "new.csv"), "--out",
                 str(tmp_path / "p.csv")]) == 0
    predicted = [line.split(",")[1] for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert predicted == ["prediction", "dog", "cat"]
    (tmp_path / "short.csv").write_text("weight\n0.0\n")
    assert main(["predict", str(tmp_path / "run" / "model.safetensors"), str(tmp_path / "short.csv"), "--out",
                 str(tmp_path / "q.csv")]) == 2
    assert "height" in capsys.readouterr().err


def test_data_larger_than_their_memory_go_through_training_and_prediction(tmp_path, capsys):
    rng, y = np.random.default_rng(0), np.repeat(["ant", "bee", "cat"], 3000)
    x = np.clip(rng.normal(90 + 55 * np.eye(3, 150)[np.unique(y, return_inverse=True)[1]], 16), 0, 255)
    np.save(tmp_path / "X.npy", x.astype(np.uint8))
    np.save(tmp_path / "y.npy", y)
    common = ["train", "--data", str(tmp_path / "X.npy"), "--target", str(tmp_path / "y.npy"), "--hidden", "8",
              "--schedule", "constant", "--lr", "0.1", "--epochs", "2"]
    for name, memory in (("a", "1MB"), ("b", "1000000"), ("c", "1GB")):
        assert main([*common, "--data-memory", memory, "--out", str(tmp_path / name)]) == 0
        assert ("read from disk as needed" in capsys.readouterr().out) == (name != "c")
        assert json.loads((tmp_path / name / "result.json").read_text())["test_accuracy"] > 0.9
    assert read_history(tmp_path / "a") == read_history(tmp_path / "b") != read_history(tmp_path / "c")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["data_memory"] == 1_000_000
    assert main(["predict", str(tmp_path / "a" / "model.safetensors"), str(tmp_path / "X.npy"), "--target",
                 str(tmp_path / "y.npy"), "--out", str(tmp_path / "p.csv")]) == 0
    assert "accuracy 0.9" in capsys.readouterr().out


def test_the_script_and_the_module_are_the_same_command():
    shown = [
        subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                       capture_output=True, text=True, check=True).stdout
        for command in (["scripts/train.py"], ["-m", "fastmlp", "train"])
    ]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("arguments", [["gradcheck", "--hidden", "6", "5", "--dim", "4", "--n", "6"],
                                       ["gradcheck", "--hidden", "6", "--no-batch-norm", "--l2", "0.1", "--n", "3"]])
def test_gradcheck_passes_and_writes_its_report(tmp_path, capsys, arguments):
    assert main([*arguments, "--out", str(tmp_path / "check")]) == 0
    assert "w0" in capsys.readouterr().out
    assert any(path.suffix == ".png" for path in (tmp_path / "check").iterdir())


def test_gradcheck_ends_with_1_when_a_gradient_is_wrong(monkeypatch, capsys):
    kernels = resolve("cpu").kernels
    right = kernels.linear_backward

    def wrong(gy, x, w, gw, gb, gx):
        right(gy, x, w, gw, gb, gx)
        gw *= 1.001

    monkeypatch.setattr(kernels, "linear_backward", wrong)
    assert main(["gradcheck", "--hidden", "6", "--dim", "4", "--n", "6"]) == 1


def test_doctor_says_which_device_auto_takes(capsys):
    assert main(["doctor"]) == 0
    assert "auto" in capsys.readouterr().out
