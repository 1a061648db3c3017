"""`fastmlp search` and `search_settings`: the folder, going on, what is refused, and the test set, touched once."""

import contextlib
import csv
import json
import pkgutil
import shutil
import signal
import sqlite3
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import load_model, resolve
from fastmlp.cli import main
from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError, DivergenceError
from fastmlp.options import build, read_toml
from fastmlp.search import core
from fastmlp.search import run as searching

SMALL = ["--hidden", "12", "--cycles", "1", "--step-size", "30", "--device", "cpu", "--quiet"]
FILES = {"config.json", "environment.json", "space.json", "trials.csv", "search.png", "search.db", "search.db.lock",
         "best.toml", "history.csv", "curves.png", "weights.png", "model.safetensors", "result.json"}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a search of two options and two stages with two networks a setting."""
    out = tmp_path_factory.mktemp("search") / "out"
    assert main(["search", *SMALL, "--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--trials", "8", "--seeds",
                 "2", "--out", str(out)]) == 0
    return out


def test_a_search_leaves_its_trials_its_picture_and_the_best_network(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    rows, result = rows_of(finished / "trials.csv"), json.loads((finished / "result.json").read_text())
    assert [row["trial"] for row in rows] == [str(k) for k in range(8)]
    assert [row["stage"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert all(float(row["val_accuracy_std"]) >= 0 for row in rows)
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert result["best"] == {"l2": float(best["l2"]), "hidden": best["hidden"]}
    assert (result["best_trial"], result["status"]) == (int(best["trial"]), "finished")
    stages = json.loads((finished / "space.json").read_text())["stages"]
    assert len(stages) == 2
    for row in rows[4:]:
        assert stages[1]["l2"]["low"] <= float(row["l2"]) <= stages[1]["l2"]["high"]
        assert row["hidden"] in stages[1]["hidden"]["choices"]


def test_the_best_settings_file_trains_the_same_network(finished, tmp_path):
    result = json.loads((finished / "result.json").read_text())
    assert main(["train", "--config", str(finished / "best.toml"), "--quiet", "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["test_accuracy"] == result["test_accuracy"]
    options = build(TrainOptions, read_toml(finished / "best.toml", TrainOptions))
    assert "-".join(map(str, options.hidden)) == result["best"]["hidden"]
    model = load_model(finished / "model.safetensors", resolve("cpu"))
    assert model.network.spec.hidden == options.hidden


@pytest.mark.parametrize("words", [[], ["--precise-bn", "--dropout", "0.2", "--momentum", "0.9"]])
def test_a_trial_is_what_training_alone_gives(tmp_path, words):
    out = tmp_path / "one"
    assert main(["search", *SMALL, *words, "--space", "l2=0.01,0.02", "--trials", "1", "--stages", "1", "--out",
                 str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["best_val_accuracy"] == result["val_accuracy"]


def test_the_best_setting_leaves_the_ensemble_of_its_cycles_where_one_is_asked_for(tmp_path):
    out = tmp_path / "out"
    assert main(["search", *SMALL, "--snapshots", "--cycles", "2", "--trials", "1", "--stages", "1", "--out",
                 str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["ensemble_members"] == 2
    assert load_model(out / "model.safetensors", resolve("cpu")).network.members == 2


def test_a_finished_search_says_so_and_leaves_the_test_set_alone(finished, capsys, monkeypatch):
    monkeypatch.setattr(searching, "prepare", None)                     # would be called for another look
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.name not in ("search.png",)}
    words = [word for word in SMALL if word != "--quiet"]
    assert main(["search", *words, "--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--trials", "8", "--seeds",
                 "2", "--out", str(finished)]) == 0
    assert "this search is finished" in capsys.readouterr().out
    assert {name: (finished / name).read_bytes() for name in before} == before


class Killed(BaseException):
    """The end of a process, as far as a test within it can have one."""


@pytest.fixture
def kill_at(monkeypatch):
    """Run a command that is killed when it calls something; the process that had taken the end is then no more."""
    def run(words, name, when=lambda *_: True):
        owner, _, attribute = name.rpartition(".")
        real = pkgutil.resolve_name(name)

        def die(*arguments, **more):
            if when(*arguments):
                raise Killed
            return real(*arguments, **more)
        with monkeypatch.context() as patch:
            patch.setattr(pkgutil.resolve_name(owner), attribute, die)
            with pytest.raises(Killed):
                main(words)
        monkeypatch.setattr("fastmlp.search.ledger.Ledger._is_gone", lambda *_: True)
    return run


def test_a_worker_that_dies_with_its_result_told_but_not_written_has_finished_the_search(tmp_path, kill_at, monkeypatch,
                                                                                       capsys):
    out = tmp_path / "out"
    words = ["search", *SMALL[:-1], "--trials", "2", "--stages", "1", "--out", str(out)]
    kill_at(words, "fastmlp.search.run.write_json", lambda path, _: path.name == "result.json")
    assert {path.name for path in out.iterdir()} == FILES - {"result.json"}
    monkeypatch.setattr(searching, "prepare", None)                     # would be called for another look
    assert main(words) == 0
    assert "this search is finished" in capsys.readouterr().out
    assert json.loads((out / "result.json").read_text())["trials"] == 2


def test_a_worker_that_dies_with_its_result_untold_has_published_none_and_another_does(tmp_path, kill_at):
    words = ["search", *SMALL, "--trials", "2", "--stages", "1", "--storage", str(tmp_path / "both.db"), "--out"]
    kill_at([*words, str(tmp_path / "one")], "fastmlp.search.ledger.Ledger.tell_final")
    assert (tmp_path / "one" / "model.safetensors").exists()
    assert not (tmp_path / "one" / "result.json").exists()
    assert main([*words, str(tmp_path / "other")]) == 0
    assert main([*words, str(tmp_path / "one")]) == 0                    # told and not trained again
    results = [(tmp_path / name / "result.json").read_bytes() for name in ("one", "other")]
    assert results[0] == results[1]


def test_a_result_that_the_storage_does_not_know_is_not_overwritten(finished, tmp_path, capsys):
    words = ["search", *SMALL, "--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--seeds", "2"]
    assert main([*words, "--storage", str(tmp_path / "new.db"), "--out", str(finished)]) == 2
    assert "already holds a finished search" in capsys.readouterr().err


def test_the_test_set_is_measured_once_and_only_with_the_best_setting(tmp_path, monkeypatch):
    seen = []
    evaluate = fastmlp.run.evaluate

    def note(network, examples):
        seen.append(float(network.l2[0]) if hasattr(network, "l2") else None)
        return evaluate(network, examples)
    monkeypatch.setattr("fastmlp.run.evaluate", note)
    given = []
    make = fastmlp.groups.make_examples

    def make_examples(options, data, *rest):
        given.append(len(data.y_test))
        return make(options, data, *rest)
    monkeypatch.setattr("fastmlp.groups.make_examples", make_examples)
    assert main(["search", *SMALL, "--trials", "4", "--out", str(tmp_path / "out")]) == 0
    assert len(seen) == 1
    assert given == [0, 0]                                              # two stages, whose trainings have no test part


@pytest.mark.parametrize(("words", "named"), [
    (["--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--seeds", "2", "--batch-size", "50"],
     ["--batch-size", "100", "50"]),
    (["--space", "l2=1e-4..1e-1", "--space", "hidden=12,20-12", "--seeds", "2"], ["--space", "1e-05..0.1"]),
    (["--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12"], ["--seeds 2, not 1"]),
    (["--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--seeds", "2", "--validation", "100"], ["the data"]),
])
def test_another_search_in_the_same_folder_is_refused_and_nothing_written(finished, capsys, words, named):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert main(["search", *SMALL, "--trials", "8", *words, "--out", str(finished)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ["holds another search", *named]), message
    assert message.strip().count("\n") == 0
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_another_search_in_the_same_storage_is_refused_and_no_folder_made(finished, tmp_path, capsys):
    assert main(["search", *SMALL, "--storage", str(finished / "search.db"), "--out", str(tmp_path / "new")]) == 2
    assert "holds another search" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "named"), [
    (["--space", "l2=-1..1"], ["--l2", "at least 0"]),
    (["--space", "l2"], ["--space", "NAME=LOW..HIGH"]),
    (["--validation", "0"], ["--validation"]),
    (["--trials", "0"], ["--trials", "at least 1"]),
    (["--sampler", "magic"], ["--sampler", "random"]),
    (["--members", "3"], ["--members"]),
    (["--storage", "mysql://me:secret@host/x"], ["postgresql://"]),
])
def test_what_makes_no_sense_ends_with_one_sentence_and_no_folder(tmp_path, capsys, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["search", *SMALL, *words])
    except SystemExit as stop:
        code = stop.code
    message = capsys.readouterr().err
    assert code == 2
    assert all(word in message for word in named), message
    assert "secret" not in message
    assert message.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "words", "named"), [
    ("optuna", [], ["pip install 'fastmlp[search]'"]),
    ("torch", ["--sampler", "gp"], ["--sampler gp", "pip install torch"]),
])
def test_a_missing_package_is_named_and_leaves_no_folder(tmp_path, capsys, monkeypatch, package, words, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["search", *SMALL, *words]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in named), message
    assert message.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_of_another_kind_is_not_overwritten(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["search", *SMALL, "--out", str(out)]) == 2
    assert "already holds a finished run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_options_come_from_a_file_too(tmp_path):
    config = tmp_path / "options.toml"
    config.write_text('hidden = [12]\nspace = ["l2=1e-4..1e-2", "init=he,xavier"]\ntrials = 3\nstages = 1\ncycles = 1\n'
                      'quiet = true\nstep-size = 20\ndevice = "cpu"\n')
    assert main(["search", "--config", str(config), "--trials", "2", "--out", str(tmp_path / "out")]) == 0
    assert len(rows_of(tmp_path / "out" / "trials.csv")) == 2


@pytest.mark.parametrize(("line", "words"), [
    ("members = 3", "--members has no meaning for a search"),
    ("checkpoint-every = 3", "checkpoint_every has no meaning for a search, which keeps whole trials"),
])
def test_a_file_that_asks_for_what_a_search_does_not_do_is_refused(tmp_path, capsys, monkeypatch, line, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.toml").write_text(f"{line}\n")
    assert main(["search", *SMALL, "--config", "options.toml"]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["options.toml"]


def test_trials_that_diverge_are_marked_and_do_not_end_the_search(tmp_path):
    out = tmp_path / "out"
    # Far too high a rate: without batch norm and with a penalty of 1e9 all numbers leave float32.
    assert main(["search", *SMALL, "--no-batch-norm", "--space", "l2=1e-3,1e9", "--trials", "6", "--stages", "1",
                 "--out", str(out)]) == 0
    rows = rows_of(out / "trials.csv")
    lost = [row for row in rows if row["l2"] == "1e9"]
    assert 0 < len(lost) < 6
    assert all(row["status"].startswith("diverged at step") and row["val_accuracy"] == "" for row in lost)
    assert json.loads((out / "result.json").read_text())["diverged"] == len(lost)


def test_a_search_in_which_all_diverge_says_so_with_exit_code_3(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["search", *SMALL, "--no-batch-norm", "--space", "l2=1e8..1e9", "--trials", "4", "--out", str(out)]
    assert main(words) == 3
    message = capsys.readouterr().err
    assert "none of 2 trials" in message
    assert "diverged at step" in message
    assert not (out / "result.json").exists()
    assert [row["val_accuracy"] for row in rows_of(out / "trials.csv")] == ["", ""]


def test_a_setting_that_cannot_be_trained_is_marked(tmp_path):
    out = tmp_path / "out"                  # 1293 examples: of batches of 1292 one row would be left to batch norm
    assert main(["search", *SMALL, "--validation", "145", "--space", "batch_size=1292,100", "--trials", "6", "--stages",
                 "1", "--out", str(out)]) == 0
    rows = [row for row in rows_of(out / "trials.csv") if row["batch_size"] == "1292"]
    assert rows
    assert all(row["status"].startswith("impossible: ") for row in rows)
    result = json.loads((out / "result.json").read_text())
    assert (result["impossible"], result["diverged"]) == (len(rows), 0)


def test_ctrl_c_keeps_finished_trials_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["search", *SMALL[:-1], "--space", "batch_size=50..100", "--trials", "4", "--together", "3", "--stages",
             "1", "--out", str(out)]                    # sizes of batches are trained one by one
    tell, told = searching.Search._tell, []

    def tell_and_interrupt(self, *rest, **outcome):
        tell(self, *rest, **outcome)
        told.append(rest[0])
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(searching.Search, "_tell", tell_and_interrupt)
    assert threading.current_thread() is threading.main_thread()
    assert main(words) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert len(rows_of(out / "trials.csv")) == 2
    assert not (out / "result.json").exists()
    with contextlib.closing(sqlite3.connect(out / "search.db")) as database:
        states = sorted(state for state, in database.execute("SELECT state FROM trials"))
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]                   # the third was given back
    assert main(words) == 0
    assert "going on after 2 trials" in capsys.readouterr().out
    assert len(told) == 4
    assert len(rows_of(out / "trials.csv")) == 4


def test_minutes_are_shared_by_the_stages_and_begin_anew_with_a_command(tmp_path, monkeypatch):
    now, tell, out = [0.0], core.Search._tell, tmp_path / "out"
    monkeypatch.setattr(core, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def tell_after_twenty_seconds(self, *rest, **outcome):
        now[0] += 20
        tell(self, *rest, **outcome)
        if now[0] == 20:
            signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(core.Search, "_tell", tell_after_twenty_seconds)
    words = ["search", *SMALL, "--minutes", "1", "--together", "1", "--out", str(out)]
    assert main(words) == 130
    assert main(words) == 0
    assert [row["stage"] for row in rows_of(out / "trials.csv")] == ["1", "1", "1", "2"]    # begun at 0; 0, 20; 40 s


def test_python_searches_the_same_settings_as_the_command(finished):
    data = fastmlp.load_dataset("digits")
    found = fastmlp.search_settings(data, space={"l2": (1e-5, 1e-1), "hidden": [(12,), (20, 12)]}, trials=8, seeds=2,
                                    hidden=(12,), cycles=1, step_size=30, device="cpu")
    rows = rows_of(finished / "trials.csv")
    assert [f"{value}" for value in found.trials["l2"]] == [row["l2"] for row in rows]
    assert found.val_accuracy == max(float(row["val_accuracy"]) for row in rows)
    assert found.best["hidden"] in ((12,), (20, 12))


@pytest.mark.parametrize(("space", "words"), [
    ({"l2": 3}, "must be a range"), ({"l2": (1.0, 0.1)}, "lower to a higher"), ({"nonsense": [1, 2]}, "one of"),
    ({"hidden": [("a",)]}, "no value of hidden")])
def test_python_names_what_is_wrong_with_a_space(space, words):
    with pytest.raises(ConfigError, match=words):
        fastmlp.search_settings(np.zeros((4, 2)), [0, 1, 0, 1], space=space)


def test_python_raises_where_all_diverge():
    with pytest.raises(DivergenceError, match=r"none of 2 trials .*; the first: diverged.*: try a lower"):
        fastmlp.search_settings(fastmlp.load_dataset("digits"), space={"l2": [1e8, 1e9]}, trials=2, stages=1,
                                hidden=(12,), batch_norm=False, cycles=1, step_size=20, device="cpu")


def test_a_folder_that_holds_a_search_is_no_other_commands(finished, capsys):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    for words in (["train", "--out", str(finished)], ["lr-range", "--out", str(finished)],
                  ["train", "--resume", str(finished)]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastmlp.run_folders.RESULT_FILE", "absent")      # as before the end
            assert main([*words, "--hidden", "5", "--quiet"]) == 2
        assert "holds a search" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_finished_search_says_that_it_takes_no_more_trials(finished, capsys):
    words = [word for word in SMALL if word != "--quiet"]
    assert main(["search", *words, "--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--trials", "12",
                 "--seeds", "2", "--out", str(finished)]) == 0
    assert "it does not go on to 12 trials: begin another search" in capsys.readouterr().out


def test_minutes_that_are_over_before_the_first_trial_are_named(tmp_path, capsys):
    assert main(["search", *SMALL, "--minutes", "1e-9", "--out", str(tmp_path / "out")]) == 2
    assert "--minutes 1e-09 were over before the first trial" in capsys.readouterr().err


def test_a_search_of_rows_in_memory_is_not_gone_on_with_where_they_stay_on_disk(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20_000, 4)))
    np.save(tmp_path / "y.npy", np.arange(20_000) % 2)
    given = ["search", *SMALL, "--data", str(tmp_path / "x.npy"), "--target", str(tmp_path / "y.npy"), "--trials", "1",
             "--stages", "1", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    assert main([*given, "--data-memory", "1MB"]) == 2
    assert "of --data-memory that holds the rows, not that leaves the rows on disk" in capsys.readouterr().err


def test_data_that_differ_in_one_late_number_are_another_search(tmp_path, capsys):
    X, y = np.random.default_rng(0).normal(size=(300, 4)), np.arange(300) % 2
    for value in (0.0, 1.0):
        X[np.arange(300) > 150, 3] = value
        np.savez(tmp_path / "data.npz", X=X, y=y)
        code = main(["search", *SMALL, "--data", str(tmp_path / "data.npz"), "--trials", "1", "--stages", "1",
                     "--out", str(tmp_path / "out")])
    assert code == 2
    assert "holds another search 'search', of the data" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [
    "UPDATE trial_user_attributes SET value_json = '[['", "UPDATE trial_user_attributes SET value_json = 'null'",
    "UPDATE trial_params SET distribution_json = '{\"name\": \"X\"}'", "UPDATE trials SET state = 'NEVER'",
    "UPDATE study_user_attributes SET value_json = '7'", "DELETE FROM trial_user_attributes",
    "DELETE FROM trial_params", "UPDATE trial_params SET param_value = 0.5 WHERE param_name = 'l2'",
    "UPDATE study_user_attributes SET value_json = '{\"no_such\": {\"choices\": [\"a\"]}}' WHERE key = 'space'",
    "UPDATE study_user_attributes SET value_json = replace(value_json, '12', '99') WHERE key = 'space'",
    "UPDATE trial_user_attributes SET value_json = json_remove(value_json, '$.test_accuracy') WHERE "
    "json_extract(value_json, '$.best') IS NOT NULL",
    "UPDATE trial_user_attributes SET value_json = '{}' WHERE json_extract(value_json, '$.best') IS NOT NULL"])
def test_a_database_that_holds_something_else_is_refused_in_a_sentence(finished, tmp_path, capsys, damage):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    with contextlib.closing(sqlite3.connect(out / "search.db")) as database, database:
        database.execute(damage)
    assert main(["search", *SMALL, "--space", "l2=1e-5..1e-1", "--space", "hidden=12,20-12", "--trials", "8", "--seeds",
                 "2", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert f"{out / 'search.db'} holds what no search of fastmlp wrote" in message
    assert message.count("\n") == 1
