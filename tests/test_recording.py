"""Recorded steps on the CPU: the numbers of steps made call by call, whatever comes between."""

import numpy as np
import pytest
from recipes import OPTIMIZERS

from fastmlp import schedules
from fastmlp.backend import RECORDED_STEPS, resolve

pytestmark = pytest.mark.skipif(not resolve("cpu").records, reason="no C compiler")


def history(trainer, epochs=3):
    return np.concatenate([trainer.run_epoch().losses for _ in range(epochs)])


def assert_same_bits(one, other):
    assert np.array_equal(history(one), history(other))
    assert np.array_equal(one.network.parameters, other.network.parameters)
    assert np.array_equal(one.network.running, other.network.running)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_recorded_steps_are_bit_for_bit_those_made_call_by_call(make_trainer, optimizer, loss, members):
    apart = np.linspace(0.01, 0.1, members)         # rates and penalties of the members

    def schedule(step):
        return schedules.constant(step, lr=apart)

    recorded, plain = (make_trainer(members=members, loss=loss, optimizer=OPTIMIZERS[optimizer](), l2=apart,
                                    schedule=schedule, dtype="float32", batch_size=7, record=record)
                       for record in (True, False))
    assert_same_bits(recorded, plain)
    assert recorded._recordings
    assert not plain._recordings


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "gelu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_so_are_those_of_every_activation(make_trainer, activation, batch_norm):
    assert_same_bits(*(make_trainer(activation=activation, batch_norm=batch_norm, batch_size=11, record=record)
                       for record in (True, False)))


def test_the_number_of_threads_changes_no_bit(make_trainer, make_examples):
    trainers = []
    for threads in (1, 2, 5, None):
        backend = resolve("cpu", threads=threads)
        examples = make_examples(n=200, d=130, backend=backend, dtype="float32")
        trainers.append(make_trainer((70, 30), backend=backend, examples=examples, dtype="float32", members=2))
    first = history(trainers[0])
    for other in trainers[1:]:
        assert np.array_equal(first, history(other))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_compiled_kernels_and_numpys_have_the_same_history(make_trainer, make_examples, batch_norm):
    trainers = []
    for kernels in ("compiled", "numpy"):
        backend = resolve("cpu", kernels=kernels)
        trainers.append(make_trainer(backend=backend, examples=make_examples(backend=backend), batch_norm=batch_norm,
                                     l2=0.01))
    np.testing.assert_allclose(history(trainers[0]), history(trainers[1]), rtol=1e-10)


def test_sample_weights_and_a_changed_rate_reach_recorded_steps(make_trainer, make_examples):
    weights = np.random.default_rng(0).uniform(0, 2, 60)
    trainers = [make_trainer(examples=make_examples(sample_weight=weights), batch_size=7, record=record)
                for record in (True, False)]
    for trainer in trainers:
        history(trainer)
        trainer.rate_factor = 0.1
        trainer.network.l2[...] = 0.3
    assert_same_bits(*trainers)


def test_an_epoch_of_many_steps_is_recorded_in_stretches_and_its_end_by_itself(make_trainer, make_examples):
    n = 2 * 5 * RECORDED_STEPS + 7          # batches of 5: two stretches, one whole batch more, and one of 2
    trainer = make_trainer(examples=make_examples(n=n), batch_size=5)
    history(trainer)
    assert sorted(map(len, trainer._recordings)) == [2, RECORDED_STEPS]
