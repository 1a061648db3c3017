"""What repeats bit for bit and what to rounding, as docs/determinism.md states it, and that its tests are there."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recipes import OPTIMIZERS

from fastmlp import fit_population
from fastmlp.backend import resolve
from fastmlp.cpu import blas_threads
from fastmlp.training import train

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "determinism.md").read_text(encoding="utf-8")


def test_every_row_of_the_documentation_names_tests_that_are_there():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith("| what ")]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (file, test)


# ------------------------------------------------------------------------------------------------ the same bits

TRAIN = """
import hashlib
import numpy as np
from fastmlp import fit_population

rng = np.random.default_rng(0)
y = np.array(["ant", "bee", "cat"])[np.arange(90) % 3]
population = fit_population(rng.normal(size=(90, 5)), y, X_val=rng.normal(size=(30, 5)), y_val=y[:30], members=2,
                            hidden=(9,), epochs=3, schedule="constant", batch_size=16, dropout=0.2, seed=3)
digest = hashlib.sha256()
for outcome in population.outcomes:
    for name in sorted(outcome.tensors):
        digest.update(outcome.tensors[name].tobytes())
"""


def test_another_process_with_another_hash_seed_gives_the_same_bits():
    here = {}
    exec(TRAIN, here)
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", TRAIN + "print(digest.hexdigest())"], env=environment, check=True,
                           capture_output=True, text=True)
    assert there.stdout.split()[-1] == here["digest"].hexdigest()


def orders(make_trainer, monkeypatch, epochs=3, **options):
    """Of each epoch's examples, in a training with these options."""
    trainer, seen = make_trainer(**options), []
    deliver = trainer.examples.deliver
    monkeypatch.setattr(trainer.examples, "deliver",
                        lambda order, *rest: seen.append(order.tolist()) or deliver(order, *rest))
    for _ in range(epochs):
        trainer.run_epoch()
    return seen


@pytest.mark.parametrize("options", [
    {"batch_size": 7}, {"members": 3}, {"dtype": "float32"}, {"hidden": (), "batch_norm": False},
    {"optimizer": OPTIMIZERS["adamw"]()}, {"l2": 0.1}, {"loss": "hinge"}, {"record": False}, {"seeds": [5]},
], ids=str)
def test_the_order_of_the_examples_is_that_of_the_seed_whatever_else_is_chosen(make_trainer, monkeypatch, options):
    usual = orders(make_trainer, monkeypatch)
    assert orders(make_trainer, monkeypatch, **options) == usual
    assert len({tuple(order) for order in usual}) == 3
    assert orders(make_trainer, monkeypatch, seed=1) != usual


def test_the_order_is_fixed_for_ever(make_trainer, monkeypatch):
    assert [order[:5] for order in orders(make_trainer, monkeypatch)] == [
        [16, 8, 13, 12, 59], [56, 26, 38, 45, 14], [41, 9, 35, 0, 56]]


def digest_of(trainer):
    network = trainer.network
    return hashlib.sha256(network.parameters.tobytes() + network.running.tobytes()).hexdigest()


def test_measuring_more_often_changes_no_bit(make_trainer, make_examples):
    digests = set()
    for every, parts in ((1, ["train", "val"]), (3, ["val"]), (100, [])):
        trainer = make_trainer(dtype="float32")
        train(trainer, 20, parts={part: make_examples(seed=1, dtype="float32") for part in parts}, evaluate_every=every)
        digests.add(digest_of(trainer))
    assert len(digests) == 1


def test_a_training_in_two_pieces_gives_the_same_bits(make_trainer):
    whole, pieces = (make_trainer(dtype="float32", optimizer=OPTIMIZERS["adamw"]()) for _ in range(2))
    train(whole, 18, parts={})
    for steps in (9, 18):           # 3 steps an epoch
        train(pieces, steps, parts={})
    assert digest_of(whole) == digest_of(pieces)


# ------------------------------------------------------------------------------------------------ to rounding

def with_numpys_kernels(make_trainer, make_examples, threads, dtype):
    """Wide enough that BLAS shares the work."""
    backend = resolve("cpu", kernels="numpy", threads=threads)
    examples = make_examples(n=300, d=1000, backend=backend, dtype=dtype)
    trainer = make_trainer((50, 50), members=4, backend=backend, examples=examples, dtype=dtype, batch_size=100)
    with blas_threads(threads):
        for _ in range(2):
            trainer.run_epoch()
    return trainer


def test_numpys_kernels_repeat_their_bits_with_the_same_threads_and_agree_to_rounding_with_others(
        make_trainer, make_examples):
    trained = {threads: with_numpys_kernels(make_trainer, make_examples, threads, "float64") for threads in (1, 2, 3)}
    for threads, trainer in trained.items():
        assert digest_of(with_numpys_kernels(make_trainer, make_examples, threads, "float64")) == digest_of(trainer)
        np.testing.assert_allclose(trainer.network.parameters, trained[1].network.parameters, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------------ another training

@pytest.mark.parametrize("change", ["rows", "batch size"])
def test_another_order_of_the_rows_or_batch_size_is_another_training(change):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 5)), np.arange(90) % 3
    options = {"hidden": (9,), "batch_norm": False, "epochs": 2, "schedule": "constant", "batch_size": 16,
               "X_val": x[:9], "y_val": y[:9]}
    rows = rng.permutation(90) if change == "rows" else slice(None)
    first = fit_population(x, y, **options)
    other = fit_population(x[rows], y[rows], **{**options, "batch_size": 16 if change == "rows" else 15})
    start, end = ([one.outcomes[0].history[place]["val_loss"] for one in (first, other)] for place in (0, -1))
    assert start[0] == pytest.approx(start[1], rel=1e-6)        # the initial weights are the same
    assert abs(end[0] - end[1]) > 1e-4
