"""The reference and all that calls it keep to the array API standard and stay on their device.

`array_api_strict` refuses what the standard does not promise, and its arrays on "device1" refuse to become NumPy's.
"""

import numpy as np
import pytest
from tolerances import STRICT, assert_close

from fastmlp.backend import Backend
from fastmlp.dropout import Dropout
from fastmlp.evaluation import evaluate, predict_logits
from fastmlp.kernels import bind
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import train

pytestmark = pytest.mark.L1

strict = pytest.importorskip("array_api_strict")


class StrictBackend(Backend):
    """Computes with `array_api_strict` on a device of its own."""

    def asarray(self, host):
        return strict.asarray(host, device=strict.Device("device1"))

    def zeros(self, shape, dtype):
        return strict.zeros(shape, dtype=getattr(strict, np.dtype(dtype).name), device=strict.Device("device1"))

    def to_host(self, array):
        return np.asarray(array.to_device(strict.Device("CPU_DEVICE")))


@pytest.fixture(scope="module")
def elsewhere():
    return StrictBackend("strict", strict, bind(strict), "array_api_strict on device1")


def test_arrays_of_the_strict_device_cannot_be_touched_by_numpy(elsewhere):
    with pytest.raises(RuntimeError, match="device"):
        np.asarray(elsewhere.asarray([1.0]))


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(("hidden", "batch_norm", "activation", "loss", "optimizer", "weighted"), [
    ((6, 5), True, "relu", "cross-entropy", lambda: SGD(), False),
    ((6, 5), False, "leaky-relu", "hinge", lambda: SGD(momentum=0.9, nesterov=True), False),
    ((6,), True, "gelu", "cross-entropy", lambda: Adam(), True),
    ((6,), True, "tanh", "cross-entropy", lambda: Adam(decoupled=False), False),
    ((6,), False, "logistic", "hinge", lambda: SGD(momentum=0.9), False),
    ((6,), True, "identity", "cross-entropy", lambda: SGD(), True),
    ((), False, "relu", "cross-entropy", lambda: SGD(), False),
])
def test_training_and_evaluation_use_the_standard_alone_and_agree_with_numpy(
        make_trainer, make_examples, cpu, elsewhere, members, hidden, batch_norm, activation, loss, optimizer,
        weighted):
    results = []
    weights = np.arange(33) % 3 + 1.0 if weighted else None
    for backend in (cpu, elsewhere):
        examples = make_examples(n=33, backend=backend, standardize="feature", sample_weight=weights)
        trainer = make_trainer(hidden, batch_norm=batch_norm, activation=activation, loss=loss, members=members, l2=0.1,
                               optimizer=optimizer(), backend=backend, examples=examples, batch_size=10)
        report = trainer.run_epoch()            # three batches of 10, one of 3
        trainer.run_epoch(max_steps=2)
        network, score = trainer.network, evaluate(trainer.network, examples)
        results.append([report.losses, backend.to_host(network.parameters), backend.to_host(network.running),
                        score.loss, score.cost, score.accuracy, predict_logits(network, examples)])
    for numpy_result, strict_result in zip(*results, strict=True):
        assert_close(strict_result, numpy_result, STRICT)


@pytest.mark.parametrize("members", [1, 3])
def test_so_do_dropout_and_label_smoothing(make_trainer, make_examples, cpu, elsewhere, members):
    results = []
    for backend in (cpu, elsewhere):
        trainer = make_trainer(members=members, backend=backend, examples=make_examples(backend=backend),
                               dropout=Dropout(0.3, range(members)), label_smoothing=0.1)
        results.append([trainer.run_epoch().losses, backend.to_host(trainer.network.parameters)])
    for numpy_result, strict_result in zip(*results, strict=True):
        assert_close(strict_result, numpy_result, STRICT)


def test_bytes_are_standardised_on_the_device(elsewhere):
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples

    images = np.random.default_rng(0).integers(256, size=(9, 5), dtype=np.uint8)
    examples = Examples(images, np.arange(9) % 3, 3, Standardizer.fit(images, "feature"), elsewhere, "float64")
    batch = examples.new_batch(4)
    examples.read(elsewhere.asarray(np.array([8, 1, 1, 0])), batch)
    expected = (images - images.mean(axis=0)) / images.std(axis=0)
    assert_close(elsewhere.to_host(batch.x), expected[[8, 1, 1, 0]], STRICT)
    assert elsewhere.to_host(batch.targets).argmax(axis=1).tolist() == [2, 1, 1, 0]


def test_images_are_moved_and_statistics_measured_on_the_device(cpu, elsewhere, make_trainer):
    from fastmlp.augmentation import Augmentation
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples

    images, results = np.random.default_rng(0).integers(256, size=(33, 24), dtype=np.uint8), []
    for backend in (cpu, elsewhere):
        examples = Examples(images, np.arange(33) % 4, 4, Standardizer.fit(images, "feature"), backend, "float64",
                            augmentation=Augmentation((2, 3, 4), mirror=True, shift=2))
        trainer = make_trainer(backend=backend, examples=examples, batch_size=10)
        train(trainer, 6, parts={}, precise_bn=True)
        results.append([backend.to_host(array) for array in (trainer.network.parameters, trainer.network.running)])
    for numpy_result, strict_result in zip(*results, strict=True):
        assert_close(strict_result, numpy_result, STRICT)
