"""Going back: all of the state, or some members' parts of it, in the arrays that recorded steps know."""

import itertools

import numpy as np
import pytest
from recipes import OPTIMIZERS

from fastmlp.dropout import Dropout
from fastmlp.errors import DivergenceError
from fastmlp.evaluation import evaluate
from fastmlp.good_state import GoodState
from fastmlp.optimizers import SGD
from fastmlp.training import train


@pytest.fixture
def trained(make_trainer):
    """A population after an epoch, and the state then; since then everything has changed."""
    def make(optimizer):
        trainer = make_trainer(members=3, optimizer=OPTIMIZERS[optimizer]())
        trainer.run_epoch()
        good = GoodState(trainer.network, trainer.optimizer, trainer.moment())
        assert good.good.moment.step == trainer.step == 3
        then = [array.copy() for array in arrays(trainer)]
        trainer.run_epoch()
        return trainer, good, then
    return make


def arrays(trainer):
    network = trainer.network
    return [*network.views().values(), *(array.reshape(3, -1) for pair in network.moments(network.running) for array in
                                         pair),
            *(view for buffer in trainer.optimizer.state.values()
              for view in network.layout.member_views(buffer).values())]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_whole_state_comes_back_in_the_same_arrays(trained, optimizer):
    trainer, good, then = trained(optimizer)
    places = [array.__array_interface__["data"][0] for array in arrays(trainer)]
    assert good.restore().optimizer is trainer.optimizer
    for now, before in zip(arrays(trainer), then, strict=True):
        assert np.array_equal(now, before)
    assert [array.__array_interface__["data"][0] for array in arrays(trainer)] == places
    assert trainer.optimizer.step == 3
    assert trainer.network.has_running is True
    trainer.run_epoch()
    assert good.undo().moment.step == 3         # nothing was kept since
    assert all(np.array_equal(now, before) for now, before in zip(arrays(trainer), then, strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_some_members_come_back_and_the_others_stay(trained, optimizer):
    trainer, good, then = trained(optimizer)
    later = [array.copy() for array in arrays(trainer)]
    good.restore_members([0, 2])
    for now, before, after in zip(arrays(trainer), then, later, strict=True):
        assert np.array_equal(now[[0, 2]], before[[0, 2]])
        assert np.array_equal(now[1], after[1])
    assert any(not np.array_equal(before, after) for before, after in zip(then, later, strict=True))


def test_what_is_kept_is_good_only_when_it_is_confirmed(trained):
    trainer, good, then = trained("momentum")
    good.keep(trainer.optimizer, trainer.moment())                      # in place of the first
    first = [array.copy() for array in arrays(trainer)]
    trainer.run_epoch()
    good.keep(trainer.optimizer, trainer.moment())
    second = [array.copy() for array in arrays(trainer)]
    for go_back, expected, step in ((good.undo, second, 9), (good.restore, first, 6), (good.undo, second, 9)):
        assert go_back().moment.step == step
        assert all(np.array_equal(now, before) for now, before in zip(arrays(trainer), expected, strict=True))
    good.confirm()
    assert good.restore().moment.step == 9
    assert all(np.array_equal(now, before) for now, before in zip(arrays(trainer), second, strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(first, then, strict=True))


def test_of_fallen_members_the_one_before_stays_good(trained):
    trainer, good, _ = trained("adam")
    good.keep(trainer.optimizer, trainer.moment())
    first = [array.copy() for array in arrays(trainer)]
    trainer.run_epoch()
    good.keep(trainer.optimizer, trainer.moment())
    second = [array.copy() for array in arrays(trainer)]
    good.confirm([1])
    trainer.run_epoch()
    good.restore()
    for now, older, newer in zip(arrays(trainer), first, second, strict=True):
        assert np.array_equal(now[1], older[1])
        assert np.array_equal(now[[0, 2]], newer[[0, 2]])


def test_no_more_than_two_states_are_kept_in_memory(trained):
    trainer, good, _ = trained("momentum")
    kept = []
    for _ in range(4):
        for _ in range(2):          # a second one takes the place of the first
            good.keep(trainer.optimizer, trainer.moment())
        good.confirm()
        kept.append((good.good.parameters, good.good.running, *good.good.remembered["state"].values()))
        trainer.run_epoch()
    assert len({tuple(map(id, arrays)) for arrays in kept}) == 2


def test_a_member_from_before_the_first_step_predicts_as_it_did_then(make_trainer):
    """By then there are running statistics, which the other members need: its own are made to change nothing."""
    trainer = make_trainer(members=3)
    good = GoodState(trainer.network, trainer.optimizer, trainer.moment())
    before = evaluate(trainer.network, trainer.examples)
    trainer.run_epoch()
    after = evaluate(trainer.network, trainer.examples)
    good.restore_members([1])
    again = evaluate(trainer.network, trainer.examples)
    assert again.cost[1] == pytest.approx(before.cost[1], rel=1e-12)
    assert np.array_equal(again.cost[[0, 2]], after.cost[[0, 2]])
    assert not np.isclose(after.cost[1], before.cost[1], rtol=1e-2)


class Exploding(SGD):
    """Gradient descent whose n-th update throws a member's parameters out of range."""

    def __init__(self, at, member=0):
        super().__init__()
        self.at, self.member, self.updates = at, member, itertools.count(1)

    def update(self, network, lr, constants):
        super().update(network, lr, constants)
        if next(self.updates) == self.at:
            network.views()["w0"][self.member] = np.inf


@pytest.mark.parametrize("at", [5, 6])          # amid the second epoch of three steps, and with its last update
def test_a_training_that_diverges_goes_back_to_a_state_with_a_finite_loss(make_trainer, at):
    trainer = make_trainer(optimizer=Exploding(at), batch_norm=False, record=False)
    with pytest.raises(DivergenceError, match=f"step {at + 1}"):
        train(trainer, 30, parts={"train": trainer.examples}, evaluate_every=100)
    assert trainer.step == 3
    assert np.isfinite(evaluate(trainer.network, trainer.examples).cost).all()
    other = make_trainer(batch_norm=False)
    other.run_epoch()
    assert np.array_equal(trainer.network.parameters, other.network.parameters)
    trainer.run_epoch()                         # in the order that the epoch had
    other.run_epoch()
    assert np.array_equal(trainer.network.parameters, other.network.parameters)


@pytest.mark.parametrize("at", [5, 6])
def test_a_member_that_diverges_does_so_while_the_others_go_on(make_trainer, at):
    trainer, other = (make_trainer(optimizer=Exploding(when, member=1), batch_norm=False, members=3, record=False)
                      for when in (at, 10**9))
    for one in (trainer, other):
        train(one, 12, parts={}, evaluate_every=100)
    early = make_trainer(batch_norm=False, members=3)
    early.run_epoch()
    for name, view in trainer.network.views().items():
        assert np.array_equal(view[[0, 2]], other.network.views()[name][[0, 2]])
        assert np.array_equal(view[1], early.network.views()[name][1])
    assert trainer.frozen[1].step == at + 1


def test_an_epoch_that_is_undone_is_made_again_with_the_same_numbers(make_trainer):
    """Order, moves and dropout's keys are drawn again as they were."""
    trainer, other = (make_trainer(dropout=Dropout(0.3, [0]), record=False) for _ in range(2))
    trainer.run_epoch()

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run_epoch(should_stop=interrupt)
    trainer.run_epoch()
    for _ in range(2):
        other.run_epoch()
    assert np.array_equal(trainer.network.parameters, other.network.parameters)
