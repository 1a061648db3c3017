"""Trainings beside each other, in turns, in threads and in processes, are bit for bit those made alone.

Whatever could hang has a time-out: an answer that does not come is a failure.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, schedules
from fastmlp.backend import resolve
from fastmlp.cpu import blas_threads, most_threads, usable_cores
from fastmlp.data.standardize import Standardizer
from fastmlp.dropout import Dropout
from fastmlp.examples import Examples
from fastmlp.kernels import c_library
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.trainer import Trainer

SECONDS = 120           # of patience
STRETCHES = (40, 7, 40, 13)     # steps of a training between which another may have its turn; 40 are an epoch
KERNELS = [pytest.param("compiled", marks=pytest.mark.skipif(c_library.compiler() is None, reason="no C compiler")),
           "numpy"]
forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")


def begun(kernels, seed):
    """A trainer of a network whose first product is so deep that it is made by way of scratch."""
    rng = np.random.default_rng(seed)
    backend = resolve("cpu", kernels=kernels)
    x, labels = rng.integers(0, 256, (800, 784), np.uint8), rng.integers(0, 4, 800)
    examples = Examples(x, labels, 4, Standardizer.fit(x, "feature"), backend, "float32")
    network = Network(NetworkSpec(784, (30, 20), 4, True), backend, dtype="float32", l2=1e-3)
    network.initialize([seed], "he")
    return Trainer(network, examples, SGD(), lambda step: schedules.constant(step, lr=0.05), batch_size=20, seed=seed,
                   dropout=Dropout(0.2, [seed]))


def learned(trainer):
    """All that it has learned."""
    return trainer.network.parameters.tobytes() + trainer.network.running.tobytes()


def trained(kernels, seed):
    trainer = begun(kernels, seed)
    for steps in STRETCHES:
        trainer.run_epoch(max_steps=steps)
    return learned(trainer)


@pytest.fixture(scope="module", params=KERNELS)
def kernels(request):
    return request.param


@pytest.fixture(scope="module")
def alone(kernels):
    """What each of two seeds learns in a fresh process that trains nothing else."""
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        jobs = [pool.apply_async(trained, (kernels, seed)) for seed in range(2)]
        found = [job.get(SECONDS) for job in jobs]
    assert found[0] != found[1]
    return found


def test_trainings_one_after_the_other_leave_nothing_behind(kernels, alone):
    assert [trained(kernels, seed) for seed in (0, 1, 0)] == [alone[0], alone[1], alone[0]]


def test_trainings_in_turns_do_not_touch_each_other(kernels, alone):
    trainers = [begun(kernels, seed) for seed in range(2)]
    first, second = ([partial(trainer.run_epoch, max_steps=steps) for steps in STRETCHES] for trainer in trainers)
    for turn in (first[0], second[0], second[1], first[1], second[2], first[2], second[3], first[3]):
        turn()
    assert [learned(trainer) for trainer in trainers] == alone


def test_trainings_in_two_threads_at_once_do_not_touch_each_other(kernels, alone):
    found, start = {}, threading.Barrier(2)

    def work(seed):
        start.wait(SECONDS)
        found[seed] = [trained(kernels, seed) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert found == {seed: [alone[seed]] * 3 for seed in range(2)}


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")       # JAX's, where another test has imported it
def test_processes_forked_amid_a_training_train_as_if_alone(kernels, alone):
    """The parent has threads that the children have not: its own, those of the compiled kernels, those of BLAS."""
    with blas_threads(2):
        large = np.ones((600, 600))
        large @ large           # starts them
    stop, going_on = threading.Event(), begun(kernels, 1)

    def train_on():
        while not stop.is_set():
            going_on.run_epoch(max_steps=7)

    assert trained(kernels, 0) == alone[0]
    thread = threading.Thread(target=train_on, daemon=True)
    thread.start()
    try:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map_async(partial(trained, kernels), [0, 1, 0, 1], chunksize=1).get(SECONDS)
    finally:
        stop.set()
        thread.join(SECONDS)
    assert found == 2 * alone
    assert trained(kernels, 1) == alone[1]      # and the parent after them


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_grid_search_by_two_workers_finds_what_one_finds_and_shares_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((20,), batch_norm=True, max_iter=5, random_state=0))

    def searched(n_jobs):
        found = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1e-1]}, cv=2, n_jobs=n_jobs).fit(X, y)
        return found.cv_results_["mean_test_score"].tolist(), found.best_estimator_.predict_proba(X).tobytes()

    def work():
        answers.append((searched(1), searched(2)))
        answers.append(joblib.Parallel(n_jobs=2)([joblib.delayed(os.getpid)(), joblib.delayed(most_threads)()]))

    answers = []
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    (one, two), (worker, threads) = answers
    assert one == two
    assert worker != os.getpid()
    assert threads == max(1, usable_cores() // 2)


def finished(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


LOAD = """
from fastmlp.kernels import c_library
c_library.source = lambda: "int answer(void) { return 42; }"
print(c_library.load("float32").answer())
"""
#: A compiler that, when first called, writes a half, says so, and goes on when it is told to.
SLOW_COMPILER = """#!/bin/sh
if [ ! -e half ]; then
    for word; do [ "$before" = -o ] && echo half a library > "$word"; before=$word; done
    touch half
    for _ in $(seq 1200); do [ -e go-on ] && break; sleep 0.05; done
fi
exec {compiler} "$@"
"""


@pytest.fixture
def compiling(tmp_path, monkeypatch):
    """A process amid its first compilation; the folder in which that is, and where to tell it to go on."""
    if c_library.compiler() is None or os.name != "posix":
        pytest.skip("no C compiler, or no shell to slow it down")
    compiler, temporary = tmp_path / "cc", tmp_path / "tmp"
    compiler.write_text(SLOW_COMPILER.format(compiler=" ".join(c_library.compiler())))
    compiler.chmod(0o700)
    temporary.mkdir()
    temporary.chmod(0o777)                  # not trusted, so that no failure is made good there
    for name, value in (("XDG_CACHE_HOME", tmp_path / "cache"), ("CC", compiler), ("TMPDIR", temporary)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", LOAD], start_new_session=True, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        started = time.monotonic()
        while not (tmp_path / "half").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < started + SECONDS
            time.sleep(0.01)
        yield process, tmp_path
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_processes_that_compile_at_once_both_get_a_whole_library(compiling):
    process, folder = compiling
    other = finished([sys.executable, "-c", LOAD])
    assert other.stdout == "42\n", other.stderr
    (folder / "go-on").touch()
    output, error = process.communicate(timeout=SECONDS)
    assert output == "42\n", error
    assert [path.suffix for path in (folder / "cache" / "fastmlp").iterdir()] == [".so"]


def test_a_process_that_is_killed_while_it_compiles_leaves_nothing_that_another_would_load(compiling):
    process, _ = compiling
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    other = finished([sys.executable, "-c", LOAD])
    assert other.stdout == "42\n", other.stderr
