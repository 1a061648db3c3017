"""Some hundreds of the damaged files that `python -m fuzz.mutations` makes by the thousand."""

import multiprocessing
import os
import pickle
import random
import subprocess
import time
import warnings
from pathlib import Path

import pytest

from fastmlp.errors import DataError
from fuzz import mutations, verdict
from fuzz.corpus import READERS, Reader
from fuzz.verdict import READ, REFUSED, UNCAUGHT, judge, prepare

EACH = 40


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files_are_read_or_refused_in_one_sentence(reader, tmp_path):
    prepare(reader, tmp_path)
    for sample in reader.samples():
        assert judge(reader, sample, tmp_path).outcome == READ
    outcomes = set()
    for number in range(EACH):
        found = judge(reader, mutations.mutation(reader, number, seed=1), tmp_path)
        assert found.outcome != UNCAUGHT, f"number {number}: {found.words}"
        outcomes.add(found.outcome)
    assert REFUSED in outcomes


def test_the_same_number_damages_in_the_same_way_and_another_in_another():
    def made(seed):
        return [mutations.mutation(READERS[0], number, seed) for number in range(20)]

    assert made(0) == made(0)
    assert len({*made(0), *made(1)}) > 35


@pytest.mark.parametrize("mutator", sorted(set(mutations.MUTATORS), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_mutators_change_the_content_and_get_along_with_none(mutator):
    whole = bytes(range(256)) * 8
    changed = 0
    for seed in range(20):
        data, empty = bytearray(whole), bytearray()
        mutator(data, random.Random(seed))
        mutator(empty, random.Random(seed))
        changed += data != whole
    assert changed >= 10


def misbehaving(action):
    return Reader("bad", "bad.bin", lambda: [b""], action)


def refuse(words):
    def action(path):
        raise DataError(words)
    return action


@pytest.mark.parametrize(("action", "words"), [
    (lambda path: {}["absent"], "KeyError"),
    (lambda path: (_ for _ in ()).throw(MemoryError()), "MemoryError"),
    (lambda path: warnings.warn("overflow", RuntimeWarning, stacklevel=1), "RuntimeWarning"),
    (refuse("something is wrong"), "not named"),
    (lambda path: pickle.loads(pickle.dumps(os.getcwd)), "forbidden: pickle.find_class"),
    (lambda path: path.with_name("new").write_bytes(b"1"), "forbidden: open"),
    (lambda path: path.unlink(), "forbidden: os.remove"),
    (lambda path: os.open(path.with_name("new"), os.O_CREAT | os.O_WRONLY), "forbidden: open"),
    (lambda path: subprocess.run(["true"], check=True), "forbidden: subprocess.Popen"),
], ids=["key", "memory", "warning", "no name", "pickle", "write", "remove", "low-level", "command"])
def test_the_judge_sees_what_a_reader_must_not_do(action, words, tmp_path):
    found = judge(misbehaving(action), b"", tmp_path)
    assert found.outcome == UNCAUGHT
    assert words in found.words


def test_the_judge_lets_readers_read(tmp_path):
    assert judge(misbehaving(Path.read_bytes), b"", tmp_path).outcome == READ
    assert judge(misbehaving(refuse("bad.bin is damaged")), b"", tmp_path) == verdict.Verdict(
        REFUSED, "bad.bin is damaged")


@pytest.mark.parametrize(("sentence", "problem"), [
    ("bad.bin is damaged", None), ("bad.bin is\x1b[2J damaged", "control characters"), ("is damaged", "not named"),
    ("bad.bin is\ndamaged", "several lines"), ("bad.bin is " + 1000 * "very " + "bad", "5014 characters"),
])
def test_the_judge_reads_the_sentence(sentence, problem, tmp_path):
    found = verdict.sentence_problem(sentence, tmp_path / "bad.bin")
    assert found is problem is None or problem in found


def end_process(path):
    if path.read_bytes() != b"good":
        os._exit(11)


def sleep(path):
    if path.read_bytes() != b"good":
        time.sleep(60)


def allocate(path):
    if path.read_bytes() != b"good":
        bytearray(3 << 30)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")     # it forks, and may have threads
@pytest.mark.parametrize(("action", "words"), [
    (end_process, "ended with 11"), (sleep, "hangs"), (allocate, "MemoryError"),
])
def test_ends_hangs_and_allocations_of_a_process_are_seen(action, words, monkeypatch):
    monkeypatch.setattr(mutations, "LONGEST_SECONDS", 0.3)
    monkeypatch.setattr(mutations, "EXTRA_MEMORY", 1 << 30)
    forking = multiprocessing.get_context("fork")       # so that it knows the reader below
    monkeypatch.setattr(mutations.multiprocessing, "get_context", lambda _: forking)
    reader = Reader("bad", "bad.bin", lambda: [b"good"], action)
    monkeypatch.setattr(mutations, "READERS", (reader,))
    found = [outcome for _, outcome, _, _ in mutations.results(reader, 2, 0)]
    assert [outcome.outcome for outcome in found] == [UNCAUGHT] * 2
    assert words in found[0].words

