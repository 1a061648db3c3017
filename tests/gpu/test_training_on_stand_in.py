"""The whole trainer on the stand-in for CuPy: the CPU's history, and no copies between host and device in an epoch."""

import numpy as np
import pytest
from stand_in import device
from tolerances import MEMBER, assert_close

from fastmlp import schedules
from fastmlp.errors import DivergenceError
from fastmlp.evaluation import evaluate, predict_logits
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import train

OPTIMIZERS = {
    "sgd": lambda: SGD(),
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adam": lambda: Adam(decoupled=False),
    "adamw": lambda: Adam(),
}
HISTORY = {"float64": 1e-12, "float32": 1e-5}
N, BATCH = 33, 10                               # three batches of 10, one of 3


@pytest.fixture
def make_pair(cpu, gpu, make_examples, make_trainer):
    """Two trainers of the same network, on the CPU and on the stand-in."""
    def make(hidden=(6, 5), *, dtype="float64", weighted=False, optimizer="sgd", n=N, schedule=_cycle, **options):
        def on(backend):
            weights = np.random.default_rng(3).uniform(0.0, 2.0, n) if weighted else None
            examples = make_examples(n=n, dtype=dtype, backend=backend, standardize="feature", sample_weight=weights)
            return make_trainer(hidden, dtype=dtype, backend=backend, examples=examples, batch_size=BATCH,
                                optimizer=OPTIMIZERS[optimizer](), schedule=schedule, **options)
        return on(cpu), on(gpu)
    return make


def _cycle(step):
    return schedules.cyclical(step, lr_min=1e-4, lr_max=0.05, step_size=4)


def _compare(host, other, dtype="float64", epochs=3):
    """Train both and compare everything that comes of it."""
    tolerance = MEMBER[dtype]
    histories = []
    for trainer in (host, other):
        parts = {"train": trainer.examples}
        histories.append(train(trainer, epochs * trainer.steps_per_epoch - 1, parts=parts))
    for row, expected in zip(histories[1].rows, histories[0].rows, strict=True):
        assert row.keys() == expected.keys()
        for name, value in row.items():
            assert_close(value, expected[name], HISTORY[dtype], name)
    assert_close(other.network.parameters.get(), host.network.parameters, tolerance, "parameters")
    assert_close(other.network.running.get(), host.network.running, tolerance, "running")
    assert_close(predict_logits(other.network, other.examples), predict_logits(host.network, host.examples),
                 tolerance, "logits")
    for name, value in host.optimizer.state.items():
        assert_close(other.optimizer.state[name].get(), value, tolerance, name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "bias"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_gives_the_history_of_the_cpu(make_pair, optimizer, members, batch_norm, dtype):
    pair = make_pair(optimizer=optimizer, members=members, batch_norm=batch_norm, dtype=dtype, l2=0.01)
    _compare(*pair, dtype)


@pytest.mark.parametrize(("hidden", "activation", "loss", "weighted"), [
    ((), "relu", "cross-entropy", False),
    ((7,), "leaky-relu", "hinge", True),
    ((7,), "gelu", "cross-entropy", True),
    ((4, 4, 4), "tanh", "cross-entropy", False),
    ((7,), "logistic", "hinge", False),
    ((1,), "identity", "cross-entropy", True),
])
@pytest.mark.parametrize("members", [1, 2])
def test_every_kind_of_network(make_pair, members, hidden, activation, loss, weighted):
    pair = make_pair(hidden, members=members, activation=activation, loss=loss, weighted=weighted, l2=0.01)
    _compare(*pair, epochs=2)


def test_bytes_are_standardised_on_the_device(cpu, gpu):
    from fastmlp.data.standardize import Standardizer
    from fastmlp.examples import Examples

    images = np.random.default_rng(0).integers(256, size=(9, 5), dtype=np.uint8)
    rows, batches = np.array([8, 1, 1, 0]), []
    for backend in (cpu, gpu):
        examples = Examples(images, np.arange(9) % 3, 3, Standardizer.fit(images, "feature"), backend)
        x, targets = examples.buffers(4)
        examples.read(backend.asarray(rows), x, targets)
        batches.append((backend.to_host(x), backend.to_host(targets)))
    assert_close(batches[1][0], batches[0][0], 1e-6)
    assert np.array_equal(batches[1][1], batches[0][1])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal weights", "weights"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_within_an_epoch_nothing_comes_to_the_host_and_two_arrays_go_to_the_device(
        make_pair, monkeypatch, optimizer, weighted, members):
    _, trainer = make_pair(optimizer=optimizer, weighted=weighted, members=members)
    trainer.run_epoch()                 # the weights of the two sizes of batches are made once
    at_updates = []

    def update(network, lr):
        at_updates.append((device.counts.host_to_device, device.counts.device_to_host, device.counts.synchronisations))
        original(network, lr)

    original = trainer.optimizer.update
    monkeypatch.setattr(trainer.optimizer, "update", update)
    before = vars(device.counts).copy()
    trainer.run_epoch()
    uploads = device.counts.host_to_device - before["host_to_device"]
    assert uploads <= 2                                                     # the order, the rates
    assert device.counts.device_to_host - before["device_to_host"] == 1     # the losses, at the end
    assert device.counts.synchronisations - before["synchronisations"] == 2
    assert set(at_updates) == {(before["host_to_device"] + uploads, before["device_to_host"],
                                before["synchronisations"] + 1)}


def test_an_evaluation_reads_the_device_at_its_end_only(make_pair):
    _, trainer = make_pair(n=200)
    evaluate(trainer.network, trainer.examples)
    before = vars(device.counts).copy()
    evaluate(trainer.network, trainer.examples)
    assert device.counts.device_to_host - before["device_to_host"] <= 2     # the sums, the penalty


def test_a_longer_training_keeps_no_more_memory(make_pair):
    _, trainer = make_pair()
    trainer.run_epoch()
    trainer.run_epoch()
    before = device.living_arrays()
    trainer.run_epoch()
    trainer.run_epoch()
    assert device.living_arrays() == before


def test_divergence_is_found_and_the_last_good_state_comes_back(make_pair):
    _, trainer = make_pair(schedule=lambda step: schedules.constant(step, lr=1e300), batch_norm=False)
    before = trainer.network.parameters.get()
    with pytest.raises(DivergenceError):
        trainer.run_epoch()
    assert np.array_equal(trainer.network.parameters.get(), before)
