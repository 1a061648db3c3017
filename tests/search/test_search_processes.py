"""Searches that are killed, and searches by several processes: on SQLite and on a real PostgreSQL server."""

import csv
import json
import signal
import time
from collections import Counter

import pytest

from fastmlp.cli import main
from fastmlp.search.storage import Storage, import_optuna

COMMON = ("--hidden", "20", "--cycles", "2", "--device", "cpu", "--threads", "1", "--space", "l2=1e-5..1e-1",
          "--evaluate-every", "1000")
#: Of trainings that take so long that a worker which starts later by a second or two still finds some.
LONG = ("--step-size", "6000")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.01)


def all_trials(where, study="search"):
    """Every trial there is in the storage's stages, as Optuna has it, by study."""
    optuna, storage = import_optuna(), Storage(where)
    try:
        return {name: optuna.load_study(study_name=name, storage=storage.optuna).get_trials()
                for name in sorted(optuna.get_all_study_names(storage.optuna)) if name.startswith(f"{study}, ")}
    finally:
        storage.close()


def settled(trials):
    return [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]


def test_a_search_that_was_killed_goes_on_without_losing_or_repeating_a_trial(tmp_path, start_search):
    out = tmp_path / "search"
    words = (*COMMON, "--trials", "8", "--together", "2", "--step-size", "2000", "--out", out)
    process = start_search(*words)
    wait_for(lambda: (out / "trials.csv").exists() and len(rows_of(out / "trials.csv")) == 2, process)
    time.sleep(0.1)                                                     # amid the next two
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = all_trials(out / "search.db")
    running = [trial for trial in before["search, stage 1"] if trial.state.name == "RUNNING"]
    assert len(settled(before["search, stage 1"])) == 2
    assert len(running) == 2
    again = start_search(*words)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert "going on after 2 trials" in output
    after = all_trials(out / "search.db")
    assert [(t.number, t.params, t.value, t.datetime_complete) for t in settled(before["search, stage 1"])] == [
        (t.number, t.params, t.value, t.datetime_complete) for t in settled(after["search, stage 1"])[:2]]
    assert [len(settled(after[f"search, stage {stage}"])) for stage in (1, 2)] == [4, 4]
    assert {str(trial.params) for trial in running} <= {str(trial.params)
                                                        for trial in settled(after["search, stage 1"])}
    assert len({row["l2"] for row in rows_of(out / "trials.csv")}) == 8
    assert json.loads((out / "result.json").read_text())["trials"] == 8


def test_two_processes_on_one_sqlite_file_do_a_search_together(tmp_path, start_search):
    two = [start_search(*COMMON, *LONG, "--trials", "8", "--together", "1", "--storage", tmp_path / "both.db", "--out",
                        tmp_path / name) for name in ("one", "other")]
    outputs = [process.communicate(timeout=90)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], outputs
    check_together(tmp_path / "both.db", tmp_path, 8)


def test_two_machines_on_one_postgresql_server_do_a_search_together(tmp_path, start_search, postgresql):
    two = [start_search(*COMMON, *LONG, "--trials", "8", "--together", "1", "--storage", postgresql, "--out",
                        tmp_path / name) for name in ("one", "other")]
    outputs = [process.communicate(timeout=90)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], outputs
    check_together(postgresql, tmp_path, 8)
    for path in (tmp_path / "one").iterdir():
        assert b"secret" not in path.read_bytes(), path
    assert not any("secret" in output for output in outputs)


def test_a_search_on_postgresql_that_was_killed_is_finished_by_another_machine(tmp_path, start_search, postgresql):
    words = (*COMMON, "--trials", "4", "--together", "2", "--step-size", "1000", "--study", "killed", "--storage",
             postgresql)
    process = start_search(*words, "--out", tmp_path / "one")
    wait_for(lambda: (tmp_path / "one" / "trials.csv").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = start_search(*words, "--out", tmp_path / "other")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    trials = all_trials(postgresql, "killed")
    assert sum(len(settled(trials[f"killed, stage {stage}"])) for stage in (1, 2)) == 4


def check_together(where, tmp_path, total):
    trials = all_trials(where)
    stages = [settled(trials[f"search, stage {stage}"]) for stage in (1, 2)]
    assert [len(stage) for stage in stages] == [total // 2, total // 2]
    assert [len(trials[f"search, stage {stage}"]) for stage in (1, 2)] == [total // 2, total // 2]   # none too many
    assert len({trial.params["l2"] for stage in stages for trial in stage}) == total
    workers = Counter(trial.user_attrs["worker"] for stage in stages for trial in stage)
    assert len(workers) == 2, workers
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "other")]
    assert results[0] == results[1]
    assert results[0]["trials"] == total
    assert len(trials["search, final"]) == 1                            # the test set was touched once
    tables = [(tmp_path / name / "trials.csv").read_bytes() for name in ("one", "other")]
    assert tables[0] == tables[1]
    assert sum((tmp_path / name / "model.safetensors").exists() for name in ("one", "other")) == 1


@pytest.mark.parametrize("where", ["postgresql://me:secret@127.0.0.1:1/searches"])
def test_a_database_that_cannot_be_reached_ends_with_one_sentence_and_no_folder(tmp_path, capsys, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *COMMON, "--storage", where, "--out", "search"]) == 2
    message = capsys.readouterr().err
    assert "me:***@127.0.0.1:1" in message
    assert "refused" in message
    assert "secret" not in message
    assert message.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []
