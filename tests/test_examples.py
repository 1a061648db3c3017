"""Examples on the device: bytes stay bytes, standardising, targets, weights."""

import numpy as np
import pytest
from tolerances import assert_close

from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DataError
from fastmlp.examples import Examples
from fastmlp.layout import NetworkSpec
from fastmlp.network import Network


def read(examples, rows):
    """Inputs, targets and weights of a batch."""
    batch = examples.new_batch(len(rows))
    examples.read(np.asarray(rows), batch)
    return batch.x, batch.targets, batch.weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["feature", "scale", "none"])
def test_bytes_are_kept_as_bytes_and_standardised_as_a_batch_is_read(cpu, how, dtype):
    images = np.random.default_rng(0).integers(256, size=(12, 5), dtype=np.uint8)
    standardizer = Standardizer.fit(images, how)
    examples = Examples(images, np.arange(12) % 3, 3, standardizer, cpu, dtype)
    assert examples.data.dtype == np.uint8
    x, *_ = read(examples, [3, 3, 11, 0])
    assert x.dtype == dtype
    assert_close(x, standardizer.apply(images, "float64")[[3, 3, 11, 0]], {"float32": 1e-5, "float64": 1e-13}[dtype])


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_other_data_are_standardised_once_and_kept_in_the_networks_dtype(cpu, source):
    data = (np.random.default_rng(0).normal(5.0, 2.0, size=(12, 5))).astype(source)
    standardizer = Standardizer.fit(data, "feature")
    examples = Examples(data, np.arange(12) % 3, 3, standardizer, cpu, "float32")
    assert examples.data.dtype == np.float32
    x, *_ = read(examples, range(12))
    assert np.array_equal(x, standardizer.apply(data, "float32"))


def test_targets_are_one_hot_labels(make_examples):
    examples = make_examples(n=9)
    _, targets, _ = read(examples, [8, 0, 5])
    assert targets.tolist() == np.eye(4)[[0, 0, 1]].tolist()


def test_weights_of_a_batch_sum_to_one(make_examples):
    rows = np.array([0, 1, 5])
    assert_close(read(make_examples(n=6), rows)[2], [1 / 3] * 3, 1e-15)
    weighted = make_examples(n=6, sample_weight=[1, 3, 0, 0, 0, 4])
    assert_close(read(weighted, rows)[2], [1 / 8, 3 / 8, 4 / 8], 1e-15)
    assert_close(weighted.counts(rows) / weighted.counts(rows)[0], [1, 3, 4], 1e-15)
    assert read(weighted, [2, 3])[2].tolist() == [0.0, 0.0]    # and not 0 / 0
    assert make_examples(n=6).counts(rows).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1e38, 1e300])
def test_only_the_ratios_of_sample_weights_count(make_examples, scale):
    weights = np.array([1.0, 3.0, 0.5, 2.0, 1.0, 4.0])
    for dtype in ("float32", "float64"):
        some, others = (make_examples(n=6, dtype=dtype, sample_weight=w) for w in (weights, scale * weights))
        assert_close(read(some, range(6))[2], read(others, range(6))[2], 1e-6)
        assert read(some, range(6))[2].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, 4], [0, 1], [[0], [1], [2]]])
def test_labels_that_are_no_class_numbers_are_refused(cpu, labels):
    with pytest.raises(DataError, match="3 examples need as many labels from 0 to 3"):
        Examples(np.zeros((3, 2)), np.array(labels), 4, Standardizer.fit(np.ones((3, 2)), "none"), cpu)


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, -1], [1, 2, np.nan], [1, np.inf, 2]])
def test_sample_weights_that_are_none_are_refused(cpu, weights):
    with pytest.raises(DataError, match="sample weights"):
        Examples(np.zeros((3, 2)), np.zeros(3, int), 4, Standardizer.fit(np.ones((3, 2)), "none"), cpu,
                 sample_weight=np.array(weights))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_whole_weight_counts_as_that_many_examples(cpu, batch_norm):
    rng = np.random.default_rng(0)
    x, labels, counts = rng.normal(size=(8, 5)), rng.integers(3, size=8), np.array([1, 2, 0, 3, 1, 1, 0, 2])
    plain = Standardizer.fit(x, "none")
    results = []
    for examples in (Examples(x, labels, 3, plain, cpu, "float64", counts),
                     Examples(np.repeat(x, counts, axis=0), np.repeat(labels, counts), 3, plain, cpu, "float64")):
        network = Network(NetworkSpec(5, (4, 3), 3, batch_norm), cpu, dtype="float64")
        network.initialize([1])
        loss = np.empty(1)
        network.loss_and_gradient(*read(examples, range(examples.n)), loss)
        results.append((loss, network.gradients, network.statistics))
    for weighted, repeated in zip(*results, strict=True):
        assert_close(weighted, repeated, 1e-14)
