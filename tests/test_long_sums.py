"""Sums over millions of numbers keep float32's digits: statistics of the data, scores, the penalty."""

import numpy as np
import pytest

from fastmlp.backend import resolve
from fastmlp.data.standardize import Standardizer
from fastmlp.evaluation import ensemble_accuracy, evaluate, log_softmax
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network
from fastmlp.precise_bn import measure_statistics

PERIOD = 1000       # rows after which the data repeat, so that exact results are those of one period


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_deviation_of_ten_million_rows(weighted):
    few = (np.random.default_rng(0).normal(size=(PERIOD, 1)) + 300.0).astype(np.float32)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, PERIOD) if weighted else np.ones(PERIOD)
    mean = np.average(few.astype(np.float64), axis=0, weights=weights)
    std = np.sqrt(np.average((few.astype(np.float64) - mean)**2, axis=0, weights=weights))
    x, repeated = np.tile(few, (10_000, 1)), np.tile(weights, 10_000) if weighted else None
    standardizer = Standardizer.fit(x, "feature", repeated)
    np.testing.assert_allclose(standardizer.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(standardizer.std, std, rtol=1e-10)


@pytest.mark.parametrize(("kernels", "weighted"), [("auto", True), ("numpy", False)])
def test_loss_and_accuracy_over_four_million_rows(kernels, weighted):
    backend, rng, repeats = resolve("cpu", kernels=kernels), np.random.default_rng(0), 4000
    few, labels = rng.normal(size=(PERIOD, 1)).astype(np.float32), rng.integers(2, size=PERIOD)
    weights = rng.integers(1, 255, PERIOD).astype(np.float32) if weighted else np.ones(PERIOD, np.float32)
    x = np.tile(few, (repeats, 1))
    examples = Examples(x, np.tile(labels, repeats), 2, Standardizer.fit(x[:1], "none"), backend,
                        sample_weight=np.tile(weights, repeats) if weighted else None)
    network = Network(NetworkSpec(1, (), 2, batch_norm=False), backend)
    network.views()["w0"][...] = [[[2.0, -0.5]]]
    log_p = log_softmax(few.astype(np.float64) @ np.array([[2.0, -0.5]]))
    right = np.average(log_p.argmax(axis=1) == labels, weights=weights)
    score = evaluate(network, examples)
    assert score.loss[0] == pytest.approx(-np.average(log_p[np.arange(PERIOD), labels], weights=weights), rel=5e-7)
    assert score.accuracy[0] == pytest.approx(right, rel=5e-7 if weighted else 1e-15)
    assert ensemble_accuracy(network, examples, [0]) == pytest.approx(right, rel=5e-9 if weighted else 1e-14)


@pytest.mark.parametrize("members", [1, 3])
def test_the_penalty_of_millions_of_weights(cpu, members):
    network = Network(NetworkSpec(3072, (500,), 10), cpu, members=members, l2=1.0)
    network.initialize(list(range(members)))
    exact = sum(np.sum(view.astype(np.float64)**2, axis=(1, 2))
                for name, view in network.views().items() if name[0] == "w")
    np.testing.assert_allclose(network.penalty(), exact, rtol=1.5e-7)


def test_batch_norms_statistics_over_thousands_of_batches():
    n, backend = 8000, resolve("cpu", kernels="numpy")
    x = (np.random.default_rng(0).normal(size=(n, 1)) + 100.0).astype(np.float32)
    examples = Examples(x, np.arange(n) % 2, 2, Standardizer.fit(x, "none"), backend)
    network = Network(NetworkSpec(1, (1,), 2), backend)
    network.views()["w0"][...] = 1.0
    measure_statistics(network, examples, batch_size=2)
    np.testing.assert_allclose(network.running[0], x.mean(dtype=np.float64), rtol=5e-8)
