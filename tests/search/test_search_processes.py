"""Searches that are killed, and searches by several processes: on SQLite and on a real PostgreSQL server.

One worker is a process of its own and the other this one, which waits for events, so that trials may be short.
"""

import contextlib
import csv
import itertools
import json
import signal
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from fastmlp.cli import main
from fastmlp.search import core
from fastmlp.search.storage import Storage, import_optuna

COMMON = ("--hidden", "20", "--cycles", "2", "--device", "cpu", "--space", "l2=1e-5..1e-1", "--evaluate-every", "1000",
          "--trials", "8")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)


def all_trials(storage, study="search"):
    """Every trial there is in the storage's stages, as Optuna has it, by study."""
    optuna = import_optuna()
    return {name: optuna.load_study(study_name=name, storage=storage.optuna).get_trials()
            for name in sorted(optuna.get_all_study_names(storage.optuna)) if name.startswith(f"{study}, ")}


def settled(trials):
    return [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]


def running(trials):
    return [trial for trial in trials if trial.state.name == "RUNNING"]


@pytest.mark.parametrize("server", [None, "postgresql"])
def test_a_search_that_was_killed_goes_on_without_losing_or_repeating_a_trial(tmp_path, start_search, request, capsys,
                                                                              server):
    out, where = tmp_path / "search", request.getfixturevalue(server) if server else tmp_path / "killed.db"
    words = (*COMMON, "--together", "2", "--step-size", "300", "--study", "killed", "--storage", str(where))
    process = start_search(*words, "--out", out)
    wait_for(lambda: (out / "space.json").exists(), process)
    with contextlib.closing(Storage(where)) as storage:
        before = []

        def killed():
            with storage.lock():                                        # nobody settles anything meanwhile
                before[:] = itertools.chain(*all_trials(storage, "killed").values())
                if len(settled(before)) < 2 or not running(before):
                    return False
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
        wait_for(killed, process)
        # On a server it is another machine that goes on, as far as folders tell.
        assert main(["search", *words, "--out", str(tmp_path / "other" if server else out)]) == 0
        stages = all_trials(storage, "killed")
    assert f"going on after {len(settled(before))} trials" in capsys.readouterr().out
    after = {trial._trial_id: trial for stage in stages.values() for trial in stage}
    for trial in settled(before):
        assert after[trial._trial_id] == trial
    for trial in running(before):
        assert after[trial._trial_id].state.name == "FAIL"
        assert [again.params for again in settled(after.values())].count(trial.params) == 1
    assert [len(settled(stages[f"killed, stage {stage}"])) for stage in (1, 2)] == [4, 4]
    rows = rows_of((tmp_path / "other" if server else out) / "trials.csv")
    assert len({row["l2"] for row in rows}) == len(rows) == 8


@pytest.mark.parametrize("server", [None, "postgresql"])
def test_two_processes_do_a_search_together(tmp_path, start_search, request, monkeypatch, capsys, server):
    where = request.getfixturevalue(server) if server else tmp_path / "both.db"
    words = (*COMMON, "--together", "1", "--step-size", "300", "--storage", str(where))
    process = start_search(*words, "--out", tmp_path / "one")
    train, both = core.train_trials, []
    with contextlib.closing(Storage(where)) as storage:

        def train_once_the_other_does(*trials, **options):              # as it would be if all took their time
            if not both:
                wait_for(lambda: len(workers(all_trials(storage))) == 2, process)
                both.append(True)
            return train(*trials, **options)
        monkeypatch.setattr(core, "train_trials", train_once_the_other_does)
        assert main(["search", *words, "--out", str(tmp_path / "other")]) == 0
        outputs = [process.communicate(timeout=60)[0], capsys.readouterr().out]
        assert process.returncode == 0, outputs
        trials = all_trials(storage)
    stages = [settled(trials[f"search, stage {stage}"]) for stage in (1, 2)]
    assert [len(stage) for stage in stages] == [4, 4]
    assert [len(trials[f"search, stage {stage}"]) for stage in (1, 2)] == [4, 4]                     # none too many
    assert len({trial.params["l2"] for stage in stages for trial in stage}) == 8
    assert len(workers(trials)) == 2
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "other")]
    assert results[0] == results[1]
    assert results[0]["trials"] == 8
    assert len(trials["search, final"]) == 1                            # the test set was touched once
    tables = [(tmp_path / name / "trials.csv").read_bytes() for name in ("one", "other")]
    assert tables[0] == tables[1]
    assert sum((tmp_path / name / "model.safetensors").exists() for name in ("one", "other")) == 1
    if server:
        assert not any("secret" in output for output in outputs)
        assert not any(b"secret" in path.read_bytes() for name in ("one", "other")
                       for path in (tmp_path / name).iterdir())
    else:
        with contextlib.closing(sqlite3.connect(where)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def workers(trials):
    return Counter(trial.user_attrs.get("worker") for name, stage in trials.items() if "stage" in name
                   for trial in stage)


@pytest.mark.parametrize("server", [None, "postgresql"])
def test_of_several_that_begin_at_once_one_makes_the_tables(tmp_path, request, server):
    where = tmp_path / "new.db"
    if server:
        where = request.getfixturevalue(server)
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute("CREATE DATABASE new")
        where = where.replace("/postgres", "/new")
    begin = threading.Barrier(4)

    def open_it(_):
        begin.wait()
        Storage(where).close()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_it, range(4)))


def test_a_database_that_cannot_be_reached_ends_with_one_sentence_and_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *COMMON, "--storage", "postgresql://me:secret@127.0.0.1:1/searches", "--out", "search"]) == 2
    message = capsys.readouterr().err
    assert "me:***@127.0.0.1:1" in message
    assert "refused" in message
    assert "secret" not in message
    assert message.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []
