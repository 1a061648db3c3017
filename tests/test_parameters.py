"""Numbers by name: taken out, chosen from, joined and put back, members are what they were."""

import numpy as np
import pytest

from fastmlp.evaluation import evaluate
from fastmlp.parameters import chosen, joined, make_network, tensors_of


@pytest.fixture(params=[True, False], ids=["batch norm", "plain"])
def trainer(make_trainer, request):
    trainer = make_trainer(members=4, batch_norm=request.param, l2=[0.1, 0.2, 0.3, 0.4])
    trainer.run_epoch()
    return trainer


def test_chosen_and_joined_members_score_as_they_did(cpu, trainer):
    network, tensors = trainer.network, tensors_of(trainer.network)
    mixed = joined([chosen(tensors, [3]), chosen(tensors, [1, 0])])
    again = make_network(network.spec, cpu, mixed, dtype="float64", l2=[0.4, 0.2, 0.1])
    before, after = evaluate(network, trainer.examples), evaluate(again, trainer.examples)
    for measure in ("loss", "cost", "accuracy"):
        np.testing.assert_allclose(getattr(after, measure), getattr(before, measure)[[3, 1, 0]], rtol=1e-13)


def test_what_is_taken_out_is_a_copy(trainer):
    tensors = tensors_of(trainer.network)
    before = {name: array.copy() for name, array in tensors.items()}
    trainer.run_epoch()
    assert all(np.array_equal(array, before[name]) for name, array in tensors.items())


def test_members_without_steps_join_those_with_running_statistics(cpu, make_trainer):
    trainers = make_trainer(), make_trainer(seeds=[7])
    trainers[0].run_epoch()
    network = trainers[0].network
    both = make_network(network.spec, cpu, joined([tensors_of(one.network) for one in trainers]), dtype="float64")
    for k, one in enumerate(trainers):
        np.testing.assert_allclose(evaluate(both, one.examples).loss[k], evaluate(one.network, one.examples).loss[0],
                                   rtol=1e-12)
