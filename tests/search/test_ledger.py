"""Trials are taken by one worker each, settled once, and left to others by workers that die."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from fastmlp.config import TrainOptions
from fastmlp.errors import ConfigError, MissingExtraError, OutputError
from fastmlp.groups import Outcome
from fastmlp.search import samplers
from fastmlp.search.api import _searched
from fastmlp.search.core import verdict
from fastmlp.search.ledger import Ledger
from fastmlp.search.options import SearchOptions
from fastmlp.search.records import best_of
from fastmlp.search.space import Choices, Range
from fastmlp.search.storage import Storage, quiet_warnings
from fastmlp.sweeps import Member

SPACE = {"l2": Range(1e-5, 0.1, True), "init": Choices(("he", "xavier"))}


def never(_):
    return False


@pytest.fixture
def open_ledger(tmp_path):
    """Ledgers of one search, as of several workers of this process."""
    storages = []

    def make(seed=0, identity=None, space=SPACE, **options):
        storages.append(Storage(tmp_path / "search.db"))
        settings = {"trials": 8, "together": 3, **options}
        return Ledger(storages[-1], SearchOptions(**settings), space, seed, identity or {"--space": "of this test"})
    yield make
    for storage in storages:
        storage.close()


def settle(ledger, claims, accuracy=lambda claim: -abs(claim.point["l2"] - 0.01)):
    for claim in claims:
        assert ledger.tell(claim, status="finished", accuracy=accuracy(claim), deviation=None, seconds=1.0)


def finish(ledger, is_over=never):
    points = []
    while (claims := ledger.take(is_over)) is not None:
        assert claims
        settle(ledger, claims)
        points += [claim.point for claim in claims]
    return points


def test_a_search_has_as_many_trials_as_asked_for_in_stages_that_narrow(open_ledger):
    ledger = open_ledger()
    assert len(finish(ledger)) == 8
    records = ledger.records()
    assert [(record.number, record.stage) for record in records] == [(k, 1 + k // 4) for k in range(8)]
    first, second = ledger.spaces()
    assert first == SPACE
    assert SPACE["l2"].low <= second["l2"].low < second["l2"].high <= SPACE["l2"].high
    assert second["l2"].position(second["l2"].high) - second["l2"].position(second["l2"].low) < 0.9 * 4 * 2.302585
    assert all(record.point["l2"] in second["l2"] for record in records if record.stage == 2)
    assert best_of(records).point["l2"] == min((r.point["l2"] for r in records), key=lambda l2: abs(l2 - 0.01))


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_the_same_seed_proposes_the_same_trials_and_another_seed_others(open_ledger, sampler):
    points = [finish(open_ledger(seed=seed, study=name, sampler=sampler, stages=1, trials=12, together=6))
              for name, seed in [("first", 3), ("second", 3), ("third", 4)]]    # of tpe ten are drawn at random
    assert points[0] == points[1] != points[2]
    assert len({point["l2"] for point in points[0]}) == 12


@pytest.mark.parametrize(("sampler", "before"), [("tpe", [10]), ("gp", [10])])
def test_samplers_that_learn_propose_otherwise_where_other_trials_were_good(open_ledger, sampler, before):
    if sampler in samplers.NEEDED:
        pytest.importorskip(samplers.NEEDED[sampler])
    proposed = []
    for sign in (-1, 1):
        for together in (*before, 1):
            ledger = open_ledger(study=f"sign {sign}", sampler=sampler, stages=1, trials=20, together=together,
                                 space={**SPACE, "momentum": Range(0.0, 0.9, False)})
            claims = ledger.take(never)
            settle(ledger, claims, lambda claim, sign=sign: sign * claim.point["momentum"])
        proposed.append(claims[0].point["momentum"])
    assert proposed[0] < proposed[1]


def test_two_workers_take_different_trials_and_together_no_more_than_all(open_ledger):
    one, other = open_ledger(stages=1, trials=5), open_ledger(stages=1, trials=5)
    mine, others = one.take(never), other.take(never)
    assert (len(mine), len(others)) == (3, 2)
    assert len({claim.point["l2"] for claim in mine + others}) == 5
    assert one.take(never) == other.take(never) == []             # both wait for the other's
    settle(one, mine)
    assert one.take(never) == []
    settle(other, others)
    assert one.take(never) is other.take(never) is None


def test_a_trial_that_was_given_back_is_tried_again_as_it_was(open_ledger):
    ledger = open_ledger(stages=1)
    claims = ledger.take(never)
    settle(ledger, claims[:1])
    ledger.give_back(claims[1:])
    again = ledger.take(never)
    assert [claim.point for claim in again[:2]] == [claim.point for claim in claims[1:]]
    assert claims[0].point not in [claim.point for claim in again]


def test_trials_of_a_process_that_died_are_tried_again_at_once(open_ledger):
    ledger = open_ledger(stages=1)
    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True,
                              check=True).stdout.strip()
    host = ledger._worker.split(":")[0]
    dead = open_ledger(stages=1)
    dead._worker = f"{host}:{finished}:abc"
    claims = dead.take(never)
    assert [claim.point for claim in ledger.take(never)] == [claim.point for claim in claims]
    assert not dead.tell(claims[0], status="finished", accuracy=0.5, deviation=None, seconds=1.0)


def test_trials_of_an_earlier_process_with_our_number_are_tried_again(open_ledger):
    earlier, ledger = open_ledger(stages=1), open_ledger(stages=1)
    earlier._worker = f"{ledger._worker.rpartition(':')[0]}:other"
    claims = earlier.take(never)
    assert [claim.point for claim in ledger.take(never)] == [claim.point for claim in claims]


@pytest.mark.parametrize("process", ["9" * 20, "many"])
def test_a_worker_that_cannot_be_is_what_no_search_wrote(open_ledger, process):
    strange, ledger = open_ledger(stages=1), open_ledger(stages=1)
    strange._worker = f"{ledger._worker.split(':')[0]}:{process}:abc"
    strange.take(never)
    with pytest.raises(OutputError, match="holds what no search of fastmlp wrote"):
        ledger.take(never)


def test_an_error_of_the_sampler_is_not_blamed_on_the_database(open_ledger, monkeypatch):
    def fail(*_):
        raise ValueError("of the sampler")

    monkeypatch.setattr("fastmlp.search.ledger.make_sampler", fail)
    with pytest.raises(ValueError, match=r"^of the sampler$"):
        open_ledger().take(never)


def test_trials_of_a_living_process_of_another_user_are_left_alone(open_ledger, monkeypatch):
    def refuse(process, number):
        raise PermissionError

    ledger, theirs = open_ledger(stages=1), open_ledger(stages=1)
    theirs._worker = f"{ledger._worker.split(':')[0]}:1:abc"
    claims = theirs.take(never)
    monkeypatch.setattr("os.kill", refuse)
    assert not {c.place for c in claims} & {c.place for c in ledger.take(never)}


def test_trials_of_another_machine_are_left_alone_until_it_has_been_silent_for_long(open_ledger):
    ledger, elsewhere = open_ledger(stages=1), open_ledger(stages=1)
    elsewhere._worker = "elsewhere:1:abc"
    claims = elsewhere.take(never)
    assert not {c.place for c in claims} & {c.place for c in ledger.take(never)}
    with ledger._storage.optuna.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour') "
                                   "WHERE trial_id = (SELECT min(trial_id) FROM trials)")
    assert ledger.take(never)[0].point == claims[0].point


def test_a_trial_whose_asker_died_before_it_had_a_place_is_in_nobodys_way(open_ledger):
    ledger = open_ledger(stages=1)
    with quiet_warnings():
        ledger._study("stage 1").ask()
    assert [claim.place for claim in ledger.take(never)] == [0, 1, 2]


def test_a_database_that_fails_amid_a_search_is_named_in_a_sentence(open_ledger, tmp_path):
    ledger = open_ledger()
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database:
        database.execute("DROP TABLE trials")
    with pytest.raises(OutputError, match=r"^the database .*search\.db cannot be used \(no such table: trials\): "
                                          r"finished trials are kept there; correct --storage, or repeat the command "):
        ledger.take(never)


def test_a_server_that_cut_its_connections_is_asked_again(postgresql):
    with contextlib.closing(Storage(postgresql)) as storage:
        ledger = Ledger(storage, SearchOptions(study="cut", together=2), SPACE, 0, {"a": 1})
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                               "AND backend_type = 'client backend'")
        assert len(ledger.take(never)) == 2


def test_signs_of_life_keep_a_trial(open_ledger, monkeypatch):
    monkeypatch.setattr("fastmlp.search.storage.BEAT", 0.02)
    ledger = open_ledger(stages=1)
    claim = ledger.take(never)[0]

    def beats():
        with ledger._storage.optuna.engine.begin() as connection:
            return connection.exec_driver_sql(f"SELECT heartbeat FROM trial_heartbeats WHERE trial_id = "
                                              f"{claim.trial_id}").scalar()
    with ledger._storage.optuna.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    with ledger._storage.alive([claim.trial_id]):
        for _ in range(200):
            if not str(beats()).startswith("2020"):
                break
            time.sleep(0.02)
    assert not str(beats()).startswith("2020")


def test_trials_that_diverged_count_but_are_not_chosen(open_ledger):
    ledger = open_ledger(stages=1, trials=3)
    claims = ledger.take(never)
    for claim in claims[:2]:
        ledger.tell(claim, status="diverged at step 7", accuracy=None, deviation=None, seconds=0.5)
    settle(ledger, claims[2:])
    assert ledger.take(never) is None
    records = ledger.records()
    assert [record.accuracy is None for record in records] == [True, True, False]
    assert records[0].status == "diverged at step 7"
    assert best_of(records).number == 2
    assert best_of(records[:2]) is None


def test_no_later_stage_is_begun_where_all_trials_diverged(open_ledger):
    ledger = open_ledger()
    while claims := ledger.take(never):
        for claim in claims:
            ledger.tell(claim, status="diverged at step 7", accuracy=None, deviation=None, seconds=0.5)
    assert claims is None
    assert (len(ledger.records()), len(ledger.spaces())) == (4, 1)


def test_time_ends_stages_and_the_search(open_ledger):
    ledger = open_ledger(trials=None, minutes=1.0, together=4)
    settle(ledger, ledger.take(never))
    claims = ledger.take(lambda stage: stage == 1)
    assert claims[0].stage == 2
    settle(ledger, claims)
    assert ledger.take(lambda stage: True) is None
    assert len(ledger.records()) == 8


def test_more_trials_than_at_first_go_to_the_present_stage(open_ledger):
    finish(open_ledger())
    ledger = open_ledger(trials=12)
    assert len(finish(ledger)) == 4
    assert [record.stage for record in ledger.records()] == [1] * 4 + [2] * 8


def test_another_search_of_that_name_is_refused_with_what_differs(open_ledger):
    open_ledger()
    with pytest.raises(ConfigError, match=r"search\.db holds another search 'search', of --space of this test, not "
                                          r"something else"):
        open_ledger(identity={"--space": "something else"})
    open_ledger(identity={"--space": "something else"}, study="second")       # beside it there is room


def test_the_end_is_for_one_worker_and_once(open_ledger):
    one, other = open_ledger(), open_ledger()
    claim = one.take_final()
    assert other.take_final() is None
    one.tell_final(claim, None)                                         # it was stopped
    claim = other.take_final()
    result = {"status": "finished", "best": {}, "best_val_accuracy": 0.5, "val_accuracy": 0.5, "trials": 3,
              "diverged": 0, "impossible": 1, "test_accuracy": 0.25, "test_loss": None}
    other.tell_final(claim, result)
    assert one.take_final() is None
    assert one.result() == result


@pytest.mark.parametrize(("where", "words"), [
    ("", ["--storage ''", "no file"]),
    ("sqlite://", ["no file"]),
    ("mysql://me:secret@host/db", ["mysql://me:***@host/db", "postgresql://"]),
    ("{tmp}/absent/search.db", ["absent", "does not exist"]),
    ("{tmp}/text.db", ["text.db", "not a database"]),
    ("postgresql://me:secret@127.0.0.1:1/db", ["postgresql://me:***@127.0.0.1:1/db", "refused"]),
    ("postgresql://me:secret@[::1/db", ["postgresql://me:***@[::1/db", "not an address"]),
])
def test_a_storage_that_cannot_be_used_is_named_without_its_password(tmp_path, where, words):
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough to be none" * 20)
    with pytest.raises((ConfigError, OutputError)) as caught:
        Storage(where.replace("{tmp}", str(tmp_path)))
    assert all(word in str(caught.value) for word in words), caught.value
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("package", "where", "extra"), [
    ("optuna", "search.db", "fastmlp[search]"), ("psycopg", "postgresql://host/db", "fastmlp[postgresql]")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch, package, where, extra):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        Storage(where)
    assert extra in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["what?.db", "50%25.db", "{a}.db", "a b#\u00e9.db"])
def test_a_file_may_have_any_name(tmp_path, name):
    Storage(tmp_path / name).close()
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.lock"}


def test_an_address_of_a_file_is_read_as_addresses_are(tmp_path):
    Storage(f"sqlite:///{tmp_path}/a%20b.db").close()
    assert {path.name for path in tmp_path.iterdir()} == {"a b.db", "a b.db.lock"}


def check_that_a_lock_is_not_waited_for_for_ever(where):
    holder, other = Storage(where), Storage(where)

    def lock():
        with other.explaining(), other.lock():
            pass
    with ThreadPoolExecutor(1) as pool:
        with holder.lock(), pytest.raises(OutputError, match=r"has been locked for 0\.2 s, maybe by a worker that was "
                                                             r"stopped: let it go on or end it") as caught:
            pool.submit(lock).result(timeout=10)
        pool.submit(lock).result(timeout=10)
    assert "secret" not in str(caught.value)
    holder.close()
    other.close()


def test_a_worker_that_was_stopped_with_the_lock_does_not_stop_others_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp.search.storage.PATIENCE", 0.2)
    check_that_a_lock_is_not_waited_for_for_ever(tmp_path / "search.db")


def test_nor_does_it_on_postgresql(postgresql, monkeypatch):
    monkeypatch.setattr("fastmlp.search.storage.PATIENCE", 0.2)
    check_that_a_lock_is_not_waited_for_for_ever(postgresql)


def test_a_database_of_another_optuna_is_refused_in_a_sentence(tmp_path):
    Storage(tmp_path / "search.db").close()
    with sqlite3.connect(tmp_path / "search.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    database.close()
    with pytest.raises(OutputError, match=r"search\.db cannot be used \(.*\): name another with --storage$"):
        Storage(tmp_path / "search.db")


def test_two_truths_are_choices_and_no_range():
    assert str(_searched("batch_norm", (True, False)).values) == str(_searched("batch_norm", [True, False]).values)


@pytest.mark.parametrize(("diverged", "status"), [(0, "finished"), (1, "finished"), (2, "diverged at step 7"),
                                                  (4, "diverged at step 7")])
def test_a_setting_of_which_half_diverged_is_no_candidate(diverged, status):
    outcomes = [Outcome(Member(TrainOptions()), "diverged at step 7" if k < diverged else "finished",
                        [{"step": 9, "val_accuracy": 0.5}]) for k in range(4)]
    assert verdict(outcomes)["status"] == status


@pytest.mark.parametrize(("sampler", "streams"), [("random", 4), ("tpe", 4), ("qmc", 1)])
def test_what_draws_has_a_stream_for_each_trial_and_what_walks_a_sequence_has_one(open_ledger, monkeypatch, sampler,
                                                                                 streams):
    ledger, seeds, make = open_ledger(sampler=sampler, together=4), [], samplers.make_sampler
    monkeypatch.setattr("fastmlp.search.ledger.make_sampler",
                        lambda name, seed: seeds.append(seed) or make(name, seed))
    ledger.take(never)
    assert (len(seeds), len(set(seeds))) == (4, streams)
