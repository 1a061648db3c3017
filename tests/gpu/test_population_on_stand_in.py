"""Populations on the stand-in for CuPy: the CPU's members, whatever divided them, and no memory kept between groups."""

import numpy as np
import pytest
from stand_in import device
from tolerances import MEMBER, assert_close

from fastmlp.config import TrainOptions
from fastmlp.data.arrays import from_arrays
from fastmlp.estimator import MLPClassifier
from fastmlp.population import train_population
from fastmlp.sweeps import make_members

pytestmark = pytest.mark.L3

BASE = TrainOptions(hidden=(6,), schedule="constant", lr=0.1, epochs=4, batch_size=10, dtype="float64")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = rng.normal(size=(90, 4)) + np.eye(3, 4)[y]
    return from_arrays(x[:50], y[:50], (x[50:70], y[50:70]), (x[70:], y[70:]))


def populations(cpu, gpu, data, **options):
    settings = [{"l2": 0.0}, {"l2": 0.1}]
    return [train_population(make_members(BASE, settings, 2, options.get("folds")), settings, data, backend, seed=0,
                             **options) for backend in (cpu, gpu)]


@pytest.mark.parametrize("options", [{}, {"order": "own"}, {"folds": 2}], ids=str)
def test_a_population_is_the_cpus(cpu, gpu, data, options):
    host, other = populations(cpu, gpu, data, **options)
    for one in (host, other):
        one.measure_test()
    for k, (expected, outcome) in enumerate(zip(host.outcomes, other.outcomes, strict=True)):
        assert outcome.status == "finished"
        for name, array in outcome.tensors.items():
            assert_close(array, expected.tensors[name], MEMBER["float64"], f"member {k}, {name}")
    assert other.table()["test_accuracy"] == host.table()["test_accuracy"]
    assert other.ensemble_accuracy == host.ensemble_accuracy


def test_groups_that_were_trained_leave_nothing_on_the_device(gpu, data):
    settings = [{"l2": 0.0}]
    counts = []
    for n_seeds in (1, 4):
        population = train_population(make_members(BASE, settings, n_seeds), settings, data, gpu, seed=0, order="own")
        counts.append(device.living_arrays())
        assert len(population.outcomes) == n_seeds
    assert counts[0] == counts[1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch_norm", [True, False])
def test_an_ensembles_classifier_is_the_cpus(gpu, data, batch_norm, tmp_path):
    x, y = data.x_train, data.y_train
    host, other = (MLPClassifier((5, 4), n_members=3, batch_norm=batch_norm, batch_size=10, max_iter=4, random_state=0,
                                 device=device).fit(x, y, X_val=data.x_val, y_val=data.y_val)
                   for device in ("cpu", "gpu"))
    for one, two in zip(host.coefs_ + host.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        assert_close(two, one, 1e-9)
    assert_close(other.predict_proba(x), host.predict_proba(x), 1e-9)
    assert other.validation_scores_ == host.validation_scores_
    other.save(tmp_path / "m.safetensors")
    loaded = MLPClassifier.load(tmp_path / "m.safetensors", device="gpu")
    assert_close(loaded.predict_proba(x), host.predict_proba(x), 1e-9)
