"""Small problems and trainers that many tests share."""

import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:         # one for each core: threads of BLAS would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from fastmlp import schedules
from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.optimizers import SGD
from fastmlp.trainer import Trainer

sys.path.append(str(Path(__file__).parents[1]))     # for `fuzz`, whose corpus programs use too


@pytest.fixture(scope="session")
def cpu():
    return resolve("cpu")


@pytest.fixture
def make_examples(cpu):
    def make(n=60, d=7, classes=4, seed=0, dtype="float64", backend=cpu, standardize="none", sample_weight=None):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(classes, d))
        labels = np.arange(n) % classes
        x = centres[labels] + rng.normal(size=(n, d))
        return Examples(x, labels, classes, Standardizer.fit(x, standardize), backend, dtype, sample_weight)
    return make


@pytest.fixture
def make_trainer(cpu, make_examples):
    """A trainer of a small network; every part can be replaced."""
    def make(hidden=(6, 5), *, batch_norm=True, activation="relu", loss="cross-entropy", members=1, dtype="float64",
             l2=0.0, seeds=None, init="he", optimizer=None, schedule=None, batch_size=20, seed=0, backend=cpu,
             examples=None, **options):
        examples = make_examples(dtype=dtype, backend=backend) if examples is None else examples
        spec = NetworkSpec(examples.n_features, tuple(hidden), 4, batch_norm, activation, loss)
        network = Network(spec, backend, members=members, dtype=dtype, l2=l2)
        network.initialize(list(range(members)) if seeds is None else seeds, init)
        if schedule is None:
            def schedule(step):
                return schedules.constant(step, lr=0.1)
        return Trainer(network, examples, SGD() if optimizer is None else optimizer, schedule, batch_size=batch_size,
                       seed=seed, **options)
    return make
